//! Tests of the findings against markov-core, and of the figures and files.

use std::fs;
use std::path::Path;

use markov_core::{Stochastic, Stop, bounce_token, power_method, token_rank, uniform};
use models::Stream;
use models::probe::LayerChain;
use ndarray::{Array2, Axis};

use super::findings::{Findings, METASTABLE_STATES, Questions, REFERENCE_CHANGE};
use super::folder::Staged;
use super::tokens::Spread;
use super::vision::covered;
use super::*;
use models::image::Rgb8;

/// Returns a row-stochastic matrix that differs between layers, with two groups of tokens that mostly attend to themselves.
fn map(n: usize, layer: usize) -> Array2<f32> {
    let mut map = Array2::from_shape_fn((n, n), |(i, j)| {
        let within = if (i < n / 3) == (j < n / 3) { 8.0 } else { 1.0 };
        within + ((i * 7 + j * 13 + layer * 5) % 11) as f32
    });
    for mut row in map.axis_iter_mut(Axis(0)) {
        let sum = row.sum();
        row.mapv_inplace(|value| value / sum);
    }
    map
}

fn layers(n: usize, count: usize) -> Vec<LayerChain> {
    (0..count)
        .map(|block| LayerChain {
            stream: Stream::Vision,
            block,
            mean: map(n, block),
            lambda2: vec![0.3, 0.9],
            heads: Vec::new(),
        })
        .collect()
}

const QUESTIONS: Questions = Questions { alpha: 0.99, start: Spread::Even(4..5), bounces: 3, sets: Some(2) };

fn close(found: &[f64], wanted: impl IntoIterator<Item = f64>) {
    let wanted: Vec<f64> = wanted.into_iter().collect();
    assert_eq!(found.len(), wanted.len());
    let l1: f64 = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).sum();
    assert!(l1 < 1e-6, "{l1:e} apart");
}

#[test]
fn bounces_and_steady_states_are_those_of_the_mean_chain() {
    let layers = layers(13, 3);
    let found = Findings::of(&layers, QUESTIONS, |_| true).unwrap();
    let mut mean = Array2::<f64>::zeros((13, 13));
    for layer in &layers {
        mean += &layer.mean.mapv(f64::from);
    }
    let mean = Stochastic::new(mean / 3.0).unwrap();
    let forward = mean.teleport(0.99).unwrap().forward();
    let backward = mean.teleport(0.99).unwrap().backward().unwrap();
    for (states, chain) in [(&found.forward, &forward), (&found.backward, &backward)] {
        let wanted = bounce_token(chain, 4, 3).unwrap();
        assert_eq!(states.len(), 3);
        for (state, wanted) in states.iter().zip(wanted.rows()) {
            close(state, wanted.iter().copied());
        }
    }
    close(&found.average.incoming, token_rank(&forward, Stop::strict()).unwrap().pi);
    close(&found.average.outgoing, token_rank(&backward, Stop::strict()).unwrap().pi);
    // A single layer.
    let alone = Stochastic::new(layers[2].mean.mapv(f64::from)).unwrap();
    let pi = token_rank(&alone.teleport(0.99).unwrap().forward(), Stop::strict()).unwrap().pi;
    close(&found.layers[2].mean.incoming, pi);
    assert_eq!((found.layers[2].block.number, &found.layers[2].lambda2), (2, &vec![0.3, 0.9]));
}

#[test]
fn convergence_counts_as_the_power_method_does() {
    let layers = layers(17, 1);
    let average = Findings::of(&layers, QUESTIONS, |_| true).unwrap().average;
    let matrix = Stochastic::new(layers[0].mean.clone()).unwrap();
    let chain = matrix.teleport(0.99).unwrap().forward();
    let start = uniform(&chain).insert_axis(Axis(0));
    let reference = &power_method(&chain, start, Stop::reference()).unwrap()[0];
    assert!(reference.converged);
    assert_eq!(average.steps(), Some(reference.iterations));
    let at_stop = average.convergence[reference.iterations - 1];
    assert!((at_stop - reference.residual).abs() < 1e-12 && at_stop < REFERENCE_CHANGE);
    assert!(average.convergence.windows(2).all(|pair| pair[1] < pair[0]));
    // At the end only the slowest mode contributes.
    let [.., before, last] = average.convergence.as_slice() else { panic!("too short") };
    assert!((last / before - 0.99 * average.lambda2).abs() < 0.05, "{}", last / before);
}

