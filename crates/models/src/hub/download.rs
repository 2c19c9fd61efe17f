//! Downloads one file from the hub to its final name in the cache.

use std::io::{self, Read};
use std::path::Path;

use super::Progress;
use super::client::{Client, Remote, Wanted};
use super::content::{Content, Kind, Tag};
use super::disk::{amount, free_space};
use super::error::{HubError, Result};
use super::partial::Partial;
use super::pins::Pins;
use super::retry::{RateWatch, RequestError, RetryPolicy};
use super::settings::Hub;

const CHUNK: usize = 1 << 18;

/// A file to download, with everything that is known about it.
pub(super) struct Download<'a> {
    hub: &'a Hub,
    client: &'a Client,
    pins: &'a Pins<'a>,
    wanted: Wanted<'a>,
    tag: &'a Tag,
    size: Option<u64>,
    kind: Kind,
    /// Whether the entity tag or a pinned hash proves the content.
    verified: bool,
}

impl<'a> Download<'a> {
    /// Takes size and hash from the hub and from the pins.
    ///
    /// # Errors
    /// [`HubError::NotPinned`] when they disagree, [`HubError::Unverified`] when there is no hash or no length, and
    /// [`HubError::TooLarge`].
    pub(super) fn new(
        hub: &'a Hub,
        client: &'a Client,
        pins: &'a Pins<'a>,
        wanted: Wanted<'a>,
        remote: &'a Remote,
    ) -> Result<Self> {
        let Wanted { model, file, .. } = wanted;
        pins.check_offer(file, remote)?;
        let (kind, tag, size) = (Kind::of(file), &remote.tag, remote.size.or(pins.size(file)));
        let verified = tag.proves(kind) || pins.prove(file);
        let lacks = match (verified, size) {
            (false, _) => Some(if kind == Kind::Weights { "SHA-256" } else { "hash" }),
            (true, None) if kind == Kind::Weights => Some("length"),
            (true, _) => None,
        };
        if let Some(lacks) = lacks.filter(|_| !hub.unverified) {
            let (id, file, url) = (model.id.clone(), file.into(), client.address(wanted));
            return Err(HubError::Unverified { id, file, url, lacks, tag: tag.name().into() });
        }
        if let Some((size, most)) = size.zip(kind.most_bytes()).filter(|(size, most)| size > most) {
            return Err(HubError::TooLarge {
                id: model.id.clone(),
                file: file.into(),
                size: Some(size),
                most,
            });
        }
        Ok(Self { hub, client, pins, wanted, tag, size, kind, verified })
    }

