//! Draws figures of the findings.

use super::blocks::{averaged, axis, span};
use super::findings::{REFERENCE_CHANGE, SetFindings};
use super::tokens::{Origin, percent};
use super::{Figure, Scene};
use eval::{Error, Result};
use plot::{
    Family, HeatMap, Histogram, Line, Member, PlotError, Region, Regions, Section, Stroke, Tile, TileSheet,
    family, heatmap, histogram, regions, tiles,
};

/// Maximum number of maps in a row of the TokenRank sheet.
const COLUMNS: usize = 7;

/// Draws every figure.
pub(super) fn draw(scene: &Scene) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add =
        |file: &str, title: &str, caption: String, draw: &dyn Fn() -> Result<Vec<u8>, PlotError>| {
            let png = draw().map_err(|e| Error::Export { path: file.into(), reason: e.to_string() })?;
            let title = title.to_owned();
            figures.push(Figure { file: file.into(), title, caption, png });
            Ok::<(), Error>(())
        };
    let sheet = bounces(scene);
    add("bounces.png", "Bounces", sheet.note.clone(), &|| tiles(&sheet))?;
    let sheet = ranks(scene);
    let ranked = if scene.tokens.layout.text > 0 { "TokenRank per block" } else { "TokenRank per layer" };
    add("tokenrank-layers.png", ranked, sheet.note.clone(), &|| tiles(&sheet))?;
    let caption =
        "Second largest eigenvalue modulus of each head, without teleport. Near 1 a walk mixes slowly: \
                   the head has groups of tokens in which the walk stays long."
            .to_owned();
    add("lambda2.png", "λ₂ of each head", caption, &|| heatmap(&lambda2_map(scene)))?;
    let caption = "Histogram of λ₂ over the heads, coloured by block.".to_owned();
    add("lambda2-histogram.png", "λ₂ of all heads", caption, &|| histogram(&lambda2_histogram(scene)))?;
    if let Some(sets) = &scene.findings.metastable {
        let plot = metastable(scene, sets);
        add("metastable.png", "Metastable sets", plot.notes.join(" "), &|| regions(&plot))?;
    }
    let caption =
        "L1 change of the state in each step of the power method, from the uniform state, forward. The \
                   reference implementation stops at 1e-5 or after 200 steps."
            .to_owned();
    add("convergence.png", "Convergence of the power method", caption, &|| family(&convergence(scene)))?;
    Ok(figures)
}

fn bounces(scene: &Scene) -> TileSheet {
    let Scene { tokens, start: Origin { spread, name }, findings, drawing, .. } = scene;
    // The map of n = 0, if the start is not a few tokens.
    let spread_out = spread.even().is_none();
    let mark = match spread.even() {
        Some(states) if states.len() == 1 => tokens.place(states.start),
        _ => None,
    };
    let start = match mark {
        _ if spread_out => String::new(),
        None if tokens.layout.text == 0 => format!("start: {name}, not in the image"),
        _ => format!("start: {name}"),
    };
    let strip = |heading: &str, states: &[Vec<f64>], steady: &[f64]| {
        let map = |title: String, state: &[f64]| Tile {
            title,
            note: tokens.probability_of_others(state),
            values: tokens.on_patches(state),
            mark,
        };
        let image = Tile { title: "image".into(), note: start.clone(), values: Vec::new(), mark };
        let from = spread_out.then(|| map("n = 0, start".into(), &spread.distribution(tokens.states())));
        let steps = (1..).zip(states).map(|(n, state)| map(format!("n = {n}"), state));
        let tiles =
            std::iter::once(image).chain(from).chain(steps).chain([map("n = ∞".into(), steady)]).collect();
        Section { heading: heading.into(), tiles }
    };
    let average = &findings.average;
    let sinks = tokens.others_name().map_or_else(String::new, |name| {
        format!(" Under each n: the probability of {name}, which the maps do not show.")
    });
    let from = if spread_out { format!("n = 0 is the {name}, scaled to sum 1; ") } else { String::new() };
    TileSheet {
        title: format!("Bounces from {name} · {}", scene.title),
        image: scene.image.clone(),
        grid: tokens.grid(),
        columns: drawing.bounces + 2 + usize::from(spread_out),
        sections: vec![
            strip("forward: following the attention", &findings.forward, &average.incoming),
            strip("backward: to the tokens that attend", &findings.backward, &average.outgoing),
        ],
        note: format!(
            "Probability of each patch after n steps in multiples of the uniform probability, 1/{}; {from}n = ∞ is the steady state, \
             TokenRank. ≥: colours end at the 95th percentile of the patches.{sinks} Mean of the heads of {}, α = {}.",
            tokens.states(),
            span(&findings.blocks()),
            drawing.alpha
        ),
    }
}

