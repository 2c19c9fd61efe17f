//! The findings in words: on the terminal, and as facts on the page.

use comfy_table::{CellAlignment, TableComponent, presets};

use super::Scene;
use super::figures::without_sets;
use super::findings::{Findings, SetFindings};
use super::tokens::percent;

/// Tokens in the list of TokenRank's first.
const FIRST: usize = 8;

/// What is printed.
pub(super) fn text(scene: &Scene) -> String {
    let mut text = format!("{}\n", scene.title);
    let facts = facts(scene);
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &facts {
        text.push_str(&format!("  {name:width$}  {value}\n"));
    }
    text.push('\n');
    text.push_str(&lambda2(scene));
    text.push_str(&first_tokens(scene));
    match &scene.findings.metastable {
        Some(found) => text.push_str(&sets(scene, found)),
        None => text.push_str(&format!("{}\n", without_sets(scene.tokens.states()))),
    }
    text
}

/// Settings and what was found in a line each.
pub(super) fn facts(scene: &Scene) -> Vec<(String, String)> {
    let Scene { picture, tokens, token, findings, options, .. } = scene;
    let (rows, cols) = tokens.grid();
    let (low, high) = findings
        .layers
        .iter()
        .flat_map(|layer| &layer.lambda2)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let states = match tokens.special_name() {
        Some(name) => format!("{rows} × {cols} patches, {name}: {} states", tokens.states()),
        None => format!("{rows} × {cols} patches, special tokens left out: {} states", tokens.states()),
    };
    let converged = match findings.average.steps() {
        Some(1) => "after 1 step".to_owned(),
        Some(steps) => format!("after {steps} steps"),
        None => format!("not within {} steps", findings.average.convergence.len()),
    };
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("picture", format!("{} × {} pixels", picture.width, picture.height)),
        fact("chain", states),
        fact("averaged", format!("heads of {}, before ranking", span(findings))),
        fact("teleport", format!("α = {}, none for λ₂", options.alpha)),
        fact("bounces from", format!("{}, token {}", tokens.name(*token), tokens.in_sequence(*token))),
        fact("λ₂ of the heads", format!("{low:.3} to {high:.3}")),
        fact("λ₂ of the average", format!("{:.3}", findings.average.lambda2)),
        fact("power method", format!("changes by less than 1e-5 {converged}")),
    ]
}

/// `layers 0–11`, `layers 0, 3, 7`, `layer 11`.
pub(super) fn span(findings: &Findings) -> String {
    let blocks: Vec<usize> = findings.layers.iter().map(|layer| layer.block).collect();
    match blocks.as_slice() {
        [] => "no layer".into(),
        [only] => format!("layer {only}"),
        [first, .., last] if last - first + 1 == blocks.len() => format!("layers {first}–{last}"),
        several => {
            let several: Vec<String> = several.iter().map(usize::to_string).collect();
            format!("layers {}", several.join(", "))
        }
    }
}

/// What the averaged chain is called in pictures.
pub(super) fn averaged(findings: &Findings) -> String {
    match findings.layers.as_slice() {
        [only] => format!("layer {}", only.block),
        several => format!("average of {} layers", several.len()),
    }
}

/// Which sets the special tokens belong to, in a sentence; none where the chain has none.
pub(super) fn special_sets(scene: &Scene, sets: &SetFindings) -> Option<String> {
    let tokens = &scene.tokens;
    let words: Vec<String> = tokens
        .special()
        .map(|state| format!("{} belongs to set {}", tokens.name(state), sets.assignment[state] + 1))
        .collect();
    (!words.is_empty()).then(|| format!("{}.", words.join(", ")))
}

fn lambda2(scene: &Scene) -> String {
    let layers = &scene.findings.layers;
    let heads = layers.iter().map(|layer| layer.lambda2.len()).max().unwrap_or(0);
    let head = ["layer".to_owned()]
        .into_iter()
        .chain((0..heads).map(|head| format!("head {head}")))
        .chain(["heads averaged".into()]);
    let rows = layers.iter().map(|layer| {
        let values = layer.lambda2.iter().chain([&layer.mean.lambda2]);
        std::iter::once(layer.block.to_string()).chain(values.map(|value| format!("{value:.3}"))).collect()
    });
    table("λ₂", head.collect(), rows.collect())
}

fn first_tokens(scene: &Scene) -> String {
    let (tokens, average) = (&scene.tokens, &scene.findings.average);
    let mut order: Vec<usize> = (0..tokens.states()).collect();
    order.sort_by(|a, b| average.incoming[*b].total_cmp(&average.incoming[*a]));
    let even = tokens.states() as f64;
    let rows = order.iter().take(FIRST).map(|&state| {
        let (incoming, outgoing) = (average.incoming[state], average.outgoing[state]);
        vec![tokens.name(state), percent(incoming), format!("{:.2}", incoming * even), percent(outgoing)]
    });
    let head = ["token", "incoming", "× even share", "outgoing"].map(str::to_owned).to_vec();
    table("TokenRank of the average", head, rows.collect())
}

fn sets(scene: &Scene, sets: &SetFindings) -> String {
    let patches = scene.tokens.of_patches(&sets.assignment);
    let rows = (0..sets.sizes.len()).map(|set| {
        vec![
            format!("set {}", set + 1),
            sets.sizes[set].to_string(),
            patches.iter().filter(|patch| **patch == set).count().to_string(),
            percent(sets.weights[set]),
            percent(sets.staying[set]),
            percent(sets.staying_by_chance[set]),
        ]
    });
    let head = ["set", "tokens", "patches", "share", "stays", "stays by chance"].map(str::to_owned).to_vec();
    let mut text = table("Metastable sets of the average", head, rows.collect());
    if let Some(words) = special_sets(scene, sets) {
        text.push_str(&format!("{words}\n"));
    }
    text
}

fn table(title: &str, head: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::UTF8_NO_BORDERS);
    table.set_header(head);
    table.add_rows(rows);
    table.remove_style(TableComponent::HorizontalLines);
    table.remove_style(TableComponent::MiddleIntersections);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{title}\n{table}\n\n")
}
