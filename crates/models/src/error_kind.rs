//! The kinds of errors that exit codes tell apart.

/// What the user can do about an error, as far as a program that ends with an exit code must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Arguments or settings are wrong.
    Usage,
    /// Weights, data or the files of a run are missing or unreadable.
    Input,
    /// The work was interrupted and can go on.
    Interrupted,
    /// Anything else.
    Other,
}
