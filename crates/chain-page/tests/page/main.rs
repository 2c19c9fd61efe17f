//! Tests the page in a browser: it loads without errors, a click changes the maps, and its numbers equal those of `markov-core`.
#![allow(unreachable_pub)]

#[path = "../browser/mod.rs"]
mod browser;
mod notebook;
mod words;

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use browser::Browser;
use chain_page::{Figure, Layer, Layout, Page, Part, Start};
use markov_core::{Direction, Stochastic, Stop, bounce, token_rank};
use ndarray::{Array1, Array2};
use serde::Deserialize;

const SPECIAL: usize = 2;
const ROWS: usize = 5;
const COLUMNS: usize = 7;
const TOKENS: usize = SPECIAL + ROWS * COLUMNS;
const BOUNCES: usize = 4;
/// Error of a probability from encoding entries in 16 bits.
const QUANTISED: f64 = 2e-5;

/// The driver's report.
#[derive(Deserialize)]
struct Report {
    steps: Vec<Step>,
    tip: String,
    errors: Vec<String>,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    what: String,
    current: Current,
    hash: String,
    chain: String,
    large: String,
    first: String,
    steady: String,
    start: String,
    reason: String,
    head_disabled: bool,
    top: Vec<String>,
}

#[derive(Deserialize)]
struct Current {
    layer: String,
    head: serde_json::Value,
    direction: String,
    /// A number, or `word`.
    token: serde_json::Value,
    bounces: Vec<Vec<f64>>,
    steady: Vec<f64>,
    converged: bool,
}

impl Report {
    fn step(&self, what: &str) -> &Step {
        self.steps.iter().find(|step| step.what == what).expect(what)
    }
}

/// Returns a map with a sink, some structure and no symmetry.
fn attention(seed: usize) -> Array2<f32> {
    let logit = |i: usize, j: usize| {
        let wave = ((i * 31 + j * 17 + seed * 101) as f32 * 0.73).sin();
        let near = if i.abs_diff(j) < 3 { 2.0 } else { 0.0 };
        let sink = if j == 9 + seed { 4.0 } else { 0.0 };
        2.0 * wave + near + sink
    };
    let mut map = Array2::from_shape_fn((TOKENS, TOKENS), |(i, j)| logit(i, j).exp());
    for mut row in map.rows_mut() {
        let sum = row.sum();
        row /= sum;
    }
    map
}

fn layers() -> Vec<Layer> {
    let layer = |block: usize| {
        let heads = vec![attention(2 * block), attention(2 * block + 1)];
        let mean = (&heads[0] + &heads[1]) / 2.0;
        Layer { name: format!("block.{block}"), mean, heads, lambda2: vec![0.25, 0.75] }
    };
    vec![layer(0), layer(1)]
}

/// Returns a PNG image with colour gradients.
fn image() -> Vec<u8> {
    let (width, height) = (COLUMNS * 8, ROWS * 8);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> =
        (0..width * height).flat_map(|at| [(at % width * 4) as u8, (at / width * 6) as u8, 120]).collect();
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&pixels).expect("pixels");
    drop(writer);
    file
}

fn page(image: &[u8], alpha: f64, layers: Vec<Layer>) -> Page {
    Page {
        title: "tiny <network> · patches.png".into(),
        facts: vec![("Network".into(), "two layers, two heads & nothing else".into())],
        image: Some(image.to_vec()),
        reference: None,
        layout: Layout::vision(SPECIAL, (ROWS, COLUMNS)),
        alpha,
        start: Start::Token(12),
        bounces: BOUNCES,
        layers,
        layers_word: "layers".into(),
        figures: vec![Figure {
            file: "bounces.png".into(),
            title: "Bounces".into(),
            caption: "A figure in the folder of the page.".into(),
            png: image.to_vec(),
        }],
    }
}

/// Opens the page with the driver in a browser and returns the driver's report. Returns `None` if there is no browser.
fn drive(html: &str) -> Option<Report> {
    let catch = "<script>window.failures = [];
        console.error = (...all) => failures.push(all.join(' '));
        addEventListener('error', (event) => failures.push(event.message));
        addEventListener('unhandledrejection', (event) => failures.push(String(event.reason)));</script>";
    let driver = format!("<script>{}</script></body>", include_str!("driver.js"));
    assert!(html.contains("<body>") && html.contains("</body>"));
    let html = html.replacen("<body>", &format!("<body>{catch}"), 1).replacen("</body>", &driver, 1);

    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("index.html");
    fs::write(&file, html).expect("writable");
    let mut browser = Browser::start()?;
    browser.resize(1280, 1600);
    browser.open(&file);
    browser.until("document.getElementById('report') !== null");
    assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
    let report = browser.eval("document.getElementById('report').textContent");
    let report = STANDARD.decode(report.as_str().expect("text")).expect("base64");
    Some(serde_json::from_slice(&report).expect("a report"))
}

