//! The files of a pipeline: finds them and checks that none is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind};

use crate::config_file;
use crate::error::{Error, Result};
use crate::weights::{Weights, weight_files};

const INDEX: &str = "model_index.json";
/// Further parts that a pipeline may have and that do not change what its networks compute.
const OTHER_PARTS: [&str; 4] = ["safety_checker", "feature_extractor", "image_encoder", "inverse_scheduler"];

/// Supported kinds of pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PipelineKind {
    /// FLUX.1-schnell and FLUX.1-dev: [`crate::flux::pipeline::FluxPipeline`].
    Flux,
    /// FLUX.1 Kontext, which also reads a reference image: [`crate::flux::pipeline::FluxPipeline::open_any`].
    FluxKontext,
    /// Stable Diffusion 1 and 2: [`crate::sd::pipeline::SdPipeline`].
    StableDiffusion,
}

impl PipelineKind {
    const ALL: [Self; 3] = [Self::Flux, Self::FluxKontext, Self::StableDiffusion];

    /// Returns the kind of the pipeline in a directory, or `None` if the directory has no `model_index.json`. The parts
    /// decide, since diffusers saves equal parts under many classes, such as `FluxPipeline` and `FluxImg2ImgPipeline`.
    /// Only for FLUX.1 Kontext the class decides: its parts are those of FLUX.1-dev.
    ///
    /// # Errors
    /// A pipeline with other parts, or a damaged `model_index.json`.
    pub fn of(dir: &Path) -> Result<Option<Self>> {
        if !is_pipeline(dir) {
            return Ok(None);
        }
        let index = read(dir)?;
        let known = Self::ALL.map(|kind| format!("{} ({})", kind.class(), kind.covers()));
        Self::with_parts(&index).map(Some).ok_or_else(|| Error::Directory {
            path: dir.join(INDEX),
            reason: format!(
                "_class_name is `{}`; supported pipelines have the parts of {}",
                class(&index),
                known.join(" or ")
            ),
        })
    }

    /// Returns the kind whose denoising network the index names.
    fn with_parts(index: &BTreeMap<String, Value>) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|kind| {
            let (folder, class) = kind.denoiser();
            part_class(index, folder) == Some(class)
        })?;
        // `FluxKontextPipeline`, `FluxKontextInpaintPipeline`.
        let kontext = found == Self::Flux && class(index).starts_with("FluxKontext");
        Some(if kontext { Self::FluxKontext } else { found })
    }

    /// The diffusers class that stands for all classes with these parts.
    fn class(self) -> &'static str {
        match self {
            Self::Flux => "FluxPipeline",
            Self::FluxKontext => "FluxKontextPipeline",
            Self::StableDiffusion => "StableDiffusionPipeline",
        }
    }

    /// Folder and class of the denoising network.
    fn denoiser(self) -> (&'static str, &'static str) {
        match self {
            Self::Flux | Self::FluxKontext => ("transformer", "FluxTransformer2DModel"),
            Self::StableDiffusion => ("unet", "UNet2DConditionModel"),
        }
    }

    fn covers(self) -> &'static str {
        match self {
            Self::Flux => "FLUX.1-schnell and FLUX.1-dev",
            Self::FluxKontext => "FLUX.1 Kontext",
            Self::StableDiffusion => "Stable Diffusion 1 and 2",
        }
    }
}

impl fmt::Display for PipelineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flux => "FLUX",
            Self::FluxKontext => "FLUX.1 Kontext",
            Self::StableDiffusion => "Stable Diffusion",
        })
    }
}

/// Whether a directory is a pipeline of any kind rather than a single network: it has a `model_index.json`.
pub fn is_pipeline(dir: &Path) -> bool {
    dir.join(INDEX).is_file()
}

/// The contents of a component's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Scheduler,
    Network,
    ClipTokenizer,
    T5Tokenizer,
}

impl Content {
    /// Alternative groups of required files other than weights. All files of one group must exist.
    fn needed(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Scheduler => &[&["scheduler_config.json"]],
            Self::Network => &[&["config.json"]],
            Self::ClipTokenizer => &[&["vocab.json", "merges.txt"], &["tokenizer.json"]],
            Self::T5Tokenizer => &[&["tokenizer.json"]],
        }
    }

    /// Files other than weights that are read if they exist.
    fn read(self) -> &'static [&'static str] {
        match self {
            Self::Scheduler => &["scheduler_config.json"],
            Self::Network => &["config.json"],
            Self::ClipTokenizer | Self::T5Tokenizer => &[
                "tokenizer_config.json",
                "special_tokens_map.json",
                "added_tokens.json",
                "tokenizer.json",
                "vocab.json",
                "merges.txt",
            ],
        }
    }
}

/// A part of one kind of pipeline. Its `Display` is its folder.
pub(crate) trait Part: Copy + fmt::Display + 'static {
    /// The kind of pipeline.
    const KIND: PipelineKind;
    /// All parts, in the order of diffusers.
    const PARTS: &'static [Self];

    /// Its folder in the directory, and its key in `model_index.json`.
    fn folder(self) -> &'static str;

    /// The contents of the folder.
    fn content(self) -> Content;

    /// The classes that `model_index.json` may name for it. If empty, any class is accepted.
    fn classes(self) -> &'static [&'static str];
}

