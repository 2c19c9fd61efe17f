//! The files of a repository on the hub, as its interface lists them, and which of them make a checkpoint.

use serde::Deserialize;

use super::client::Client;
use super::error::{HubError, Result};
use super::registry::{Model, Published, RepositoryKind, is_plain_path};
use crate::weights::weight_names;

/// Files that a network or a pipeline reads besides its weights.
const CONFIGURATIONS: [&str; 3] = ["config.json", "preprocessor_config.json", "scheduler_config.json"];
/// Files of tokenizers.
const TOKENIZERS: [&str; 6] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];
/// The index of a pipeline of diffusers.
pub(super) const PIPELINE: &str = "model_index.json";
/// The parts of pipelines that are read. Others, such as a safety checker, are not fetched.
const PARTS: [&str; 8] =
    ["scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "unet", "vae"];

/// A repository as the hub describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listing {
    /// `false`, or a word for how access is granted.
    #[serde(default)]
    gated: serde_json::Value,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Card {
    #[serde(default)]
    license: Option<serde_json::Value>,
    #[serde(default)]
    license_name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

impl Listing {
    /// The model with the files of this repository that are read, pinned to the listed commit.
    ///
    /// # Errors
    /// [`HubError::NoCheckpoint`] if the repository lacks a configuration or weights.
    pub(super) fn resolve(&self, model: &Model) -> Result<Model> {
        let names: Vec<&str> = self.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let files = chosen(model, &names).map_err(|reason| HubError::NoCheckpoint {
            id: model.id.clone(),
            revision: model.revision.clone(),
            reason,
        })?;
        let published = |file: &&String| {
            let found = self.siblings.iter().find(|sibling| sibling.rfilename == **file)?;
            let sha256 = found.lfs.as_ref().and_then(|lfs| lfs.sha256.clone());
            Some(((*file).clone(), Published { size: found.size, sha256 }))
        };
        let mut known = model.published.clone();
        for (file, found) in files.iter().filter_map(|file| published(&file)) {
            known.entry(file).or_insert(found);
        }
        Ok(Model {
            licence: if model.licence.is_empty() { self.licence() } else { model.licence.clone() },
            gated: model.gated || self.gated.is_string() || self.gated == true,
            files,
            published: known,
            ..model.clone()
        })
    }

    fn licence(&self) -> String {
        let card = self.card.as_ref();
        let named = card.and_then(|card| card.license_name.clone());
        let licence = card.and_then(|card| card.license.as_ref()).and_then(serde_json::Value::as_str);
        named.or(licence.map(str::to_owned)).unwrap_or_else(|| "not stated".into())
    }
}

/// Returns the files of a repository that are fetched.
pub(super) fn chosen(model: &Model, names: &[&str]) -> Result<Vec<String>, String> {
    match model.kind {
        RepositoryKind::Model => checkpoint(names),
        RepositoryKind::Dataset => parquet(names, &model.split),
    }
}

/// Returns the Parquet files of a data set whose names begin with a split. A data set without such files is refused.
fn parquet(names: &[&str], split: &str) -> Result<Vec<String>, String> {
    let of_split = |name: &&&str| {
        let file = name.rsplit('/').next().unwrap_or_default();
        file.starts_with(split) && file.ends_with(".parquet") && is_plain_path(name)
    };
    let files: Vec<String> = names.iter().filter(of_split).map(|name| (*name).to_owned()).collect();
    match files.is_empty() {
        true => Err(format!("it has no Parquet files whose names begin with `{split}`")),
        false => Ok(files),
    }
}

/// Returns the files of a repository that are read as a network or a pipeline, small files first.
///
/// # Errors
/// The reason why the files are not a checkpoint.
fn checkpoint(names: &[&str]) -> Result<Vec<String>, String> {
    if let Some(name) = names.iter().find(|name| !is_plain_path(name) && is_read(name)) {
        return Err(format!("the name of its file {name:?} is not plain"));
    }
    let below = |folder: &str| -> Vec<&str> {
        names
            .iter()
            .filter_map(|name| match folder {
                "" => Some(*name),
                folder => name.strip_prefix(folder)?.strip_prefix('/'),
            })
            .filter(|name| !name.contains('/'))
            .collect()
    };
    let has = |name: &str| names.contains(&name);
    let pipeline = has(PIPELINE);
    let folders: &[&str] = if pipeline { &PARTS } else { &[""] };
    let (mut small, mut weights) = (Vec::new(), Vec::new());
    if pipeline {
        small.push(PIPELINE.to_owned());
    } else if !has("config.json") {
        return Err("it has neither config.json nor model_index.json".into());
    }
    for folder in folders {
        let files = below(folder);
        let full = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let read = CONFIGURATIONS.iter().chain(&TOKENIZERS).filter(|name| files.contains(*name));
        small.extend(read.map(|name| full(name)));
        // A part of a pipeline whose configuration describes a network.
        if files.contains(&"config.json") {
            let diffusers = pipeline && !folder.starts_with("text_encoder");
            let found = weight_names(&files, diffusers);
            if found.is_empty() {
                let place = if folder.is_empty() { "it".to_owned() } else { format!("its folder {folder}") };
                return Err(format!("{place} has no weights in safetensors or PyTorch's format"));
            }
            weights.extend(found.into_iter().map(|name| full(&name)));
        }
    }
    small.extend(weights);
    Ok(small)
}

/// Whether a file may be one that is read, judged by its end.
fn is_read(name: &str) -> bool {
    [".json", ".txt", ".safetensors", ".bin"].iter().any(|end| name.ends_with(end))
}

impl Client {
    /// Asks the hub for the files of a repository.
    pub(super) fn list(&self, model: &Model) -> Result<Listing, super::retry::RequestError> {
        let (url, text) = self.listing_text(model)?;
        serde_json::from_str(&text)
            .map_err(|e| HubError::Answer { url, what: format!("with no list of files ({e})") }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(names: &[&str]) -> Result<String, String> {
        checkpoint(names).map(|files| files.join(" "))
    }

    #[test]
    fn of_a_repository_only_what_is_read_is_chosen() {
        // As DINO and CLIP are published: no safetensors, weights of other programs beside.
        let dino =
            ["README.md", "config.json", "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5"];
        assert_eq!(joined(&dino).as_deref(), Ok("config.json preprocessor_config.json pytorch_model.bin"));
        let both =
            ["config.json", "flax_model.msgpack", "model.safetensors", "pytorch_model.bin", "vocab.json"];
        assert_eq!(joined(&both).as_deref(), Ok("config.json vocab.json model.safetensors"));
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.fp16-00001-of-00001.safetensors",
            "model.safetensors.index.json",
        ];
        assert_eq!(
            joined(&shards).as_deref(),
            Ok("config.json model.safetensors.index.json model-00001-of-00002.safetensors \
                model-00002-of-00002.safetensors")
        );
        let half = ["config.json", "model.fp16.safetensors"];
        assert_eq!(joined(&half).as_deref(), Ok("config.json model.fp16.safetensors"));
    }

    #[test]
    fn of_a_pipeline_each_part_follows_its_library() {
        let names = [
            "model_index.json",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "v1-5-pruned.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.bin",
        ];
        assert_eq!(
            joined(&names).as_deref(),
            Ok(
                "model_index.json scheduler/scheduler_config.json text_encoder/config.json tokenizer/vocab.json \
                tokenizer/merges.txt unet/config.json vae/config.json text_encoder/model.safetensors \
                unet/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.bin"
            )
        );
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for (names, word) in [
            (&["README.md", "data/train.parquet"][..], "neither config.json"),
            (&["config.json", "model.gguf"], "no weights"),
            (&["model_index.json", "unet/config.json"], "folder unet has no weights"),
            (&["config.json", "../model.safetensors", "model.safetensors"], "not plain"),
            (&["config.json", "/model.safetensors"], "not plain"),
        ] {
            assert!(joined(names).is_err_and(|reason| reason.contains(word)), "{names:?}");
        }
    }
}
