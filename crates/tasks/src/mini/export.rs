//! Writes scenes to files, for training and for inspection.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use super::{Class, Colour, Scene, SceneSpec, Split, Texture, scene};

/// An error while scenes are written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A folder or file could not be written.
    #[error("{path} could not be written ({source}): choose a folder that can be written to and has room")]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An image could not be encoded.
    #[error(
        "{path} could not be written as a PNG ({source}): choose a folder that can be written to and has room"
    )]
    Png {
        /// The file.
        path: PathBuf,
        /// The error of the encoder.
        source: png::EncodingError,
    },
}

/// A line of `scenes.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    file: String,
    caption: &'a str,
    background: Texture,
    objects: Vec<LineObject>,
}

#[derive(Serialize)]
struct LineObject {
    class: Class,
    label: usize,
    colour: Colour,
    bbox: [usize; 4],
    pixels: usize,
}

/// Number of scenes that are drawn before any is written: few enough to bound the memory, enough for all cores.
const CHUNK: u64 = 1024;

/// Writes the first `count` scenes of a split into `dir`:
///
/// - `images/000000.png`, … 8-bit RGB;
/// - `masks/000000.png`, … 8-bit grey, [`Scene::labels`]: 0 for the background, `k + 1` for class `k`;
/// - `labels.csv` with columns `file,label`: an image folder for classifiers. Only if `spec` asks for single objects;
/// - `scenes.jsonl`: per scene a line with `file`, `caption`, `background` and, per object from the lowest to the
///   topmost, `class`, `label`, `colour`, `bbox` and `pixels` in view.
///
/// Files of the same names are overwritten.
///
/// # Errors
/// Fails if a folder or file cannot be written. Files that were written before stay.
pub fn export(dir: &Path, spec: &SceneSpec, seed: u64, split: Split, count: u64) -> Result<(), ExportError> {
    for folder in ["images", "masks"] {
        let path = dir.join(folder);
        fs::create_dir_all(&path).map_err(|source| ExportError::Write { path, source })?;
    }
    let mut lines = TextFile::create(dir.join("scenes.jsonl"))?;
    let mut labels = match spec.objects() {
        (1, 1) => Some(TextFile::create(dir.join("labels.csv"))?),
        _ => None,
    };
    if let Some(labels) = &mut labels {
        labels.line("file,label")?;
    }
    for start in (0..count).step_by(CHUNK as usize) {
        let texts: Vec<(String, String)> = (start..count.min(start + CHUNK))
            .into_par_iter()
            .map(|index| write_scene(dir, index, &scene(spec, seed, split, index)))
            .collect::<Result<_, _>>()?;
        for (label, line) in texts {
            lines.line(&line)?;
            if let Some(labels) = &mut labels {
                labels.line(&label)?;
            }
        }
    }
    lines.close()?;
    labels.map_or(Ok(()), TextFile::close)
}

/// Writes the image and the mask of a scene; returns its lines of `labels.csv` and `scenes.jsonl`.
fn write_scene(dir: &Path, index: u64, scene: &Scene) -> Result<(String, String), ExportError> {
    let name = format!("{index:06}.png");
    let file = format!("images/{name}");
    write_png(dir.join(&file), scene.size, png::ColorType::Rgb, &scene.rgb)?;
    write_png(dir.join("masks").join(&name), scene.size, png::ColorType::Grayscale, &scene.labels())?;
    let objects: Vec<LineObject> = scene
        .objects
        .iter()
        .map(|object| LineObject {
            class: object.class,
            label: object.class.label(),
            colour: object.colour,
            bbox: object.bbox,
            pixels: object.area(),
        })
        .collect();
    let label = objects.first().map_or_else(String::new, |object| format!("{file},{}", object.label));
    let line = Line { file, caption: &scene.caption, background: scene.background, objects };
    let line = serde_json::to_string(&line)
        .map_err(|source| ExportError::Write { path: dir.join("scenes.jsonl"), source: source.into() })?;
    Ok((label, line))
}

fn write_png(path: PathBuf, size: usize, colour: png::ColorType, data: &[u8]) -> Result<(), ExportError> {
    let result = File::create(&path).map_err(png::EncodingError::from).and_then(|file| {
        // The side of a scene is at most MAX_SIZE, far below u32::MAX.
        let mut encoder = png::Encoder::new(BufWriter::new(file), size as u32, size as u32);
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(data)?;
        writer.finish()
    });
    result.map_err(|source| ExportError::Png { path, source })
}

/// A text file being written, together with its path for error messages.
struct TextFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl TextFile {
    fn create(path: PathBuf) -> Result<Self, ExportError> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, out: BufWriter::new(file) }),
            Err(source) => Err(ExportError::Write { path, source }),
        }
    }

    fn line(&mut self, text: &str) -> Result<(), ExportError> {
        writeln!(self.out, "{text}").map_err(|source| ExportError::Write { path: self.path.clone(), source })
    }

    fn close(mut self) -> Result<(), ExportError> {
        self.out.flush().map_err(|source| ExportError::Write { path: self.path, source })
    }
}