/// Compares the chain that a step shows with markov-core.
fn check_numbers(step: &Step, map: &Array2<f32>, alpha: f64) {
    let start: Vec<usize> = match step.current.token.as_str() {
        Some(word) => {
            assert_eq!(word, "word");
            (0..SPECIAL).collect()
        }
        None => vec![step.current.token.as_u64().expect("a number") as usize],
    };
    let mut from = vec![0.0; TOKENS];
    start.iter().for_each(|token| from[*token] = 1.0 / start.len() as f64);
    check_numbers_from(step, map, alpha, &from);
}

/// Compares the chain that a step shows with markov-core, for a walk from this distribution.
fn check_numbers_from(step: &Step, map: &Array2<f32>, alpha: f64, from: &[f64]) {
    let current = &step.current;
    let matrix = Stochastic::new(map.clone()).expect("a transition matrix");
    let direction = match current.direction.as_str() {
        "forward" => Direction::Forward,
        "backward" => Direction::Backward,
        other => panic!("direction {other}"),
    };
    let chain = matrix.teleport(alpha).and_then(|matrix| matrix.towards(direction)).expect("a chain");
    let bounces = bounce(&chain, Array1::from(from.to_vec()).view(), BOUNCES).expect("bounces");
    assert_eq!(current.bounces.len(), BOUNCES);
    for (n, (found, expected)) in current.bounces.iter().zip(bounces.rows()).enumerate() {
        let off = worst(found, &expected.to_vec());
        assert!(off < QUANTISED, "{}: bounce {} is off by {off:e}", step.what, n + 1);
    }
    assert!(current.converged, "{}", step.what);
    let off =
        worst(&current.steady, &token_rank(&chain, Stop::strict()).expect("a steady state").pi.to_vec());
    assert!(off < QUANTISED, "{}: the steady state is off by {off:e}", step.what);
}

fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max)
}

fn token(row: usize, column: usize) -> usize {
    SPECIAL + row * COLUMNS + column
}

#[test]
fn a_reader_picks_patches_layers_and_heads() {
    let image = image();
    let Some(report) = drive(&page(&image, 0.99, layers()).to_html().expect("a sound page")) else { return };
    assert_eq!(report.errors, [""; 0]);
    assert!(report.enabled);
    let layers = layers();
    let all = (&layers[0].mean + &layers[1].mean) / 2.0;

    let opened = report.step("opened");
    assert_eq!((opened.current.layer.as_str(), &opened.current.token), ("mean", &12.into()));
    assert_eq!(opened.current.head, "mean");
    check_numbers(opened, &all, 0.99);

    let clicked = report.step("clicked");
    assert_eq!(clicked.current.token, token(3, 5));
    assert!(clicked.chain.contains("row 3, column 5"), "{}", clicked.chain);
    assert!(report.tip.starts_with("row 3, column 5 · token 28"), "{}", report.tip);
    assert_ne!(clicked.large, opened.large, "a click changes the large map");
    assert_ne!(clicked.first, opened.first, "a click changes the strip");
    assert_ne!(clicked.start, opened.start, "a click moves the mark");
    assert_eq!(clicked.steady, opened.steady, "the steady state does not depend on the start");
    check_numbers(clicked, &all, 0.99);

    let layer = report.step("layer");
    assert_ne!(layer.large, clicked.large);
    check_numbers(layer, &layers[0].mean, 0.99);

    let head = report.step("head");
    assert_eq!((head.current.layer.as_str(), &head.current.head), ("block.1", &1.into()));
    assert!(head.chain.contains("λ₂ = 0.750"), "{}", head.chain);
    check_numbers(head, &layers[1].heads[1], 0.99);

    let backward = report.step("backward");
    assert_ne!(backward.steady, head.steady);
    check_numbers(backward, &layers[1].heads[1], 0.99);

    let arrow = report.step("arrow");
    assert_eq!(arrow.current.token, token(2, 5));
    let register = report.step("register");
    assert_eq!(register.current.token, 1);
    check_numbers(register, &layers[1].heads[1], 0.99);

    let third = report.step("third bounce");
    assert_ne!(third.large, register.large);
    assert!(third.hash.contains("bounce=3") && third.hash.contains("scale=maximum"), "{}", third.hash);

    let mean = report.step("mean of layers");
    assert!(mean.head_disabled && mean.reason.contains("pick a layer"), "{}", mean.reason);
    check_numbers(mean, &all, 0.99);

    let linked = report.step("linked");
    assert_eq!((linked.current.layer.as_str(), &linked.current.token), ("block.0", &7.into()));
    assert_eq!(linked.current.direction, "forward");
    check_numbers(linked, &layers[0].heads[1], 0.99);
    // The sink of this head is token 10, in row 1.
    assert_eq!(linked.top[0], "row 1, column 1");

    let nonsense = report.step("nonsense");
    assert_eq!(nonsense.current.token, linked.current.token, "an invalid address changes nothing");
    check_numbers(nonsense, &layers[0].mean, 0.99);
}

