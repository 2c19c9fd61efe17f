//! Errors of the hub, the network and the cache.

use crate::error_kind::ErrorKind;
use std::path::{Path, PathBuf};

/// Result type of this module.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// An error of the hub, the network or the cache.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The registry has no model of this name.
    #[error("no model `{name}` is known; nearest: {}", nearest.join(", "))]
    UnknownModel {
        /// As given.
        name: String,
        /// The most similar names, best first.
        nearest: Vec<String>,
    },
    /// Files are missing from the cache, and downloading is not allowed.
    #[error(
        "{id} is not in {}: {} missing",
        cache.display(), files.join(", ")
    )]
    Missing {
        /// Hub id.
        id: String,
        /// Argument of the command `fetch` that gets it.
        name: String,
        /// The missing files.
        files: Vec<String>,
        /// The cache that was searched.
        cache: PathBuf,
        /// Whether a download was requested but forbidden.
        offline: bool,
    },
    /// The server could not be reached, or its response could not be read.
    #[error("cannot reach {url}: {reason}; check the network and any proxy, or name a mirror in HF_ENDPOINT")]
    Unreachable {
        /// The requested address, without its query.
        url: String,
        /// The reason, in the words of the network library.
        reason: String,
    },
    /// The server asks to come again, after a longer time than this program waits.
    #[error(
        "{reason} and asks to come again in {seconds} s, which is longer than a request waits; run the same command \
         again after that time"
    )]
    Busy {
        /// Address and answer.
        reason: String,
        /// The time that the server asked for.
        seconds: u64,
    },
    /// The connection was cut repeatedly.
    #[error(
        "{file} of {id}: {reason}; the part that has arrived is kept, and the same command resumes the download"
    )]
    Cut {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// The reason of the last failure.
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
        /// The page on which terms are accepted.
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
        /// The requested address.
        url: String,
    },
    /// A server does not give the file at a web address.
    #[error(
        "{url} answers HTTP {code}; try again later, name a mirror in TOKENRANK_MIRROR, or download the file yourself and \
         give it with --from"
    )]
    Web {
        /// The address, without its query.
        url: String,
        /// Status.
        code: u16,
    },
    /// A file at a web address is not the published one.
    #[error(
        "{file} ({origin}) is not the published one: its {what} is {found}, expected {wanted}. It is not used; download it \
         again. If the error persists, do not trust the network or the mirror"
    )]
    NotPublished {
        /// Name of the file.
        file: String,
        /// Host or path.
        origin: String,
        /// `size`, `SHA-256` or `MD5`.
        what: &'static str,
        /// Value of the file.
        found: String,
        /// Published value.
        wanted: String,
    },
    /// An archive that is damaged or hostile.
    #[error("{} cannot be unpacked: {reason}; nothing of it was kept. Download it again", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A repository is not a checkpoint.
    #[error("{id} at revision {revision} is not a checkpoint that this program reads: {reason}")]
    NoCheckpoint {
        /// Hub id.
        id: String,
        /// Commit or branch.
        revision: String,
        /// What is missing.
        reason: String,
    },
    /// The server answered with something other than the file.
    #[error("{url} answers {what}; try again later, or name another mirror in HF_ENDPOINT")]
    Answer {
        /// The requested address, without its query.
        url: String,
        /// The response.
        what: String,
    },
    /// A file is not the pinned one.
    #[error(
        "{file} of {id} from {origin} is not the pinned one: its {what} is {found}, but {by} pins {wanted}. It is not \
         used. If HF_ENDPOINT names a mirror, do not trust it; if the change is right, change the pin"
    )]
    NotPinned {
        /// Hub id.
        id: Box<str>,
        /// The file.
        file: Box<str>,
        /// The hub or the cache.
        origin: Box<str>,
        /// `sha256`, `size` or `commit`.
        what: &'static str,
        /// Value of the file.
        found: Box<str>,
        /// Pinned value.
        wanted: Box<str>,
        /// The lock file, or this program.
        by: Box<str>,
    },
    /// The hub sends no hash or no size with which a file could be checked.
    #[error(
        "{file} of {id} cannot be checked: {url} gives no {lacks} for it (entity tag `{tag}`), so a file that was cut \
         or changed on its way would go unnoticed; it was not downloaded. Use the hub itself, or a mirror that passes \
         on the hub's headers X-Linked-Etag and X-Linked-Size"
    )]
    Unverified {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// The requested address, without its query.
        url: String,
        /// `SHA-256`, `hash` or `length`.
        lacks: &'static str,
        /// The entity tag.
        tag: String,
    },
    /// A file is larger than any published file of its kind.
    #[error(
        "{file} of {id} is too large: the hub sends {}, and the maximum for such a file is {most} bytes. If HF_ENDPOINT \
         names a mirror, do not trust it",
        size.map_or_else(|| "more than was announced".into(), |size| format!("{size} bytes"))
    )]
    TooLarge {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// The announced size in bytes; `None` if the data did not end.
        size: Option<u64>,
        /// The maximum in bytes.
        most: u64,
    },
    /// The downloaded file differs from the published one. The bad data have been removed.
    #[error(
        "{file} of {id} is damaged: its {what} is {found}, expected {wanted}. The download has been removed; run \
         the command again. If the error persists, do not trust the network or the mirror"
    )]
    Damaged {
        /// Hub id.
        id: String,
        /// The file.
        file: String,
        /// `sha256`, `git hash` or `size`.
        what: &'static str,
        /// Value of the downloaded data.
        found: String,
        /// Published value.
        wanted: String,
    },
    /// The disk is full, or a quota or limit on file sizes is reached.
    #[error(
        "no room for {file} in {}: {needed} still needed ({reason}). Free some space, or point HF_HOME at another disk; \
         the part that has arrived is kept, and the same command resumes the download",
        folder.display()
    )]
    NoRoom {
        /// The file.
        file: String,
        /// The folder to write to.
        folder: PathBuf,
        /// Size of the missing part, with its unit.
        needed: String,
        /// The free space, or the error of the system.
        reason: String,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The lock file is damaged, or pins something else by now.
    #[error("the lock file {} cannot be used: {reason}. Correct it, or restore it from version control", path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// There is no folder for the cache.
    #[error(
        "the folder of the cache is unknown: {reason}. Set HF_HOME to the folder in which checkpoints should be kept"
    )]
    NoHome {
        /// The reason.
        reason: &'static str,
    },
    /// The address of the hub is invalid.
    #[error("HF_ENDPOINT is not a valid address: `{shown}`; it must begin with https:// or http://")]
    Endpoint {
        /// The address, without user and password.
        shown: String,
    },
    /// The access token has characters that an HTTP header cannot hold.
    #[error("the access token in HF_TOKEN or the token file has invalid characters; set it again")]
    Token,
    /// The registry is damaged.
    #[error("the registry of models is damaged: {0}")]
    Registry(String),
}

impl HubError {
    /// The kind of the error: [`Usage`](ErrorKind::Usage) if the command line is wrong, rather than the network or the
    /// disk.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. } => ErrorKind::Usage,
            Self::Missing { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Cut { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::NoCheckpoint { .. }
            | Self::NotPublished { .. }
            | Self::Archive { .. }
            | Self::Web { .. }
            | Self::Answer { .. }
            | Self::NotPinned { .. }
            | Self::Unverified { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::File { .. }
            | Self::LockFile { .. }
            | Self::NoHome { .. }
            | Self::Endpoint { .. }
            | Self::Token
            | Self::Registry(_) => ErrorKind::Input,
        }
    }

    /// Returns a closure for `map_err` on file operations.
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
