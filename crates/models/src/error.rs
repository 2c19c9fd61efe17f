//! What can go wrong between a model directory and an attention map.

use std::path::PathBuf;

use crate::error_kind::ErrorKind;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: each says what, where and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A downloaded file that is no longer what was downloaded.
    #[error("{} is damaged: its SHA-256 is {found}, the hub's is {expected}", path.display())]
    Damaged {
        /// The data in the cache.
        path: PathBuf,
        /// The hub's hash.
        expected: String,
        /// That of the file.
        found: String,
    },
    /// A directory that is no model directory, or whose weights are of a kind we do not read.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A file without features of pictures, where these are needed.
    #[error("{}: no file of features", path.display())]
    NoFeatures {
        /// The file.
        path: PathBuf,
    },
    /// No folder where that of a CLIP network is needed.
    #[error("{}: no such folder, and features of CLIP need one", path.display())]
    NoClipFolder {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A safetensors file that is damaged or hostile.
    #[error("{} is not a readable safetensors file: {reason}; download it again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A tensor that the network needs and the files lack.
    #[error("{} has no tensor `{name}`{}", path.display(), nearest_names(nearest))]
    MissingTensor {
        /// Full name of the tensor.
        name: String,
        /// The directory that was searched.
        path: PathBuf,
        /// The most similar names in the files, best first.
        nearest: Vec<String>,
    },
    /// A tensor of another shape than `config.json` promises.
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
    /// A tensor stored in a type that no network here computes with.
    #[error("tensor `{name}` in {} is stored as {found}; only F32, F16 and BF16 weights are read", path.display())]
    Dtype {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Type in the file.
        found: String,
    },
    /// Tensors that the network never asked for: the directory holds another network than its config says.
    #[error("{} holds {count} tensor(s) that this network does not use, such as {}; the weights belong to another architecture", path.display(), quoted(examples))]
    UnreadTensors {
        /// The directory.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// A few of them, in order.
        examples: Vec<String>,
    },
    /// A device that this machine or this libtorch does not have.
    #[error("device `{name}`: {reason}")]
    Device {
        /// The device as asked for.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A CUDA device where CUDA cannot be used at all.
    #[error("device `{name}`: {reason}")]
    NoCuda {
        /// The device as asked for.
        name: String,
        /// Why CUDA cannot be used.
        reason: String,
    },
    /// A bare backbone where classes are needed.
    #[error(
        "{} holds a network without classifier; give it classes with model.head (a linear head in safetensors), or \
         for CLIP with model.zero_shot.descriptor or model.class_embeddings", path.display()
    )]
    NoClassifier {
        /// The directory.
        path: PathBuf,
    },
    /// A network that reads pictures only, where texts are given too.
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
        /// What the tokenizer says.
        reason: String,
    },
    /// A word whose tokens are wanted and that the prompt does not have.
    #[error("the prompt `{text}` has no token for the word `{word}`: {reason}")]
    Word {
        /// The word.
        word: String,
        /// The prompt.
        text: String,
        /// What the prompt has instead, or why the word is not read.
        reason: String,
    },
    /// A layer list that does not fit the network.
    #[error("layers `{spec}`: {reason}")]
    Layers {
        /// The list as written.
        spec: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image size too small for the network.
    #[error("image size {}x{} is smaller than one patch ({}x{})", size.0, size.1, patch.0, patch.1)]
    ImageSize {
        /// Height and width asked for.
        size: (usize, usize),
        /// Height and width of a patch.
        patch: (i64, i64),
    },
    /// Images of different sizes in one batch.
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
    /// An input that a network does not take.
    #[error("{input}: {reason}")]
    Input {
        /// Which input.
        input: &'static str,
        /// What is wrong with it and what is needed.
        reason: String,
    },
    /// A probe asked for something it had not announced, or was read before it had seen a map.
    #[error("attention probe: {0}")]
    Probe(String),
    /// An image or its preprocessing.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// An attention file to read or write.
    #[error(transparent)]
    MatrixFile(#[from] crate::matrix_file::MatrixFileError),
    /// A published checkpoint to fetch or find.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// An attention map that is no Markov chain.
    #[error(transparent)]
    Chain(#[from] markov_core::Error),
    /// libtorch failed; its own words.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// Names in backticks, with commas between them.
pub(crate) fn quoted(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn nearest_names(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; nearest: {}", quoted(names)) }
}

impl Error {
    /// What the user can do about it.
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
            | Self::MissingTensor { .. }
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::UnreadTensors { .. }
            | Self::NoClassifier { .. }
            | Self::Text { .. }
            | Self::Image(_) => ErrorKind::Input,
            Self::MatrixFile(error) => error.kind(),
            Self::Hub(error) => error.kind(),
            Self::Probe(_) | Self::Chain(_) | Self::Torch(_) => ErrorKind::Other,
        }
    }
}
