//! Errors of reading a model directory and of computing attention maps.

use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::files::looked_for;
use crate::not_finite::NotFinite;
pub use markov_core::torch_error::OutOfMemory;

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Each message says what failed, where, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}{}", path.display(), looked_for(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file in the hub's cache has changed since it was downloaded.
    #[error("{} is damaged: its SHA-256 is {found}, the hub's is {expected}", path.display())]
    Damaged {
        /// The data in the cache.
        path: PathBuf,
        /// The hub's hash.
        expected: String,
        /// The hash of the file as it is now.
        found: String,
    },
    /// A directory is not a model directory, or its weights have an unsupported format.
    #[error("{}: {reason}{}", path.display(), looked_for(path))]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// The problem and the remedy.
        reason: String,
    },
    /// The file has no features of images.
    #[error("{}: not a file of features", path.display())]
    NoFeatures {
        /// The file.
        path: PathBuf,
    },
    /// The folder of a CLIP network does not exist.
    #[error("{}: no such folder, and features of CLIP need one{}", path.display(), looked_for(path))]
    NoClipFolder {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A safetensors file that is damaged or hostile.
    #[error("{} is not a readable safetensors file: {reason}; download it again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Message of the parser.
        reason: String,
    },
    /// A file of `torch.save` that is damaged, hostile, or holds more than tensors.
    #[error("{} cannot be read as a PyTorch file: {reason}", path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files lack a tensor that the network needs.
    #[error("{} has no tensor `{name}`{}", path.display(), nearest_names(nearest))]
    MissingTensor {
        /// Full name of the tensor.
        name: String,
        /// The directory that was searched.
        path: PathBuf,
        /// The most similar names in the files, best first.
        nearest: Vec<String>,
    },
    /// A tensor's shape differs from the one that `config.json` implies.
    #[error("tensor `{name}` in {} has shape {found:?}, config.json asks for {wanted:?}", path.display())]
    Shape {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape the network needs.
        wanted: Vec<i64>,
    },
    /// A tensor is stored in an unsupported number type.
    #[error("tensor `{name}` in {} is stored as {found}; only F32, F16 and BF16 weights are read", path.display())]
    Dtype {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Type in the file.
        found: String,
    },
    /// The files hold tensors that the network never reads: the weights belong to another network than `config.json`
    /// describes.
    #[error("{} holds {count} tensor(s) that this network does not use, such as {}; the weights belong to another architecture", path.display(), quoted(examples))]
    UnreadTensors {
        /// The directory.
        path: PathBuf,
        /// Number of unread tensors.
        count: usize,
        /// A few of them, in order.
        examples: Vec<String>,
    },
    /// A device that this machine or this libtorch does not have.
    #[error("device `{name}`: {reason}")]
    Device {
        /// The device as requested.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A CUDA device was requested, and CUDA cannot be used at all.
    #[error("device `{name}`: {reason}")]
    NoCuda {
        /// The device as asked for.
        name: String,
        /// Why CUDA cannot be used.
        reason: String,
    },
    /// The network has no classifier, but the experiment needs class scores.
    #[error(
        "{} holds a network without classifier; give it classes with model.head (a linear head in safetensors), for \
         CLIP with model.zero_shot.descriptor, or for CLIP and SigLIP with model.class_embeddings", path.display()
    )]
    NoClassifier {
        /// The directory.
        path: PathBuf,
    },
    /// The network has no text tower, but texts were given.
    #[error(
        "{} holds a network without text tower, so it reads no prompts or class names; leave these out, or name the \
         directory of a whole CLIP (`CLIPModel`)", path.display()
    )]
    NoTextTower {
        /// The directory.
        path: PathBuf,
    },
    /// A text that cannot be turned into tokens.
    #[error("cannot tokenize `{text}`: {reason}; check the vocabulary, or leave the text out")]
    Text {
        /// The text.
        text: String,
        /// Message of the tokenizer.
        reason: String,
    },
    /// The prompt has no tokens for a word.
    #[error("the prompt `{text}` has no token for the word `{word}`: {reason}")]
    Word {
        /// The word.
        word: String,
        /// The prompt.
        text: String,
        /// The words of the prompt, or the reason why the word cannot be used.
        reason: String,
    },
    /// A list of layers does not fit the network.
    #[error("layers `{spec}`: {reason}")]
    Layers {
        /// The list as written.
        spec: String,
        /// The problem.
        reason: String,
    },
    /// The image size is smaller than one patch of the network.
    #[error("image size {}x{} is smaller than one patch ({}x{})", size.0, size.1, patch.0, patch.1)]
    ImageSize {
        /// Requested height and width.
        size: (usize, usize),
        /// Height and width of a patch.
        patch: (i64, i64),
    },
    /// Preprocessing gives images of different sizes for one batch.
    #[error(
        "preprocessing gives images of different sizes ([3, h, w] = {first:?} and {second:?}), which cannot run in one \
         batch; set model.image_size, or a crop in preprocessor_config.json"
    )]
    MixedSizes {
        /// Shape of one image.
        first: (usize, usize, usize),
        /// Shape of the next.
        second: (usize, usize, usize),
    },
    /// A network does not accept an input.
    #[error("{input}: {reason}")]
    Input {
        /// Name of the input.
        input: &'static str,
        /// The problem and the requirement.
        reason: String,
    },
    /// A probe read something that it had not asked for in `want`, or its result was read before the probe had seen a
    /// map.
    #[error("attention probe: {0}")]
    Probe(String),
    /// An image could not be read or preprocessed.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// An attention file could not be read or written.
    #[error(transparent)]
    MatrixFile(#[from] crate::matrix_file::MatrixFileError),
    /// A published checkpoint could not be fetched or found.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// An attention map is not a valid Markov chain.
    #[error(transparent)]
    Chain(#[from] markov_core::Error),
    /// A network returned numbers that are not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// libtorch failed; the message is libtorch's own, without its stack.
    #[error("{}", markov_core::torch_error::describe(.0))]
    Torch(#[from] tch::TchError),
}

/// Returns the names in backticks, separated by commas.
pub(crate) fn quoted(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn nearest_names(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; nearest: {}", quoted(names)) }
}

impl Error {
    /// Returns the content of [`Error::NotFinite`], or the error itself if it is another.
    ///
    /// # Errors
    /// This error, if it is another.
    pub fn into_not_finite(self) -> Result<NotFinite, Self> {
        if let Self::NotFinite(error) = self { Ok(error) } else { Err(self) }
    }

    /// Returns this error, with the rows of [`Error::NotFinite`] replaced by the items `item(row)` of a batch.
    #[must_use]
    pub fn of_items(self, item: impl Fn(usize) -> usize) -> Self {
        if let Self::NotFinite(error) = self { error.of_items(item).into() } else { self }
    }

    /// Returns the lack of memory behind this error, if that is its cause.
    pub fn out_of_memory(&self) -> Option<OutOfMemory> {
        // A file of weights is mapped into memory.
        if let Self::Read { source, .. } = self {
            let lacks = source.kind() == std::io::ErrorKind::OutOfMemory;
            return lacks.then_some(OutOfMemory { asked: None, on_device: false });
        }
        let (Self::Torch(error) | Self::Chain(markov_core::Error::Torch(error))) = self else { return None };
        OutOfMemory::of(error)
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Device { .. }
            | Self::NoCuda { .. }
            | Self::Layers { .. }
            | Self::MixedSizes { .. }
            | Self::ImageSize { .. }
            | Self::Input { .. }
            | Self::Word { .. }
            | Self::NoTextTower { .. } => ErrorKind::Usage,
            Self::Read { .. }
            | Self::Damaged { .. }
            | Self::Directory { .. }
            | Self::NoFeatures { .. }
            | Self::NoClipFolder { .. }
            | Self::Safetensors { .. }
            | Self::PyTorch { .. }
            | Self::MissingTensor { .. }
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::UnreadTensors { .. }
            | Self::NoClassifier { .. }
            | Self::Text { .. }
            | Self::NotFinite(_)
            | Self::Image(_) => ErrorKind::Input,
            Self::MatrixFile(error) => error.kind(),
            Self::Hub(error) => error.kind(),
            Self::Probe(_) | Self::Chain(_) | Self::Torch(_) => ErrorKind::Other,
        }
    }
}
