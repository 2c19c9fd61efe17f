//! `[model]` of an experiment: which network, and where its classes come from.

use std::path::PathBuf;

use models::{HeadSource, VisionConfig, VisionFamily, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedded;
use crate::error::Result;

/// The network of an experiment, `[model]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ModelTable", into = "ModelTable")]
pub struct ModelConfig {
    /// Where the network is.
    pub source: ModelSource,
    /// Classes for a network that has none of its own.
    pub classes: Option<ClassSource>,
    /// Type of weights and activations.
    pub dtype: Dtype,
    /// Image size in files that set it here and not in their task. Masking experiments move it to their task when they are read;
    /// others refuse it.
    pub image_size: Option<usize>,
}

/// Where a network is: `path` or `id` of `[model]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A Hugging Face directory: `config.json`, safetensors, `preprocessor_config.json`.
    Path(PathBuf),
    /// A published checkpoint by its hub id, such as `facebook/dino-vits16`, downloaded by `tokenrank fetch`.
    Id(String),
}

/// Where classes come from: `head`, `class_embeddings` or `zero_shot` of `[model]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassSource {
    /// A linear classifier published apart from its backbone, in a safetensors file.
    Head(PathBuf),
    /// Embeddings of classes `[classes, d]` for CLIP or SigLIP, in a `.safetensors` or `.npy` file.
    Embeddings(PathBuf),
    /// Class names that CLIP's own text tower embeds.
    ZeroShot(ZeroShot),
}

/// `[model.zero_shot]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// TOML file that lists the names of the classes (`classes`) in label order and, optionally, prompts (`templates`).
    pub descriptor: PathBuf,
    /// Prompts over which the text embedding of a class is averaged.
    #[serde(default)]
    pub templates: Templates,
}

/// Prompts for a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Templates {
    /// Only `a photo of a {}`.
    #[default]
    Single,
    /// All templates of the descriptor.
    Descriptor,
}

/// Type of weights and activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with 8 bits of exponent.
    Bf16,
    /// 16-bit floats with 5 bits of exponent.
    F16,
}

impl Dtype {
    /// Returns the libtorch type.
    pub fn kind(self) -> models::Kind {
        match self {
            Self::F32 => models::Kind::Float,
            Self::Bf16 => models::Kind::BFloat16,
            Self::F16 => models::Kind::Half,
        }
    }
}

impl ModelSource {
    /// Returns the folder of the network.
    ///
    /// # Errors
    /// Fails if a published checkpoint is unknown or not completely in the cache.
    pub fn folder(&self) -> models::Result<PathBuf> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Id(id) => Ok(models::hub::find(id)?),
        }
    }
}

impl ClassSource {
    /// Checks that the file exists. `network` is the network that the classes are for, if it is known.
    ///
    /// # Errors
    /// Fails if the file does not exist; the message says how to get it.
    pub(crate) fn present(&self, network: Option<&VisionConfig>) -> Result<()> {
        let (path, how) = match self {
            Self::Head(path) => (path, Self::advice(network)),
            Self::Embeddings(path) => {
                (path, "write [classes, d] there, in the order of the labels".to_owned())
            }
            // The descriptor is read in any case; that error names it.
            Self::ZeroShot(_) => return Ok(()),
        };
        if path.exists() {
            return Ok(());
        }
        Err(models::Error::Directory { path: path.clone(), reason: format!("no such file; {how}") }.into())
    }

    /// Returns how to get a linear head for a network, or what the network has instead.
    fn advice(network: Option<&VisionConfig>) -> String {
        if network.is_some_and(|config| config.projection().is_some()) {
            return "CLIP models do not use a linear head: leave model.head out and give the classes with \
                 model.zero_shot.descriptor or model.class_embeddings"
                .to_owned();
        }
        if network.is_some_and(|config| config.classes().is_some()) {
            return "this network has a classifier of its own: leave model.head out".to_owned();
        }
        match network.map(VisionConfig::family) {
            Some(VisionFamily::Dinov2) => "DINOv2's linear heads are published as dinov2_…_linear_head.pth: `tokenrank fetch` \
                 knows them by these names; or take a checkpoint with a classifier, such as \
                 facebook/dinov2-small-imagenet1k-1-layer, and leave model.head out"
                .to_owned(),
            Some(VisionFamily::Dinov3 | VisionFamily::Siglip | VisionFamily::Timm) => "a linear head for this network is a file of safetensors or of \
                 torch.save with `weight` [classes, features] and `bias` [classes]"
                .to_owned(),
            Some(VisionFamily::Vit | VisionFamily::Clip) | None => {
                "DINO's linear heads are published as dino_…_linearweights.pth: `tokenrank fetch` knows them by these names"
                    .to_owned()
            }
        }
    }

