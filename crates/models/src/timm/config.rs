//! Reads `config.json` of a vision transformer of timm.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::arguments::Arguments;
use crate::vision::{DeclaredHead, Facts, Names};

/// `config.json` as timm publishes it, or as transformers' `TimmWrapper` saves it.
#[derive(Deserialize)]
struct Stored {
    architecture: String,
    #[serde(default)]
    architectures: Vec<String>,
    num_classes: Option<i64>,
    label_names: Option<Value>,
    model_args: Option<Map<String, Value>>,
    global_pool: Option<String>,
    pretrained_cfg: Option<Pretrained>,
}

/// The keys of `pretrained_cfg` that say more about the network than its transform.
#[derive(Deserialize)]
struct Pretrained {
    /// Channels, height and width.
    input_size: Option<[i64; 3]>,
    num_classes: Option<i64>,
}

/// The number of classes of `VisionTransformer` if nothing says it.
const USUAL_CLASSES: i64 = 1000;

/// The configuration of a network of timm.
#[derive(Debug, Clone)]
pub(crate) struct TimmConfig {
    /// Empty if timm wrote the file.
    architectures: Vec<String>,
    labels: Vec<String>,
    pub(super) classes: i64,
    pub(super) arguments: Arguments,
}

impl TimmConfig {
    /// Parses the text of `config.json`.
    ///
    /// # Errors
    /// The reason why the network is not supported, or why the configuration is invalid.
    pub(crate) fn parse(config: &str) -> Result<Self, String> {
        let stored: Stored = serde_json::from_str(config)
            .map_err(|e| format!("not the configuration of a network of timm: {e}"))?;
        let Stored { architecture, architectures, model_args, pretrained_cfg, .. } = stored;
        let input_size = pretrained_cfg.as_ref().and_then(|cfg| cfg.input_size);
        let input_size = input_size.map(|[_, height, width]| (height, width));
        let arguments = Arguments::of(&architecture, model_args.unwrap_or_default(), input_size)?;
        // For information, according to timm. If it is not what timm would build, the file and the weights do not belong
        // together, or a later version chose another pooling for this name.
        let pool = arguments.pool.name();
        if let Some(said) = stored.global_pool.filter(|said| said != pool) {
            return Err(format!(
                "global_pool is `{said}`, but timm builds `{architecture}` with `{pool}`; if the network was trained with \
                 `{said}`, say so in model_args: {{\"global_pool\": \"{said}\"}}"
            ));
        }
        let classes = stored.num_classes.or(pretrained_cfg.and_then(|cfg| cfg.num_classes));
        let labels = match stored.label_names {
            Some(Value::Array(names)) => names,
            Some(Value::Object(names)) => names.into_iter().map(|(_, name)| name).collect(),
            Some(_) | None => Vec::new(),
        };
        let labels = labels.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Self { architectures, labels, classes: classes.unwrap_or(USUAL_CLASSES), arguments })
    }

    pub(crate) fn facts(&self) -> Facts {
        let Arguments {
            depth, width, heads, image_size, patch, channels, cls, registers, eps, inner, ..
        } = self.arguments;
        Facts {
            depth,
            width,
            heads,
            image_size,
            patch_size: patch,
            channels,
            cls,
            registers,
            classes: Some(self.classes),
            projection: None,
            eps,
            inner_sizes: vec![("mlp_ratio · embed_dim", inner), ("reg_tokens", registers.max(1))],
            names: Names { folder: "timm_model", landmark: "patch_embed.proj.weight", head: "head.weight" },
        }
    }

    /// Returns what the configuration declares about the head: by the class that transformers saved, or else by the
    /// number of classes, which timm sets to 0 for a network without classifier.
    pub(crate) fn declared_head(&self) -> DeclaredHead<'_> {
        if self.architectures.is_empty() {
            return if self.classes > 0 {
                DeclaredHead::Classes(self.classes)
            } else {
                DeclaredHead::NoHead(None, Vec::new())
            };
        }
        let labels = self.labels.iter().map(String::as_str).collect();
        DeclaredHead::of_classifier(&self.architectures, self.classes, labels)
    }
}