#[test]
fn a_chain_that_does_not_converge_stops_at_the_step_limit() {
    // Two states with rare transitions, one of them more probable.
    let mean = ndarray::array![[0.9999f32, 0.0001], [0.0003, 0.9997]];
    let layer =
        LayerChain { stream: Stream::Vision, block: 0, mean, lambda2: vec![0.9996], heads: Vec::new() };
    let questions = Questions { alpha: 0.9999, start: Spread::Even(0..1), ..QUESTIONS };
    let found = Findings::of(&[layer], questions, |_| true).unwrap();
    assert_eq!((found.average.convergence.len(), found.average.steps()), (200, None));
}

#[test]
fn metastable_sets_of_separate_groups_stay_more_than_by_chance() {
    let n = 18;
    let found = Findings::of(&layers(n, 2), QUESTIONS, |state| state > 0).unwrap();
    let sets = found.metastable.unwrap();
    let group = |state: usize| sets.assignment[state];
    assert!((0..n / 3).all(|state| group(state) == group(0)));
    assert!((n / 3..n).all(|state| group(state) != group(0)));
    assert_eq!(sets.sizes.iter().sum::<usize>(), n);
    for set in 0..2 {
        assert!(sets.staying[set] > sets.staying_by_chance[set] + 0.05, "{sets:?}");
        let centre = sets.centres[set].unwrap();
        assert!(centre > 0 && group(centre) == set);
    }

    // If all jumps follow the steady state, walks stay exactly as often as by chance.
    let weights: Vec<f32> = (0..n).map(|j| (1 + j % 4) as f32).collect();
    let total: f32 = weights.iter().sum();
    let mean = Array2::from_shape_fn((n, n), |(_, j)| weights[j] / total);
    let layer = LayerChain { stream: Stream::Vision, block: 0, mean, lambda2: vec![0.0], heads: Vec::new() };
    let sets = Findings::of(&[layer], QUESTIONS, |_| true).unwrap().metastable.unwrap();
    close(&sets.staying_by_chance, sets.staying);
}

#[test]
fn sets_of_a_large_chain_are_left_out() {
    let n = METASTABLE_STATES + 1;
    let found = Findings::of(&layers(n, 1), QUESTIONS, |_| true).unwrap();
    assert!(found.metastable.is_none());
}

#[test]
fn an_invalid_map_is_named_in_the_error() {
    let mut layers = layers(5, 2);
    layers[1].mean[(2, 3)] = f32::NAN;
    let error = Findings::of(&layers, QUESTIONS, |_| true).unwrap_err().to_string();
    assert!(error.contains("layer 1") && error.contains("(2, 3)"), "{error}");
}

fn scene(grid: (i64, i64), special: i64, layer_count: usize, start: Start) -> Scene {
    let sequence = models::TokenLayout::vision(special, grid);
    let tokens = Tokens::new(sequence.clone(), sequence);
    let start = tokens.start(&start).unwrap();
    let questions = Questions { start: start.spread.clone(), ..QUESTIONS };
    let layers = layers(tokens.states(), layer_count);
    let findings = Findings::of(&layers, questions, |state| tokens.place(state).is_some()).unwrap();
    let (height, width) = (grid.0 as usize * 4, grid.1 as usize * 4);
    Scene {
        title: format!("{} · {}", "a network with a very long name ".repeat(9), "image ".repeat(30)),
        image: Rgb { width, height, pixels: vec![90; width * height * 3] },
        reference: None,
        tokens,
        start,
        findings,
        drawing: Drawing { bounces: 3, alpha: 0.99, sets: Some(2) },
        about: Vec::new(),
    }
}

/// Causal layers are explained in one line; other layers have no such line.
#[test]
fn triangular_layers_are_explained_once() {
    let mut scene = scene((3, 3), 1, 2, Start::Token(4));
    let said = |scene: &Scene| -> Vec<String> {
        summary::facts(scene).into_iter().filter(|(name, _)| name == "causal").map(|(_, fact)| fact).collect()
    };
    assert!(said(&scene).is_empty());
    let mut causal = layers(10, 2);
    for (i, mut row) in causal[1].mean.rows_mut().into_iter().enumerate() {
        row.slice_mut(ndarray::s![i + 1..]).fill(0.0);
        let sum = row.sum();
        row.mapv_inplace(|value| value / sum);
    }
    scene.findings = Findings::of(&causal, QUESTIONS, |_| true).unwrap();
    let said = said(&scene);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("1 of 2 layers are triangular") && said[0].contains("first one"), "{said:?}");
    assert!(said[0].contains("Absorbing walks") && summary::text(&scene).contains("triangular"));
}

