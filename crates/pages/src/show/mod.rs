//! Computes and draws what the paper's figures show, for one image and one network: `tokenrank show`.

mod blocks;
mod figures;
mod findings;
mod flux;
mod folder;
mod overview;
mod record;
mod sd;
mod summary;
#[cfg(test)]
mod tests;
mod tokens;
mod vision;

use std::path::{Path, PathBuf};

use models::probe::LayerChain;
use models::{escape, files};

use blocks::Block;
use chain_page::{Figure, Layer, MOST_BOUNCES, Page};
use eval::analysis::AnalysisError;
use eval::{Error, Result};
use findings::{Findings, Questions};
pub use flux::{FluxShowOptions, show_flux};
use folder::Staged;
use plot::Rgb;
use record::Record;
pub use sd::{SdShowOptions, show_sd};
pub use tokens::Start;
use tokens::{Origin, Tokens};
pub use vision::{ShowOptions, show};

/// Settings of the figures, for any network.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    /// Number of bounces shown.
    pub bounces: usize,
    /// Weight α of attention in the teleporting chain.
    pub alpha: f64,
    /// Number of metastable sets; `None` to choose by the spectral gap.
    pub sets: Option<usize>,
}

/// The output of `show`.
pub struct Shown {
    /// The findings in words and tables.
    pub summary: String,
    /// Paths of the files written.
    pub files: Vec<PathBuf>,
    /// Whether a layer is triangular, so that its mask decides where walks collect.
    pub triangular: bool,
}

/// Maximum number of sets with distinct colours.
const MOST_SETS: usize = 12;

/// The page in the folder.
const PAGE: &str = "index.html";
/// The numbers behind the figures.
const NUMBERS: &str = "show.json";

/// One forward pass, before its chains are analysed.
struct Pass {
    /// Names of network and image.
    title: String,
    /// The part of the image that the patches cover, as the network saw it.
    image: Rgb,
    /// The reference image, as the network saw it.
    reference: Option<Rgb>,
    /// Whether the network generated the image.
    generated: bool,
    tokens: Tokens,
    start: Origin,
    drawing: Drawing,
    /// Further facts: terms with their descriptions.
    about: Vec<(String, String)>,
    record: Record,
}

/// Everything that figures and page show.
struct Scene {
    title: String,
    image: Rgb,
    reference: Option<Rgb>,
    tokens: Tokens,
    /// Where bounces start.
    start: Origin,
    findings: Findings,
    drawing: Drawing,
    about: Vec<(String, String)>,
}

/// The findings of a pass, and the files that show them.
struct Drawn {
    scene: Scene,
    /// Names and contents. The page comes first, so that a folder that was interrupted is known by it; the numbers come
    /// last.
    files: Vec<(String, Vec<u8>)>,
}

/// Analyses the chains of a pass and writes figures, a page and the numbers behind them to the folder `out`, and also the image
/// if it was generated. Files of the same names are replaced, others stay; an error leaves the folder unchanged.
fn publish(pass: Pass, layers: Vec<LayerChain>, out: &Path) -> Result<Shown> {
    let Record { model, image, reference, .. } = &pass.record;
    let inputs = [Some(model.clone()), image.clone(), reference.clone()];
    let Drawn { scene, files } = draw(pass, layers)?;
    let inputs = inputs.iter().flatten();
    let files = write(files, inputs.map(PathBuf::as_path).collect(), out)?;
    Ok(Shown { summary: summary::text(&scene), files, triangular: scene.is_triangular() })
}

