//! Finds the weight files of a model directory.
//!
//! transformers and diffusers use different file names and a different order of preference. A directory is read in the
//! order of the library whose names it uses. `tools/golden_checkpoints.py` compares with both libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::{CONFIG_BYTES, INDEX_BYTES, read_text};

/// The weight files of a network.
pub(crate) struct Checkpoint {
    /// The files, safetensors or PyTorch's, in the order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// The index of shards, if there is one.
    pub(crate) index: Option<Index>,
}

/// An index of shards.
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// Tensor name → file name of its shard.
    pub(crate) weight_map: BTreeMap<String, String>,
}

/// The library whose file names a directory uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Transformers,
    Diffusers,
}

/// The keys of `config.json` about weight files.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    #[serde(rename = "_class_name")]
    class_name: Option<serde_json::Value>,
    /// The file that transformers reads instead of its usual ones.
    transformers_weights: Option<String>,
}

impl Library {
    /// Returns both libraries, the one that wrote the directory first: diffusers stores the class of a network as
    /// `_class_name`.
    fn preferred(config: &Config) -> [Self; 2] {
        match config.class_name {
            Some(_) => [Self::Diffusers, Self::Transformers],
            None => [Self::Transformers, Self::Diffusers],
        }
    }

    /// The beginning of the names of safetensors files.
    fn stem(self) -> &'static str {
        match self {
            Self::Transformers => "model",
            Self::Diffusers => "diffusion_pytorch_model",
        }
    }

    /// The beginning of the names of PyTorch files.
    fn torch_stem(self) -> &'static str {
        match self {
            Self::Transformers => "pytorch_model",
            Self::Diffusers => "diffusion_pytorch_model",
        }
    }

    /// Returns the possible file names, the preferred one first: safetensors before PyTorch files. Of safetensors,
    /// transformers prefers one file to an index of shards, diffusers the index. Index names with `.VARIANT.index` are
    /// those of older diffusers versions.
    fn candidates(self, variant: Option<&str>) -> Vec<String> {
        let of_format = |stem: &str, end: &str| match variant {
            None => (format!("{stem}.{end}"), vec![format!("{stem}.{end}.index.json")]),
            Some(variant) => (
                format!("{stem}.{variant}.{end}"),
                vec![
                    format!("{stem}.{end}.index.{variant}.json"),
                    format!("{stem}.{end}.{variant}.index.json"),
                ],
            ),
        };
        let (single, mut names) = of_format(self.stem(), SAFETENSORS);
        match self {
            Self::Transformers => names.insert(0, single),
            Self::Diffusers => names.push(single),
        }
        let (single, indexes) = of_format(self.torch_stem(), TORCH);
        names.push(single);
        names.extend(indexes);
        names
    }

    /// Returns the variant in a file name of this library: `fp16` for `model.fp16.safetensors`.
    fn variant(self, file: &str) -> Option<&str> {
        [(self.stem(), SAFETENSORS), (self.torch_stem(), TORCH)].into_iter().find_map(|(stem, end)| {
            let rest = file.strip_prefix(stem)?.strip_prefix('.')?;
            let of_index =
                rest.strip_prefix(end).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".json"));
            let variant = match of_index {
                Some(middle) => middle.strip_prefix("index.").or_else(|| middle.strip_suffix(".index"))?,
                None => rest.strip_suffix(end)?.strip_suffix('.')?,
            };
            (!variant.is_empty() && !variant.contains('.') && !is_shard(variant)).then_some(variant)
        })
    }
}

/// Extensions of safetensors and of PyTorch files.
const SAFETENSORS: &str = "safetensors";
const TORCH: &str = "bin";

/// Whether a file name is that of a shard, `…-00001-of-00002…`.
fn is_shard(name: &str) -> bool {
    name.split("-of-").collect::<Vec<_>>().windows(2).any(|pair| {
        pair[0].ends_with(|c: char| c.is_ascii_digit()) && pair[1].starts_with(|c: char| c.is_ascii_digit())
    })
}

