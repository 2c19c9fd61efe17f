//! Which files of a directory hold the weights of its network.
//!
//! transformers and diffusers write the same kinds of files under different names, and prefer them in a different order;
//! a directory is read as the library reads that wrote its names. `tools/golden_checkpoints.py` asks both libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::{CONFIG_BYTES, INDEX_BYTES, read_text};

/// The weight files of a network.
pub(crate) struct Checkpoint {
    /// safetensors files, in the order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// What the index of shards says, where there is one.
    pub(crate) index: Option<Index>,
}

/// An index of shards.
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// Tensor name → file name of its shard.
    pub(crate) weight_map: BTreeMap<String, String>,
}

/// The library whose names weight files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Transformers,
    Diffusers,
}

/// What `config.json` says of weight files.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    #[serde(rename = "_class_name")]
    class_name: Option<serde_json::Value>,
    /// The file that transformers reads in place of its usual ones.
    transformers_weights: Option<String>,
}

impl Library {
    /// Both, beginning with the one whose directory it is: diffusers writes the class of a network as `_class_name`.
    fn preferred(config: &Config) -> [Self; 2] {
        match config.class_name {
            Some(_) => [Self::Diffusers, Self::Transformers],
            None => [Self::Transformers, Self::Diffusers],
        }
    }

    /// The beginning of every weight file's name.
    fn stem(self) -> &'static str {
        match self {
            Self::Transformers => "model",
            Self::Diffusers => "diffusion_pytorch_model",
        }
    }

    /// The same for pickles.
    fn pickle_stem(self) -> &'static str {
        match self {
            Self::Transformers => "pytorch_model",
            Self::Diffusers => "diffusion_pytorch_model",
        }
    }

    /// File names that are looked for, the preferred one first. transformers prefers one file to an index of shards,
    /// diffusers the index. The last index is an older diffusers' spelling.
    fn candidates(self, variant: Option<&str>) -> Vec<String> {
        let stem = self.stem();
        let (single, mut indexes) = match variant {
            None => (format!("{stem}.safetensors"), vec![format!("{stem}.safetensors.index.json")]),
            Some(variant) => (
                format!("{stem}.{variant}.safetensors"),
                vec![
                    format!("{stem}.safetensors.index.{variant}.json"),
                    format!("{stem}.safetensors.{variant}.index.json"),
                ],
            ),
        };
        match self {
            Self::Transformers => indexes.insert(0, single),
            Self::Diffusers => indexes.push(single),
        }
        indexes
    }

    /// The variant that a file name of this library belongs to: `fp16` of `model.fp16.safetensors`.
    fn variant(self, file: &str) -> Option<&str> {
        let rest = file.strip_prefix(self.stem())?.strip_prefix('.')?;
        let of_index = rest.strip_prefix("safetensors.").and_then(|rest| rest.strip_suffix(".json"));
        let variant = match of_index {
            Some(middle) => middle.strip_prefix("index.").or_else(|| middle.strip_suffix(".index"))?,
            None => rest.strip_suffix(".safetensors")?,
        };
        (!variant.is_empty() && !variant.contains('.') && !is_shard(variant)).then_some(variant)
    }
}

/// Whether a file name is that of one shard of several, `…-00001-of-00002…`.
fn is_shard(name: &str) -> bool {
    name.split("-of-").collect::<Vec<_>>().windows(2).any(|pair| {
        pair[0].ends_with(|c: char| c.is_ascii_digit()) && pair[1].starts_with(|c: char| c.is_ascii_digit())
    })
}

