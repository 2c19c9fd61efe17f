//! The tensors of a matrix file, and the choice among them by keys.

use std::path::{Path, PathBuf};

use super::info::TensorInfo;
use super::stack::Stack;
use super::{
    Matrices, MatrixFileError, Problem, extension, npy, npz, open, read, safetensors_header, storage, torch,
};

/// The tensors of a `.safetensors`, `.npy`, `.npz` or PyTorch file, by their headers; no values are read.
#[derive(Clone, Debug)]
pub struct Contents {
    path: PathBuf,
    /// Whether tensors have names, so that keys can select them.
    named: bool,
    tensors: Vec<TensorInfo>,
}

impl Contents {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// [`MatrixFileError`], naming the file: another extension, or a damaged, truncated or overlong file.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, MatrixFileError> {
        let path = path.as_ref();
        let tensors = match extension(path).as_str() {
            "safetensors" => open(path).and_then(|(mut file, length)| {
                let (header, _) = safetensors_header(&mut file, length)?;
                let describe = |name: String| {
                    let info = header.info(&name)?;
                    Some(TensorInfo { shape: info.shape.clone(), storage: storage(info.dtype), name })
                };
                Ok(header.offset_keys().into_iter().filter_map(describe).collect())
            }),
            "npy" => open(path).and_then(|(file, length)| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let (shape, storage) = npy::describe(file, length)?;
                Ok(vec![TensorInfo { name, shape, storage }])
            }),
            "npz" => open(path).and_then(|(file, length)| npz::describe(file, length)),
            ending if torch::EXTENSIONS.contains(&ending) => torch::describe(path),
            other => Err(Problem::Extension { found: other.to_owned() }),
        };
        let failed = |problem| MatrixFileError { path: path.to_owned(), problem };
        Ok(Self { path: path.to_owned(), named: extension(path) != "npy", tensors: tensors.map_err(failed)? })
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Returns the tensors that `keys` select, in the file's order, each once.
    ///
    /// A key is a name, a pattern in which `*` stands for any characters, or a comma-separated list of these. A name
    /// selects its tensor whatever its shape; a pattern selects the square tensors that it matches. Without keys, all
    /// square tensors called `probs` or `….probs` are selected, as `tokenrank attend` writes them, or else the only
    /// square tensor.
    ///
    /// # Errors
    /// [`MatrixFileError`]: a key matches no tensor or no square one, keys are given for a `.npy` file, there is no
    /// square tensor, or there are several and no key is given.
    pub fn choose(&self, keys: &[String]) -> Result<Vec<&TensorInfo>, MatrixFileError> {
        let chosen = if keys.is_empty() { self.default_choice() } else { self.matching(keys) };
        chosen.map_err(|problem| MatrixFileError { path: self.path.clone(), problem })
    }

    fn default_choice(&self) -> Result<Vec<&TensorInfo>, Problem> {
        if let [] | [_] = self.tensors.as_slice() {
            // Reading the tensor gives the most precise error.
            return match self.tensors.first() {
                Some(only) => Ok(vec![only]),
                None => Err(Problem::NoTensors),
            };
        }
        let square: Vec<&TensorInfo> = self.tensors.iter().filter(|tensor| tensor.is_square()).collect();
        let is_probs = |name: &str| name == "probs" || name.ends_with(".probs");
        let probs: Vec<&TensorInfo> =
            square.iter().copied().filter(|tensor| is_probs(&tensor.name)).collect();
        match square.as_slice() {
            _ if !probs.is_empty() => Ok(probs),
            [only] => Ok(vec![only]),
            [] => Err(Problem::no_matrices(None, &self.names())),
            several => {
                let names: Vec<String> = several.iter().map(|tensor| tensor.name.clone()).collect();
                Err(Problem::choose_key(&names))
            }
        }
    }

    fn matching(&self, keys: &[String]) -> Result<Vec<&TensorInfo>, Problem> {
        if let (false, Some(key)) = (self.named, keys.first()) {
            return Err(Problem::KeyWithoutNames { key: key.clone() });
        }
        let is_name = |key: &str| self.tensors.iter().any(|tensor| tensor.name == key);
        let mut meant = vec![false; self.tensors.len()];
        for key in keys {
            // A name may contain commas or stars.
            let patterns: Vec<&str> =
                if is_name(key) { vec![key] } else { key.split(',').map(str::trim).collect() };
            for pattern in patterns {
                let exact = is_name(pattern) || !pattern.contains('*');
                let matched: Vec<usize> = (0..self.tensors.len())
                    .filter(|i| {
                        let name = self.tensors[*i].name.as_str();
                        if exact { name == pattern } else { matches(pattern, name) }
                    })
                    .collect();
                if matched.is_empty() {
                    return Err(Problem::unknown_key(pattern, &self.names()));
                }
                let square: Vec<usize> =
                    matched.iter().copied().filter(|i| exact || self.tensors[*i].is_square()).collect();
                if square.is_empty() {
                    let names: Vec<String> = matched.iter().map(|i| self.tensors[*i].name.clone()).collect();
                    return Err(Problem::no_matrices(Some(pattern), &names));
                }
                square.iter().for_each(|i| meant[*i] = true);
            }
        }
        let chosen = self.tensors.iter().zip(meant).filter(|(_, meant)| *meant).map(|(tensor, _)| tensor);
        Ok(chosen.collect())
    }

    fn names(&self) -> Vec<String> {
        self.tensors.iter().map(|tensor| tensor.name.clone()).collect()
    }

    /// Reads the matrices `[..., n, n]` of one of the [`tensors`](Self::tensors).
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&self, tensor: &TensorInfo) -> Result<Matrices, MatrixFileError> {
        read(&self.path, self.named.then_some(tensor.name.as_str()))
    }

    /// Opens the matrices `[..., n, n]` of one of the [`tensors`](Self::tensors), to be read one at a time.
    ///
    /// # Errors
    /// As [`read`].
    pub fn stack(&self, tensor: &TensorInfo) -> Result<Stack, MatrixFileError> {
        let mapped = match tensor.is_square() {
            true => Stack::map(&self.path, self.named.then_some(tensor.name.as_str())),
            // Reading gives the reason.
            false => Ok(None),
        };
        match mapped.map_err(|problem| MatrixFileError { path: self.path.clone(), problem })? {
            Some(stack) => Ok(stack),
            None => Ok(Stack::read(self.read(tensor)?)),
        }
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        // The first match leaves the most room for the remaining parts.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, matched) in [
            ("*", "", true),
            ("*", "block.0.probs", true),
            ("block.*.probs", "block.11.probs", true),
            ("block.*.probs", "block.11.logits", false),
            ("block.*.probs", "text.0.block.11.probs", false),
            ("*.probs", "text.0.block.11.probs", true),
            ("block.1*", "block.0.probs", false),
            ("*0*0*", "x0", false),
            ("*0*0*", "x0y0", true),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
    }
}