fn ranks(scene: &Scene) -> TileSheet {
    let Scene { tokens, findings, drawing, .. } = scene;
    let sheet = |heading: &str, average: &[f64], of: &dyn Fn(usize) -> Vec<f64>| {
        let map = |title: String, state: &[f64]| Tile {
            title,
            note: tokens.probability_of_others(state),
            values: tokens.on_patches(state),
            mark: None,
        };
        let image = Tile { title: "image".into(), ..Tile::default() };
        let mut tiles = vec![image, map(averaged(&findings.blocks()), average)];
        if findings.layers.len() > 1 {
            let layers = findings.layers.iter().enumerate();
            tiles.extend(layers.map(|(i, layer)| map(layer.block.to_string(), &of(i))));
        }
        Section { heading: heading.into(), tiles }
    };
    let sinks = tokens
        .others_name()
        .map_or_else(String::new, |name| format!(" Under each title: the probability of {name}."));
    let average = &findings.average;
    let sections = vec![
        sheet("incoming attention: steady state of the forward chain", &average.incoming, &|i| {
            findings.layers[i].mean.incoming.clone()
        }),
        sheet("outgoing attention: steady state of the backward chain", &average.outgoing, &|i| {
            findings.layers[i].mean.outgoing.clone()
        }),
    ];
    // Rows of about the same length.
    let maps = sections.iter().map(|section| section.tiles.len()).max().unwrap_or(1);
    TileSheet {
        title: format!("TokenRank · {}", scene.title),
        image: scene.image.clone(),
        grid: tokens.grid(),
        columns: maps.div_ceil(maps.div_ceil(COLUMNS)),
        sections,
        note: format!(
            "TokenRank of each patch in multiples of the uniform probability, 1/{}. ≥: colours end at the 95th percentile of the \
             patches.{sinks} Heads are averaged before ranking, α = {}.",
            tokens.states(),
            drawing.alpha
        ),
    }
}

fn lambda2_map(scene: &Scene) -> HeatMap {
    let layers = &scene.findings.layers;
    let (x_label, col_names) = axis(&scene.findings.blocks());
    let heads = layers.iter().map(|layer| layer.lambda2.len()).max().unwrap_or(0);
    // One column per layer: networks have more layers than heads.
    let value =
        |head: usize| layers.iter().map(move |layer| layer.lambda2.get(head).copied().unwrap_or(f64::NAN));
    HeatMap {
        title: format!("λ₂ of each head · {}", scene.title),
        x_label,
        y_label: "head".into(),
        value_label: "λ₂".into(),
        rows: heads,
        cols: layers.len(),
        values: (0..heads).flat_map(value).collect(),
        row_names: (0..heads).map(|head| head.to_string()).collect(),
        col_names,
        decimals: Some(2),
    }
}

fn lambda2_histogram(scene: &Scene) -> Histogram {
    let (name_label, names) = axis(&scene.findings.blocks());
    let heads = scene.findings.layers.iter().map(|layer| layer.lambda2.clone());
    Histogram {
        title: format!("λ₂ of all heads · {}", scene.title),
        x_label: "λ₂".into(),
        y_label: "heads".into(),
        groups: names.into_iter().zip(heads).collect(),
        name_label,
    }
}

