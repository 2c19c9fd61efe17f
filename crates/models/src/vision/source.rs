//! Classifiers for networks without one.

use std::io::Read;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::head::Head;
use super::registry::VisionConfig;
use crate::clip::{ClipText, Tokenizer};
use crate::error::{Error, Result};
use crate::matrix_file;
use crate::nn::{Linear, unit};
use crate::weights::{Weights, headers_only};

/// The source of a classifier for a model directory that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadSource {
    /// A linear classifier in a separate file, as published for DINO and DINOv2: `weight` `[classes, features]` and
    /// `bias` `[classes]`, below `linear.` or at the root, of `torch.save` or as safetensors. Features of twice the width are CLS and the mean patch; of four times the width, CLS of
    /// the last four blocks.
    Linear(PathBuf),
    /// Embeddings of classes `[classes, d]` in the space that CLIP or SigLIP shares with text, in `.safetensors` or `.npy`; rows are normalised.
    ClassEmbeddings(PathBuf),
    /// Class names for CLIP's own text tower, each inserted in every template (`a photo of a {}`).
    ZeroShot {
        /// In class order.
        names: Vec<String>,
        /// Templates, in which `{}` stands for the name.
        templates: Vec<String>,
    },
}

impl HeadSource {
    /// Checks that the classifier fits the network of `dir`, without loading the network's weights. Returns the number
    /// of classes.
    ///
    /// # Errors
    /// The file cannot be read, has another shape, or belongs to another kind of network.
    pub fn check(&self, dir: &Path, config: &VisionConfig) -> Result<i64> {
        let refuse = |path: &Path, reason: String| Err(Error::Directory { path: path.into(), reason });
        let shared_space = || match config.shared_space() {
            Some(width) => Ok(width),
            None => Err(Error::Directory {
                path: dir.into(),
                reason:
                    "classes given by embeddings or names need the image tower of CLIP with its projection, \
                         `visual_projection`, or that of SigLIP with its attention-pooling head"
                        .into(),
            }),
        };
        match self {
            Self::Linear(path) => {
                if let Some(reason) = not_a_head(path, config) {
                    return refuse(path, reason);
                }
                if config.projection().is_some() {
                    let reason = "is CLIP, which cannot take a linear head; leave model.head out and give the classes \
                                  with model.zero_shot.descriptor or model.class_embeddings";
                    return refuse(dir, reason.into());
                }
                if config.classes().is_some() {
                    let reason = "already has a head, and a linear head fits only a bare backbone; leave model.head out";
                    return refuse(dir, reason.into());
                }
                let weights = open_linear(path, Kind::Float, Device::Cpu)?;
                let (classes, features) = linear_shape(&weights, path)?;
                headers_only(|| Linear::load(&weights, features, classes, true))?;
                let (width, cls) = (config.width(), config.has_cls());
                match features / width {
                    1 if features == width => Ok(classes),
                    2 if features % width == 0 && cls => Ok(classes),
                    4 if features % width == 0 && cls && config.depth() >= 4 => Ok(classes),
                    _ => refuse(
                        path,
                        format!(
                            "a classifier of {features} features does not fit a network of width {width} and depth {}{}",
                            config.depth(),
                            if cls { "" } else { " without CLS" }
                        ),
                    ),
                }
            }
            Self::ClassEmbeddings(path) => Ok(class_embeddings(path, shared_space()?)?.size()[0]),
            Self::ZeroShot { names, templates } => {
                shared_space()?;
                ClipText::check(dir)?;
                headers_only(|| ClipText::load(dir, Kind::Float, Device::Cpu))?;
                let tokenizer = Tokenizer::from_dir(dir)?;
                for name in names {
                    tokenizer.encode(name)?;
                }
                if names.is_empty() || templates.is_empty() {
                    return refuse(dir, "a zero-shot classifier needs names of classes and templates".into());
                }
                match templates.iter().find(|template| !template.contains("{}")) {
                    Some(template) => refuse(dir, format!("template `{template}` has no {{}} for the class")),
                    None => Ok(names.len() as i64),
                }
            }
        }
    }

    /// The file of the classifier, if it is in a file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Linear(path) | Self::ClassEmbeddings(path) => Some(path),
            Self::ZeroShot { .. } => None,
        }
    }

    /// Adds the classes to a head. They must have been [checked](Self::check) against the network of `dir`.
    pub(crate) fn add_to(
        &self,
        head: Head,
        dir: &Path,
        width: i64,
        kind: Kind,
        device: Device,
    ) -> Result<Head> {
        match (self, head) {
            (Self::ClassEmbeddings(path), Head::Shared { projection, log_scale, .. }) => {
                let width = projection.as_ref().map_or(width, |projection| projection.weight.size()[0]);
                let classes = class_embeddings(path, width)?;
                let classes = Some(classes.f_to_device(device)?.f_to_kind(kind)?);
                Ok(Head::Shared { projection, classes, log_scale })
            }
            (Self::ZeroShot { names, templates }, Head::Shared { projection, log_scale, .. }) => {
                let classes = Some(zero_shot(dir, names, templates, kind, device)?);
                Ok(Head::Shared { projection, classes, log_scale })
            }
            (Self::Linear(path), _) => {
                let weights = open_linear(path, kind, device)?;
                let (classes, features) = linear_shape(&weights, path)?;
                let classifier = Linear::load(&weights, features, classes, true)?;
                weights.finish()?;
                Ok(match features / width {
                    1 => Head::Pooled(classifier),
                    2 => Head::ClsAndMean(classifier),
                    blocks => Head::LastCls { blocks: blocks as usize, classifier },
                })
            }
            (_, other) => Ok(other),
        }
    }
}

