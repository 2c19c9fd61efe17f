//! The page and the numbers that several resolutions of one network have in common.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use maud::{DOCTYPE, PreEscaped, html};
use models::UnetLayer;
use models::capture::SdCaptureOptions;
use serde_json::{Value, json};

use super::Scene;
use super::blocks::span;
use super::record::named;
use chain_page::html::{self, png_uri};

/// Space between the resolutions, and figures that fit the window.
const STYLE: &str = "main > section > p { margin: 4px 0 10px; } main img { max-width: 100%; height: auto; background: #fff; }";

/// One resolution, as the overview names it.
pub(super) struct Resolution {
    grid: (usize, usize),
    folder: String,
    /// Number of states.
    states: usize,
    /// The layers in words, and by their names in `tokenrank attend`.
    span: String,
    layers: Vec<Value>,
    /// λ₂ of each head, by layer.
    lambda2: Vec<Vec<f64>>,
    lambda2_of_average: f64,
    start: String,
    /// The figure of the bounces.
    bounces: Vec<u8>,
}

/// A resolution that was left out because of its size.
pub(super) struct LeftOut {
    grid: (i64, i64),
    layers: usize,
}

impl Resolution {
    pub(super) fn of(scene: &Scene, folder: &str, files: &[(String, Vec<u8>)]) -> Self {
        let findings = &scene.findings;
        let bounces = files.iter().find(|(name, _)| name == "bounces.png");
        Self {
            grid: scene.tokens.grid(),
            folder: folder.to_owned(),
            states: scene.tokens.states(),
            span: span(&findings.blocks()),
            layers: findings.blocks().into_iter().map(named).collect(),
            lambda2: findings.layers.iter().map(|layer| layer.lambda2.clone()).collect(),
            lambda2_of_average: findings.average.lambda2,
            start: scene.start.name.clone(),
            bounces: bounces.map(|(_, png)| png.clone()).unwrap_or_default(),
        }
    }
}

impl LeftOut {
    pub(super) fn of((grid, layers): (&(i64, i64), &BTreeSet<UnetLayer>)) -> Self {
        Self { grid: *grid, layers: layers.len() }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grid: (rows, columns), layers } = self;
        write!(
            f,
            "{rows} × {columns} patches: left out, since chains of {} states take minutes and much memory; --layers attn1 \
             shows all resolutions, --layers with their paths these {layers} layers",
            rows * columns
        )
    }
}

/// Returns the page that leads to the pages of the resolutions.
pub(super) fn page(
    title: &str,
    about: &[(String, String)],
    resolutions: &[Resolution],
    left_out: &[LeftOut],
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(html::POLICY);
                meta name="color-scheme" content="light dark";
                meta name="generator" content="tokenrank show";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(html::STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p.lead { "Self-attention of the UNet read as Markov chains, one set of chains for each resolution." }
                    p.words {
                        @for (i, (term, fact)) in about.iter().enumerate() { @if i > 0 { " · " } (term) ": " (fact) }
                    }
                }
                main {
                    @for resolution in resolutions {
                        @let href = format!("{}/index.html", resolution.folder);
                        section {
                            h2 { a href=(href) { (resolution.grid.0) " × " (resolution.grid.1) " patches" } }
                            p.words {
                                (resolution.states) " states · " (resolution.span) " · start: " (resolution.start)
                                (format!(" · λ₂ of the average {:.3}", resolution.lambda2_of_average))
                            }
                            a href=(href) {
                                img src=(png_uri(&resolution.bounces)) alt={ "Bounces from " (resolution.start) };
                            }
                        }
                    }
                    @for left_out in left_out { section { p.words { (left_out) "." } } }
                }
                footer { p { "Made by tokenrank " (env!("CARGO_PKG_VERSION")) ". The links lead into the folder of this page." } }
            }
        }
    };
    page.into_string()
}

/// Returns the content of `show.json` next to the page.
pub(super) fn record(
    (model, image): (&Path, &Path),
    capture: &SdCaptureOptions,
    resolutions: &[Resolution],
    left_out: &[LeftOut],
) -> Value {
    let resolution = |of: &Resolution| json!({ "grid": of.grid, "folder": of.folder, "layers": of.layers, "lambda2": of.lambda2 });
    let without = |of: &LeftOut| json!({ "grid": of.grid, "layers": of.layers });
    json!({
        "schema": 1,
        "model": model,
        "image": image,
        "settings": { "prompt": capture.prompt, "timestep": capture.timestep },
        "resolutions": resolutions.iter().map(resolution).collect::<Vec<_>>(),
        "left_out": left_out.iter().map(without).collect::<Vec<_>>(),
    })
}
