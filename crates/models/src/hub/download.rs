//! Downloads one file from the hub to its final name in the cache.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::Progress;
use super::client::{Client, Remote, Wanted};
use super::error::{HubError, Result};
use super::partial::Partial;
use super::registry::is_sha256;
use super::retry::{RequestError, RetryPolicy};

const CHUNK: usize = 1 << 18;

/// A file to download, with its expected size and hash.
pub(super) struct Download<'a> {
    client: &'a Client,
    wanted: Wanted<'a>,
    size: Option<u64>,
    sha256: Option<String>,
}

impl<'a> Download<'a> {
    /// Takes size and SHA-256 from the hub and from the registry.
    ///
    /// # Errors
    /// [`HubError::NotPinned`] when they disagree.
    pub(super) fn new(client: &'a Client, wanted: Wanted<'a>, remote: &Remote) -> Result<Self> {
        let Wanted { model, file, .. } = wanted;
        let pinned = model.published.get(file).cloned().unwrap_or_default();
        let not_pinned = |what, found: &dyn ToString, wanted: &dyn ToString| HubError::NotPinned {
            id: model.id.clone(),
            file: file.into(),
            what,
            found: found.to_string(),
            wanted: wanted.to_string(),
        };
        // The entity tag of a large file is its SHA-256; that of a small file is git's own hash.
        let offered = Some(&remote.etag).filter(|etag| is_sha256(etag));
        match (offered, &pinned.sha256) {
            (Some(offered), Some(pinned)) if offered != pinned => {
                return Err(not_pinned("sha256", offered, pinned));
            }
            _ => {}
        }
        match (remote.size, pinned.size) {
            (Some(offered), Some(pinned)) if offered != pinned => {
                return Err(not_pinned("size", &offered, &pinned));
            }
            _ => {}
        }
        let sha256 = offered.cloned().or(pinned.sha256);
        Ok(Self { client, wanted, size: remote.size.or(pinned.size), sha256 })
    }

    /// Downloads to `blob`, resuming an earlier attempt. The file gets this name only if its size and hash are right.
    pub(super) fn run(&self, blob: &Path, pause: Duration, progress: &mut dyn Progress) -> Result<()> {
        let mut partial = Partial::open(blob, self.sha256.is_some())?;
        if self.size.is_some_and(|size| partial.len() > size) {
            partial.restart()?;
        }
        let inherited = partial.len() > 0;
        self.complete(&mut partial, pause, progress)?;
        let mut verdict = self.verify(&partial);
        if verdict.is_err() && inherited {
            // A crash may have damaged the earlier part, so download once more from the beginning.
            partial.restart()?;
            self.complete(&mut partial, pause, progress)?;
            verdict = self.verify(&partial);
        }
        if let Err(damaged) = verdict {
            partial.discard();
            return Err(damaged);
        }
        partial.sync().map_err(|e| self.write_error(e, &partial))?;
        partial.publish(blob)
    }

    /// Transfers until everything has arrived, with retries if the connection is cut.
    fn complete(&self, partial: &mut Partial, pause: Duration, progress: &mut dyn Progress) -> Result<()> {
        let (mut retries, mut furthest) = (RetryPolicy::new(pause), partial.len());
        while let Err(error) = self.transfer(partial, progress) {
            if partial.len() > furthest {
                furthest = partial.len();
                retries.restore();
            }
            retries.wait(error, progress)?;
        }
        Ok(())
    }

    /// Sends one request for the missing data.
    fn transfer(&self, partial: &mut Partial, progress: &mut dyn Progress) -> Result<(), RequestError> {
        let (file, size) = (self.wanted.file, self.size);
        progress.at(file, partial.len(), size);
        if size.is_some_and(|size| partial.len() == size) {
            return Ok(());
        }
        let (start, mut body) = self.client.open(self.wanted, partial.len())?;
        if start != partial.len() {
            partial.restart()?;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.cut(&format!("the connection was cut ({e})"))),
            };
            if count == 0 {
                break;
            }
            let bytes = &buffer[..count];
            partial.write(bytes).map_err(|e| self.write_error(e, partial))?;
            progress.at(file, partial.len(), size);
            if size.is_some_and(|size| partial.len() > size) {
                // More than was announced: `verify` reports the wrong size.
                break;
            }
        }
        match size {
            Some(size) if partial.len() < size => {
                Err(self.cut(&format!("the connection ended after {} of {size} bytes", partial.len())))
            }
            _ => Ok(()),
        }
    }

    fn verify(&self, partial: &Partial) -> Result<()> {
        let Wanted { model, file, .. } = self.wanted;
        let damaged = |what, found: String, wanted: String| {
            let (id, file) = (model.id.clone(), file.into());
            Err(HubError::Damaged { id, file, what, found, wanted })
        };
        match (self.size, &self.sha256) {
            (Some(size), _) if partial.len() != size => {
                damaged("size", partial.len().to_string(), size.to_string())
            }
            (_, Some(sha256)) if partial.sha256() != *sha256 => {
                damaged("sha256", partial.sha256(), sha256.clone())
            }
            _ => Ok(()),
        }
    }

    fn cut(&self, reason: &str) -> RequestError {
        let Wanted { model, file, .. } = self.wanted;
        let error = HubError::Cut { id: model.id.clone(), file: file.into(), reason: reason.into() };
        RequestError::new(error, true)
    }

    fn write_error(&self, source: io::Error, partial: &Partial) -> HubError {
        use io::ErrorKind as K;
        let (file, path) = (self.wanted.file.into(), partial.path());
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds become `HubError::File`")]
        match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
                let needed =
                    self.size.map_or("more".into(), |size| amount(size.saturating_sub(partial.len())));
                let folder = path.parent().unwrap_or(path).into();
                HubError::NoRoom { file, folder, needed, source }
            }
            _ => HubError::file("write", path)(source),
        }
    }
}

/// Formats a number of bytes in decimal units (1 kB = 1000 bytes).
fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