    /// Downloads to `blob`, resuming an earlier attempt. The file gets this name only if its size and hash are right.
    pub(super) fn run(&self, blob: &Path, progress: &mut dyn Progress) -> Result<Content> {
        if blob.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let in_the_way = io::Error::other("it is a folder; remove it and try again");
            return Err(HubError::file("write", blob)(in_the_way));
        }
        // Without a hash nothing could tell whether two parts belong together.
        let mut partial = Partial::open(blob, self.verified)?;
        if partial.len() > self.size.or(self.kind.most_bytes()).unwrap_or(u64::MAX) {
            partial.restart()?;
        }
        let inherited = partial.len() > 0;
        self.complete(&mut partial, progress)?;
        let mut verdict = self.verify(&partial);
        if verdict.is_err() && inherited {
            // A crash may have damaged the earlier part, so download once more from the beginning.
            partial.restart()?;
            self.complete(&mut partial, progress)?;
            verdict = self.verify(&partial);
        }
        match verdict {
            Ok(content) => {
                partial.sync().map_err(|e| self.write_error(&e, &partial))?;
                partial.publish(blob)?;
                Ok(content)
            }
            Err(error) => {
                partial.discard();
                Err(error)
            }
        }
    }

    /// Transfers until everything has arrived, with retries if the connection is cut.
    fn complete(&self, partial: &mut Partial, progress: &mut dyn Progress) -> Result<()> {
        let (mut retries, mut furthest) = (RetryPolicy::new(self.hub.pause), partial.len());
        while let Err(error) = self.transfer(partial, progress) {
            // A server that cuts every connection after some bytes makes no progress.
            if partial.len() >= furthest + self.hub.least_rate.bytes().max(1) {
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
        if !self.verified {
            partial.restart()?;
        }
        progress.at(file, partial.len(), size);
        if size.is_some_and(|size| partial.len() == size) {
            return Ok(());
        }
        let room = self.room(partial)?;
        let (start, mut body) = self.client.open(self.wanted, partial.len())?;
        if start != partial.len() {
            partial.restart()?;
        }
        let mut watch = RateWatch::new(self.hub.least_rate);
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
            partial.write(bytes).map_err(|e| self.write_error(&e, partial))?;
            progress.at(file, partial.len(), size);
            if size.is_some_and(|size| partial.len() > size) {
                // More than was announced: `verify` reports the wrong size.
                break;
            }
            self.check_growth(partial, room)?;
            if watch.is_too_slow(count as u64) {
                let least = self.hub.least_rate.bytes_per_second;
                return Err(self.cut(&format!("the data arrive at less than {least} bytes per second")));
            }
        }
        match size {
            Some(size) if partial.len() < size => {
                Err(self.cut(&format!("the connection ended after {} of {size} bytes", partial.len())))
            }
            _ => Ok(()),
        }
    }

    /// Returns how large the file may become on this disk. Fails if that is less than its size.
    fn room(&self, partial: &Partial) -> Result<u64> {
        let Some(free) = partial.path().parent().and_then(free_space) else { return Ok(u64::MAX) };
        let room = partial.len().saturating_add(free);
        match self.size {
            Some(size) if size > room => Err(self.no_room(partial, &format!("{} are free", amount(free)))),
            _ => Ok(room),
        }
    }

    /// Fails if a file of unknown size has become too large.
    fn check_growth(&self, partial: &mut Partial, room: u64) -> Result<()> {
        let most = self.kind.most_bytes();
        if most.is_some_and(|most| partial.len() > most) {
            partial.restart()?;
            let (id, file) = (self.wanted.model.id.clone(), self.wanted.file.into());
            return Err(HubError::TooLarge { id, file, size: None, most: most.unwrap_or_default() });
        }
        if self.size.is_none() && partial.len() >= room {
            partial.restart()?;
            return Err(self.no_room(partial, "the data do not end"));
        }
        Ok(())
    }

    fn verify(&self, partial: &Partial) -> Result<Content> {
        let Wanted { model, file, .. } = self.wanted;
        let damaged = |what, found: String, wanted: String| {
            let (id, file) = (model.id.clone(), file.into());
            Err(HubError::Damaged { id, file, what, found, wanted })
        };
        let content = Content { size: partial.len(), sha256: partial.sha256(), verified: self.verified };
        if let Some(size) = self.size.filter(|&size| size != content.size) {
            return damaged("size", content.size.to_string(), size.to_string());
        }
        match self.tag {
            Tag::Sha256(sha256) if content.sha256 != *sha256 => {
                damaged("sha256", content.sha256, sha256.clone())
            }
            Tag::Git(git) if self.kind != Kind::Weights => {
                let found = partial.git_hash().map_err(HubError::file("read", partial.path()))?;
                if found != *git {
                    return damaged("git hash", found, git.clone());
                }
                self.pins.check_content(file, "the hub", &content).map(|()| content)
            }
            Tag::Sha256(_) | Tag::Git(_) | Tag::Other(_) => {
                self.pins.check_content(file, "the hub", &content).map(|()| content)
            }
        }
    }

    fn cut(&self, reason: &str) -> RequestError {
        let Wanted { model, file, .. } = self.wanted;
        let error = HubError::Cut { id: model.id.clone(), file: file.into(), reason: reason.into() };
        RequestError::new(error, true)
    }

    fn write_error(&self, source: &io::Error, partial: &Partial) -> HubError {
        use io::ErrorKind as K;
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds become `HubError::File`")]
        match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => self.no_room(partial, &source.to_string()),
            kind => HubError::file("write", partial.path())(io::Error::new(kind, source.to_string())),
        }
    }

    fn no_room(&self, partial: &Partial, reason: &str) -> HubError {
        let needed = self.size.map_or("more".into(), |size| amount(size.saturating_sub(partial.len())));
        let folder = partial.path().parent().unwrap_or(partial.path()).into();
        HubError::NoRoom { file: self.wanted.file.into(), folder, needed, reason: reason.into() }
    }
}
