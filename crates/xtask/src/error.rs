//! Errors of one line that says what is missing and what to do.

use std::fmt;

/// An error as one line for the terminal, with the exit code to which it leads.
#[derive(Debug)]
pub(crate) struct Error {
    line: String,
    usage: bool,
}

/// Result type of this program.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something is missing or failed: exit code 1.
    pub(crate) fn missing(line: impl Into<String>) -> Self {
        Self { line: line.into(), usage: false }
    }

    /// The command line is wrong: exit code 2.
    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self { line: line.into(), usage: true }
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
