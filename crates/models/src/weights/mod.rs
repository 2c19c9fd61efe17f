//! Named tensors of checkpoint files.
//!
//! [`Weights`] is a memory-mapped view over one or many files of a model directory, safetensors or PyTorch's. Names are followed like
//! folders (`weights.pp("encoder").pp("layer").pp(3)`), so paths in the code equal the names in the checkpoint. It
//! records the tensors that were read, so that [`Weights::finish`] detects the checkpoint of another network.
//! [`Weights::drawn`] makes random weights without a file, for benchmarks. [`headers_only`] builds networks without
//! reading weights, and [`wanted_tensors`] lists the tensors that a network reads.

mod checkpoint;
mod shard;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, quoted};
use checkpoint::Checkpoint;
pub(crate) use checkpoint::weight_names;
use shard::Shard;

/// A memory-mapped view of a checkpoint below one name prefix.
#[derive(Clone)]
pub struct Weights {
    store: Arc<Store>,
    prefix: String,
    kind: Kind,
}

struct Store {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Tensor name → index of its shard.
    index: BTreeMap<String, usize>,
    read: Mutex<BTreeSet<String>>,
    device: Device,
    /// Whether there are no files and tensors are drawn when they are read.
    drawn: bool,
}

/// The source of the tensors of networks that a thread loads.
enum Source {
    /// The files.
    Files,
    /// Placeholders for the tensors in the files.
    Headers,
    /// Placeholders for any tensor. Holds the names and shapes of the tensors that were read.
    Nothing(Vec<(String, Vec<i64>)>),
}

impl Source {
    fn is_nothing() -> bool {
        SOURCE.with_borrow(|source| match source {
            Source::Nothing(_) => true,
            Source::Files | Source::Headers => false,
        })
    }
}

thread_local! {
    static SOURCE: RefCell<Source> = const { RefCell::new(Source::Files) };
}

/// Calls `load` with `source` as this thread's source. Returns the result and the source afterwards.
fn from_source<T>(source: Source, load: impl FnOnce() -> T) -> (T, Source) {
    struct Before(Option<Source>);

    impl Drop for Before {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                SOURCE.replace(before);
            }
        }
    }

    let mut before = Before(Some(SOURCE.replace(source)));
    let loaded = load();
    (loaded, SOURCE.replace(before.0.take().unwrap_or(Source::Files)))
}

/// Checks the weights that `load` would load: compares names, shapes and types of all tensors with those that the
/// network needs, and builds the network from placeholders that take no memory. Only the headers of the files are read.
/// Other threads are not affected.
///
/// # Errors
/// The errors of `load`.
pub fn headers_only<T>(load: impl FnOnce() -> Result<T>) -> Result<()> {
    from_source(Source::Headers, load).0.map(drop)
}

/// Returns full names and shapes of the tensors that `load` reads, in its order, whatever the files hold. These are the
/// tensors that a checkpoint of this network must have.
///
/// # Errors
/// The errors of `load`: configuration and weight files must exist, even if they have no tensors.
pub fn wanted_tensors<T>(load: impl FnOnce() -> Result<T>) -> Result<Vec<(String, Vec<i64>)>> {
    let (loaded, source) = from_source(Source::Nothing(Vec::new()), load);
    loaded?;
    Ok(match source {
        Source::Nothing(wanted) => wanted,
        Source::Files | Source::Headers => Vec::new(),
    })
}

/// Returns a zero, expanded to any shape.
fn placeholder(shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_zeros(vec![1; shape.len()], (kind, device))?.f_expand(shape, false)?)
}

