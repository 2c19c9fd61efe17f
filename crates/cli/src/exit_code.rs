//! The exit codes of the program, documented here and printed by `--help`.

use models::ErrorKind;

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExitCode {
    /// The command succeeded.
    Fine = 0,
    /// Any error that has no other code.
    Other = 1,
    /// Arguments or an experiment file are wrong.
    Usage = 2,
    /// Weights, data or the files of a run are missing or unreadable.
    Input = 3,
    /// `compare` found that a metric moved.
    Moved = 4,
    /// The command was interrupted; the same command resumes it.
    Interrupted = 5,
}

impl ExitCode {
    const ALL: [Self; 6] =
        [Self::Fine, Self::Usage, Self::Input, Self::Moved, Self::Interrupted, Self::Other];

    fn meaning(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Other => "anything else",
            Self::Usage => "usage or config",
            Self::Input => "weights, data or a run missing or unreadable",
            Self::Moved => "a metric moved (compare)",
            Self::Interrupted => "interrupted, resumable",
        }
    }

    /// The number that the shell receives.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// Returns all exit codes in one line, for `--help`.
    pub(crate) fn help() -> String {
        let each = Self::ALL.map(|code| format!("{} {}", code.code(), code.meaning()));
        format!("Exit codes: {}", each.join(" · "))
    }
}

impl From<ErrorKind> for ExitCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Input => Self::Input,
            ErrorKind::Interrupted => Self::Interrupted,
            ErrorKind::Other => Self::Other,
        }
    }
}
