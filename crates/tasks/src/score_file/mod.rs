//! Scores that another program has computed: a safetensors file for a method, with a tensor for each image.
//!
//! The file says what it is for (`format` and `task` in its metadata). It is mapped into memory, and the tensor of one
//! image is converted at a time. `docs/scores.md` describes the format for users.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use models::array_file::{ArrayFile, NumberSort, StoredArray};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::method::{FileMethod, Named, same};
pub use settings::FromFile;

/// `format` in the metadata of a file of scores.
pub const FORMAT: &str = "tokenrank scores 1";
/// Maximum number of images that a message names.
const NAMED: usize = 3;

/// The opened files of the methods of an experiment.
#[derive(Clone, Default)]
pub struct ScoreFiles {
    /// The file of each method from a file, by the name of the method.
    by_method: BTreeMap<String, Arc<ScoreFile>>,
}

/// A file of scores, mapped into memory.
pub(crate) struct ScoreFile {
    path: PathBuf,
    arrays: ArrayFile,
    /// Name of the first tensor, and the sort of its numbers.
    first: (String, NumberSort),
    sha256: OnceLock<String>,
}

/// The names that the tensor of an image, or of a class in it, may have.
pub(crate) struct Keys {
    /// The names; the first is the one that messages ask for.
    names: Vec<String>,
}

/// The tokens that a score must cover.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    /// Rows and columns.
    pub(crate) grid: (usize, usize),
    /// What the grid consists of, such as `patches`.
    pub(crate) of: &'static str,
}

impl ScoreFiles {
    /// Opens the files of the methods that have one. `task` is the name of the experiment, which the files must state.
    ///
    /// # Errors
    /// A file cannot be read, is not a file of scores, or is for another experiment.
    pub(crate) fn open<'a, M: Named>(task: &str, methods: impl IntoIterator<Item = &'a M>) -> Result<Self> {
        let mut opened: BTreeMap<&Path, Arc<ScoreFile>> = BTreeMap::new();
        let mut by_method = BTreeMap::new();
        for FileMethod { file, name } in methods.into_iter().filter_map(M::file_method) {
            let score_file = match opened.get(file) {
                Some(known) => Arc::clone(known),
                None => Arc::new(ScoreFile::open(file, task)?),
            };
            opened.insert(file, Arc::clone(&score_file));
            by_method.insert(name.to_owned(), score_file);
        }
        Ok(Self { by_method })
    }

    /// Returns the SHA-256 of the file of each method, by the name of the method.
    pub fn sha256(&self) -> BTreeMap<String, String> {
        self.by_method.iter().map(|(name, file)| (name.clone(), file.sha256().to_owned())).collect()
    }

    /// Checks the tensors of all images of a run, for every method from a file, with `check`, which is given the file and
    /// the tensor with its name. Returns notes for the user, a sentence each.
    ///
    /// # Errors
    /// Images have no tensor, or two; an error of `check`.
    pub(crate) fn check<'a, M: Named, K: IntoIterator<Item = Keys>>(
        &self,
        methods: impl IntoIterator<Item = &'a M>,
        images: impl Fn() -> K,
        check: impl Fn(&ScoreFile, &str, StoredArray<'_>) -> Result<()> + Sync,
    ) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for method in methods.into_iter().filter_map(M::file_method) {
            let file = self.get(method)?;
            let note = file.check(images(), |name, array| check(file, name, array))?;
            notes.extend(note.filter(|note| !notes.contains(note)));
        }
        Ok(notes)
    }

    /// Returns the file of a method.
    pub(crate) fn get(&self, method: FileMethod<'_>) -> Result<&ScoreFile> {
        let refuse = || Error::Scores { path: method.file.into(), reason: "the file was not opened".into() };
        self.by_method.get(method.name).map(|file| &**file).ok_or_else(refuse)
    }
}