impl Weights {
    /// Opens the weights of a model directory: one file or the shards that an index names, safetensors or PyTorch's,
    /// under the names of transformers or diffusers and in the order in which these prefer them; those of a variant
    /// (`model.fp16.safetensors`) if there are no others. Tensors are returned in `kind` on `device`, whatever their
    /// storage (F32, F16 or BF16).
    ///
    /// # Errors
    /// There are no weights; a file is damaged, or refused because it holds more than tensors; or a tensor is in two
    /// shards and the index names neither.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::of_files(dir, &Checkpoint::find(dir)?, kind, device)
    }

    /// Opens a single file outside of a model directory, such as a separate classifier: safetensors, or a state dict
    /// that `torch.save` wrote. Its first bytes tell which.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is refused because it holds more than tensors.
    pub fn open_file(path: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::of_files(path, &Checkpoint::of_file(path), kind, device)
    }

    fn of_files(dir: &Path, checkpoint: &Checkpoint, kind: Kind, device: Device) -> Result<Self> {
        let shards = checkpoint.files.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>>>()?;
        let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.names() {
                holders.entry(name.to_owned()).or_default().push(i);
            }
        }
        let mut index = BTreeMap::new();
        for (name, holders) in holders {
            // Of several copies of a tensor, all but one are left over from older saves; the index says which one is
            // valid.
            let says = checkpoint.index.as_ref().and_then(|index| index.weight_map.get(&name));
            let is_named = |&&i: &&usize| shards[i].path.file_name() == says.map(AsRef::as_ref);
            match (holders.as_slice(), holders.iter().find(is_named)) {
                (&[only], _) | (_, Some(&only)) => _ = index.insert(name, only),
                (several, None) => {
                    let files = several.iter().map(|&i| shards[i].path.display());
                    let reason = format!(
                        "tensor `{name}` is in {}, and the index does not say which one counts; download the files again",
                        files.map(|file| file.to_string()).collect::<Vec<_>>().join(" and in ")
                    );
                    return Err(Error::Directory { path: dir.into(), reason });
                }
            }
        }
        let store = Store { dir: dir.into(), shards, index, read: Mutex::default(), device, drawn: false };
        Ok(Self { store: Arc::new(store), prefix: String::new(), kind })
    }

    /// Random weights for benchmarks: every requested tensor exists in the requested shape. Numbers are drawn on
    /// `device` by libtorch's generator from a normal distribution that preserves the scale of activations; scales and
    /// variances of norms are 1, biases and means 0.
    pub fn drawn(kind: Kind, device: Device) -> Self {
        let store = Store {
            dir: PathBuf::new(),
            shards: Vec::new(),
            index: BTreeMap::new(),
            read: Mutex::default(),
            device,
            drawn: true,
        };
        Self { store: Arc::new(store), prefix: String::new(), kind }
    }

    /// Returns the view one folder down: `weights.pp("layer").pp(3)` sees `layer.3.*`.
    #[must_use]
    pub fn pp(&self, part: impl Display) -> Self {
        Self { prefix: self.full_name(part), ..self.clone() }
    }

    /// Returns this view with another type of tensors.
    #[must_use]
    pub(crate) fn in_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The type of the returned tensors.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of the returned tensors.
    pub fn device(&self) -> Device {
        self.store.device
    }

    /// Returns the number of elements in all tensors whose full name satisfies `counted`.
    pub fn numbers(&self, counted: impl Fn(&str) -> bool) -> u64 {
        let tensors = self.store.index.iter().filter(|(name, _)| counted(name));
        let shapes = tensors.filter_map(|(name, &shard)| self.store.shards[shard].shape(name));
        shapes.map(|shape| shape.iter().product::<i64>() as u64).sum()
    }

    /// Whether the checkpoint has this tensor. Drawn weights have every tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.store.drawn || self.store.index.contains_key(&self.full_name(name))
    }

    /// Full names of all tensors of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.store.index.keys().map(String::as_str)
    }

    /// Returns the metadata of the first file under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.store.shards.first()?.metadata(key)
    }

    /// Returns the shape of the tensor `name`, if the files decide it and not the configuration. Within
    /// [`wanted_tensors`] it is empty.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] with the nearest names.
    pub fn shape(&self, name: impl Display) -> Result<Vec<i64>> {
        if SOURCE.with_borrow(|source| matches!(source, Source::Nothing(_))) {
            return Ok(Vec::new());
        }
        let name = self.full_name(name);
        let shape = self.store.index.get(&name).and_then(|&shard| self.store.shards[shard].shape(&name));
        Ok(shape.ok_or_else(|| self.missing(name))?.to_vec())
    }

    /// Reads the tensor `name` and checks its shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] with the nearest names, [`Error::Shape`] or [`Error::Dtype`].
    pub fn get(&self, shape: &[i64], name: impl Display) -> Result<Tensor> {
        let name = self.full_name(name);
        if self.store.drawn {
            return draw(shape, &name, self.kind, self.store.device);
        }
        let unread = SOURCE.with_borrow_mut(|source| {
            if let Source::Nothing(wanted) = source {
                wanted.push((name.clone(), shape.to_vec()));
            }
            matches!(source, Source::Nothing(_))
        });
        if unread {
            return placeholder(shape, self.kind, self.store.device);
        }
        let Some(&shard) = self.store.index.get(&name) else {
            return Err(self.missing(name));
        };
        let shard = &self.store.shards[shard];
        if SOURCE.with_borrow(|source| matches!(source, Source::Headers)) {
            shard.check(&name, shape)?;
            self.store.mark_read(name);
            return placeholder(shape, self.kind, self.store.device);
        }
        let tensor = shard.tensor(&name, shape)?;
        self.store.mark_read(name);
        Ok(tensor.f_to_device(self.store.device)?.f_to_kind(self.kind)?)
    }

    /// Reads the tensor `name` on the host in the type and shape that it is stored in, whatever they are.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] with the nearest names; the file is damaged, or libtorch lacks the type.
    pub fn stored(&self, name: impl Display) -> Result<Tensor> {
        let name = self.full_name(name);
        let Some(&shard) = self.store.index.get(&name) else { return Err(self.missing(name)) };
        let tensor = self.store.shards[shard].stored(&name)?;
        self.store.mark_read(name);
        Ok(tensor)
    }

    /// Marks everything below `name` as known and not needed.
    pub fn skip(&self, name: impl Display) {
        let full = self.full_name(name);
        let below = format!("{full}.");
        for tensor in self.store.index.keys().filter(|t| **t == full || t.starts_with(&below)) {
            self.store.mark_read(tensor.clone());
        }
    }

    /// Checks that every tensor of the checkpoint was read.
    ///
    /// # Errors
    /// [`Error::UnreadTensors`] if some were not: the files belong to another network than the config says.
    pub fn finish(&self) -> Result<()> {
        let read = self.store.read.lock().unwrap_or_else(PoisonError::into_inner);
        let unread: Vec<_> = self.store.index.keys().filter(|name| !read.contains(*name)).collect();
        self.store.all_read(&unread)
    }

    /// As [`Weights::finish`], for a network that may be saved with further tensors from training. An unread tensor is
    /// an error if it belongs to a part of the network, since it would change what that part computes. A part is a
    /// folder of `inside`, or of the root, of which some tensor was read. Other unread tensors are named in a note.
    ///
    /// # Errors
    /// [`Error::UnreadTensors`] if tensors of the network's parts were not read.
    pub fn finish_network(&self, inside: &str) -> Result<()> {
        if Source::is_nothing() {
            return Ok(());
        }
        let part = |name: &str| -> (bool, String) {
            let below = name.strip_prefix(inside).and_then(|rest| rest.strip_prefix('.'));
            let path = below.unwrap_or(name);
            (below.is_some(), path.split('.').next().unwrap_or_default().to_owned())
        };
        let read = self.store.read.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: BTreeSet<_> = read.iter().map(|name| part(name)).collect();
        let unread = self.store.index.keys().filter(|name| !read.contains(*name));
        let (own, others): (Vec<_>, Vec<_>) = unread.partition(|name| parts.contains(&part(name)));
        if !others.is_empty() {
            log::warn!(
                "{}: {} tensor(s) belong to no part of the network and are not used, such as {}",
                self.store.dir.display(),
                others.len(),
                quoted(others.iter().take(3))
            );
        }
        self.store.all_read(&own)
    }

    fn full_name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    fn missing(&self, name: String) -> Error {
        let mut nearest: Vec<_> =
            self.store.index.keys().map(|known| (strsim::levenshtein(known, &name), known)).collect();
        nearest.sort();
        Error::MissingTensor {
            path: self.store.dir.clone(),
            nearest: nearest.into_iter().take(3).map(|(_, known)| known.clone()).collect(),
            name,
        }
    }
}

