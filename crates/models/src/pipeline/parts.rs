//! An open pipeline directory, and the loading and unloading of its networks.

use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use super::index::{self, Content, Part, PipelineKind};
use crate::clip::{ClipTextEncoder, Tokenizer};
use crate::error::{Error, Result};
use crate::identity::files_sha256;
use crate::memory;

/// An event in the life of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its weights are about to be loaded.
    Loading,
    /// It is on the device.
    Loaded,
    /// It has been unloaded. Not reported for a component that the caller owns, such as an
    /// [`ImageEncoder`](super::ImageEncoder), which is unloaded when its owner drops it.
    Left,
}

/// Called for every component that is loaded or unloaded.
type Watch<P> = Box<dyn Fn(P, Phase) + Send + Sync>;

/// The parts of a pipeline.
pub(crate) struct Parts<P> {
    pub(crate) dir: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    /// The kind of the pipeline.
    pub(crate) pipeline: PipelineKind,
    watch: Option<Watch<P>>,
}

/// The named output size of one network and the named input size of another, which must be equal.
type Fit = ((&'static str, i64), (&'static str, i64));

impl<P: Part> Parts<P> {
    /// Opens a directory; checks that it is a pipeline of this kind and that no file is missing.
    pub(crate) fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::open_any(dir, &[P::KIND], kind, device)
    }

    /// Opens a directory; checks that it is a pipeline of one of these kinds and that no file is missing.
    pub(crate) fn open_any(dir: &Path, kinds: &[PipelineKind], kind: Kind, device: Device) -> Result<Self> {
        let pipeline = index::check::<P>(dir, kinds)?;
        Ok(Self { dir: dir.into(), kind, device, pipeline, watch: None })
    }

    pub(crate) fn watch(&mut self, watch: impl Fn(P, Phase) + Send + Sync + 'static) {
        self.watch = Some(Box::new(watch));
    }

    pub(crate) fn folder(&self, part: P) -> PathBuf {
        self.dir.join(part.folder())
    }

    /// Checks that the output sizes of networks equal the input sizes of the networks that read them.
    pub(crate) fn check_fit(&self, fits: impl IntoIterator<Item = Fit>) -> Result<()> {
        match fits.into_iter().find(|((_, made), (_, read))| made != read) {
            None => Ok(()),
            Some(((maker, made), (reader, read))) => Err(self.refuse(format!(
                "{maker} {made} and {reader} {read} do not fit; take all folders from one pipeline. Networks that read more \
                 than one image's latents, as for inpainting, depth or edges, are not supported"
            ))),
        }
    }

    /// Checks that the CLIP text tower in `tower` reads texts of the tokenizer's length, and returns its width.
    pub(crate) fn check_clip(&self, tower: P, tokenizer: &Tokenizer) -> Result<i64> {
        let (context, width) = ClipTextEncoder::shape(&self.folder(tower))?;
        let length = tokenizer.context_length() as i64;
        if length > context {
            return Err(self.refuse(format!(
                "tokenizer makes texts of {length} tokens (model_max_length), {tower} reads {context} \
                 (max_position_embeddings); take both folders from one pipeline"
            )));
        }
        Ok(width)
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Directory { path: self.dir.clone(), reason }
    }

    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        index::files::<P>(&self.dir)
    }

    pub(crate) fn sha256(&self) -> Result<String> {
        files_sha256(self.files()?)
    }

    pub(crate) fn weight_bytes(&self) -> Result<Vec<(P, u64)>> {
        let networks = P::PARTS.iter().copied().filter(|part| part.content() == Content::Network);
        networks.map(|part| Ok((part, memory::weight_bytes(&self.folder(part), &[], self.kind)?))).collect()
    }

    /// Loads a component and returns it to the caller.
    pub(crate) fn load<T>(&self, part: P, load: impl FnOnce(&Path, Kind, Device) -> Result<T>) -> Result<T> {
        self.tell(part, Phase::Loading);
        let network = load(&self.folder(part), self.kind, self.device)?;
        self.tell(part, Phase::Loaded);
        Ok(network)
    }

    /// Loads a component, calls `work` with it, and unloads it whether or not the work succeeds. All networks that
    /// callers do not own are loaded here, one call after another, so no two of them are in memory at the same time.
    pub(crate) fn with<T, R>(
        &self,
        part: P,
        load: impl FnOnce(&Path, Kind, Device) -> Result<T>,
        work: impl FnOnce(&T) -> Result<R>,
    ) -> Result<R> {
        let network = self.load(part, load)?;
        let result = work(&network);
        drop(network);
        self.tell(part, Phase::Left);
        result
    }

    fn tell(&self, part: P, phase: Phase) {
        if let Some(watch) = &self.watch {
            watch(part, phase);
        }
    }
}