impl ScoreFile {
    fn open(path: &Path, task: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Scores { path: path.into(), reason };
        let arrays = ArrayFile::open(path).map_err(|error| refuse(error.to_string()))?;
        let write = format!(
            "write it with tokenrank.write_scores(…, task=\"{task}\") in Python, or as docs/scores.md says"
        );
        match arrays.metadata("format") {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(refuse(format!("its metadata have format = {other:?}, not {FORMAT:?}; {write}")));
            }
            None => {
                return Err(refuse(format!(
                    "its metadata have no `format`, so it is not a file of scores ({FORMAT:?}); {write}"
                )));
            }
        }
        match arrays.metadata("task") {
            Some(found) if found == task => {}
            Some(other) => {
                return Err(refuse(format!(
                    "it is for task = {other:?}, but this experiment is [task.{task}], whose scores mean something else; {write}"
                )));
            }
            None => return Err(refuse(format!("its metadata have no `task`; {write}"))),
        }
        let name = arrays.names().into_iter().next().unwrap_or_default();
        let sort = arrays.array(&name).map_or(NumberSort::Other, |array| array.sort());
        Ok(Self { path: path.into(), arrays, first: (name, sort), sha256: OnceLock::new() })
    }

    fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| self.arrays.sha256())
    }

    /// Name of the first tensor, and the sort of its numbers.
    pub(crate) fn first(&self) -> (&str, NumberSort) {
        (&self.first.0, self.first.1)
    }

    /// Returns an error about the file.
    pub(crate) fn refuse(&self, reason: String) -> Error {
        Error::Scores { path: self.path.clone(), reason }
    }

    /// Checks the tensors of all images of a run with `check`. Returns a note if the file has tensors for other images.
    ///
    /// # Errors
    /// Images have no tensor, or two; an error of `check`.
    pub(crate) fn check(
        &self,
        images: impl IntoIterator<Item = Keys>,
        check: impl Fn(&str, StoredArray<'_>) -> Result<()> + Sync,
    ) -> Result<Option<String>> {
        let (mut used, mut missing, mut count) = (BTreeSet::new(), Vec::new(), 0);
        for keys in images {
            count += 1;
            match self.find(&keys)? {
                Some(name) => drop(used.insert(name.to_owned())),
                None => missing.push(keys),
            }
        }
        let others: Vec<String> =
            self.arrays.names().into_iter().filter(|name| !used.contains(name)).collect();
        if let Some(first) = missing.first() {
            return Err(self.refuse(absent(first, &missing, count, &others)));
        }
        let checked = |name: &String| check(name, self.named(name)?);
        let names: Vec<&String> = used.iter().collect();
        if let Some(error) = names.par_iter().find_map_first(|name| checked(name).err()) {
            return Err(error);
        }
        Ok((!others.is_empty()).then(|| {
            format!(
                "{}: {} of its {} tensors belong to no image of this run and are not read, such as `{}`",
                self.path.display(),
                others.len(),
                others.len() + used.len(),
                others[0]
            )
        }))
    }

    /// Returns the tensor of an image, with its name.
    ///
    /// # Errors
    /// There is none, or there are two.
    pub(crate) fn tensor<'a>(&self, keys: &'a Keys) -> Result<(&'a str, StoredArray<'_>)> {
        match self.find(keys)? {
            Some(name) => Ok((name, self.named(name)?)),
            None => Err(self.refuse(format!("has no tensor `{}`", keys.first()))),
        }
    }

    fn named(&self, name: &str) -> Result<StoredArray<'_>> {
        self.arrays.array(name).ok_or_else(|| self.refuse(format!("has no tensor `{name}`")))
    }

    fn find<'a>(&self, keys: &'a Keys) -> Result<Option<&'a str>> {
        let mut found = keys.names.iter().filter(|name| self.arrays.array(name).is_some());
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => Err(self.refuse(format!(
                "the tensors `{one}` and `{other}` are for the same class of the same image; leave one of them out"
            ))),
            (one, _) => Ok(one.map(String::as_str)),
        }
    }

    /// Returns the scores of the tokens of an image in row order. Without `tokens`, their number is not checked.
    ///
    /// # Errors
    /// They are not floating-point numbers, are not one for each of `tokens`, or are not finite.
    pub(crate) fn scores(
        &self,
        name: &str,
        array: StoredArray<'_>,
        tokens: Option<Tokens>,
    ) -> Result<Vec<f64>> {
        let fits = match (array.shape, tokens) {
            ([rows, columns], Some(tokens)) => (*rows, *columns) == tokens.grid,
            ([count], Some(tokens)) => *count == tokens.grid.0 * tokens.grid.1,
            ([_] | [_, _], None) => !array.shape.contains(&0),
            _ => false,
        };
        if !fits {
            let expected = tokens.map_or("expected [rows, columns]".to_owned(), |tokens| {
                let (rows, columns) = tokens.grid;
                format!(
                    "but the image is divided into {rows}×{columns} {}; expected [{rows}, {columns}], or [{}] in row order",
                    tokens.of,
                    rows * columns
                )
            });
            return Err(self.refuse(format!(
                "tensor `{name}` has shape {:?}, {expected}: compute the scores for the grid of this network and image size",
                array.shape
            )));
        }
        let Some(scores) = array.reals() else {
            return Err(self.refuse(format!(
                "tensor `{name}` holds {}; scores are F64, F32, F16 or BF16",
                array.type_name()
            )));
        };
        let out_of_range = |score: &f64| !score.is_finite() || score.abs() > f64::from(f32::MAX);
        if let Some(at) = scores.iter().position(out_of_range) {
            let place = match array.shape {
                [_, columns] => format!("row {}, column {}", at / columns, at % columns),
                _ => format!("token {at}"),
            };
            return Err(self.refuse(format!(
                "tensor `{name}` is {} at {place} (counted from 0); scores must be finite and within the range of float32: replace it \
                 by the score that this token shall have",
                scores[at]
            )));
        }
        // Adding 0 turns -0 into 0: they are equal, but sort differently.
        Ok(scores.into_iter().map(|score| score + 0.0).collect())
    }
}

impl Keys {
    /// The key of an image.
    pub(crate) fn of_image(id: &str) -> Self {
        Self { names: vec![id.to_owned()] }
    }

    /// The keys of a class that is searched for in an image; `only` says whether it is the only class of the image.
    pub(crate) fn of_class(id: &str, class: &str, only: bool) -> Self {
        let both = format!("{id}:{class}");
        Self { names: if only { vec![id.to_owned(), both] } else { vec![both] } }
    }

    fn first(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// Returns the message about images without a tensor. `others` are the tensors of no image.
fn absent(first: &Keys, missing: &[Keys], count: usize, others: &[String]) -> String {
    let names: Vec<String> = missing.iter().take(NAMED).map(|keys| format!("`{}`", keys.first())).collect();
    let more = if missing.len() > NAMED { ", …" } else { "" };
    let similar = |other: &&String| {
        let stem = |name: &str| Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        same(&stem(other).unwrap_or_default(), &stem(first.first()).unwrap_or_default())
    };
    let other = others.iter().find(similar).or(others.first());
    let other = other.map_or_else(String::new, |other| {
        format!("; it has tensors that belong to no image of the run, such as `{other}`")
    });
    format!(
        "has no tensor for {} of {count} images: {}{more}{other}. The name of a tensor is that of its image in the dataset, as in \
         the `id` of records.jsonl: add these tensors, or leave the images out of the dataset",
        missing.len(),
        names.join(", ")
    )
}