impl Checkpoint {
    /// A checkpoint of a single file.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { files: vec![path.into()], index: None }
    }

    /// Finds the weights of a directory: the file that `transformers_weights` of config.json names; or else a single
    /// file or an index of shards; or else those of a variant such as `fp16`.
    ///
    /// # Errors
    /// There are no supported weights; there are several variants without `fp16`; or the index is invalid.
    pub(crate) fn find(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let reason = "no such model directory; a model is a folder with config.json and weights";
            return Err(refuse(dir, reason));
        }
        let config = read_text(&dir.join("config.json"), CONFIG_BYTES).ok();
        // An unreadable config is ignored here; the code that needs it refuses it.
        let config: Config = config.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let libraries = Library::preferred(&config);
        if let (Library::Transformers, Some(named)) = (libraries[0], &config.transformers_weights) {
            return Self::named(dir, named);
        }
        let mut files = file_names(dir)?;
        files.retain(|name| dir.join(name).is_file());
        match preferred(libraries, &files).map_err(|reason| refuse(dir, reason))? {
            Some(Preferred { name, variant: None }) => Self::open(dir, &name),
            Some(Preferred { name, variant: Some((variant, usual)) }) => {
                log::warn!(
                    "{}: there is no {usual}; using the weights of the variant `{variant}`, {name}",
                    dir.display()
                );
                Self::open(dir, &name)
            }
            None => Err(refuse(dir, none(libraries, &files))),
        }
    }

    /// Opens the file that config.json names.
    fn named(dir: &Path, name: &str) -> Result<Self> {
        let config = dir.join("config.json");
        let weights = [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"];
        if !is_plain(name) || !weights.iter().any(|end| name.ends_with(end)) {
            let reason = format!(
                "transformers_weights is `{name}`; it must name a safetensors or `.bin` file in the folder of config.json, or the \
                 index of such files"
            );
            return Err(refuse(&config, reason));
        }
        if !dir.join(name).is_file() {
            return Err(refuse(
                dir,
                format!("lacks {name}, which transformers_weights in config.json names"),
            ));
        }
        Self::open(dir, name)
    }

    fn open(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        if name.ends_with(".json") { Self::of_index(dir, path) } else { Ok(Self::of_file(&path)) }
    }

    /// Opens the shards that an index names. They must be in the folder of the index, but may be links to files
    /// elsewhere: a person who can create links in the folder could also put the files there. The index itself cannot
    /// name files in other folders.
    fn of_index(dir: &Path, path: PathBuf) -> Result<Self> {
        #[derive(Deserialize)]
        struct Parsed {
            weight_map: BTreeMap<String, String>,
        }
        let text =
            read_text(&path, INDEX_BYTES).map_err(|source| Error::Read { path: path.clone(), source })?;
        let Parsed { weight_map } =
            serde_json::from_str(&text).map_err(|e| refuse(&path, format!("not a weight index: {e}")))?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            if !is_plain(name) {
                let reason =
                    format!("names the shard `{name}`, which is not a file in its folder; download it again");
                return Err(refuse(&path, reason));
            }
            let file = dir.join(name);
            if !file.is_file() {
                let what =
                    if file.is_symlink() { "is a link to a file that is missing" } else { "is missing" };
                return Err(refuse(dir, format!("shard {name}, named in {}, {what}", path.display())));
            }
            files.push(file);
        }
        Ok(Self { files, index: Some(Index { path, weight_map }) })
    }
}

/// The weight file or index that is read.
struct Preferred {
    name: String,
    /// Its variant, if it is one, and the usual name.
    variant: Option<(String, String)>,
}

/// Returns which of the files of a folder is read as weights or their index, if any.
fn preferred<S: AsRef<str>>(libraries: [Library; 2], files: &[S]) -> Result<Option<Preferred>, String> {
    let names = || files.iter().map(AsRef::as_ref);
    let taken = |library: Library, variant: Option<&str>| {
        library.candidates(variant).into_iter().find(|name| names().any(|file: &str| file == name))
    };
    if let Some(name) = libraries.into_iter().find_map(|library| taken(library, None)) {
        return Ok(Some(Preferred { name, variant: None }));
    }
    for library in libraries {
        let variants: BTreeSet<&str> = names().filter_map(|file| library.variant(file)).collect();
        let Some(variant) = chosen(&variants)? else { continue };
        let Some(name) = taken(library, Some(variant)) else { continue };
        let usual = library.candidates(None).remove(0);
        return Ok(Some(Preferred { name, variant: Some((variant.to_owned(), usual)) }));
    }
    Ok(None)
}

