//! Errors as the user meets them: one paragraph and an exit code.

use std::fmt;
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme, MietteDiagnostic, Severity};
use models::escape;
use models::hub::HubError;
use runs::slurm::SlurmError;

use crate::exit_code::ExitCode;
use crate::output::say_escaped;
use crate::remedy::Explained;

/// An error with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: ExitCode,
    /// What to run next, as a shell reads it.
    command: Option<String>,
}

/// Characters of a message; the longest list what is missing of a pipeline.
const LONGEST_MESSAGE: usize = 10_000;
impl Failure {
    fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, command: None }
    }

    /// A contradiction in the arguments.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Something that stopped the command and is the user's neither to fix nor to find.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Other, message)
    }

    /// What several failures come to, each of which has been said.
    pub(crate) fn of_several(code: ExitCode, message: &str) -> Self {
        Self::new(code, message)
    }

    /// The same with the name of the file that it is about before it, if it does not name it.
    pub(crate) fn about(self, file: &Path) -> Self {
        let name = file.display().to_string();
        if self.message.contains(&name) {
            return self;
        }
        Self { message: format!("{name}: {}", self.message), ..self }
    }

    /// A run that is whole but for items whose data cannot be read.
    pub(crate) fn unread(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Input, message)
    }

    /// A result that is not the baseline's.
    pub(crate) fn moved(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Moved, message)
    }

    /// Work that was interrupted, with the command that goes on from there as a shell reads it.
    pub(crate) fn interrupted(message: &str, command: String) -> Self {
        Self {
            command: Some(command),
            ..Self::new(ExitCode::Interrupted, format!("{message}; resume with:"))
        }
    }

    /// Says it on stderr; the command on a line of its own, as it is, so that it can be pasted.
    pub(crate) fn tell(&self) {
        say_escaped(&self.to_string());
        if let Some(command) = &self.command {
            say_escaped(command);
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::io::IsTerminal;
        let theme = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let diagnostic = MietteDiagnostic::new(plain(&self.message)).with_severity(Severity::Error);
        // Lines end between words alone, so that names and commands can be copied.
        GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .with_break_words(false)
            .with_word_separator(textwrap::WordSeparator::AsciiSpace)
            .with_word_splitter(textwrap::WordSplitter::NoHyphenation)
            .render_report(f, &diagnostic)
    }
}

/// A message may quote the file that it is about, so it is shortened and what would steer the terminal is spelled out.
pub(crate) fn plain(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => escape::text(&message[..end]).into_owned() + "…",
        None => escape::text(message).into_owned(),
    }
}

/// Errors of the libraries, each with the exit code of its kind and what to do about it.
macro_rules! failures_of {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind().into(), error.explained())
            }
        }
    )*};
}

failures_of!(models::Error, HubError, runs::Error, SlurmError, eval::Error);