/// The text, a piece and padding, takes the place of the special tokens of other networks.
#[test]
fn walks_start_from_a_word_of_several_tokens() {
    let image = image();
    let page = Page {
        layout: Layout::joint(vec!["a".into()], SPECIAL - 1, (ROWS, COLUMNS)),
        start: Start::Even { name: "“a word”".into(), tokens: (0..SPECIAL).collect() },
        ..page(&image, 0.99, layers())
    };
    let Some(report) = drive(&page.to_html().expect("a sound page")) else { return };
    assert_eq!(report.errors, [""; 0]);
    let layers = layers();
    let all = (&layers[0].mean + &layers[1].mean) / 2.0;

    let opened = report.step("opened");
    assert_eq!(opened.current.token, "word");
    assert!(opened.chain.contains("start: “a word” ·"), "{}", opened.chain);
    check_numbers(opened, &all, 0.99);

    let clicked = report.step("clicked");
    assert_eq!(clicked.current.token, token(3, 5));
    check_numbers(clicked, &all, 0.99);

    // Padding has no button: the second button, after the word's, is the first token.
    let first = report.step("register");
    assert_eq!(first.current.token, 0);
    assert!(first.chain.contains("start: text 0 “a” (token 0)"), "{}", first.chain);
    check_numbers(first, &layers[1].heads[1], 0.99);
}

/// The start is a probability for every token, as that of a word in a UNet.
#[test]
fn walks_start_from_a_distribution() {
    let image = image();
    let weights: Vec<f64> = (0..TOKENS).map(|token| 1.0 + (token % 5) as f64).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.into_iter().map(|weight| weight / total).collect();
    let page = Page {
        start: Start::Weighted { name: "cross-attention to “a word”".into(), weights: weights.clone() },
        ..page(&image, 0.99, layers())
    };
    let Some(report) = drive(&page.to_html().expect("a sound page")) else { return };
    assert_eq!(report.errors, [""; 0]);
    let layers = layers();
    let all = (&layers[0].mean + &layers[1].mean) / 2.0;
    let opened = report.step("opened");
    assert_eq!(opened.current.token, "word");
    assert!(opened.chain.contains("start: cross-attention to “a word” ·"), "{}", opened.chain);
    check_numbers_from(opened, &all, 0.99, &weights);
    let clicked = report.step("clicked");
    assert_eq!(clicked.current.token, token(3, 5));
    check_numbers(clicked, &all, 0.99);
}

#[test]
fn a_page_without_teleportation_and_without_heads() {
    let image = image();
    let mut layers = layers();
    layers.iter_mut().for_each(|layer| layer.heads.clear());
    let Some(report) = drive(&page(&image, 1.0, layers).to_html().expect("a sound page")) else { return };
    assert_eq!(report.errors, [""; 0]);
    assert!(!report.enabled, "λ₂ of a head whose map is not embedded cannot be picked");
    let layers = self::layers();
    let layer = report.step("layer");
    assert!(layer.head_disabled && layer.reason.contains("too large"), "{}", layer.reason);
    check_numbers(layer, &layers[0].mean, 1.0);
    check_numbers(report.step("backward"), &layers[0].mean, 1.0);
}

