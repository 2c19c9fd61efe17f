//! Downloads one file from the hub to its final name in the cache.

use std::io;
use std::path::Path;

use super::Progress;
use super::client::{Client, Remote, Wanted};
use super::content::{Content, Kind, Tag};
use super::error::{HubError, Result};
use super::partial::Partial;
use super::pins::Pins;
use super::settings::Hub;
use super::transfer::Transfer;

/// A file to download, with everything that is known about it.
pub(super) struct Download<'a> {
    client: &'a Client,
    pins: &'a Pins<'a>,
    wanted: Wanted<'a>,
    tag: &'a Tag,
    kind: Kind,
    /// It resumes if the entity tag or a pinned hash proves the content.
    transfer: Transfer<'a>,
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
        let most = kind.most_bytes();
        let transfer = Transfer { hub, id: &model.id, file, size, most, resumes: verified };
        Ok(Self { client, pins, wanted, tag, kind, transfer })
    }

    /// Downloads to `blob`, resuming an earlier attempt. The file gets this name only if its size and hash are right.
    pub(super) fn run(&self, blob: &Path, progress: &mut dyn Progress) -> Result<Content> {
        if blob.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let in_the_way = io::Error::other("it is a folder; remove it and try again");
            return Err(HubError::file("write", blob)(in_the_way));
        }
        // Without a hash nothing could tell whether two parts belong together.
        let mut partial = Partial::open(blob, self.transfer.resumes)?;
        if partial.len() > self.transfer.size.or(self.transfer.most).unwrap_or(u64::MAX) {
            partial.restart()?;
        }
        let inherited = partial.len() > 0;
        let open = |from| self.client.open(self.wanted, from);
        self.transfer.complete(&mut partial, &open, progress)?;
        let mut verdict = self.verify(&partial);
        if verdict.is_err() && inherited {
            // A crash may have damaged the earlier part, so download once more from the beginning.
            partial.restart()?;
            self.transfer.complete(&mut partial, &open, progress)?;
            verdict = self.verify(&partial);
        }
        match verdict {
            Ok(content) => {
                partial.sync().map_err(|e| self.transfer.write_error(&e, &partial))?;
                partial.publish(blob)?;
                Ok(content)
            }
            Err(error) => {
                partial.discard();
                Err(error)
            }
        }
    }

    fn verify(&self, partial: &Partial) -> Result<Content> {
        let Wanted { model, file, .. } = self.wanted;
        let damaged = |what, found: String, wanted: String| {
            let (id, file) = (model.id.clone(), file.into());
            Err(HubError::Damaged { id, file, what, found, wanted })
        };
        let content =
            Content { size: partial.len(), sha256: partial.sha256(), verified: self.transfer.resumes };
        if let Some(size) = self.transfer.size.filter(|&size| size != content.size) {
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
}
