//! Files that are published at a web address: a classifier, the network of a metric, an archive of a data set.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::Progress;
use super::address::host;
use super::client::{Client, WebRemote};
use super::content::{digest, sha256_of};
use super::error::{HubError, Result};
use super::flock::FileLock;
use super::lock_file::{LockFile, LockedFile};
use super::partial::Partial;
use super::registry::WebFile;
use super::retry::RetryPolicy;
use super::settings::Hub;
use super::transfer::Transfer;
use super::unpack::{UnpackedFolder, unpack};
use crate::hex::hex;

/// What a server says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOffer {
    /// Bytes, if known.
    pub size: Option<u64>,
    /// Host from which the file comes.
    pub host: String,
    /// Whether a file of this name is there already.
    pub present: bool,
}

impl Hub {
    /// Asks the server for the size of a file that is to be stored at `to`. Makes no request if the file is there or its
    /// size is published.
    ///
    /// # Errors
    /// The server cannot be reached or has no such file.
    pub fn offer_of(&self, file: &WebFile, to: &Path, progress: &mut dyn Progress) -> Result<WebOffer> {
        let present = to.is_file();
        let size = match file.size {
            None if !present && !self.offline => self.describe_web(&Client::new(self)?, file, progress)?.size,
            size => size,
        };
        Ok(WebOffer { size, host: host(&file.url), present })
    }

    /// Downloads a file to `to`, resuming an earlier attempt, or checks the one that is there. It gets this name only if
    /// its size and hash are the published ones and those that the lock file pins; its SHA-256 is added to the lock file.
    ///
    /// # Errors
    /// Any [`HubError`] except an unknown name. The part that has arrived is kept, and the next call resumes from it.
    pub fn fetch_file(&self, file: &WebFile, to: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
        let lock_file = self.lock_file.as_deref().map(LockFile::read).transpose()?;
        let pin = lock_file.as_ref().and_then(|lock| Some((lock.path(), lock.file(&file.url)?)));
        // One process at a time writes the file; the others find it afterwards.
        let lock = self.lock_of(to);
        let waiting = || progress.note("another process fetches the same file; waiting");
        let _lock = FileLock::wait(&lock, waiting)?;
        let content = if to.is_file() {
            checked(file, &to.display().to_string(), pin, to, None)?
        } else if self.offline {
            let (id, name, files) = (file.url.clone(), file.name.clone(), vec![file.file_name().to_owned()]);
            return Err(HubError::Missing { id, name, files, cache: to.into(), offline: true });
        } else {
            let content = self.download_web(file, pin, to, progress)?;
            progress.done(file.file_name());
            content
        };
        if let Some(lock_file) = &lock_file {
            lock_file.add_file(&file.url, &content)?;
        }
        Ok(to.into())
    }

    /// Unpacks folders of an archive, which is downloaded, or is the user's own file `given`. Does nothing if all folders
    /// are there. A downloaded archive is removed when it is unpacked.
    ///
    /// # Errors
    /// The errors of [`Hub::fetch_file`]; the archive is damaged or hostile, or lacks one of the folders.
    pub fn fetch_archive(
        &self,
        file: &WebFile,
        given: Option<&Path>,
        folders: &[UnpackedFolder],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let Some(first) = folders.iter().find(|folder| !folder.is_there()) else { return Ok(()) };
        let beside = first.to.parent().unwrap_or(Path::new("."));
        let downloaded = beside.join(file.file_name());
        // The folders belong to one process at a time.
        let lock = self.lock_of(&first.to);
        let waiting = || progress.note("another process unpacks the same files; waiting");
        let _lock = FileLock::wait(&lock, waiting)?;
        match given {
            Some(archive) => {
                checked(file, &archive.display().to_string(), None, archive, None)?;
                unpack(archive, folders, progress)
            }
            None if folders.iter().all(UnpackedFolder::is_there) => Ok(()),
            None => {
                let archive = self.fetch_file(file, &downloaded, progress)?;
                unpack(&archive, folders, progress)?;
                fs::remove_file(&archive).map_err(HubError::file("remove", &archive))
            }
        }
    }