impl Checkpoint {
    /// A single file.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { files: vec![path.into()], index: None }
    }

    /// Finds the weights of a directory: the file that `transformers_weights` of config.json names; or one file or an index
    /// of shards; or, where there is neither, those of a variant such as `fp16`.
    ///
    /// # Errors
    /// There are none that are read, several variants and no `fp16` among them, or an index that cannot be followed.
    pub(crate) fn find(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let reason = "no such model directory; a model is a folder with config.json and safetensors";
            return Err(refuse(dir, reason));
        }
        let config = read_text(&dir.join("config.json"), CONFIG_BYTES).ok();
        // A config that cannot be read is refused by whoever needs it.
        let config: Config = config.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let libraries = Library::preferred(&config);
        if let (Library::Transformers, Some(named)) = (libraries[0], &config.transformers_weights) {
            return Self::named(dir, named);
        }
        let taken = |library: Library, variant: Option<&str>| {
            library.candidates(variant).into_iter().find(|name| dir.join(name).is_file())
        };
        if let Some(name) = libraries.into_iter().find_map(|library| taken(library, None)) {
            return Self::open(dir, &name);
        }
        let files = file_names(dir)?;
        for library in libraries {
            let variants: BTreeSet<&str> = files.iter().filter_map(|file| library.variant(file)).collect();
            let Some(variant) = chosen(&variants).map_err(|reason| refuse(dir, reason))? else { continue };
            let Some(name) = taken(library, Some(variant)) else { continue };
            let usual = library.candidates(None).remove(0);
            log::warn!(
                "{}: there is no {usual}; the weights of the variant `{variant}` are read, {name}",
                dir.display()
            );
            return Self::open(dir, &name);
        }
        Err(refuse(dir, none(dir, libraries, &files)))
    }

    /// The file that config.json names.
    fn named(dir: &Path, name: &str) -> Result<Self> {
        let config = dir.join("config.json");
        if !is_plain(name) || !(name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) {
            let reason = format!(
                "transformers_weights is `{name}`; it must name a safetensors file beside config.json, or the index of \
                 such files"
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

    /// The shards that an index names. They lie beside it; what they are links to may lie anywhere, as with a single
    /// file: whoever puts links into a directory could put the files there as well. An index alone leads nowhere else.
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
                    format!("names the shard `{name}`, which is not a file beside it; download it again");
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

fn refuse(path: &Path, reason: impl Into<String>) -> Error {
    Error::Directory { path: path.into(), reason: reason.into() }
}

/// Whether a name is that of a file in the same folder and no way out of it.
fn is_plain(name: &str) -> bool {
    let parts: Vec<_> = Path::new(name).components().collect();
    matches!(parts.as_slice(), [Component::Normal(_)])
}

/// Names of everything in a directory, sorted.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let read_error = |source| Error::Read { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(read_error)? {
        names.extend(entry.map_err(read_error)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The variant that is read: the only one, or `fp16`, which is what half-size downloads are.
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

/// Why there are no weights, and what helps.
fn none(dir: &Path, libraries: [Library; 2], files: &[String]) -> String {
    for library in libraries {
        let ours = |file: &&String| file.starts_with(library.stem()) && file.ends_with(".safetensors");
        if let Some(shard) = files.iter().filter(ours).find(|file| is_shard(file)) {
            return format!(
                "has shards such as {shard} but no index of them; download {}.safetensors.index.json from where they came",
                library.stem()
            );
        }
        let pickled = |file: &&String| {
            let stem =
                [library.pickle_stem(), library.stem()].into_iter().find(|stem| file.starts_with(stem));
            stem.is_some() && [".bin", ".pt", ".pth", ".bin.index.json"].iter().any(|end| file.ends_with(end))
        };
        if let Some(pickle) = files.iter().find(pickled) {
            return convert(dir, pickle);
        }
    }
    let expected = libraries.map(|library| format!("{}.safetensors", library.stem())).join(" or ");
    let other = files.iter().find(|file| file.ends_with(".safetensors"));
    let other = other
        .map(|other| format!("; {other} is not a file name that transformers or diffusers give to weights"))
        .unwrap_or_default();
    format!("no weights; expected {expected}, or an index of shards{other}")
}

/// How a pickle becomes safetensors: by a tool that keeps every tensor and changes no file that is there.
fn convert(dir: &Path, pickle: &str) -> String {
    format!(
        "only {pickle} is there; pickled weights are not read because loading them runs code. `python \
         tools/convert_pickle.py '{}'` writes every tensor of it to a safetensors file beside it",
        dir.to_string_lossy().replace('\'', "'\\''")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_told_from_shards() {
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
            ("modeling.fp16.safetensors", None),
            ("model.a.b.safetensors", None),
            ("diffusion_pytorch_model.fp16.safetensors", None),
        ] {
            assert_eq!(variant(file), wanted, "{file}");
        }
    }
}