impl Store {
    fn all_read(&self, unread: &[&String]) -> Result<()> {
        // Within `wanted_tensors`, no tensor of the files is read.
        if unread.is_empty() || Source::is_nothing() {
            return Ok(());
        }
        Err(Error::UnreadTensors {
            path: self.dir.clone(),
            count: unread.len(),
            examples: unread.iter().take(5).map(|name| (*name).clone()).collect(),
        })
    }

    fn mark_read(&self, name: String) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }
}

/// A tensor of [`Weights::drawn`].
fn draw(shape: &[i64], name: &str, kind: Kind, device: Device) -> Result<Tensor> {
    let options = (kind, device);
    Ok(match shape {
        [_, inputs @ ..] if !inputs.is_empty() => {
            let fan_in: i64 = inputs.iter().product();
            Tensor::f_randn(shape, options)?.f_mul_scalar_(1.0 / (fan_in as f64).sqrt())?
        }
        _ if name.ends_with("weight") || name.ends_with("running_var") => Tensor::f_ones(shape, options)?,
        _ => Tensor::f_zeros(shape, options)?,
    })
}

/// Returns the weight files of a model directory, in order. If shards have a tensor in common, their index is included,
/// since it decides which copy is read.
///
/// # Errors
/// There are no supported weight files.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let Checkpoint { mut files, index } = Checkpoint::find(dir)?;
    if let Some(index) = index {
        let mut names = BTreeSet::new();
        for file in &files {
            if !Shard::open(file)?.names().all(|name| names.insert(name.to_owned())) {
                files.push(index.path);
                break;
            }
        }
    }
    Ok(files)
}
