//! A pipeline's directory, opened, and how its networks come and go.

use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use super::index::{self, Content, Part};
use crate::clip::{ClipTextEncoder, Tokenizer};
use crate::error::{Error, Result};
use crate::identity::files_sha256;
use crate::memory;

/// What happens to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its weights are about to be read.
    Loading,
    /// It is on the device.
    Loaded,
    /// It has left the device. Not told of a component that was handed out, such as a
    /// [`ImageEncoder`](super::ImageEncoder), which leaves when its owner drops it.
    Left,
}

/// Told of every component that comes or goes.
type Watch<P> = Box<dyn Fn(P, Phase) + Send + Sync>;

/// The parts of a pipeline.
pub(crate) struct Parts<P> {
    pub(crate) dir: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    watch: Option<Watch<P>>,
}

/// What one network makes and another reads, each with its name: they must be equal.
type Fit = ((&'static str, i64), (&'static str, i64));

impl<P: Part> Parts<P> {
    /// Checks that a directory is such a pipeline and that no file is missing.
    pub(crate) fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        index::check::<P>(dir)?;
        Ok(Self { dir: dir.into(), kind, device, watch: None })
    }

    pub(crate) fn watch(&mut self, watch: impl Fn(P, Phase) + Send + Sync + 'static) {
        self.watch = Some(Box::new(watch));
    }

    pub(crate) fn folder(&self, part: P) -> PathBuf {
        self.dir.join(part.folder())
    }

    /// Checks that what one network makes is what the next one reads.
    pub(crate) fn check_fit(&self, fits: impl IntoIterator<Item = Fit>) -> Result<()> {
        match fits.into_iter().find(|((_, made), (_, read))| made != read) {
            None => Ok(()),
            Some(((maker, made), (reader, read))) => Err(self.refuse(format!(
                "{maker} {made} and {reader} {read} do not fit; take all folders from one pipeline. Networks that read more \
                 than one image's latents, as for inpainting, depth or edges, are not run"
            ))),
        }
    }

    /// Checks that CLIP's text tower in `tower` reads texts as long as its tokenizer makes them, and returns its width.
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

    /// Loads a component that the caller keeps.
    pub(crate) fn load<T>(&self, part: P, load: impl FnOnce(&Path, Kind, Device) -> Result<T>) -> Result<T> {
        self.tell(part, Phase::Loading);
        let network = load(&self.folder(part), self.kind, self.device)?;
        self.tell(part, Phase::Loaded);
        Ok(network)
    }

    /// Loads a component, works with it and lets it go, whether or not the work succeeds. Every network that is not handed
    /// out is loaded here, one call after another, so no two of them live at once.
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
