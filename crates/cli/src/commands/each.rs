//! Commands that check several experiment files: one that cannot start does not keep the others from being checked.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What became of each file.
pub struct Each {
    of: usize,
    failed: Vec<(PathBuf, Failure)>,
}

impl Each {
    /// So many files, none of them checked yet.
    pub fn of(files: usize) -> Self {
        Self { of: files, failed: Vec::new() }
    }

    /// The answer about a file, if it is one to work with; otherwise its name and what is wrong with it go to stderr. What is
    /// wrong with the only file is the command's failure, and said once.
    pub fn take<T>(&mut self, file: &Path, answer: Result<T, Failure>) -> Option<T> {
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

    /// Fails if a file did; of several, with their names and the gravest exit code: what to change in a file comes before
    /// what to get for it.
    ///
    /// # Errors
    /// A file failed.
    pub fn conclude(mut self, what: &str) -> Result<(), Failure> {
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