#[test]
fn the_page_loads_nothing_and_escapes_names() {
    let image = image();
    let mut layers = layers();
    layers[0].name = "</script><b>".into();
    let html = page(&image, 0.99, layers).to_html().expect("a sound page");
    assert!(!html.contains("://"), "the page names another place");
    assert!(!html.contains("</script><b>"), "a name ends the script");
    assert!(html.contains("<h1>tiny &lt;network&gt; · patches.png</h1>"));
    assert!(html.contains(r#"<a href="bounces.png">bounces.png</a>"#));
    for link in html.split("src=\"").skip(1) {
        assert!(link.starts_with("data:image/png;base64,"), "{}", &link[..40]);
    }
}

#[test]
fn maps_that_are_too_large_leave_the_figures() {
    let states = 3600;
    let large = Layer {
        name: "block.0".into(),
        mean: Array2::from_elem((states, states), 1.0 / states as f32),
        heads: Vec::new(),
        lambda2: vec![0.0],
    };
    let page = Page { layout: Layout::vision(0, (60, 60)), ..page(&image(), 0.99, vec![large]) };
    let html = page.to_html().expect("a sound page");
    assert!(html.contains("too large for a page") && html.contains("bounces.png"));
    assert!(html.contains("two layers, two heads &amp; nothing else"));
    assert!(!html.contains("<script") && !html.contains("<select"));
}

/// Patches of an image that nobody has.
#[test]
fn patches_are_shown_without_their_image() {
    let page = Page { image: None, figures: Vec::new(), ..page(&image(), 0.99, layers()) };
    let html = page.to_html().expect("a sound page");
    assert!(
        !html.contains("<img") && !html.contains("id=\"opacity\""),
        "there is nothing that could shine through"
    );
    let Some(report) = drive(&html) else { return };
    assert_eq!(report.errors, [""; 0]);
    let layers = layers();
    let all = (&layers[0].mean + &layers[1].mean) / 2.0;
    check_numbers(report.step("opened"), &all, 0.99);
    assert_eq!(report.step("clicked").current.token, token(3, 5));
    assert_ne!(report.step("clicked").large, report.step("opened").large);
}

/// The tokens of the reference image follow those of the image and have rows and columns of their own.
#[test]
fn a_reference_image_has_a_grid_of_its_own() {
    let (rows, reference_rows, columns) = (3, 4, 5);
    let picture = image();
    let plain = page(&picture, 0.99, layers());
    let mut layout = Layout::joint(vec!["a".into()], SPECIAL - 1, (rows, columns));
    layout.parts.push(Part::Reference { rows: reference_rows, columns });
    let page = Page { layout, reference: Some(picture.clone()), ..plain.clone() };
    let html = page.to_html().expect("a sound page");
    assert!(html.contains("<img id=\"reference\" src=\"data:image/png;base64,"));
    assert!(html.contains("The lower image is the reference."));
    let without = plain.to_html().expect("a sound page");
    assert!(!without.contains("id=\"reference\"") && !without.contains("lower image"));

    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("index.html");
    fs::write(&file, html).expect("writable");
    let Some(mut browser) = Browser::start() else { return };
    browser.resize(1280, 1600);
    browser.open(&file);
    // 1.5 rows above the image of 3 rows, half a row below it, and the reference, which has the same proportions.
    let click = |row: f64, x: f64| {
        format!(
            "(() => {{ const map = document.querySelector('.map[data-show=\"chosen\"] canvas'); const box = map.getBoundingClientRect();
              map.dispatchEvent(new MouseEvent('click', {{ bubbles: true, clientX: box.left + {x} * box.width,
              clientY: box.top + {row} / 8 * box.height }})); return tokenrank.current().token; }})()"
        )
    };
    let first = SPECIAL + rows * columns;
    let patch = |row: usize, column: usize| first + row * columns + column;
    assert_eq!(browser.eval(&click(5.0 + 2.5 * 0.75, 3.5 / 5.0)), patch(2, 3));
    let current: Current = serde_json::from_value(browser.eval("tokenrank.current()")).expect("the numbers");
    let row: f64 = current.bounces[0].iter().sum();
    assert!((row - 1.0).abs() < 1e-5 && current.bounces[0].len() == TOKENS);
    let words = browser.eval("document.getElementById('chain').textContent");
    assert!(
        words.as_str().is_some_and(|words| words.contains("start: reference row 2, column 3 (token 30)")),
        "{words}"
    );
    // Between the images there is nothing; the image is above the gap.
    assert_eq!(browser.eval(&click(4.75, 0.5)), patch(2, 3));
    assert_eq!(browser.eval(&click(4.25, 0.5)), SPECIAL + 2 * columns + 2);
    browser.eval("document.querySelector('.map[data-show=\"picture\"]').focus()");
    for (key, token) in [("ArrowDown", patch(0, 2)), ("ArrowDown", patch(1, 2)), ("ArrowUp", patch(0, 2))] {
        browser.press(key);
        assert_eq!(browser.eval("tokenrank.current().token"), token, "{key}");
    }
    browser.press("ArrowUp");
    assert_eq!(browser.eval("tokenrank.current().token"), SPECIAL + 2 * columns + 2);
    assert_eq!(browser.complaints, [""; 0]);
}
