//! Which published checkpoints the program knows: `configs/models.toml`, embedded.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{HubError, Result};

const EMBEDDED: &str = include_str!("../../../../configs/models.toml");
/// How many names an error about an unknown one suggests.
const SUGGESTIONS: usize = 3;

/// The checkpoints that can be fetched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    #[serde(rename = "model")]
    models: Vec<Model>,
}

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Short name.
    pub name: String,
    /// Its name on the hub, `organisation/repository`.
    pub id: String,
    /// Commit (40 hexadecimal digits) or branch.
    pub revision: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whether its terms have to be accepted on the model page first.
    #[serde(default)]
    pub gated: bool,
    /// The files that are wanted, relative to the repository.
    pub files: Vec<String>,
    /// What was published about some of the files; the hub's own word is checked in any case.
    #[serde(default)]
    pub published: BTreeMap<String, Published>,
}

/// What is known of a file before asking for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Bytes.
    pub size: Option<u64>,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: Option<String>,
}

impl Registry {
    /// The registry this program was built with.
    ///
    /// # Errors
    /// [`HubError::Registry`]; a program whose tests pass does not give it.
    pub fn embedded() -> Result<Self> {
        Self::parse(EMBEDDED)
    }

    /// A registry in the format of `configs/models.toml`.
    ///
    /// # Errors
    /// [`HubError::Registry`] when the text is none, or names a file or repository that leads out of the cache.
    pub fn parse(text: &str) -> Result<Self> {
        let registry: Self = toml::from_str(text).map_err(|e| HubError::Registry(e.to_string()))?;
        for model in &registry.models {
            let refuse = |what: &str| Err(HubError::Registry(format!("{}: {what} is not plain", model.name)));
            match model.id.split_once('/') {
                Some((organisation, repository))
                    if is_plain_name(organisation) && is_plain_name(repository) => {}
                _ => return refuse(&model.id),
            }
            let mut paths = model.files.iter().chain([&model.revision]);
            if let Some(path) = paths.find(|path| !path.split('/').all(is_plain_name)) {
                return refuse(path);
            }
        }
        Ok(registry)
    }

    /// Every model, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model with this short name or hub id.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Model> {
        let known = self.models.iter().find(|model| model.name == name || model.id == name);
        known.ok_or_else(|| self.unknown(name))
    }

    /// The model with this hub id.
    ///
    /// # Errors
    /// [`HubError::UnknownModel`] with the nearest ids.
    pub fn find_id(&self, id: &str) -> Result<&Model> {
        match self.find(id) {
            Ok(model) if model.id != id => {
                Err(HubError::UnknownModel { name: id.into(), nearest: vec![model.id.clone()] })
            }
            found => found,
        }
    }

    /// Suggests ids to those who wrote something like an id, short names to others.
    fn unknown(&self, name: &str) -> HubError {
        let alike = |model: &Model| if name.contains('/') { model.id.clone() } else { model.name.clone() };
        let given = name.to_lowercase();
        // A name cut short is nearer than one with other letters.
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

/// Whether a name can be a folder or file of its own: it leads nowhere else and hides nothing.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
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
    fn the_embedded_registry_is_whole() -> Result<()> {
        let registry = Registry::embedded()?;
        for model in registry.models() {
            assert_eq!(registry.find(&model.name)?, model, "two models are called {}", model.name);
            assert_eq!(registry.find(&model.id)?, model, "{} is there twice", model.id);
            let pipeline = model.files.iter().any(|file| file == "model_index.json");
            let flux = model.files.iter().any(|file| file.starts_with("transformer/"));
            let wanted = match (pipeline, flux) {
                (true, true) => ["transformer/config.json", "vae/config.json", "tokenizer_2/tokenizer.json"],
                (true, false) => ["unet/config.json", "vae/config.json", "tokenizer/vocab.json"],
                (false, _) => ["config.json", "preprocessor_config.json", "model.safetensors"],
            };
            for wanted in wanted {
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
    fn unknown_names_come_back_with_the_nearest() -> Result<()> {
        let registry = Registry::embedded()?;
        let nearest = |name: &str| match registry.find(name) {
            Err(HubError::UnknownModel { nearest, .. }) => nearest,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(nearest("dino-vit16")[0], "dino-vitb16");
        assert_eq!(nearest("dinov2-base")[0], "dinov2-base-imagenet1k");
        assert_eq!(nearest("Facebook/dino-vits-16")[0], "facebook/dino-vits16");
        let Err(HubError::UnknownModel { nearest, .. }) = registry.find_id("dino-vits8") else {
            panic!("a short name is no id");
        };
        assert_eq!(nearest, ["facebook/dino-vits8"]);
        Ok(())
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
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