    /// Converts the source to the form that the network takes, with the names and templates of a descriptor.
    ///
    /// # Errors
    /// Fails if the descriptor cannot be read.
    pub fn head(&self) -> Result<HeadSource> {
        match self {
            Self::Head(path) => Ok(HeadSource::Linear(path.clone())),
            Self::Embeddings(path) => Ok(HeadSource::ClassEmbeddings(path.clone())),
            Self::ZeroShot(zero_shot) => zero_shot.read(),
        }
    }
}

/// The part of a dataset's descriptor that a zero-shot classifier needs.
#[derive(Deserialize)]
struct Descriptor {
    classes: Vec<String>,
    #[serde(default)]
    templates: Vec<String>,
}

impl ZeroShot {
    fn read(&self) -> Result<HeadSource> {
        let path = &self.descriptor;
        let refuse = |reason: String| tasks::Error::Dataset { path: path.clone(), reason };
        let text = match embedded::text(path) {
            // A file comes first.
            Some(own) if path.symlink_metadata().is_err() => Ok(own.text.to_owned()),
            Some(_) | None => limits::read_text(path, limits::EXPERIMENT_BYTES),
        };
        let text = text.map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let Descriptor { classes, templates } =
            toml::from_str(&text).map_err(|e| refuse(format!("not a descriptor with `classes`: {e}")))?;
        let templates = match self.templates {
            Templates::Single => vec!["a photo of a {}".to_owned()],
            Templates::Descriptor if templates.is_empty() => {
                return Err(
                    refuse("has no `templates`; set model.zero_shot.templates = \"single\"".into()).into()
                );
            }
            Templates::Descriptor => templates,
        };
        Ok(HeadSource::ZeroShot { names: classes, templates })
    }
}

/// `[model]`: the network. Give `path` or `id`; of `head`, `class_embeddings` and `zero_shot`, give at most one.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["id"] }, { "required": ["path"] }]))]
struct ModelTable {
    /// Id of a published checkpoint on the Hugging Face hub, such as `facebook/dino-vits16`. `tokenrank fetch` downloads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Folder of a network in Hugging Face format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Linear classifier for a network without one: a `.safetensors` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<PathBuf>,
    /// Class embeddings for CLIP or SigLIP, `[classes, d]` in label order: a `.safetensors` or `.npy` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_embeddings: Option<PathBuf>,
    /// Class names from which CLIP's text tower computes class embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zero_shot: Option<ZeroShot>,
    /// Type of weights and activations.
    #[serde(default)]
    dtype: Dtype,
    /// Old name of `image_size` in `[task.masking]`.
    #[schemars(extend("deprecated" = true))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_size: Option<usize>,
}

impl TryFrom<ModelTable> for ModelConfig {
    type Error = &'static str;

    fn try_from(table: ModelTable) -> Result<Self, Self::Error> {
        let ModelTable { id, path, head, class_embeddings, zero_shot, dtype, image_size } = table;
        let source = match (id, path) {
            (Some(id), None) => ModelSource::Id(id),
            (None, Some(path)) => ModelSource::Path(path),
            (Some(_), Some(_)) => return Err("a model has an `id` or a `path`, not both"),
            (None, None) => {
                return Err("a model needs a `path`, a folder, or an `id`, such as \"facebook/dino-vits16\"");
            }
        };
        let classes = match (head, class_embeddings, zero_shot) {
            (None, None, None) => None,
            (Some(path), None, None) => Some(ClassSource::Head(path)),
            (None, Some(path), None) => Some(ClassSource::Embeddings(path)),
            (None, None, Some(zero_shot)) => Some(ClassSource::ZeroShot(zero_shot)),
            _ => {
                return Err(
                    "`head`, `class_embeddings` and `zero_shot` are three ways to define the classes; give one of them",
                );
            }
        };
        if image_size.is_some_and(|side| side == 0 || (side as u64).saturating_pow(2) > limits::MAX_PIXELS) {
            return Err(
                "`image_size` is the side of an image in pixels: at least 1, and at most 178,956,970 pixels in total",
            );
        }
        Ok(Self { source, classes, dtype, image_size })
    }
}

