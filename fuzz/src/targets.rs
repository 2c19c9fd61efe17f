//! The fuzz targets. Each passes its bytes to the functions with which the program reads a file. An error is fine; a
//! panic, an abort, an endless loop or memory out of proportion to the file is a bug.
//!
//! `crates/tasks/tests/hostile.rs` includes this file and runs the committed corpus through the same functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

use models::features::FeatureFile;
use models::image::{Orientation, Preprocessor, Rgb8};
use models::matrix_file::{self, StoredMatrix};
use models::{Device, Kind, Weights, clip, t5};
use tasks::dataset::{
    CocoStuffConfig, FolderConfig, ImageNetConfig, ImageNetSegmentationConfig, MaskValues, MasksConfig,
    ParquetConfig, ParquetFiles, PascalVocConfig, VocProtocol,
};

/// The byte at which an input of several files is split. It does not occur in UTF-8 text.
pub const BETWEEN_FILES: u8 = 0xff;
/// Larger images are refused in the targets, so that an input is read in a millisecond.
const MOST_PIXELS: u64 = 1 << 16;
const IMAGE: &[u8] = include_bytes!("../../crates/models/tests/fixtures/image/pictures/gray1.png");

/// Returns the target with this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    Some(match name {
        "safetensors" => safetensors,
        "pytorch" => pytorch,
        "npy" => npy,
        "npz" => npz,
        "scores" => scores,
        "matrix_keys" => matrix_keys,
        "picture" => picture,
        "exif" => exif,
        "processor" => processor,
        "clip_tokenizer" => clip_tokenizer,
        "t5_tokenizer" => t5_tokenizer,
        "config" => config,
        "checkpoint" => checkpoint,
        "weight_index" => weight_index,
        "gtsegs" => gtsegs,
        "parquet" => parquet,
        "synset_names" => synset_names,
        "label_map" => label_map,
        "table" => table,
        "list" => list,
        _ => return None,
    })
}

/// Returns a folder for this process, in memory if the system has a folder for that.
fn scratch() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        made.expect("a scratch folder")
    });
    folder.path()
}

/// Writes a file to the scratch folder. Each target has its own files, so that targets can run at the same time.
fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    if fs::write(&path, bytes).is_err() {
        // The first input of this target.
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        fs::write(&path, bytes).expect("writable");
    }
    path
}

/// Writes files that are the same for every input of a target, with the first one.
fn put_once(once: &Once, files: &[(&str, &[u8])]) {
    once.call_once(|| files.iter().for_each(|(name, bytes)| drop(put(name, bytes))));
}

/// Writes the parts of an input to files of one folder. The file of an empty or missing part is removed.
fn put_parts(folder: &str, data: &[u8], names: &[&str]) -> PathBuf {
    let mut parts = data.split(|&byte| byte == BETWEEN_FILES);
    for name in names {
        let path = scratch().join(folder).join(name);
        match parts.next() {
            Some(part) if !part.is_empty() => drop(put(&format!("{folder}/{name}"), part)),
            _ => drop(fs::remove_file(path)),
        }
    }
    let dir = scratch().join(folder);
    if !dir.is_dir() {
        fs::create_dir_all(&dir).expect("writable");
    }
    dir
}

/// Returns the last part of an input as text.
fn last_text(data: &[u8]) -> String {
    let last = data.rsplit(|&byte| byte == BETWEEN_FILES).next().unwrap_or_default();
    String::from_utf8_lossy(last).into_owned()
}

/// Reads a weight file, a file of attention and a file of features.
pub fn safetensors(data: &[u8]) {
    let path = put("weights.safetensors", data);
    if let Ok(weights) = Weights::open_file(&path, Kind::Float, Device::Cpu) {
        weights.numbers(|_| true);
        for name in ["a", "weight", "block.0.probs"] {
            if let Ok(shape) = weights.shape(name) {
                let _ = weights.get(&shape, name);
            }
        }
        let _ = weights.finish();
    }
    let _ = matrix_file::read(&path, None);
    let _ = matrix_file::read(&path, Some("a"));
    matrices_of(&path);
    let _ = FeatureFile::read(&path);
}

/// Reads every tensor of a file of `torch.save`.
pub fn pytorch(data: &[u8]) {
    let path = put("weights.pt", data);
    let Ok(weights) = Weights::open_file(&path, Kind::Float, Device::Cpu) else { return };
    for name in weights.names().map(str::to_owned).collect::<Vec<_>>() {
        if let (Ok(shape), Ok(tensor)) = (weights.shape(&name), weights.stored(&name)) {
            assert_eq!(tensor.size(), shape);
        }
    }
    let _ = weights.finish();
}

