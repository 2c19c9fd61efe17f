//! What can go wrong between the hub and the cache.

use crate::error_kind::ErrorKind;
use std::path::{Path, PathBuf};

/// Result of everything in this module.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// An error of the hub, the way to it, or the cache.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that the registry does not have.
    #[error("no model `{name}` is known; nearest: {}", nearest.join(", "))]
    UnknownModel {
        /// As given.
        name: String,
        /// The most similar names, best first.
        nearest: Vec<String>,
    },
    /// Files that are not in the cache, where nothing may be downloaded.
    #[error(
        "{id} is not in {}: {} missing",
        cache.display(), files.join(", ")
    )]
    Missing {
        /// Hub id.
        id: String,
        /// Short name.
        name: String,
        /// The missing files.
        files: Vec<String>,
        /// The cache that was searched.
        cache: PathBuf,
        /// Whether a download was asked for and forbidden.
        offline: bool,
    },
    /// No answer, or none that could be understood.
    #[error("cannot reach {url}: {reason}; check the network and any proxy, or name a mirror in HF_ENDPOINT")]
    Unreachable {
        /// What was asked for, without its query.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The connection was cut again and again.
    #[error("{file} of {id}: {reason}; what has arrived is kept, and the same command goes on from there")]
    Cut {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// What happened last.
        reason: String,
    },
    /// The hub refuses access.
    #[error("{id}: the hub refuses access (HTTP {status}). {}", advice(*gated, *with_token, page))]
    Denied {
        /// Hub id.
        id: String,
        /// 401 or 403.
        status: u16,
        /// Whether the model is known to be gated.
        gated: bool,
        /// Whether a token was sent.
        with_token: bool,
        /// Where terms are accepted.
        page: String,
    },
    /// The hub has no such file.
    #[error("{id} at revision {revision} has no {file} (HTTP 404 from {url})")]
    NotFound {
        /// Hub id.
        id: String,
        /// Commit or branch.
        revision: String,
        /// The file.
        file: String,
        /// What was asked for.
        url: String,
    },
    /// Another answer than a file.
    #[error("{url} answers {what}; try again later, or name another mirror in HF_ENDPOINT")]
    Answer {
        /// What was asked for, without its query.
        url: String,
        /// What came.
        what: String,
    },
    /// The hub offers another file than the registry pins.
    #[error(
        "the hub offers another {file} of {id} than the one that is pinned: {what} {found}, expected {wanted}; nothing \
         was downloaded. Distrust the mirror if HF_ENDPOINT names one"
    )]
    NotPinned {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// `sha256` or `size`.
        what: &'static str,
        /// As offered.
        found: String,
        /// As pinned.
        wanted: String,
    },
    /// A file that is not the one that was published. The bad data are gone.
    #[error(
        "{file} of {id} is damaged: its {what} is {found}, expected {wanted}. What was downloaded has been removed; run \
         the command again, and if it happens again distrust the network or the mirror"
    )]
    Damaged {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// `sha256` or `size`.
        what: &'static str,
        /// Of the data that arrived.
        found: String,
        /// As published.
        wanted: String,
    },
    /// The disk is full, or a quota or limit on file sizes is reached.
    #[error(
        "no room for {file} in {}: {needed} still needed ({source}). Free some space, or point HF_HOME at another disk; \
         what has arrived is kept, and the same command goes on from there",
        folder.display()
    )]
    NoRoom {
        /// The file.
        file: String,
        /// Where it was to be written.
        folder: PathBuf,
        /// How much is still to come, with its unit.
        needed: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A token that no header can carry.
    #[error(
        "the access token in HF_TOKEN or the token file holds characters that a token cannot have; set it again"
    )]
    Token,
    /// The registry is damaged.
    #[error("the registry of models is damaged: {0}")]
    Registry(String),
}

impl HubError {
    /// What the user can do about it: [`Usage`](ErrorKind::Usage) where the command line, rather than the network or the disk, is at
    /// fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. } => ErrorKind::Usage,
            Self::Missing { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Answer { .. }
            | Self::NotPinned { .. }
            | Self::Damaged { .. }
            | Self::NoRoom { .. }
            | Self::File { .. }
            | Self::Token
            | Self::Registry(_) => ErrorKind::Input,
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }
}

fn advice(gated: bool, with_token: bool, page: &str) -> String {
    let condition = if gated { "" } else { "If the model is gated, " };
    match with_token {
        false => format!(
            "{condition}{}ccept its terms at {page} and set HF_TOKEN to an access token of that account",
            if gated { "A" } else { "a" }
        ),
        true => format!(
            "{condition}{}ccept its terms at {page} with the account of your access token, and check that the token in \
             HF_TOKEN is valid and may read gated repositories",
            if gated { "A" } else { "a" }
        ),
    }
}
