//! Checks several experiment files: an error in one file does not stop the checks of the others.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The results of the checks so far.
pub(super) struct Each {
    of: usize,
    failed: Vec<(PathBuf, Failure)>,
}

impl Each {
    /// Starts the check of this many files.
    pub(super) fn of(files: usize) -> Self {
        Self { of: files, failed: Vec::new() }
    }

    /// Returns the result of a file that passed its check. Otherwise it prints the file's name and the error to stderr;
    /// the error of an only file is kept for [`Each::conclude`] instead, so that it is not printed twice.
    pub(super) fn take<T>(&mut self, file: &Path, answer: Result<T, Failure>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(failure) => {
                let failure = if self.of > 1 { failure.about(file) } else { failure };
                if self.of > 1 {
                    failure.tell();
                }
                self.failed.push((file.into(), failure));
                None
            }
        }
    }

    /// Fails if a file failed. If there are several files, the error lists the failed ones and has the lowest of their
    /// exit codes: errors in the settings come before missing inputs.
    ///
    /// # Errors
    /// Fails if a file failed.
    pub(super) fn conclude(mut self, what: &str) -> Result<(), Failure> {
        if self.of == 1 {
            return self.failed.pop().map_or(Ok(()), |(_, failure)| Err(failure));
        }
        let Some(code) = self.failed.iter().map(|(_, failure)| failure.code()).min() else { return Ok(()) };
        let names: Vec<String> = self.failed.iter().map(|(file, _)| file.display().to_string()).collect();
        let ready = self.of - names.len();
        Err(Failure::of_several(
            code,
            &format!(
                "{ready} of {} experiments {what}; not {}, for the reasons above",
                self.of,
                names.join(", ")
            ),
        ))
    }
}
