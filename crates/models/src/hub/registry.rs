//! The registry of published checkpoints: `configs/models.toml`, embedded in the program.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{HubError, Result};

const EMBEDDED: &str = include_str!("../../../../configs/models.toml");
/// Number of names that an error about an unknown name suggests.
const SUGGESTIONS: usize = 3;

/// The checkpoints that can be fetched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    #[serde(rename = "model")]
    models: Vec<Model>,
    #[serde(default, rename = "file")]
    files: Vec<WebFile>,
}

/// A kind of repository on the hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepositoryKind {
    /// A network or a pipeline.
    #[default]
    Model,
    /// A data set, of which the Parquet files are fetched.
    Dataset,
}

/// A published checkpoint, or another repository of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Kind of the repository.
    #[serde(default)]
    pub kind: RepositoryKind,
    /// Short name.
    pub name: String,
    /// Its name on the hub, `organisation/repository`.
    pub id: String,
    /// Of a data set: the beginning of the names of its files, such as `validation`.
    #[serde(default)]
    pub split: String,
    /// Commit (40 hexadecimal digits) or branch.
    pub revision: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whether its terms have to be accepted on the model page first.
    #[serde(default)]
    pub gated: bool,
    /// The required files, relative to the repository. If there are none, the hub is asked which there are.
    #[serde(default)]
    pub files: Vec<String>,
    /// Published sizes and hashes of some files. The values that the hub sends are checked in any case.
    #[serde(default)]
    pub published: BTreeMap<String, Published>,
}

/// A file at a web address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebFile {
    /// Short name.
    pub name: String,
    /// Address. Its last part is the name of the file.
    pub url: String,
    /// Terms of use.
    pub licence: String,
    /// Bytes, if published.
    #[serde(default)]
    pub size: Option<u64>,
    /// SHA-256 in lower-case hexadecimal, if published.
    #[serde(default)]
    pub sha256: Option<String>,
    /// MD5 in lower-case hexadecimal, if published. It shows damage, but not a forgery.
    #[serde(default)]
    pub md5: Option<String>,
}

/// Published size and hash of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: Option<String>,
}

impl WebFile {
    /// Name of the file: the last part of its address.
    pub fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a published hash tells what the file must be.
    pub(super) fn has_hash(&self) -> bool {
        self.sha256.is_some() || self.md5.is_some()
    }
}

impl RepositoryKind {
    /// Before the id in the address of a file.
    pub(super) fn url_folder(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }

