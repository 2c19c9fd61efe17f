//! Checkpoint files as named tensors.
//!
//! [`Weights`] is a memory-mapped view over one or many safetensors files of a model directory. It is walked like
//! folders (`weights.pp("encoder").pp("layer").pp(3)`), so paths in the code equal the names in the checkpoint, and
//! it remembers what was read, so that [`Weights::finish`] can tell a checkpoint of another network from its own.
//! [`Weights::drawn`] has no file behind it: for benchmarks of networks that nobody wants to store. Within [`headers_only`]
//! networks are put together without reading a number, and [`wanted_tensors`] tells which tensors a network asks for.

mod checkpoint;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, quoted};
use crate::tensor_file;
use checkpoint::Checkpoint;

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
    /// Whether there are no files, and tensors are drawn as they are asked for.
    drawn: bool,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    /// Where the tensor data begin.
    start: usize,
}

/// What a thread's networks are put together from.
enum Source {
    /// The files.
    Files,
    /// Placeholders of tensors that the files have.
    Headers,
    /// Placeholders of tensors that the files need not have; what was asked for, with its shape.
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

/// Calls `load` while this thread's networks are put together from `source`; returns what has become of that.
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

/// Checks what `load` would load: names, shapes and types of all tensors are compared with what the network asks for, and
/// the network is put together from placeholders that take no memory. The files' headers are read, their numbers are not.
/// Loading on other threads is not affected.
///
/// # Errors
/// The errors of `load`.
pub fn headers_only<T>(load: impl FnOnce() -> Result<T>) -> Result<()> {
    from_source(Source::Headers, load).0.map(drop)
}

/// Full names and shapes of the tensors that `load` asks for, in its order, whatever the files hold: what a checkpoint of
/// this network has to have.
///
/// # Errors
/// The errors of `load`: configuration and weight files have to be there, if without a tensor.
pub fn wanted_tensors<T>(load: impl FnOnce() -> Result<T>) -> Result<Vec<(String, Vec<i64>)>> {
    let (loaded, source) = from_source(Source::Nothing(Vec::new()), load);
    loaded?;
    Ok(match source {
        Source::Nothing(wanted) => wanted,
        Source::Files | Source::Headers => Vec::new(),
    })
}

/// A zero that is seen as a tensor of any shape.
fn placeholder(shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_zeros(vec![1; shape.len()], (kind, device))?.f_expand(shape, false)?)
}