fn metastable(scene: &Scene, sets: &SetFindings) -> Regions {
    let Scene { tokens, findings, drawing, .. } = scene;
    let patches = tokens.of_patches(&sets.assignment);
    let group = |set: usize| Region {
        name: format!("set {}", set + 1),
        cells: vec![
            patches.iter().filter(|patch| **patch == set).count().to_string(),
            percent(sets.weights[set]),
            percent(sets.staying[set]),
            percent(sets.staying_by_chance[set]),
        ],
        label_at: sets.centres[set].and_then(|state| tokens.place(state)),
    };
    let chosen = match drawing.sets {
        Some(_) => "as requested",
        None => "chosen by the spectral gap",
    };
    let mut notes = vec![format!(
        "Mean of the heads of {}, α = {}. {} sets, {chosen}; PCCA+ on the reversibilised chain, crispness {:.2}. \
         Weight: the probability of the set in the steady state. Stays: the probability that a walk in the set is still there \
         after one step. By chance: the same if jumps to other tokens followed the steady state.",
        span(&findings.blocks()),
        drawing.alpha,
        sets.sizes.len(),
        sets.crispness,
    )];
    notes.extend(super::summary::sets_of_others(scene, sets));
    Regions {
        title: format!("Metastable sets · {}", scene.title),
        image: scene.image.clone(),
        grid: tokens.grid(),
        groups: (0..sets.sizes.len()).map(group).collect(),
        assignment: patches,
        columns: ["patches", "weight", "stays", "stays\nby chance"].map(str::to_owned).to_vec(),
        notes,
    }
}

fn convergence(scene: &Scene) -> Family {
    let Scene { findings, drawing, .. } = scene;
    let points = |changes: &[f64]| -> Vec<(f64, f64)> {
        (1..).zip(changes).map(|(step, change)| (f64::from(step), *change)).collect()
    };
    let average = &findings.average;
    let longest = findings.layers.iter().map(|layer| &layer.mean).chain([average]);
    let steps = longest.map(|chain| chain.convergence.len()).max().unwrap_or(1) as f64;
    let rate = drawing.alpha * average.lambda2;
    // Through the last change, to which only the slowest mode still contributes.
    let slope: Vec<(f64, f64)> = match average.convergence.last() {
        Some(last) if rate > 0.0 && *last > 0.0 => {
            let count = average.convergence.len() as f64;
            let at = |step: f64| (step, last * rate.powf(step - count));
            (1..=average.convergence.len()).map(|step| at(step as f64)).collect()
        }
        _ => Vec::new(),
    };
    let (label, names) = axis(&findings.blocks());
    // With only one layer, the average is that layer.
    let members = if findings.layers.len() > 1 { findings.layers.as_slice() } else { &[] };
    Family {
        title: format!("Convergence of the power method · {}", scene.title),
        x_label: "step".into(),
        y_label: "L1 change of the step".into(),
        members: members
            .iter()
            .zip(names)
            .map(|(layer, name)| Member { name, points: points(&layer.mean.convergence) })
            .collect(),
        name_label: format!("{label}, heads averaged"),
        lines: vec![
            Line {
                name: averaged(&findings.blocks()),
                points: points(&average.convergence),
                stroke: Stroke::Thick,
            },
            Line {
                name: format!("its slope from λ₂: factor α λ₂ = {rate:.3}"),
                points: slope,
                stroke: Stroke::Dashed,
            },
            Line {
                name: format!("reference stop, {REFERENCE_CHANGE:e}").replace("-", "−"),
                points: vec![(1.0, REFERENCE_CHANGE), (steps, REFERENCE_CHANGE)],
                stroke: Stroke::Dotted,
            },
        ],
    }
}