/// Returns the files among `files`, the names in a folder of diffusers or of transformers, that are read as weights:
/// one file, or an index and the shards of its name. Empty if there are none.
pub(crate) fn weight_names(files: &[&str], diffusers: bool) -> Vec<String> {
    let libraries = match diffusers {
        true => [Library::Diffusers, Library::Transformers],
        false => [Library::Transformers, Library::Diffusers],
    };
    let Ok(Some(Preferred { name, variant })) = preferred(libraries, files) else { return Vec::new() };
    let Some((stem, end)) = name.strip_suffix(".json").and_then(|index| index.split_once('.')) else {
        return vec![name];
    };
    let end = end.split('.').next().unwrap_or_default();
    // `STEM-00001-of-00002.END`, `STEM.VARIANT-00001-of-00002.END`, and the older `STEM-00001-of-00002.VARIANT.END`.
    let is_shard_of = |file: &&&str| {
        let between = file.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end)?.strip_suffix('.'));
        let numbers = match &variant {
            None => between.and_then(|between| between.strip_prefix('-')),
            Some((variant, _)) => between.and_then(|between| {
                let first = between.strip_prefix(&format!(".{variant}-"));
                first.or_else(|| between.strip_prefix('-')?.strip_suffix(&format!(".{variant}")))
            }),
        };
        numbers.is_some_and(|numbers| is_shard(numbers) && !numbers.contains('.'))
    };
    let shards: Vec<String> = files.iter().filter(is_shard_of).map(|file| (*file).to_owned()).collect();
    std::iter::once(name).chain(shards).collect()
}

fn refuse(path: &Path, reason: impl Into<String>) -> Error {
    Error::Directory { path: path.into(), reason: reason.into() }
}

/// Whether a name refers to a file in the same folder.
fn is_plain(name: &str) -> bool {
    let parts: Vec<_> = Path::new(name).components().collect();
    matches!(parts.as_slice(), [Component::Normal(_)])
}

/// Returns the sorted names of all entries of a directory.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let read_error = |source| Error::Read { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(read_error)? {
        names.extend(entry.map_err(read_error)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Returns the variant to read: the only one, or `fp16`, the usual variant of half-size downloads.
fn chosen<'a>(variants: &BTreeSet<&'a str>) -> Result<Option<&'a str>, String> {
    match variants.len() {
        0 => Ok(None),
        1 => Ok(variants.first().copied()),
        _ => match variants.get("fp16") {
            Some(fp16) => Ok(Some(fp16)),
            None => Err(format!(
                "holds the weights in the variants {}, and nothing says which one is meant; keep one of them in this \
                 folder",
                variants.iter().map(|variant| format!("`{variant}`")).collect::<Vec<_>>().join(", ")
            )),
        },
    }
}

/// Returns the reason why there are no weights, and a remedy.
fn none(libraries: [Library; 2], files: &[String]) -> String {
    for library in libraries {
        for (stem, end) in [(library.stem(), SAFETENSORS), (library.torch_stem(), TORCH)] {
            let ours = |file: &&String| file.starts_with(stem) && file.ends_with(end);
            if let Some(shard) = files.iter().filter(ours).find(|file| is_shard(file)) {
                return format!(
                    "has shards such as {shard} but no index of them; download {stem}.{end}.index.json from where they came"
                );
            }
        }
    }
    let [first, second] = libraries;
    let expected = format!(
        "{}.{SAFETENSORS}, {}.{SAFETENSORS}, {}.{TORCH}",
        first.stem(),
        second.stem(),
        first.torch_stem()
    );
    let weights = ["safetensors", "bin", "pt", "pth", "ckpt"].map(|end| format!(".{end}"));
    let other = files.iter().find(|file| weights.iter().any(|end| file.ends_with(end)));
    let other = other
        .map(|other| format!("; {other} is not a file name that transformers or diffusers give to weights"))
        .unwrap_or_default();
    format!("no weights; expected {expected}, or an index of shards{other}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_distinguished_from_shards() {
        let variant = |file| Library::Transformers.variant(file);
        for (file, wanted) in [
            ("model.fp16.safetensors", Some("fp16")),
            ("model.safetensors.index.fp16.json", Some("fp16")),
            ("model.safetensors.fp16.index.json", Some("fp16")),
            ("model.non_ema.safetensors", Some("non_ema")),
            ("model.safetensors", None),
            ("model.safetensors.index.json", None),
            ("model.fp16-00001-of-00002.safetensors", None),
            ("model-00001-of-00002.fp16.safetensors", None),
            ("model-00001-of-00002.safetensors", None),
            ("pytorch_model.fp16.bin", Some("fp16")),
            ("pytorch_model.bin.index.fp16.json", Some("fp16")),
            ("pytorch_model.bin", None),
            ("pytorch_model.bin.index.json", None),
            ("pytorch_model-00001-of-00002.bin", None),
            ("model.fp16.bin", None),
            ("modeling.fp16.safetensors", None),
            ("model.a.b.safetensors", None),
            ("diffusion_pytorch_model.fp16.safetensors", None),
        ] {
            assert_eq!(variant(file), wanted, "{file}");
        }
    }
}
