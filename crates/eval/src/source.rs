//! Where the text of an experiment comes from: a file, or the program itself.

use std::path::{Path, PathBuf};

use models::limits;

use crate::embedded::{self, Text};
use crate::error::{Error, Result};

/// Where the text of an experiment comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The program, which carries the experiments of its repository.
    Program(Text),
}

impl Source {
    /// Finds an experiment by its path or its name, such as `paper/masking-vit`. A file comes first; where there is none, the name
    /// means the file of that name in the folder `configs` of a checkout, and otherwise the experiment in the program.
    ///
    /// # Errors
    /// Fails if there is neither; the error has the most similar names.
    pub fn of(path: &Path) -> Result<Self> {
        let known = embedded::experiment(path);
        if path.is_file() {
            return Ok(Self::File(path.into()));
        }
        match known {
            Some(text) if Path::new(text.name).is_file() => Ok(Self::File(text.name.into())),
            Some(text) => Ok(Self::Program(text)),
            // Anything else at the path has an error of its own when it is read.
            None if path.symlink_metadata().is_ok() => Ok(Self::File(path.into())),
            None => {
                Err(Error::NoExperiment { path: path.into(), nearest: embedded::nearest_experiments(path) })
            }
        }
    }

    /// Returns the text.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) fn read(&self) -> std::io::Result<String> {
        match self {
            Self::File(path) => limits::read_text(path, limits::EXPERIMENT_BYTES),
            Self::Program(text) => Ok(text.text.to_owned()),
        }
    }

    /// Returns the note for a user who gave `path`: the name of an experiment in the program, for which a file with another text
    /// was taken.
    pub(crate) fn note(path: &Path) -> Option<String> {
        let Ok(Self::File(taken)) = Self::of(path) else { return None };
        let known = embedded::experiment(path)?;
        let differs = taken != path && Self::File(taken.clone()).read().is_ok_and(|text| text != known.text);
        differs.then(|| format!("taken from {}, which differs from the program's own", taken.display()))
    }
}