/// Reads a NumPy array.
pub fn npy(data: &[u8]) {
    let path = put("array.npy", data);
    let _ = matrix_file::read(&path, None);
    let _ = matrix_file::read_table(&path);
    matrices_of(&path);
}

/// Reads the matrices of a file one at a time: they are those of the whole tensors.
fn matrices_of(path: &Path) {
    let Ok(contents) = matrix_file::Contents::of(path) else { return };
    for tensor in contents.tensors() {
        let (Ok(stack), Ok(whole)) = (contents.stack(tensor), contents.read(tensor)) else { continue };
        let mut whole = whole.data.iter();
        for number in 0..stack.count {
            let values: Vec<f64> = match stack.matrix(number) {
                StoredMatrix::F64(values) => values.to_vec(),
                StoredMatrix::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            };
            for value in values {
                let other = whole.next().expect("as many numbers");
                assert!(value.to_bits() == other.to_bits() || value.is_nan() && other.is_nan());
            }
        }
        assert!(whole.next().is_none());
    }
}

/// Reads a NumPy archive with the statistics of a set of images.
pub fn npz(data: &[u8]) {
    let _ = matrix_file::read_npz(put("statistics.npz", data), ["mu", "sigma"]);
}

/// Reads a file of scores for each experiment that takes scores from files.
pub fn scores(data: &[u8]) {
    use tasks::diffseg::{DiffSegConfig, Sizes};
    use tasks::masking::MaskingConfig;
    use tasks::segment::SegmentConfig;
    let path = put("scores.safetensors", data);
    let method = format!("methods = [{{ file = {path:?}, name = \"a\" }}]");
    let dataset: tasks::dataset::DatasetConfig = toml::from_str("mini = { count = 2 }").expect("a dataset");
    let masking: MaskingConfig =
        toml::from_str(&format!("{method}\nfractions = [0.0, 0.5]")).expect("a table");
    if let Ok(files) = masking.score_files() {
        let items = dataset.items(10).expect("scenes");
        let _ = masking.check_scores(&files, &items, Some((2, 2)));
        let _ = masking.check_scores(&files, &items, None);
    }
    let segment: SegmentConfig = toml::from_str(&method).expect("a table");
    if let Ok(files) = segment.score_files() {
        let _ = segment.check_scores(&files, &dataset.segmented().expect("scenes"), (2, 2));
    }
    let diffseg: DiffSegConfig = toml::from_str(&method).expect("a table");
    if let Ok(files) = diffseg.score_files() {
        let items = dataset.labelled_pixels().expect("scenes").items;
        let _ = diffseg.check_scores(&files, &items, Sizes { grid: (2, 2), side: 4 });
    }
}

/// Reads the keys of `tokenrank rank --key` and the file from which they choose matrices.
pub fn matrix_keys(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == BETWEEN_FILES);
    let keys = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let keys: Vec<String> = keys.lines().map(str::to_owned).collect();
    let file = parts.next().unwrap_or_default();
    let extension = if file.starts_with(b"PK") { "npz" } else { "safetensors" };
    let path = put(&format!("keys.{extension}"), file);
    if let Ok(contents) = matrix_file::Contents::of(&path) {
        for keys in [&keys[..], &[]] {
            for tensor in contents.choose(keys).unwrap_or_default() {
                let _ = contents.read(tensor);
            }
        }
    }
}

/// Reads the EXIF data and the format of an image, whose pixels may be anything.
pub fn exif(data: &[u8]) {
    let orientation = Orientation::of(data);
    assert!((1..=8).contains(&orientation.number()));
    let _ = models::image::format_of(data);
}

/// Reads `preprocessor_config.json`, and preprocesses a small image.
pub fn processor(data: &[u8]) {
    const MOST_SIDE: usize = 32;
    let text = String::from_utf8_lossy(data);
    let image = Rgb8::new(3, 5, vec![100; 45]).expect("an image");
    for model_type in [None, Some("vit"), Some("clip"), Some("dinov2")] {
        let Ok(preprocessor) = Preprocessor::from_json(&text, model_type) else { continue };
        let resized = preprocessor.resize_rule().map_or((3, 5), |rule| rule.target((3, 5)));
        let (height, width) = preprocessor.output_size().unwrap_or_default();
        if [resized.0, resized.1, height, width].iter().all(|&side| side <= MOST_SIDE)
            && let Ok(values) = preprocessor.apply(&image)
        {
            assert_eq!(values.shape()[0], 3);
        }
    }
}

/// Reads a JPEG or PNG file.
pub fn picture(data: &[u8]) {
    if let Ok(image) = Rgb8::decode_within(data, MOST_PIXELS) {
        let pixels = image.width * image.height;
        let turned = image.turned(Orientation::of(data)).expect("an image");
        assert_eq!((turned.width * turned.height, turned.data.len()), (pixels, 3 * pixels));
    }
}

