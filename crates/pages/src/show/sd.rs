//! Shows an image in a Stable Diffusion pipeline, one resolution of the UNet at a time.

use std::ops::Range;
use std::path::Path;

use chain_page::MAP_BUDGET;
use models::capture::{Chains, SdCaptureOptions, SdChains, SdGrids};
use models::image::Rgb8;
use models::sd::UnetLayers;
use models::sd::pipeline::SdPipeline;
use models::{Device, Kind};
use serde_json::json;

use super::findings::{LAMBDA_TOLERANCE, METASTABLE_STATES};
use super::overview::{self, LeftOut, Resolution};
use super::record::Record;
use super::tokens::{Origin, Spread, Start, Tokens};
use super::{Drawing, Drawn, NUMBERS, PAGE, Pass, Shown, check, draw, file_name, json_bytes};
use super::{model_name, stem, summary, write};
use eval::Result;
use plot::Rgb;

/// Options of [`show_sd`].
#[derive(Debug, Clone)]
pub struct SdShowOptions {
    /// Start of the bounces. A token or patch is one of the finest resolution shown; coarser ones start from the patch
    /// that contains it.
    pub start: Start,
    /// Settings of the figures.
    pub drawing: Drawing,
    /// The layers, of which those of self-attention are shown; `None` for all but those of resolutions with more than
    /// 2000 image tokens, whose chains take minutes.
    pub layers: Option<UnetLayers>,
    /// The prompt, the timestep and the image's size.
    pub capture: SdCaptureOptions,
    /// Number type of the networks' computations.
    pub kind: Kind,
    /// Device of the networks.
    pub device: Device,
}

/// Captures self-attention on `image` in the UNet of the pipeline in `dir` and writes, for each resolution, figures, a page and
/// the numbers behind them to a folder in `out` with a name such as `16x16`, and to `out` itself a page that leads to them and a
/// summary of the numbers. Files of the same names are replaced, others stay; an error leaves the folder unchanged.
///
/// The states of the chains are the image tokens of a resolution.
///
/// # Errors
/// Fails if options do not fit the pipeline or the image, the prompt does not contain the word, weights or the image cannot be
/// read, an attention map does not have the requested steady state, or the folder cannot be written.
pub fn show_sd(dir: &Path, image: &Path, options: &SdShowOptions, out: &Path) -> Result<Shown> {
    let SdShowOptions { start, drawing, layers, capture, kind, device } = options;
    check(*drawing, out)?;
    let pipeline = SdPipeline::open(dir, *kind, *device)?;
    let grids = SdGrids::new(&pipeline, capture, layers.as_ref(), METASTABLE_STATES)?;
    let SdCaptureOptions { prompt, timestep, .. } = capture;
    let word = word(start, &pipeline, prompt)?;
    // A start that does not exist is refused before the pass.
    let finest = grids.chosen.keys().next_back().copied().unwrap_or_default();
    let place = Place::of(if word.is_some() { &Start::Middle } else { start }, finest)?;
    let cut = if pipeline.tokenizer().truncates(prompt)? { ", cut at its end" } else { "" };
    let decoded = Rgb8::open(image).map_err(models::Error::from)?;
    let tokens = word.as_ref().map(|(tokens, _)| tokens.clone());
    let (captured, seen) =
        SdChains::capture(&pipeline, &decoded, capture, &grids, tokens, LAMBDA_TOLERANCE, MAP_BUDGET)?;

    let title = format!("{} · {}", model_name(dir), stem(image));
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let about = vec![
        fact("image", file_name(image)),
        fact("prompt", format!("“{prompt}”{cut}")),
        fact("timestep", format!("{timestep}, no noise added")),
    ];
    let mut resolutions = Vec::new();
    let mut files = Vec::new();
    let mut text = String::new();
    let mut triangular = false;
    // The finest first.
    for ((rows, columns), SdChains { chains, focus }) in captured.into_iter().rev() {
        let Chains { layers, sequence, states } = chains;
        let tokens = Tokens::new(states, sequence);
        let start = match (&word, focus) {
            (Some((_, name)), Some(focus)) => Origin { spread: Spread::Weighted(focus), name: name.clone() },
            _ => tokens.start(&place.on((rows, columns)))?,
        };
        let pass = Pass {
            title: format!("{title} · {rows} × {columns} patches"),
            image: Rgb { width: seen.width, height: seen.height, pixels: seen.data.clone() },
            reference: None,
            generated: false,
            tokens,
            start,
            drawing: *drawing,
            about: about.clone(),
            record: Record {
                model: dir.into(),
                image: Some(image.into()),
                reference: None,
                settings: vec![("prompt", json!(prompt)), ("timestep", json!(timestep))],
            },
        };
        let folder = format!("{rows}x{columns}");
        let Drawn { scene, files: drawn } = draw(pass, layers)?;
        text.push_str(&summary::text(&scene));
        text.push('\n');
        triangular |= scene.is_triangular();
        resolutions.push(Resolution::of(&scene, &folder, &drawn));
        files.extend(drawn.into_iter().map(|(name, content)| (format!("{folder}/{name}"), content)));
    }
    let left_out: Vec<LeftOut> = grids.left_out.iter().rev().map(LeftOut::of).collect();
    left_out.iter().for_each(|left_out| text.push_str(&format!("{left_out}\n")));
    let page = overview::page(&title, &about, &resolutions, &left_out);
    files.insert(0, (PAGE.to_owned(), models::escape::text(&page).into_owned().into_bytes()));
    let record = overview::record((dir, image), capture, &resolutions, &left_out);
    files.push((NUMBERS.to_owned(), json_bytes(&record)?));
    let files = write(files, vec![dir, image], out)?;
    Ok(Shown { summary: text, files, triangular })
}

