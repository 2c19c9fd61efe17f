//! What the paper's figures show, for one image through one network: what `tokenrank show` computes and draws.

mod figures;
mod findings;
mod folder;
mod page;
mod summary;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::{Path, PathBuf};

use models::attend::ChainTokens;
use models::capture::Chains;
use models::image::Rgb8;
use models::{Device, LayerSelection, LoadOptions, VisionConfig, VisionModel};
use serde_json::json;

use crate::analysis::AnalysisError;
use crate::error::{Error, Result};
use crate::plot::Rgb;
use findings::{Findings, LAMBDA_TOLERANCE, Questions};
use folder::Staged;
pub use page::{Figure, Page, PageLayer};
pub use tokens::Start;
use tokens::Tokens;

/// What to show.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// Where bounces start.
    pub start: Start,
    /// Bounces of the strip.
    pub bounces: usize,
    /// Layers that are shown and averaged.
    pub layers: LayerSelection,
    /// Share of attention in the teleporting chain.
    pub alpha: f64,
    /// Which tokens are states.
    pub tokens: ChainTokens,
    /// How many metastable sets; none for as many as the spectral gap says.
    pub sets: Option<usize>,
    /// Another image size than the published preprocessing gives, in pixels: a plain resize to a square.
    pub image_size: Option<usize>,
    /// Where the network runs.
    pub device: Device,
}