/// Analyses the chains of a pass and draws them.
fn draw(pass: Pass, layers: Vec<LayerChain>) -> Result<Drawn> {
    let Pass { title, image, reference, generated, tokens, start, drawing, about, record } = pass;
    if let Some(sets) = drawing.sets.filter(|sets| *sets > tokens.states()) {
        let reason = format!("the chain has only {} states, fewer than {sets} sets", tokens.states());
        return Err(AnalysisError::Option { option: "sets", reason }.into());
    }
    let Drawing { bounces, alpha, sets } = drawing;
    let questions = Questions { alpha, start: start.spread.clone(), bounces, sets };
    let findings = Findings::of(&layers, questions, |state| tokens.place(state).is_some())?;
    let scene = Scene { title, image, reference, tokens, start, findings, drawing, about };

    let encode = |image: &Rgb| {
        image.png().map_err(|e| Error::Export { path: "image.png".into(), reason: e.to_string() })
    };
    let png = encode(&scene.image)?;
    let reference = scene.reference.as_ref().map(encode).transpose()?;
    let figures = figures::draw(&scene)?;
    let drawn: Vec<_> = figures.iter().map(|figure| (figure.file.clone(), figure.png.clone())).collect();
    let page = page_of(&scene, (&png, reference), layers, figures)?.into_bytes();
    let mut files = vec![(PAGE.to_owned(), page)];
    if generated {
        files.push(("image.png".to_owned(), png));
    }
    files.extend(drawn);
    files.push((NUMBERS.to_owned(), json_bytes(&record.into_json(&scene))?));
    Ok(Drawn { scene, files })
}

fn json_bytes(value: &serde_json::Value) -> Result<Vec<u8>> {
    let json = serde_json::to_string(value)
        .map_err(|e| Error::Export { path: NUMBERS.into(), reason: e.to_string() })?;
    Ok(escape::json(format!("{json}\n")).into_bytes())
}

/// Writes files to the folder `out` and returns their paths.
fn write(files: Vec<(String, Vec<u8>)>, inputs: Vec<&Path>, out: &Path) -> Result<Vec<PathBuf>> {
    let staged = Staged::inside(out)?;
    for (name, content) in &files {
        staged.write(name, content)?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    staged.refuse_foreign(&names)?;
    if let Some(name) =
        names.iter().find(|name| files::input_at(&out.join(name), inputs.iter().copied()).is_some())
    {
        let reason = format!("{} is an input; choose another folder", out.join(name).display());
        return Err(AnalysisError::Option { option: "out", reason }.into());
    }
    staged.publish(out, &names)
}

impl Scene {
    /// Whether a layer is triangular, so that its mask decides where walks collect.
    fn is_triangular(&self) -> bool {
        self.findings.layers.iter().any(|layer| layer.triangle.is_some())
    }
}

/// Checks the settings that need neither network nor image.
fn check(options: Drawing, out: &Path) -> Result<()> {
    let refuse = |option, reason: String| Err(AnalysisError::Option { option, reason }.into());
    if !(options.alpha > 0.0 && options.alpha <= 1.0) {
        return refuse("alpha", format!("must lie in (0, 1], found {}", options.alpha));
    }
    if !(1..=MOST_BOUNCES).contains(&options.bounces) {
        return refuse(
            "bounces",
            format!("must lie between 1 and {MOST_BOUNCES}, found {}", options.bounces),
        );
    }
    if let Some(sets) = options.sets.filter(|sets| !(1..=MOST_SETS).contains(sets)) {
        return refuse("sets", format!("must lie between 1 and {MOST_SETS}, found {sets}"));
    }
    if out.exists() && !out.is_dir() {
        return refuse("out", format!("{} is a file; give a folder", out.display()));
    }
    folder::refuse_foreign(out, &[PAGE, NUMBERS])
}

/// Returns the name of the folder, or the model id if the folder lies in the hub's cache.
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

/// Returns the page, with as many maps as fit. `images` are PNG files: of the image and of the reference image.
fn page_of(
    scene: &Scene,
    images: (&[u8], Option<Vec<u8>>),
    layers: Vec<LayerChain>,
    figures: Vec<Figure>,
) -> Result<String> {
    let layers = layers.into_iter().map(|layer| Layer {
        name: Block { stream: layer.stream, number: layer.block }.to_string(),
        mean: layer.mean,
        heads: layer.heads,
        lambda2: layer.lambda2,
    });
    let page = Page {
        title: scene.title.clone(),
        facts: summary::facts(scene),
        image: Some(images.0.to_vec()),
        reference: images.1,
        layout: scene.tokens.on_page(),
        alpha: scene.drawing.alpha,
        start: scene.start.on_page(),
        bounces: scene.drawing.bounces,
        layers: layers.collect(),
        layers_word: if scene.tokens.layout.text > 0 { "blocks" } else { "layers" }.to_owned(),
        figures,
    };
    page.to_html().map_err(|e| Error::Export { path: PAGE.into(), reason: e.to_string() })
}