impl Weights {
    /// Opens the weights of a model directory: one safetensors file or the shards that an index names, under the names of
    /// transformers or diffusers and in the order in which these prefer them; those of a variant (`model.fp16.safetensors`)
    /// where there are no others. Tensors are handed out in `kind` on `device`, whatever their storage (F32, F16 or BF16).
    ///
    /// # Errors
    /// No weights, pickled weights only, a file that is not safetensors, or a tensor in two shards of which the index names
    /// neither.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::of_files(dir, &Checkpoint::find(dir)?, kind, device)
    }

    /// Opens one safetensors file that is no model directory, such as a classifier published apart.
    ///
    /// # Errors
    /// The file cannot be read or is not safetensors.
    pub fn open_file(path: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::of_files(path, &Checkpoint::of_file(path), kind, device)
    }

    fn of_files(dir: &Path, checkpoint: &Checkpoint, kind: Kind, device: Device) -> Result<Self> {
        let shards = checkpoint.files.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>>>()?;
        let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.metadata.tensors().into_keys() {
                holders.entry(name).or_default().push(i);
            }
        }
        let mut index = BTreeMap::new();
        for (name, holders) in holders {
            // Of several copies all but one are what an older save has left; the index says which one counts.
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

    /// Weights of no checkpoint, for benchmarks: every tensor that is asked for is there in the shape it is asked for. Its
    /// numbers are drawn on `device` by libtorch's generator, normal and of a size that keeps what passes through a layer
    /// as large as it was; scales and variances of norms are 1, biases and means 0.
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

    /// The view one folder down: `weights.pp("layer").pp(3)` sees `layer.3.*`.
    #[must_use]
    pub fn pp(&self, part: impl Display) -> Self {
        Self { prefix: self.full_name(part), ..self.clone() }
    }

    /// The same view, handing its tensors out in another type.
    #[must_use]
    pub(crate) fn in_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The type in which tensors are handed out.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where tensors are handed out.
    pub fn device(&self) -> Device {
        self.store.device
    }

    /// How many numbers there are in the tensors whose full name is `counted`.
    pub fn numbers(&self, counted: impl Fn(&str) -> bool) -> u64 {
        let tensors = self.store.index.iter().filter(|(name, _)| counted(name));
        let info = tensors.filter_map(|(name, &shard)| self.store.shards[shard].metadata.info(name));
        info.map(|info| info.shape.iter().product::<usize>() as u64).sum()
    }

    /// Whether the checkpoint has this tensor; drawn weights have every one.
    pub fn contains(&self, name: &str) -> bool {
        self.store.drawn || self.store.index.contains_key(&self.full_name(name))
    }

    /// Full names of all tensors of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.store.index.keys().map(String::as_str)
    }

    /// What the metadata of the first file say under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.store.shards.first()?.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Shape of the tensor `name`, where the files decide and not the configuration. Within [`wanted_tensors`] it is empty.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] with the nearest names.
    pub fn shape(&self, name: impl Display) -> Result<Vec<i64>> {
        if SOURCE.with_borrow(|source| matches!(source, Source::Nothing(_))) {
            return Ok(Vec::new());
        }
        let name = self.full_name(name);
        let shard =
            self.store.index.get(&name).and_then(|&shard| self.store.shards[shard].metadata.info(&name));
        let info = shard.ok_or_else(|| self.missing(name))?;
        Ok(info.shape.iter().map(|&d| d as i64).collect())
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
            shard.find(&name, shape)?;
            self.store.mark_read(name);
            return placeholder(shape, self.kind, self.store.device);
        }
        let tensor = shard.tensor(&name, shape)?;
        self.store.mark_read(name);
        Ok(tensor.f_to_device(self.store.device)?.f_to_kind(self.kind)?)
    }

    /// Declares everything below `name` as known and not needed.
    pub fn skip(&self, name: impl Display) {
        let full = self.full_name(name);
        let below = format!("{full}.");
        for tensor in self.store.index.keys().filter(|t| **t == full || t.starts_with(&below)) {
            self.store.mark_read(tensor.clone());
        }
    }

    /// Says whether every tensor of the checkpoint was read.
    ///
    /// # Errors
    /// [`Error::UnreadTensors`] when some were not: the files belong to another network than the config says.
    pub fn finish(&self) -> Result<()> {
        let read = self.store.read.lock().unwrap_or_else(PoisonError::into_inner);
        let unread: Vec<_> = self.store.index.keys().filter(|name| !read.contains(*name)).collect();
        self.store.all_read(&unread)
    }

    /// As [`Weights::finish`] for a network that is saved with more than it is made of, as training leaves it: a tensor that
    /// nobody read is refused where it belongs to a part of the network (a folder of `inside`, or of the root, of which
    /// something was read), since it would change what that part computes. Other tensors are named in a note.
    ///
    /// # Errors
    /// [`Error::UnreadTensors`] when tensors of the network's parts were not read.
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
        // Where only what a network asks for counts, nothing of the files was read.
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

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let read_error = |source| Error::Read { path: path.into(), source };
        let map = tensor_file::map(path).map_err(read_error)?;
        let (start, metadata) =
            tensor_file::header(&map).map_err(|reason| Error::Safetensors { path: path.into(), reason })?;
        Ok(Self { path: path.into(), start, map, metadata })
    }

    fn tensor(&self, name: &str, wanted: &[i64]) -> Result<Tensor> {
        let (kind, (from, to)) = self.find(name, wanted)?;
        // `tensor_file::header` has checked that the offsets fit the file and the shape.
        Ok(Tensor::f_from_data_size(&self.map[self.start + from..self.start + to], wanted, kind)?)
    }

    /// The type of a tensor of this shape and where its numbers are.
    fn find(&self, name: &str, wanted: &[i64]) -> Result<(Kind, (usize, usize))> {
        let Some(info) = self.metadata.info(name) else {
            return Err(Error::MissingTensor {
                name: name.into(),
                path: self.path.clone(),
                nearest: Vec::new(),
            });
        };
        let found: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
        if found != wanted {
            return Err(Error::Shape {
                name: name.into(),
                path: self.path.clone(),
                found,
                wanted: wanted.into(),
            });
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "safetensors' types, of which no other is read")]
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(Error::Dtype {
                    name: name.into(),
                    path: self.path.clone(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok((kind, info.data_offsets))
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

/// The weight files of a model directory, in order. Where shards have a tensor in common, their index is among them, since it
/// decides which copy is read.
///
/// # Errors
/// There are none that are read.
pub fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let Checkpoint { mut files, index } = Checkpoint::find(dir)?;
    if let Some(index) = index {
        let mut names = BTreeSet::new();
        for file in &files {
            if !Shard::open(file)?.metadata.tensors().into_keys().all(|name| names.insert(name)) {
                files.push(index.path);
                break;
            }
        }
    }
    Ok(files)
}