/// Reads `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`,
/// `config.json` and a text.
pub fn clip_tokenizer(data: &[u8]) {
    let names = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "config.json",
    ];
    let dir = put_parts("clip", data, &names);
    if let Ok(tokenizer) = clip::Tokenizer::from_dir(&dir) {
        for text in [last_text(data).as_str(), "a photo of a cat"] {
            if let Ok(ids) = tokenizer.encode(text) {
                assert_eq!(ids.len(), tokenizer.context_length());
            }
            let _ = tokenizer.truncates(text);
            let _ = tokenizer.token_index(text, "cat");
        }
    }
}

/// Reads `tokenizer.json`, `tokenizer_config.json` and a text.
pub fn t5_tokenizer(data: &[u8]) {
    let dir = put_parts("t5", data, &["tokenizer.json", "tokenizer_config.json"]);
    if let Ok(tokenizer) = t5::Tokenizer::from_dir(&dir, None) {
        for text in [last_text(data).as_str(), "a photo of a cat"] {
            if let Ok(ids) = tokenizer.encode(text) {
                assert_eq!(ids.len(), tokenizer.length());
            }
            let _ = tokenizer.pieces(text);
            let _ = tokenizer.word(text, "cat");
        }
    }
}

/// Reads a JSON file as every kind of configuration.
pub fn config(data: &[u8]) {
    for name in ["config.json", "scheduler_config.json", "preprocessor_config.json", "model_index.json"] {
        put(&format!("config/{name}"), data);
    }
    let dir = scratch().join("config");
    if let Ok(config) = models::VisionConfig::from_dir(&dir) {
        let _ = (config.depth(), config.patch_size(), config.classes());
        let _ = models::LayerSelection::All.resolve(config.depth());
    }
    let _ = clip::ClipText::check(&dir);
    let _ = clip::ClipTextEncoder::shape(&dir);
    let _ = t5::T5Config::from_dir(&dir);
    if let Ok(config) = models::vae::AutoencoderConfig::from_dir(&dir) {
        let _ = config.pixels_per_latent();
    }
    if let Ok(config) = models::flux::FluxConfig::from_dir(&dir) {
        let _ = (config.parameters(), config.activation_bytes(4608, Kind::Float), config.answer_channels());
    }
    if let Ok(config) = models::sd::UnetConfig::from_dir(&dir) {
        let _ = (config.attention_layers().len(), config.coarsest());
    }
    if let Ok(config) = models::flow_match::FlowMatchConfig::from_dir(&dir) {
        let _ = models::flow_match::Schedule::new(&config, 4, 256);
    }
    use models::diffusion::{NoiseSchedule, SamplerConfig, SamplerKind};
    for kind in [None, Some(SamplerKind::Ddim)] {
        if let Ok(config) = SamplerConfig::from_dir(&dir, kind) {
            let _ = NoiseSchedule::new(&config);
            let _ = models::diffusion::Sampler::new(&config, 7);
        }
    }
    let _ = Preprocessor::from_dir(&dir);
    let _ = models::pipeline::PipelineKind::of(&dir);
}

/// Reads `config.json` and the weights of a vision network, and computes the tokens of a small image.
pub fn checkpoint(data: &[u8]) {
    const MOST_NUMBERS: i64 = 1 << 20;
    let mut parts = data.splitn(2, |&byte| byte == BETWEEN_FILES);
    let config = put("checkpoint/config.json", parts.next().unwrap_or_default());
    put("checkpoint/model.safetensors", parts.next().unwrap_or_default());
    let dir = config.parent().expect("a folder");
    let Ok(network) = models::vision::VisionTransformer::load(dir, Kind::Float, Device::Cpu, None) else {
        return;
    };
    let Ok(config) = models::VisionConfig::from_dir(dir) else { return };
    let (height, width) = config.patch_size();
    if height.saturating_mul(width) <= MOST_NUMBERS {
        let pixels = tch::Tensor::zeros([1, 3, 2 * height, width], (Kind::Float, Device::Cpu));
        let _ = network.embed(&pixels);
    }
}

/// Reads a `*.index.json` file.
pub fn weight_index(data: &[u8]) {
    put("index/one.safetensors", b"");
    let index = put("index/model.safetensors.index.json", data);
    let dir = index.parent().expect("a folder");
    if let Ok(files) = models::weight_files(dir) {
        assert!(files.iter().all(|file| file.parent() == Some(dir)), "{files:?}");
    }
}

/// Reads `gtsegs_ijcv.mat`.
pub fn gtsegs(data: &[u8]) {
    let path = put("gtsegs.mat", data);
    let config = ImageNetSegmentationConfig { path, names: None, subset: None };
    let dataset = tasks::dataset::DatasetConfig::ImagenetSegmentation(config);
    for item in dataset.segmented().unwrap_or_default().iter().take(4) {
        let _ = item.load();
    }
}