    /// The lock that processes with the same cache share for a path.
    fn lock_of(&self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let key = hex(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        self.cache.join(".locks/files").join(format!("{key}.lock"))
    }

    fn describe_web(
        &self,
        client: &Client,
        file: &WebFile,
        progress: &mut dyn Progress,
    ) -> Result<WebRemote> {
        RetryPolicy::new(self.pause).repeat(progress, || client.describe_web(&file.url))
    }

    fn download_web(
        &self,
        file: &WebFile,
        pin: Option<(&Path, &LockedFile)>,
        to: &Path,
        progress: &mut dyn Progress,
    ) -> Result<LockedFile> {
        let client = Client::new(self)?;
        let remote = self.describe_web(&client, file, progress)?;
        let id = host(&file.url);
        let sizes = file.size.into_iter().chain(pin.map(|(_, pin)| pin.size));
        if let Some((wanted, found)) = sizes.zip(remote.size).find(|(wanted, found)| wanted != found) {
            return Err(wrong(file, &id, "size", &found.to_string(), &wanted.to_string()));
        }
        let size = file.size.or(pin.map(|(_, pin)| pin.size)).or(remote.size);
        // The name of the partial file says which version it belongs to, so that versions are never mixed.
        let version = match (&file.sha256, &file.md5, &remote.validator) {
            (Some(known), _, _) | (None, Some(known), _) | (None, None, Some(known)) => Some(known),
            (None, None, None) => None,
        };
        let tag =
            version.map_or_else(|| "new".to_owned(), |known| hex(Sha256::digest(known))[..8].to_owned());
        let staged = to.with_file_name(format!(".{}.{tag}", file.file_name()));
        let transfer = Transfer {
            hub: self,
            id: &id,
            file: file.file_name(),
            size,
            most: None,
            resumes: version.is_some(),
        };
        let mut partial = Partial::open(&staged, transfer.resumes)?;
        if partial.len() > size.unwrap_or(u64::MAX) {
            partial.restart()?;
        }
        let inherited = partial.len() > 0;
        let open = |from| client.open_web(&file.url, from, remote.validator.as_deref());
        transfer.complete(&mut partial, &open, progress)?;
        let mut verdict = checked(file, &id, pin, partial.path(), Some(partial.sha256()));
        if verdict.is_err() && inherited {
            partial.restart()?;
            transfer.complete(&mut partial, &open, progress)?;
            verdict = checked(file, &id, pin, partial.path(), Some(partial.sha256()));
        }
        match verdict {
            Ok(content) => {
                partial.sync().map_err(|e| transfer.write_error(&e, &partial))?;
                partial.publish(to)?;
                Ok(content)
            }
            Err(error) => {
                partial.discard();
                Err(error)
            }
        }
    }
}

/// Checks a file against what is published and pinned. Reads it for the SHA-256 unless that is `known` from the download.
/// Returns its size and hash.
fn checked(
    file: &WebFile,
    origin: &str,
    pin: Option<(&Path, &LockedFile)>,
    path: &Path,
    known: Option<String>,
) -> Result<LockedFile> {
    let read_error = HubError::file("read", path);
    let measure = || -> io::Result<(u64, String, Option<String>)> {
        let open = || File::open(path);
        let size = open()?.metadata()?.len();
        let md5 = file.md5.as_ref().map(|_| digest(Md5::new(), open()?)).transpose()?;
        let sha256 = known.map_or_else(|| sha256_of(open()?), Ok)?;
        Ok((size, sha256, md5))
    };
    let (size, sha256, md5) = measure().map_err(read_error)?;
    let differs = |what, found: &str, wanted: Option<&str>| match wanted {
        Some(wanted) if wanted != found => Err(wrong(file, origin, what, found, wanted)),
        _ => Ok(()),
    };
    differs("size", &size.to_string(), file.size.map(|size| size.to_string()).as_deref())?;
    differs("SHA-256", &sha256, file.sha256.as_deref())?;
    differs("MD5", md5.as_deref().unwrap_or_default(), file.md5.as_deref())?;
    if let Some((by, pin)) = pin.filter(|(_, pin)| pin.sha256 != sha256) {
        return Err(HubError::NotPinned {
            id: host(&file.url).into(),
            file: file.file_name().into(),
            origin: origin.into(),
            what: "sha256",
            found: sha256.into(),
            wanted: pin.sha256.as_str().into(),
            by: by.display().to_string().into(),
        });
    }
    Ok(LockedFile { size, sha256, unverified: !file.has_hash() })
}

fn wrong(file: &WebFile, origin: &str, what: &'static str, found: &str, wanted: &str) -> HubError {
    let (file, origin) = (file.file_name().into(), origin.into());
    HubError::NotPublished { file, origin, what, found: found.into(), wanted: wanted.into() }
}