    /// Folder of the hub's interface, and beginning of the folder in the cache.
    pub(super) fn api_folder(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

impl Model {
    /// A repository of which only the id is known: its default branch, and the files that the hub lists.
    pub fn any(kind: RepositoryKind, id: &str) -> Self {
        let (id, revision) = (id.to_owned(), "main".to_owned());
        let (files, published) = (Vec::new(), BTreeMap::new());
        let (licence, split) = (String::new(), String::new());
        Self { kind, name: id.clone(), id, split, revision, licence, gated: false, files, published }
    }

    /// A data set of which only the id is known: the Parquet files of its default branch whose names begin with `split`.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] if the id is not an organisation and a repository.
    pub fn dataset(id: &str, split: &str) -> Result<Self> {
        if !is_plain_id(id) {
            return Err(HubError::UnknownModel {
                name: id.into(),
                nearest: vec!["organisation/dataset".into()],
            });
        }
        Ok(Self { split: split.to_owned(), ..Self::any(RepositoryKind::Dataset, id) })
    }

    /// Whether the revision is a commit, which never changes.
    pub(super) fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl Registry {
    /// Returns the registry that this program was built with.
    ///
    /// # Errors
    /// [`HubError::Registry`] if the embedded file is invalid, which a test rules out.
    pub fn embedded() -> Result<Self> {
        Self::parse(EMBEDDED)
    }

    /// Parses a registry in the format of `configs/models.toml`.
    ///
    /// # Errors
    /// [`HubError::Registry`] if the text is invalid, or names a file or repository that leads out of the cache.
    pub fn parse(text: &str) -> Result<Self> {
        let registry: Self = toml::from_str(text).map_err(|e| HubError::Registry(e.to_string()))?;
        for model in &registry.models {
            let refuse = |what: &str| Err(HubError::Registry(format!("{}: {what} is not plain", model.name)));
            if !is_plain_id(&model.id) {
                return refuse(&model.id);
            }
            let mut paths = model.files.iter().chain([&model.revision]);
            if let Some(path) = paths.find(|path| !is_plain_path(path)) {
                return refuse(path);
            }
        }
        Ok(registry)
    }

    /// All files at web addresses, in the order of the file.
    pub fn files(&self) -> &[WebFile] {
        &self.files
    }

    /// Finds the file at a web address with this short name or file name.
    pub fn find_file(&self, name: &str) -> Option<&WebFile> {
        self.files.iter().find(|file| file.name == name || file.file_name() == name)
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Finds the model with this short name or hub id. An id that is not in the registry is that of any model on the hub.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<Model> {
        let known = self.models.iter().find(|model| model.name == name || model.id == name);
        let any = || is_plain_id(name).then(|| Model::any(RepositoryKind::Model, name));
        known.cloned().or_else(any).ok_or_else(|| self.unknown(name))
    }

    /// Finds the model with this hub id.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] with the nearest ids.
    pub fn find_id(&self, id: &str) -> Result<Model> {
        match self.find(id) {
            Ok(model) if model.id != id => {
                Err(HubError::UnknownModel { name: id.into(), nearest: vec![model.id.clone()] })
            }
            found => found,
        }
    }

    /// Returns ids of the registry that resemble `id`; none if `id` is one of them.
    pub(super) fn similar(&self, id: &str) -> Vec<String> {
        const DISTANCE: usize = 3;
        if self.models.iter().any(|model| model.id == id) {
            return Vec::new();
        }
        let near = |model: &&Model| strsim::levenshtein(&model.id, id) <= DISTANCE;
        self.models.iter().filter(near).map(|model| model.id.clone()).collect()
    }

    /// Suggests ids if `name` has a slash like an id, and short names otherwise.
    fn unknown(&self, name: &str) -> HubError {
        let alike = |model: &Model| if name.contains('/') { model.id.clone() } else { model.name.clone() };
        let given = name.to_lowercase();
        // A known name that contains the given one ranks before names with other letters.
        let distance = |known: &str| (!known.contains(&given), strsim::levenshtein(known, &given));
        let mut nearest: Vec<_> =
            self.models.iter().map(alike).map(|known| (distance(&known), known)).collect();
        nearest.sort();
        HubError::UnknownModel {
            name: name.into(),
            nearest: nearest.into_iter().take(SUGGESTIONS).map(|(_, known)| known).collect(),
        }
    }
}

/// Longest name of a file or folder, in bytes. File systems allow 255, and the cache adds extensions.
const NAME_BYTES: usize = 200;

/// Whether a name is safe as the name of a file or folder: it has no path separators and is not hidden.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// Whether a path is relative and leads through plain names only.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain_name)
}

/// Whether a hub id is an organisation and a repository.
pub(super) fn is_plain_id(id: &str) -> bool {
    is_plain_path(id) && id.matches('/').count() == 1
}

/// Whether a revision is a commit rather than a branch.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_lower_hex(revision)
}

/// Whether an entity tag of the hub is the SHA-256 of the file.
pub(super) fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && is_lower_hex(etag)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_registry_is_consistent() -> Result<()> {
        let registry = Registry::embedded()?;
        for model in registry.models() {
            assert_eq!(registry.find(&model.name)?, *model, "two models are called {}", model.name);
            assert_eq!(registry.find(&model.id)?, *model, "{} occurs twice", model.id);
            let pipeline = model.files.iter().any(|file| file == "model_index.json");
            let flux = model.files.iter().any(|file| file.starts_with("transformer/"));
            let wanted = match (pipeline, flux) {
                (true, true) => ["transformer/config.json", "vae/config.json", "tokenizer_2/tokenizer.json"],
                (true, false) => ["unet/config.json", "vae/config.json", "tokenizer/vocab.json"],
                (false, _) => ["config.json", "preprocessor_config.json", "model.safetensors"],
            };
            // Of the others the hub says what they have.
            for wanted in wanted.into_iter().filter(|_| !model.files.is_empty()) {
                assert!(model.files.iter().any(|file| file == wanted), "{} lacks {wanted}", model.name);
            }
            for file in &model.files {
                let again = model.files.iter().filter(|other| *other == file).count();
                assert_eq!(again, 1, "{}: {file} is listed twice", model.name);
            }
            assert_eq!(flux, model.gated, "{}: of what is published, FLUX is gated", model.name);
            let hex = model.revision.len() == 40;
            assert!(!hex || is_commit(&model.revision), "{}: a damaged commit", model.name);
            for (file, published) in &model.published {
                assert!(model.files.contains(file), "{}: {file} is not fetched", model.name);
                assert!(published.sha256.as_deref().is_none_or(is_sha256), "{}: {file}", model.name);
            }
        }
        Ok(())
    }

    #[test]
    fn errors_about_unknown_names_suggest_the_nearest() -> Result<()> {
        let registry = Registry::embedded()?;
        let nearest = |name: &str| match registry.find(name) {
            Err(HubError::UnknownModel { nearest, .. }) => nearest,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(nearest("dino-vit16")[0], "dino-vitb16");
        assert_eq!(nearest("dinov2-base")[0], "dinov2-base-imagenet1k");
        assert_eq!(registry.find("someone/else")?, Model::any(RepositoryKind::Model, "someone/else"));
        assert!(registry.similar("facebook/dino-vits-16").contains(&"facebook/dino-vits16".to_owned()));
        assert!(registry.similar("facebook/dino-vits16").is_empty());
        assert!(registry.similar("someone/else").is_empty());
        let Err(HubError::UnknownModel { nearest, .. }) = registry.find_id("dino-vits8") else {
            panic!("a short name is not an id");
        };
        assert_eq!(nearest, ["facebook/dino-vits8"]);
        Ok(())
    }

    #[test]
    fn names_that_lead_out_of_the_cache_are_refused() {
        let text = |id: &str, revision: &str, file: &str| {
            format!(
                "[[model]]\nname = \"m\"\nid = \"{id}\"\nrevision = \"{revision}\"\nlicence = \"MIT\"\n\
                 files = [\"{file}\"]"
            )
        };
        assert!(Registry::parse(&text("a/b", "main", "folder/config.json")).is_ok());
        for (id, revision, file) in [
            ("a", "main", "f"),
            ("a/b/c", "main", "f"),
            ("../b", "main", "f"),
            ("a/b", "../main", "f"),
            ("a/b", "main", "../f"),
            ("a/b", "main", "/f"),
            ("a/b", "main", "x//f"),
            ("a/b", "main", "f?x"),
        ] {
            assert!(Registry::parse(&text(id, revision, file)).is_err(), "{id} {revision} {file}");
        }
    }
}