/// Reads images, labels and masks of a Parquet file.
pub fn parquet(data: &[u8]) {
    let path = put("table.parquet", data);
    for values in [MaskValues::Object, MaskValues::Classes] {
        let dataset = tasks::dataset::DatasetConfig::Parquet(ParquetConfig {
            files: Some(ParquetFiles::One(path.clone())),
            id: None,
            split: None,
            image: "image".into(),
            label: "label".into(),
            mask: Some("mask".into()),
            mask_values: values,
            names: Vec::new(),
            ignore: Some(9),
            subset: None,
        });
        for item in dataset.items(1000).unwrap_or_default().iter().take(4) {
            let _ = item.load();
        }
        for item in dataset.segmented().unwrap_or_default().iter().take(4) {
            let _ = item.load();
        }
        for item in dataset.labelled_pixels().map(|pixels| pixels.items).unwrap_or_default().iter().take(4) {
            let _ = item.load();
        }
    }
}

/// Reads the names of the synsets of an archive as above.
pub fn synset_names(data: &[u8]) {
    static ARCHIVE: Once = Once::new();
    put_once(&ARCHIVE, &[("synsets.mat", include_bytes!("../corpus/gtsegs/whole"))]);
    let names = Some(put("synsets.toml", data));
    let config = ImageNetSegmentationConfig { path: scratch().join("synsets.mat"), names, subset: None };
    let _ = tasks::dataset::DatasetConfig::ImagenetSegmentation(config).segmented();
}

/// Reads a PNG file of labels.
pub fn label_map(data: &[u8]) {
    static OTHERS: Once = Once::new();
    put_once(&OTHERS, &[("masks/images/one.png", IMAGE), ("masks/labels.csv", b"file,name\none.png,cat\n")]);
    put("masks/masks/one.png", data);
    for item in masks().segmented().unwrap_or_default() {
        let _ = item.load();
    }
}

fn masks() -> tasks::dataset::DatasetConfig {
    tasks::dataset::DatasetConfig::Masks(MasksConfig {
        root: scratch().join("masks"),
        images: "images".into(),
        masks: "masks".into(),
        table: "labels.csv".into(),
        ignore: Some(7),
        subset: None,
    })
}

/// Reads `labels.csv` of a folder of images, and of a folder of images and masks.
pub fn table(data: &[u8]) {
    use tasks::dataset::DatasetConfig;
    static IMAGES: Once = Once::new();
    let root = scratch().join("table");
    let images = ["table/one.png", "table/images/one.png", "table/masks/one.png"];
    put_once(&IMAGES, &images.map(|name| (name, IMAGE)));
    put("table/labels.csv", data);
    let folder = FolderConfig { root: root.clone(), labels: "labels.csv".into(), subset: None };
    for item in DatasetConfig::Folder(folder).items(1000).unwrap_or_default() {
        assert!(item.path().is_some_and(|path| path.starts_with(&root)), "{item:?}");
    }
    let masks = DatasetConfig::Masks(MasksConfig {
        root,
        images: "images".into(),
        masks: "masks".into(),
        table: "labels.csv".into(),
        ignore: None,
        subset: None,
    });
    let _ = masks.segmented();
    let _ = masks.labelled_pixels();
}

/// Reads a list of images: those of COCO-Stuff and VOC, and the ground truth and synsets of a flat ImageNet folder.
pub fn list(data: &[u8]) {
    use tasks::dataset::DatasetConfig;
    static IMAGES: Once = Once::new();
    let list = put("list/ImageSets/Segmentation/val.txt", data);
    let root = scratch().join("list");
    let images = [
        "list/val2017/one.jpg",
        "list/JPEGImages/one.jpg",
        "list/one.JPEG",
        "list/stuffthingmaps/val2017/one.png",
        "list/SegmentationClass/one.png",
    ];
    put_once(&IMAGES, &images.map(|name| (name, IMAGE)));
    let coco = CocoStuffConfig {
        root: root.clone(),
        images: "val2017".into(),
        labels: "stuffthingmaps/val2017".into(),
        list: Some(list.clone()),
        subset: None,
    };
    let _ = DatasetConfig::CocoStuff(coco).labelled_pixels();
    let (protocol, split) = (VocProtocol::MultiClass, "val".to_owned());
    let voc = PascalVocConfig { root: root.clone(), protocol, split, subset: None };
    let _ = DatasetConfig::PascalVoc(voc).segmented();
    for synsets in [None, Some(list.clone())] {
        let flat =
            ImageNetConfig { root: root.clone(), ground_truth: Some(list.clone()), synsets, subset: None };
        let _ = DatasetConfig::Imagenet(flat).items(1000);
    }
}
