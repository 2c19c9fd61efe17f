//! What is known about the files of a model before they are fetched: from the registry and from the lock file.

use super::client::Remote;
use super::content::{Content, Tag};
use super::error::{HubError, Result};
use super::lock_file::LockFile;
use super::registry::Model;

/// Pinned values of a model's files.
pub(super) struct Pins<'a> {
    model: &'a Model,
    lock: Option<&'a LockFile>,
}

/// A pinned file.
struct Pin {
    size: Option<u64>,
    sha256: Option<String>,
    /// Whether the hash proves the content.
    proves: bool,
    /// Who pins it.
    by: String,
}

impl<'a> Pins<'a> {
    /// # Errors
    /// [`HubError::NotPinned`] if the lock file pins another commit than the registry.
    pub(super) fn new(model: &'a Model, lock: Option<&'a LockFile>) -> Result<Self> {
        let pins = Self { model, lock };
        match lock.and_then(|lock| Some((lock, lock.of(model)?))) {
            Some((lock, locked)) if model.is_pinned() && model.revision != locked.commit => {
                let by = lock.path().display().to_string();
                Err(pins.differs(
                    ["the commit", "this program"],
                    "commit",
                    [&model.revision, &locked.commit],
                    &by,
                ))
            }
            _ => Ok(pins),
        }
    }

    /// Commit or branch to fetch from.
    pub(super) fn revision(&self) -> &'a str {
        let locked = self.lock.and_then(|lock| lock.of(self.model));
        locked.map_or(&self.model.revision, |locked| &locked.commit)
    }

    fn of(&self, file: &str) -> impl Iterator<Item = Pin> + use<'a> {
        let registry = self.model.published.get(file).map(|pin| Pin {
            size: pin.size,
            sha256: pin.sha256.clone(),
            proves: true,
            by: "this program".into(),
        });
        let locked = self.lock.and_then(|lock| {
            let pin = lock.of(self.model)?.files.get(file)?;
            let by = lock.path().display().to_string();
            Some(Pin { size: Some(pin.size), sha256: Some(pin.sha256.clone()), proves: !pin.unverified, by })
        });
        registry.into_iter().chain(locked)
    }

    /// Returns the pinned size of a file.
    pub(super) fn size(&self, file: &str) -> Option<u64> {
        self.of(file).find_map(|pin| pin.size)
    }

    /// Whether a pinned SHA-256 proves the content of a file.
    pub(super) fn prove(&self, file: &str) -> bool {
        self.of(file).any(|pin| pin.proves && pin.sha256.is_some())
    }

    /// Checks what the hub offers.
    ///
    /// # Errors
    /// [`HubError::NotPinned`] with the first difference.
    pub(super) fn check_offer(&self, file: &str, remote: &Remote) -> Result<()> {
        let sha256 = match &remote.tag {
            Tag::Sha256(sha256) => Some(sha256.as_str()),
            Tag::Git(_) | Tag::Other(_) => None,
        };
        self.check(file, "the hub", remote.size, sha256)
    }

    /// Checks what has arrived, or lies in the cache.
    ///
    /// # Errors
    /// [`HubError::NotPinned`] with the first difference.
    pub(super) fn check_content(&self, file: &str, origin: &str, content: &Content) -> Result<()> {
        self.check(file, origin, Some(content.size), Some(&content.sha256))
    }

    fn check(&self, file: &str, origin: &str, size: Option<u64>, sha256: Option<&str>) -> Result<()> {
        for pin in self.of(file) {
            let differs = |what, found: &dyn ToString, wanted: &dyn ToString| {
                Err(self.differs([file, origin], what, [&found.to_string(), &wanted.to_string()], &pin.by))
            };
            match (sha256, &pin.sha256) {
                (Some(found), Some(wanted)) if found != wanted => return differs("sha256", &found, wanted),
                _ => {}
            }
            match (size, pin.size) {
                (Some(found), Some(wanted)) if found != wanted => return differs("size", &found, &wanted),
                _ => {}
            }
        }
        Ok(())
    }

    fn differs(
        &self,
        [file, origin]: [&str; 2],
        what: &'static str,
        [found, wanted]: [&str; 2],
        by: &str,
    ) -> HubError {
        let id = self.model.id.as_str().into();
        let (file, origin, by) = (file.into(), origin.into(), by.into());
        HubError::NotPinned { id, file, origin, what, found: found.into(), wanted: wanted.into(), by }
    }
}
