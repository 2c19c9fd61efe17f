//! The parts of a vision transformer in its files, found by tensor names as in transformers' `AutoModel`.
//!
//! A backbone is saved at the root of the file, or in a folder if it is part of a larger network. A head may be present
//! or not. `architectures` in config.json names the saved network, but is often missing or wrong, so it is used only to
//! detect that a head has been lost.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::weights::Weights;

/// The location of the parts of a vision transformer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    /// Folder of the backbone; empty if it is at the root.
    pub(crate) backbone: &'static str,
    /// Whether there is a head: a classifier, or the projection of CLIP.
    pub(crate) head: bool,
}

/// The tensor names of one kind of network.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Folder of a backbone that is not at the root.
    pub(crate) folder: &'static str,
    /// A tensor that every backbone has.
    pub(crate) landmark: &'static str,
    /// The first tensor of the head.
    pub(crate) head: &'static str,
}

/// What config.json declares about the head.
pub(crate) enum DeclaredHead<'a> {
    /// The network of this name has a head.
    Head(&'a str),
    /// There is a classifier of this many classes (timm, which names no class of a network).
    Classes(i64),
    /// The network of this name, if any is named, has no head. With the class names in config.json, if any.
    NoHead(Option<&'a str>, Vec<&'a str>),
}

/// Tensors that are only used in training: mask tokens, the decoder for masked patches (SimMIM), a loss with weights,
/// and the pooler of a bare backbone.
const LEFT_IN_BACKBONE: [&str; 2] = ["embeddings.mask_token", "pooler"];
const LEFT_AT_ROOT: [&str; 2] = ["decoder", "loss_fct"];

impl Stored {
    /// Finds the parts by the tensor names of a model directory. `declared` is the head according to config.json.
    ///
    /// # Errors
    /// There are no weights; there is no backbone of this kind, or there are two; a head that config.json declares is
    /// missing.
    pub(crate) fn find(dir: &Path, names: &Names, declared: &DeclaredHead) -> Result<Self> {
        let weights = Weights::open(dir, tch::Kind::Float, tch::Device::Cpu)?;
        let refuse = |reason: String| Error::Directory { path: dir.into(), reason };
        let Names { folder, landmark, head } = *names;
        let (inside, at_root) = (weights.pp(folder).contains(landmark), weights.contains(landmark));
        let backbone = match (inside, at_root) {
            (true, true) => {
                return Err(refuse(format!(
                    "holds two networks, `{landmark}` and `{folder}.{landmark}`, and nothing says which one is meant; save \
                     them apart"
                )));
            }
            // If neither exists, loading fails with an error that names the tensor and the nearest names.
            (true, false) => folder,
            (false, true) | (false, false) => "",
        };
        // timm has the head inside.
        let has_head = weights.contains(head) || weights.pp(folder).contains(head);
        let stored = Self { backbone, head: has_head };
        match (declared, stored.head) {
            (DeclaredHead::Classes(classes), false) => Err(refuse(format!(
                "config.json has num_classes {classes}, but the weights have no `{head}`: it was lost when they were converted or \
                 saved. Get the whole checkpoint; if only the backbone is meant, set num_classes to 0 in config.json"
            ))),
            (DeclaredHead::Head(name), false) => Err(refuse(format!(
                "config.json says `{name}`, but the weights have no `{head}`: it was lost when they were converted or saved. Get the \
                 whole checkpoint; if only the backbone is meant, take `{name}` out of `architectures` in config.json"
            ))),
            (DeclaredHead::NoHead(Some(name), _), true) => {
                log::warn!(
                    "{}: config.json says `{name}`, which has no `{head}`, but the weights have one; it is used",
                    dir.display()
                );
                Ok(stored)
            }
            (DeclaredHead::NoHead(_, classes), false) if !classes.is_empty() => {
                log::warn!(
                    "{}: config.json names {} classes, such as `{}`, but the weights have no `{head}`; the output is the \
                     image's embedding",
                    dir.display(),
                    classes.len(),
                    classes[0]
                );
                Ok(stored)
            }
            (DeclaredHead::Head(_) | DeclaredHead::Classes(_), true) | (DeclaredHead::NoHead(..), _) => {
                Ok(stored)
            }
        }
    }

    /// Returns the weights below the backbone's folder.
    pub(crate) fn backbone(&self, weights: &Weights) -> Weights {
        if self.backbone.is_empty() { weights.clone() } else { weights.pp(self.backbone) }
    }

    /// Checks that every tensor of the network was read. Tensors of training are ignored; other unused tensors outside
    /// of the network are named in a note.
    ///
    /// # Errors
    /// As [`Weights::finish_network`].
    pub(crate) fn finish(&self, weights: &Weights) -> Result<()> {
        let backbone = self.backbone(weights);
        LEFT_IN_BACKBONE.iter().for_each(|name| backbone.skip(name));
        LEFT_AT_ROOT.iter().for_each(|name| weights.skip(name));
        weights.finish_network(self.backbone)
    }
}

impl<'a> DeclaredHead<'a> {
    /// Derives from `architectures` and the class names whether there is a classifier. Zero classes mean none
    /// (transformers' `Identity`).
    pub(crate) fn of_classifier(architectures: &'a [String], classes: i64, labels: Vec<&'a str>) -> Self {
        let named = labels.iter().any(|label| !label.starts_with("LABEL_"));
        match architectures.iter().find(|name| name.ends_with("ForImageClassification")) {
            Some(name) if classes > 0 => Self::Head(name),
            _ => Self::NoHead(bare(architectures), if named { labels } else { Vec::new() }),
        }
    }

    /// Derives from `architectures` whether CLIP's image tower has a projection. `whole` says that config.json
    /// describes both towers.
    pub(crate) fn of_projection(architectures: &'a [String], whole: bool) -> Self {
        let projects = |name: &&String| *name == "CLIPModel" || name.ends_with("WithProjection");
        match (architectures.iter().find(projects), architectures.first()) {
            (Some(name), _) => Self::Head(name),
            (None, None) if whole => Self::Head("CLIPModel"),
            (None, _) => Self::NoHead(bare(architectures), Vec::new()),
        }
    }
}

/// Returns the first network without a head in `architectures`.
fn bare(architectures: &[String]) -> Option<&str> {
    let name = architectures.iter().find(|name| name.ends_with("Model") || name.ends_with("Backbone"));
    name.map(String::as_str)
}

/// Number of classes in `config.json`; transformers' default is two.
pub(crate) fn class_count(labels: Option<&BTreeMap<String, String>>, count: Option<i64>) -> i64 {
    labels.map(|labels| labels.len() as i64).or(count).unwrap_or(2)
}

/// Class names in `config.json`.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> Vec<&str> {
    labels.into_iter().flat_map(BTreeMap::values).map(String::as_str).collect()
}