impl From<ModelConfig> for ModelTable {
    fn from(ModelConfig { source, classes, dtype, image_size }: ModelConfig) -> Self {
        let mut table = Self {
            id: None,
            path: None,
            head: None,
            class_embeddings: None,
            zero_shot: None,
            dtype,
            image_size,
        };
        match source {
            ModelSource::Id(id) => table.id = Some(id),
            ModelSource::Path(path) => table.path = Some(path),
        }
        match classes {
            None => {}
            Some(ClassSource::Head(path)) => table.head = Some(path),
            Some(ClassSource::Embeddings(path)) => table.class_embeddings = Some(path),
            Some(ClassSource::ZeroShot(zero_shot)) => table.zero_shot = Some(zero_shot),
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &str) -> Result<ModelConfig, String> {
        toml::from_str(&format!("path = \"somewhere\"\n{table}")).map_err(|e| e.to_string())
    }

    #[test]
    fn classes_have_one_source_and_round_trip_through_results() -> Result<(), String> {
        let zero_shot = ZeroShot { descriptor: "classes.toml".into(), templates: Templates::Descriptor };
        for (table, wanted) in [
            ("", None),
            ("head = \"h.safetensors\"", Some(ClassSource::Head("h.safetensors".into()))),
            ("class_embeddings = \"c.npy\"", Some(ClassSource::Embeddings("c.npy".into()))),
            (
                "zero_shot = { descriptor = \"classes.toml\", templates = \"descriptor\" }",
                Some(ClassSource::ZeroShot(zero_shot)),
            ),
        ] {
            let model = parse(table)?;
            assert_eq!(model.classes, wanted);
            let json = serde_json::json!(model);
            assert_eq!(serde_json::from_value::<ModelConfig>(json).expect("read back").classes, wanted);
        }
        let message = parse("head = \"h\"\nclass_embeddings = \"c\"").expect_err("two ways");
        assert!(message.contains("give one"), "{message}");
        Ok(())
    }

    #[test]
    fn an_impossible_image_size_is_refused() {
        let most = limits::MAX_PIXELS.isqrt();
        assert_eq!(limits::MAX_PIXELS, 178_956_970, "the message contains this number");
        assert!(parse(&format!("image_size = {most}")).is_ok());
        for side in [0, most + 1, 1 << 32, i64::MAX as u64] {
            let message = parse(&format!("image_size = {side}")).expect_err("refused");
            assert!(message.contains("178,956,970"), "{message}");
        }
    }

    #[test]
    fn a_descriptor_gives_names_and_templates() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read =
            |descriptor: &str, templates| ZeroShot { descriptor: root.join(descriptor), templates }.read();
        for (descriptor, count, prompts) in
            [("datasets/imagenet/imagenet.toml", 1000, 40), ("datasets/mini/mini.toml", 10, 4)]
        {
            for (templates, wanted) in [(Templates::Single, 1), (Templates::Descriptor, prompts)] {
                let Ok(HeadSource::ZeroShot { names, templates }) = read(descriptor, templates) else {
                    panic!("{descriptor} is not a descriptor");
                };
                let different: std::collections::BTreeSet<_> = names.iter().collect();
                assert_eq!((names.len(), different.len(), templates.len()), (count, count, wanted));
                assert!(templates.iter().all(|template| template.matches("{}").count() == 1));
            }
        }
        let message =
            read("eval/tables/masking.toml", Templates::Single).expect_err("no descriptor").to_string();
        assert!(message.contains("masking.toml") && message.contains("classes"), "{message}");
    }
}
