//! The findings as text for the terminal, and as facts for the page.

use comfy_table::{CellAlignment, TableComponent, presets};
use markov_core::Triangle;

use super::Scene;
use super::blocks::{axis, span};
use super::findings::{METASTABLE_STATES, SetFindings};
use super::tokens::percent;

/// Number of tokens in the list of the largest TokenRank.
const FIRST: usize = 8;

/// Returns the text for the terminal.
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

/// Returns settings and main findings, one line each.
pub(super) fn facts(scene: &Scene) -> Vec<(String, String)> {
    let Scene { image, tokens, findings, drawing, about, .. } = scene;
    let (rows, cols) = tokens.grid();
    let (low, high) = findings
        .layers
        .iter()
        .flat_map(|layer| &layer.lambda2)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let states = match tokens.others_name() {
        Some(_) if tokens.layout.text > 0 => {
            let text = tokens.layout.text;
            let reference = match tokens.reference_grid() {
                (0, _) | (_, 0) => String::new(),
                (rows, cols) => format!(", {rows} × {cols} of the reference image"),
            };
            format!("{rows} × {cols} patches, {text} text tokens{reference}: {} states", tokens.states())
        }
        Some(name) => format!("{rows} × {cols} patches, {name}: {} states", tokens.states()),
        None if tokens.leaves_out() => {
            format!("{rows} × {cols} patches, special tokens left out: {} states", tokens.states())
        }
        None => format!("{rows} × {cols} patches: {} states", tokens.states()),
    };
    let converged = match findings.average.steps() {
        Some(1) => "after 1 step".to_owned(),
        Some(steps) => format!("after {steps} steps"),
        None => format!("not within {} steps", findings.average.convergence.len()),
    };
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = about.clone();
    facts.extend([
        fact("image size", format!("{} × {} pixels", image.width, image.height)),
        fact("chain", states),
        fact("averaged", format!("heads of {}, before ranking", span(&findings.blocks()))),
        fact("teleport", format!("α = {}, none for λ₂", drawing.alpha)),
        fact("bounces from", origin(scene)),
        fact("λ₂ of the heads", format!("{low:.3} to {high:.3}")),
        fact("λ₂ of the average", format!("{:.3}", findings.average.lambda2)),
        fact("power method", format!("changes by less than 1e-5 {converged}")),
    ]);
    facts.extend(causal(scene).map(|sentence| fact("causal", sentence)));
    facts
}

/// Explains the effect of triangular layers on the findings; `None` if no layer is triangular.
fn causal(scene: &Scene) -> Option<String> {
    let layers = &scene.findings.layers;
    let mut ends = layers.iter().filter_map(|layer| layer.triangle).peekable();
    let (end, walk) = match ends.peek()? {
        Triangle::Lower => ("first", "earlier"),
        Triangle::Upper => ("last", "later"),
    };
    Some(format!(
        "{} of {} layers are triangular: a walk only moves to {walk} tokens, so TokenRank collects on the {end} one whatever \
         the network learned, and λ₂ is the largest other entry of the diagonal. Absorbing walks, \
         leaving out tokens and teleporting to chosen tokens give results that depend on what it learned",
        ends.count(),
        layers.len()
    ))
}

/// Returns where walks start, with the number of the token in the sequence unless its name contains that number.
fn origin(Scene { tokens, start, .. }: &Scene) -> String {
    let peak = start.spread.peak();
    let Some(states) = start.spread.even() else {
        return format!("{}, largest at {}", start.name, tokens.name(peak));
    };
    let names: Vec<String> = states.map(|state| tokens.name(state)).collect();
    match names.as_slice() {
        [name] if *name == start.name && tokens.is_text(peak) => name.clone(),
        [name] if *name == start.name => format!("{name}, token {}", tokens.in_sequence(peak)),
        names => format!("{}: {}", start.name, names.join(", ")),
    }
}

/// Returns a sentence that names the sets of the states that are not patches of the image; `None` if all states are.
pub(super) fn sets_of_others(scene: &Scene, sets: &SetFindings) -> Option<String> {
    let tokens = &scene.tokens;
    let set = |state: usize| sets.assignment[state] + 1;
    if tokens.layout.text == 0 {
        let words: Vec<String> = tokens
            .others()
            .map(|state| format!("{} belongs to set {}", tokens.name(state), set(state)))
            .collect();
        return (!words.is_empty()).then(|| format!("{}.", words.join(", ")));
    }
    // A prompt has many tokens, so they are grouped by set.
    let pieces = tokens.pieces();
    let parts = (1..=sets.sizes.len()).filter_map(|number| {
        let (words, padding): (Vec<usize>, Vec<usize>) =
            tokens.others().filter(|state| set(*state) == number).partition(|state| *state < pieces.len());
        let mut parts: Vec<String> = words.iter().map(|word| format!("“{}”", pieces[*word])).collect();
        if !padding.is_empty() {
            parts.push(format!("{} of padding", padding.len()));
        }
        match tokens.reference().filter(|state| set(*state) == number).count() {
            0 => {}
            patches => parts.push(format!("{patches} of the reference image")),
        }
        (!parts.is_empty()).then(|| format!("set {number} has {}", parts.join(", ")))
    });
    let parts: Vec<String> = parts.collect();
    let others = if tokens.reference().is_empty() { "text" } else { "text and the reference image" };
    Some(format!("Of the {others}, {}.", parts.join("; ")))
}

fn lambda2(scene: &Scene) -> String {
    let layers = &scene.findings.layers;
    let (label, names) = axis(&scene.findings.blocks());
    let heads = layers.iter().map(|layer| layer.lambda2.len()).max().unwrap_or(0);
    let head = [label]
        .into_iter()
        .chain((0..heads).map(|head| format!("head {head}")))
        .chain(["heads averaged".into()]);
    let rows = layers.iter().zip(names).map(|(layer, name)| {
        let values = layer.lambda2.iter().chain([&layer.mean.lambda2]);
        std::iter::once(name).chain(values.map(|value| format!("{value:.3}"))).collect()
    });
    table("λ₂", head.collect(), rows.collect())
}

fn first_tokens(scene: &Scene) -> String {
    let (tokens, average) = (&scene.tokens, &scene.findings.average);
    let mut order: Vec<usize> = (0..tokens.states()).collect();
    order.sort_by(|a, b| average.incoming[*b].total_cmp(&average.incoming[*a]));
    let states = tokens.states() as f64;
    let rows = order.iter().take(FIRST).map(|&state| {
        let (incoming, outgoing) = (average.incoming[state], average.outgoing[state]);
        vec![tokens.name(state), percent(incoming), format!("{:.2}", incoming * states), percent(outgoing)]
    });
    let head = ["token", "incoming", "× uniform", "outgoing"].map(str::to_owned).to_vec();
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
    let head = ["set", "tokens", "patches", "weight", "stays", "stays by chance"].map(str::to_owned).to_vec();
    let mut text = table("Metastable sets of the average", head, rows.collect());
    if let Some(words) = sets_of_others(scene, sets) {
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

/// Returns the reason why metastable sets are left out.
pub(super) fn without_sets(states: usize) -> String {
    format!(
        "Metastable sets: left out, since they take n³ operations and the chain has {states} states, more than \
         {METASTABLE_STATES}; a smaller image gives fewer."
    )
}