/// Returns the text tokens of the word that bounces start from, and the name of this start; `None` if they do not start
/// from a word.
fn word(start: &Start, pipeline: &SdPipeline, prompt: &str) -> Result<Option<(Range<usize>, String)>> {
    let Start::Word { word, lookup } = start else { return Ok(None) };
    let tokens = lookup.clip_tokens(pipeline.tokenizer(), prompt, word)?;
    Ok(Some((tokens, format!("cross-attention to “{word}”"))))
}

/// A patch of the finest resolution.
#[derive(Clone, Copy)]
struct Place {
    patch: (usize, usize),
    finest: (i64, i64),
}

impl Place {
    fn of(start: &Start, finest: (i64, i64)) -> Result<Self> {
        let layout = models::TokenLayout::vision(0, finest);
        let tokens = Tokens::new(layout.clone(), layout);
        let state = tokens.start(start)?.spread.peak();
        let (_, columns) = tokens.grid();
        Ok(Self { patch: (state / columns, state % columns), finest })
    }

    /// Returns the patch that contains this place on a coarser grid.
    fn on(self, (rows, columns): (i64, i64)) -> Start {
        let scaled = |at: usize, from: i64, to: i64| at * to as usize / from as usize;
        let ((row, column), (from_rows, from_columns)) = (self.patch, self.finest);
        Start::Patch(scaled(row, from_rows, rows), scaled(column, from_columns, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resolution_starts_from_the_same_place() {
        for (start, coarser) in [
            (Start::Middle, Start::Patch(2, 3)),
            (Start::Patch(7, 11), Start::Patch(3, 5)),
            (Start::Token(12 * 3 + 5), Start::Patch(1, 2)),
        ] {
            assert_eq!(Place::of(&start, (8, 12)).unwrap().on((4, 6)), coarser);
        }
        assert!(Place::of(&Start::Patch(8, 0), (8, 12)).is_err());
        assert!(Place::of(&Start::Token(96), (8, 12)).is_err());
    }
}
