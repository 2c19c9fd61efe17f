//! Errors as the user meets them: one paragraph and an exit code.

use std::fmt;
use std::path::Path;

use eval::analysis::AnalysisError;
use eval::metrics::fidelity::FidelityError;
use miette::{GraphicalReportHandler, GraphicalTheme, MietteDiagnostic, Severity};
use models::hub::HubError;
use models::matrix_file::{MatrixFileError, Problem};

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
    /// What to run next, as a shell reads it.
    command: Option<Vec<u8>>,
}

/// Anything not named below.
const OTHER: u8 = 1;
/// Usage or config.
const USAGE: u8 = 2;
/// Weights or data missing or unreadable.
const INPUT: u8 = 3;
/// Characters of a message; the longest list what is missing of a pipeline.
const LONGEST_MESSAGE: usize = 10_000;
/// A metric that moved.
const MOVED: u8 = 4;
/// Interrupted, resumable.
pub const INTERRUPTED: u8 = 5;

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, command: None }
    }

    /// A contradiction in the arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// Something that stopped the command and is the user's neither to fix nor to find.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(OTHER, message)
    }

    /// What several failures come to, each of which has been said.
    pub fn of_several(code: u8, message: &str) -> Self {
        Self::new(code, message)
    }

    /// The same with the name of the file that it is about before it, if it does not name it.
    pub fn about(self, file: &Path) -> Self {
        let name = file.display().to_string();
        if self.message.contains(&name) {
            return self;
        }
        Self { message: format!("{name}: {}", self.message), ..self }
    }

    /// A run that is whole but for items whose data cannot be read.
    pub fn unread(message: impl Into<String>) -> Self {
        Self::new(INPUT, message)
    }

    /// A result that is not the baseline's.
    pub fn moved(message: impl Into<String>) -> Self {
        Self::new(MOVED, message)
    }

    /// Work that was interrupted, with the command that goes on from there as a shell reads it.
    pub fn interrupted(message: &str, command: Vec<u8>) -> Self {
        Self { command: Some(command), ..Self::new(INTERRUPTED, format!("{message}; resume with:")) }
    }

    /// Says it on stderr; the command on a line of its own, as it is, so that it can be pasted.
    pub fn tell(&self) {
        say!("{self}");
        if let Some(command) = &self.command {
            crate::output::say(command);
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
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
pub fn plain(message: &str) -> String {
    let mut shown = String::new();
    for (count, c) in message.chars().enumerate() {
        match c {
            _ if count == LONGEST_MESSAGE => return shown + "…",
            c if c.is_control() && c != '\n' => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

impl From<models::Error> for Failure {
    fn from(error: models::Error) -> Self {
        Self::new(model_code(&error), error.to_string())
    }
}

impl From<runs::Error> for Failure {
    fn from(error: runs::Error) -> Self {
        Self::new(run_code(&error), error.to_string())
    }
}

impl From<eval::Error> for Failure {
    fn from(error: eval::Error) -> Self {
        Self::new(eval_code(&error), error.to_string())
    }
}

fn eval_code(error: &eval::Error) -> u8 {
    match error {
        eval::Error::Several(errors) => errors.iter().map(eval_code).min().unwrap_or(OTHER),
        eval::Error::Config { .. } | eval::Error::Override { .. } | eval::Error::Compare { .. } => USAGE,
        eval::Error::Run(error) => run_code(error),
        eval::Error::Task(error) => task_code(error),
        eval::Error::Fidelity(error) => fidelity_code(error),
        eval::Error::Analysis(error) => analysis_code(error),
        eval::Error::Export { .. } | eval::Error::Bootstrap(_) => OTHER,
    }
}

fn run_code(error: &runs::Error) -> u8 {
    use runs::{Error as E, FileAction};
    match error {
        E::OtherRun { .. } | E::Spread { .. } => USAGE,
        E::Interrupted { .. } => INTERRUPTED,
        E::NothingRead { .. }
        | E::Unreadable { .. }
        | E::Merge { .. }
        | E::File { action: FileAction::Read, .. } => INPUT,
        E::Task(error) => task_code(error),
        E::Locked { .. }
        | E::File { action: FileAction::Create | FileAction::Write | FileAction::Remove, .. } => OTHER,
    }
}

fn task_code(error: &tasks::Error) -> u8 {
    match error {
        tasks::Error::Setting { .. } | tasks::Error::Scene(_) => USAGE,
        tasks::Error::Dataset { .. } => INPUT,
        tasks::Error::Model(error) => model_code(error),
        tasks::Error::Write { .. } | tasks::Error::Score(_) | tasks::Error::Torch(_) => OTHER,
    }
}

fn fidelity_code(error: &FidelityError) -> u8 {
    match error {
        FidelityError::Setting { .. } => USAGE,
        FidelityError::TooFew { .. }
        | FidelityError::SubsetSize { .. }
        | FidelityError::Width { .. }
        | FidelityError::Classes { .. }
        | FidelityError::Conflict { .. }
        | FidelityError::NotFinite { .. }
        | FidelityError::Statistics { .. }
        | FidelityError::Eigenvalues { .. }
        | FidelityError::NoLogits => INPUT,
    }
}

fn analysis_code(error: &AnalysisError) -> u8 {
    match error {
        AnalysisError::Option { .. } => USAGE,
        AnalysisError::File(error) => file_code(error),
        AnalysisError::Matrix { .. } => INPUT,
        AnalysisError::Chain { .. } | AnalysisError::Incomplete(_) => OTHER,
    }
}

fn file_code(error: &MatrixFileError) -> u8 {
    let writing = matches!(error.problem, Problem::Write(_));
    if error.is_usage() {
        USAGE
    } else if writing {
        OTHER
    } else {
        INPUT
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        models::Error::from(error).into()
    }
}

fn model_code(error: &models::Error) -> u8 {
    use models::Error as E;
    match error {
        E::Device { .. }
        | E::Layers { .. }
        | E::MixedSizes { .. }
        | E::ImageSize { .. }
        | E::Input { .. }
        | E::Word { .. }
        | E::NoTextTower { .. } => USAGE,
        E::Probe(_) | E::Chain(_) | E::Torch(_) => OTHER,
        E::MatrixFile(error) => file_code(error),
        E::Hub(error) if error.is_usage() => USAGE,
        E::Read { .. }
        | E::Damaged { .. }
        | E::Directory { .. }
        | E::Safetensors { .. }
        | E::MissingTensor { .. }
        | E::Shape { .. }
        | E::Dtype { .. }
        | E::UnreadTensors { .. }
        | E::NoClassifier { .. }
        | E::Text { .. }
        | E::Image(_)
        | E::Hub(_) => INPUT,
    }
}