/// Checks that `dir` is a pipeline with these parts, of one of the `accepted` kinds, and that no file is missing. Ignores
/// parts that are null and parts without effect, such as a safety checker. Returns the kind.
pub(super) fn check<P: Part>(dir: &Path, accepted: &[PipelineKind]) -> Result<PipelineKind> {
    let kind = P::KIND;
    if !is_pipeline(dir) {
        let folders: Vec<&str> = P::PARTS.iter().map(|part| part.folder()).collect();
        let reason = format!(
            "no {INDEX}; a {kind} pipeline is a directory as diffusers saves it, with {INDEX} and the folders {}",
            folders.join(", ")
        );
        return Err(Error::Directory { path: dir.into(), reason });
    }
    let index = read(dir)?;
    let refuse = |reason: String| Error::Directory { path: dir.join(INDEX), reason };
    let class = class(&index);
    let found = PipelineKind::with_parts(&index);
    if let Some(other) = found.filter(|other| !accepted.contains(other)) {
        if other == PipelineKind::FluxKontext {
            return Err(refuse(format!(
                "_class_name is `{class}`; {other} reads a reference image, which experiments do not have, so that they do \
                 not support it: attend and show do"
            )));
        }
        return Err(refuse(format!(
            "_class_name is `{class}`; this reader runs the parts of {}, which is {}",
            kind.class(),
            kind.covers()
        )));
    }
    for part in P::PARTS {
        let class = part_class(&index, part.folder());
        let known = part.classes();
        if !class.is_some_and(|class| known.is_empty() || known.contains(&class)) {
            let class = class.unwrap_or("absent");
            return Err(refuse(match known.first() {
                Some(known) => format!("{part} is `{class}`; this reader runs {known} there"),
                None => format!("{part} is `{class}`; a pipeline of this class has one"),
            }));
        }
    }
    let ours =
        |folder: &str| OTHER_PARTS.contains(&folder) || P::PARTS.iter().any(|part| part.folder() == folder);
    let mut foreign = index.keys().filter(|folder| !ours(folder));
    if let Some((folder, part)) = foreign.find_map(|folder| Some((folder, part_class(&index, folder)?))) {
        return Err(refuse(format!(
            "_class_name is `{class}` and {folder} is `{part}`; a {kind} pipeline with such a part is not supported, since \
             what the part adds to the network would be left out"
        )));
    }
    let missing: Vec<String> = P::PARTS.iter().flat_map(|&part| missing(part, dir)).collect();
    if missing.is_empty() {
        return Ok(found.unwrap_or(kind));
    }
    let reason = format!("lacks {}; download the pipeline's files whole", missing.join(", "));
    Err(Error::Directory { path: dir.into(), reason })
}

/// Returns every file that decides what the pipeline computes.
pub(super) fn files<P: Part>(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![dir.join(INDEX)];
    for part in P::PARTS {
        let folder = dir.join(part.folder());
        let read = part.content().read().iter().map(|file| folder.join(file));
        files.extend(read.filter(|path| path.is_file()));
        if part.content() == Content::Network {
            files.extend(weight_files(&folder)?);
        }
    }
    Ok(files)
}

fn read(dir: &Path) -> Result<BTreeMap<String, Value>> {
    let path = dir.join(INDEX);
    let text = config_file::read(&path)?;
    serde_json::from_str(&text).map_err(|e| Error::Directory {
        path,
        reason: format!("not the index of a pipeline: {e}; download it again"),
    })
}

fn class(index: &BTreeMap<String, Value>) -> String {
    index.get("_class_name").and_then(Value::as_str).unwrap_or("absent").into()
}

/// Returns the class in a part's entry `["library", "class"]`, or `None` if the part is null or the entry is a setting.
fn part_class<'a>(index: &'a BTreeMap<String, Value>, folder: &str) -> Option<&'a str> {
    index.get(folder)?.get(1)?.as_str()
}

/// Returns the missing files of a part below `dir`, as paths and reasons.
fn missing(part: impl Part, dir: &Path) -> Vec<String> {
    let folder = dir.join(part.folder());
    let path = |file: &str| format!("{part}/{file}");
    if !folder.is_dir() {
        return vec![path("")];
    }
    let absent = |file: &&&str| !folder.join(file).is_file();
    let lacks = |group: &&[&str]| group.iter().filter(absent).map(|file| path(file)).collect::<Vec<_>>();
    // Of several ways to store a part, reports the one with the fewest missing files.
    let mut missing = part.content().needed().iter().map(lacks).min_by_key(Vec::len).unwrap_or_default();
    if part.content() == Content::Network
        && let Err(error) = Weights::open(&folder, Kind::Float, Device::Cpu)
    {
        missing.push(if let Error::Directory { reason, .. } = error {
            format!("{} ({reason})", path("weights"))
        } else {
            error.to_string()
        });
    }
    missing
}