/// Returns what to do with a file that cannot be a linear head because of its format, or `None`.
fn not_a_head(path: &Path, config: &VisionConfig) -> Option<String> {
    let mut begin = [0; NUMPY.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    if path.extension().is_some_and(|extension| extension == "npy") || (read.is_ok() && begin == *NUMPY) {
        let what = "a NumPy array; a linear head is a file of named tensors, with";
        return Some(match config.projection() {
            Some(_) => {
                format!("{what} `weight` and `bias`; embeddings of classes go to model.class_embeddings")
            }
            None => format!(
                "{what} `weight` [classes, features] and `bias` [classes], which `safetensors.numpy.save_file` writes from \
                 two such arrays"
            ),
        });
    }
    None
}

/// The first bytes of a NumPy file.
const NUMPY: &[u8; 6] = b"\x93NUMPY";

/// Opens the file of a linear classifier at the folder of its tensors.
fn open_linear(path: &Path, kind: Kind, device: Device) -> Result<Weights> {
    let weights = Weights::open_file(path, kind, device)?;
    let inside = weights.pp(LINEAR);
    Ok(if HEAD.iter().all(|name| inside.contains(name)) { inside } else { weights })
}

/// Returns the numbers of classes and features of a linear classifier's file, after checking that it has a `weight`, a
/// `bias` that fits, and nothing else.
fn linear_shape(weights: &Weights, path: &Path) -> Result<(i64, i64)> {
    let refuse = |reason: String| Err(Error::Directory { path: path.into(), reason });
    let quoted = |names: Vec<&str>| {
        let more = if names.len() > 5 { ", …" } else { "" };
        names.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") + more
    };
    let lacks: Vec<&str> = HEAD.into_iter().filter(|name| !weights.contains(name)).collect();
    let ours = |name: &&str| {
        HEAD.contains(&name.strip_prefix(LINEAR).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name))
    };
    let others: Vec<&str> = weights.names().filter(|name| !ours(name)).collect();
    let found = match (lacks.is_empty(), others.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("lacks {}", quoted(lacks))),
        (true, false) => Some(format!("also holds {}", quoted(others))),
        (false, false) => Some(format!("lacks {} and holds {}", quoted(lacks), quoted(others))),
    };
    if let Some(found) = found {
        return refuse(format!(
            "a linear head has the tensors `weight` [classes, features] and `bias` [classes] and no others; this file {found}. \
             Save these two under their names"
        ));
    }
    let (weight, bias) = (weights.shape("weight")?, weights.shape("bias")?);
    match (weight.as_slice(), bias.as_slice()) {
        (&[classes, features], &[biases]) if classes == biases => Ok((classes, features)),
        (&[classes, _], _) => refuse(format!(
            "`weight` has {classes} classes and `bias` the shape {bias:?}; a linear head has one bias for each class"
        )),
        _ => refuse(format!("`weight` has shape {weight:?}; a linear classifier has [classes, features]")),
    }
}

/// The tensors of a linear head.
const HEAD: [&str; 2] = ["weight", "bias"];
/// The module of the tensors in DINO's files.
const LINEAR: &str = "linear";

/// Reads class embeddings and normalises them to unit rows `[classes, d]`.
fn class_embeddings(path: &Path, width: i64) -> Result<Tensor> {
    let refuse = |reason: String| Error::Directory { path: path.into(), reason };
    let table = matrix_file::read_table(path)?.data;
    let (classes, found) = (table.shape()[0] as i64, table.shape()[1] as i64);
    if found != width {
        return Err(refuse(format!(
            "class embeddings of {found} numbers; images have {width} in this network"
        )));
    }
    if table.outer_iter().any(|row| !row.iter().map(|x| x * x).sum::<f64>().is_normal()) {
        return Err(refuse("a class embedding is zero or not finite, so it has no direction".into()));
    }
    let flat: Vec<f64> = table.into_iter().collect();
    unit(&Tensor::f_from_slice(&flat)?.f_reshape([classes, width])?)
}

/// Builds unit rows `[classes, d]` with the text tower of `dir`.
fn zero_shot(
    dir: &Path,
    names: &[String],
    templates: &[String],
    kind: Kind,
    device: Device,
) -> Result<Tensor> {
    let (tokenizer, tower) = (Tokenizer::from_dir(dir)?, ClipText::load(dir, kind, device)?);
    let prompts = |name: &String| -> Result<Tensor> {
        let encoded = templates.iter().map(|template| tokenizer.encode(&template.replace("{}", name)));
        let ids = encoded.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_from_slice(&ids.concat())?.f_reshape([templates.len() as i64, -1])?)
    };
    tower.classifier(&names.iter().map(prompts).collect::<Result<Vec<_>>>()?)
}