/// What was made.
pub struct Shown {
    /// The findings in words and tables.
    pub summary: String,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// Most bounces that a strip has room for.
const MOST_BOUNCES: usize = 30;
/// Most sets that have a colour of their own.
const MOST_SETS: usize = 12;
/// Numbers of attention maps on the page, two bytes each.
const PAGE_BUDGET: usize = 12 << 20;

/// Everything about the pass that is the same for every picture.
struct Scene {
    /// Network and image by name.
    title: String,
    /// The part of the picture that the patches cover, as the network saw it.
    picture: Rgb,
    tokens: Tokens,
    /// State of the chain that bounces start from.
    token: usize,
    findings: Findings,
    options: ShowOptions,
}

/// Runs `image` through the network in `dir` and writes pictures, a page and the numbers behind them to the folder
/// `out`. Files of the same names are replaced, others stay; an error leaves the folder as it was.
///
/// # Errors
/// Options that fit neither network nor image, weights or an image that cannot be read, an attention map without the
/// steady state asked for, a folder that cannot be written.
pub fn show(dir: &Path, image: &Path, options: &ShowOptions, out: &Path) -> Result<Shown> {
    check(options, out)?;
    let config = VisionConfig::from_dir(dir)?;
    options.layers.resolve(config.depth())?;
    let picture = Rgb8::open(image).map_err(models::Error::from)?;
    let load = LoadOptions {
        device: options.device,
        image_size: options.image_size.map(|side| (side, side)),
        ..LoadOptions::default()
    };
    let model = VisionModel::load(dir, &load)?;
    let Chains { layers, sequence, states } =
        Chains::vision(&model, &picture, &options.layers, options.tokens, LAMBDA_TOLERANCE, PAGE_BUDGET)?;

    let tokens = Tokens::new(states, sequence);
    let token = tokens.start(options.start)?;
    if let Some(sets) = options.sets.filter(|sets| *sets > tokens.states()) {
        let reason = format!("the chain has only {} states, fewer than {sets} sets", tokens.states());
        return Err(AnalysisError::Option { option: "--sets", reason }.into());
    }
    let questions = Questions { alpha: options.alpha, token, bounces: options.bounces, sets: options.sets };
    let findings = Findings::of(&layers, questions, |state| tokens.place(state).is_some())?;
    let seen = model.preprocessor.apply_geometry(&picture).map_err(models::Error::from)?;
    let scene = Scene {
        title: format!("{} · {}", model_name(dir), stem(image)),
        picture: covered(&seen, tokens.grid(), config.patch_size()),
        tokens,
        token,
        findings,
        options: options.clone(),
    };

    let staged = Staged::beside(out)?;
    let figures = figures::draw(&scene, &staged)?;
    let page = page_of(&scene, layers, figures)?;
    staged.write("index.html", page.0.as_bytes())?;
    let json = numbers(&scene, dir, image);
    let json = serde_json::to_string(&json)
        .map_err(|e| Error::Export { path: out.join("show.json"), reason: e.to_string() })?;
    staged.write("show.json", format!("{json}\n").as_bytes())?;
    let names: Vec<&str> = page.1.iter().map(String::as_str).chain(["index.html", "show.json"]).collect();
    let files = staged.publish(out, &names)?;
    Ok(Shown { summary: summary::text(&scene), files })
}

/// Refusals that need neither network nor image.
fn check(options: &ShowOptions, out: &Path) -> Result<()> {
    let refuse = |option, reason: String| Err(AnalysisError::Option { option, reason }.into());
    if !(options.alpha > 0.0 && options.alpha <= 1.0) {
        return refuse("--alpha", format!("must lie in (0, 1], found {}", options.alpha));
    }
    if !(1..=MOST_BOUNCES).contains(&options.bounces) {
        return refuse(
            "--bounces",
            format!("must lie between 1 and {MOST_BOUNCES}, found {}", options.bounces),
        );
    }
    if let Some(sets) = options.sets.filter(|sets| !(1..=MOST_SETS).contains(sets)) {
        return refuse("--sets", format!("must lie between 1 and {MOST_SETS}, found {sets}"));
    }
    if out.exists() && !out.is_dir() {
        return refuse("--out", format!("{} is a file; give a folder", out.display()));
    }
    Ok(())
}

/// The part of the picture that whole patches cover: convolutions cut the rest.
fn covered(seen: &Rgb8, (rows, cols): (usize, usize), (patch_h, patch_w): (i64, i64)) -> Rgb {
    let (height, width) = (rows * patch_h as usize, cols * patch_w as usize);
    let line = |y: usize| &seen.data[y * seen.width * 3..][..width.min(seen.width) * 3];
    let pixels = (0..height.min(seen.height)).flat_map(|y| line(y).iter().copied()).collect();
    Rgb { width: width.min(seen.width), height: height.min(seen.height), pixels }
}

/// The folder's name; of a folder in the hub's cache the model's id.
fn model_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.into());
    let parts = full.components().filter_map(|part| part.as_os_str().to_str()).collect::<Vec<_>>();
    match parts.iter().rev().find_map(|part| part.strip_prefix("models--")) {
        Some(id) => id.replace("--", "/"),
        None => file_name(&full),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn stem(path: &Path) -> String {
    file_name(path.with_extension("").as_path())
}

/// The page, and the names of the pictures on it.
fn page_of(
    scene: &Scene,
    layers: Vec<models::probe::LayerChain>,
    figures: Vec<Figure>,
) -> Result<(String, Vec<String>)> {
    let names = figures.iter().map(|figure| figure.file.clone()).collect();
    let picture = scene
        .picture
        .png()
        .map_err(|e| Error::Export { path: "index.html".into(), reason: e.to_string() })?;
    let fitting = PAGE_BUDGET / scene.tokens.states().pow(2).max(1);
    let (all, headless) = (layers.len(), layers.iter().filter(|layer| layer.heads.is_empty()).count());
    let mut facts = summary::facts(scene);
    if fitting < all {
        facts.push((
            "maps on this page".into(),
            format!("the last {fitting} of {all} layers, heads averaged"),
        ));
    } else if headless > 0 {
        let heads = if headless == all { "without their heads" } else { "heads of the last ones only" };
        facts.push(("maps on this page".into(), format!("all layers, {heads}, for their size")));
    }
    let layers = layers.into_iter().skip(all.saturating_sub(fitting)).map(|layer| PageLayer {
        name: format!("layer {}", layer.block),
        mean: layer.mean,
        heads: layer.heads,
        lambda2: layer.lambda2,
    });
    let page = Page {
        title: scene.title.clone(),
        facts,
        picture: &picture,
        layout: scene.tokens.layout.clone(),
        alpha: scene.options.alpha,
        token: scene.token,
        bounces: scene.options.bounces,
        layers: layers.collect(),
        figures,
    };
    Ok((page.to_html(), names))
}

/// The content of `show.json`.
fn numbers(scene: &Scene, dir: &Path, image: &Path) -> serde_json::Value {
    let Scene { picture, tokens, token, findings, options, .. } = scene;
    let steps = |chain: &findings::ChainFindings| chain.steps();
    json!({
        "schema": 1,
        "model": dir,
        "image": image,
        "settings": {
            "alpha": options.alpha,
            "bounces": options.bounces,
            "layers": findings.layers.iter().map(|layer| layer.block).collect::<Vec<_>>(),
            "without_special": options.tokens == ChainTokens::WithoutSpecial,
            "picture": [picture.height, picture.width],
            "states": tokens.layout,
            "start": { "state": token, "token": tokens.in_sequence(*token), "name": tokens.name(*token) },
        },
        "lambda2": findings.layers.iter().map(|layer| &layer.lambda2).collect::<Vec<_>>(),
        "layers": findings.layers.iter().map(|layer| &layer.mean).collect::<Vec<_>>(),
        "average": findings.average,
        "steps": {
            "layers": findings.layers.iter().map(|layer| steps(&layer.mean)).collect::<Vec<_>>(),
            "average": steps(&findings.average),
        },
        "forward": findings.forward,
        "backward": findings.backward,
        "metastable": findings.metastable,
    })
}