/// Reads width and height from a PNG's header.
fn size(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn grids_of_every_shape_are_drawn() {
    for (grid, special, layers, start) in [
        ((1, 2), 0, 1, Start::Middle),
        ((2, 9), 1, 2, Start::Token(0)),
        ((11, 3), 5, 13, Start::Patch(10, 0)),
    ] {
        let scene = scene(grid, special, layers, start);
        let figures = figures::draw(&scene).unwrap();
        let names: Vec<&str> = figures.iter().map(|figure| figure.file.as_str()).collect();
        assert_eq!(
            names,
            [
                "bounces.png",
                "tokenrank-layers.png",
                "lambda2.png",
                "lambda2-histogram.png",
                "metastable.png",
                "convergence.png"
            ]
        );
        for figure in &figures {
            let (width, height) = size(&figure.png);
            assert!((400..3000).contains(&width) && height < 6000, "{}: {width} × {height}", figure.file);
            assert!(!figure.title.is_empty() && figure.caption.len() > 20);
        }
        let text = summary::text(&scene);
        for word in ["λ₂", "TokenRank of the average", "Metastable sets", "set 2"] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        assert_eq!(text.contains("register 4 belongs to set"), special == 5);
    }
}

/// The page and the figures next to it compute viridis on their own.
#[test]
fn the_page_has_the_colours_of_the_figures() {
    for t in (-10..=1010).map(|i| f64::from(i) / 1000.0) {
        assert_eq!(chain_page::viridis(t), plot::viridis(t), "{t}");
    }
}

#[test]
fn the_image_is_cut_to_complete_patches() {
    let data: Vec<u8> = (0..7 * 5).flat_map(|i| [i as u8; 3]).collect();
    let seen = Rgb8 { width: 7, height: 5, data };
    let covered = covered(&seen, (2, 3), (2, 2));
    assert_eq!((covered.width, covered.height), (6, 4));
    assert_eq!(covered.pixels[(3 * 6 + 5) * 3], 3 * 7 + 5);
}

#[test]
fn models_are_named_by_their_folders() {
    assert_eq!(model_name(Path::new("/models/vit-tiny")), "vit-tiny");
    let cached = Path::new("/hub/models--facebook--dino-vits16/snapshots/0123abcd");
    assert_eq!(model_name(cached), "facebook/dino-vits16");
    assert_eq!(stem(Path::new("photos/tench.of.mine.JPEG")), "tench.of.mine");
}

#[test]
fn files_of_the_same_names_are_replaced_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a/b");
    let staged = Staged::inside(&out).unwrap();
    staged.write("one", b"first").unwrap();
    staged.publish(&out, &["one"]).unwrap();
    fs::write(out.join("mine"), b"stays").unwrap();
    let staged = Staged::inside(&out).unwrap();
    staged.write("one", b"second").unwrap();
    staged.write("not asked for", b"").unwrap();
    assert_eq!(staged.publish(&out, &["one"]).unwrap(), [out.join("one")]);
    assert_eq!(fs::read(out.join("one")).unwrap(), b"second");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    let staged = Staged::inside(&out).unwrap();
    staged.write("below/one", b"third").unwrap();
    assert_eq!(staged.publish(&out, &["below/one"]).unwrap(), [out.join("below/one")]);
    assert_eq!(fs::read(out.join("below/one")).unwrap(), b"third");
    drop(Staged::inside(&dir.path().join("unused")).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left if nothing is published");
}

#[test]
fn an_interrupted_folder_lacks_its_last_file_and_can_be_drawn_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // Files that a killed process leaves.
    let left = Staged::inside(&out).unwrap();
    left.write("show.json", b"of a killed process").unwrap();
    std::mem::forget(left);
    // The lock of a killed process would be released; here the folder is replaced instead.
    let unlocked = fs::File::open(&out).unwrap();
    assert!(unlocked.try_lock().is_err(), "no other process draws here meanwhile");
    let copy = dir.path().join("copy");
    fs::rename(&out, &copy).unwrap();
    fs::create_dir(&out).unwrap();
    for entry in fs::read_dir(&copy).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), out.join(entry.file_name())).unwrap();
    }
    fs::write(out.join("show.json"), b"of an older run").unwrap();

    // `two` cannot be replaced, so the last file must be missing.
    fs::create_dir(out.join("two")).unwrap();
    let staged = Staged::inside(&out).unwrap();
    for name in ["one", "two", "show.json"] {
        staged.write(name, b"new").unwrap();
    }
    staged.publish(&out, &["one", "two", "show.json"]).expect_err("a folder is in the way");
    assert_eq!(fs::read(out.join("one")).unwrap(), b"new");
    assert!(!out.join("show.json").exists());
    let mut left: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["one", "two"], "the staging folder is removed");
}
