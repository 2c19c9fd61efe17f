//! The kinds of errors that have exit codes of their own.

/// The kind of an error, which decides the exit code of the program.
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
