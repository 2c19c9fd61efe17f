//! The page of a text: words instead of patches.

use chain_page::{Layer, Layout, Page, Start, spelling};
use markov_core::{Direction, Stochastic, Stop, bounce_token, token_rank};
use ndarray::Array2;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::{QUANTISED, worst};

const BOUNCES: usize = 3;

/// Three lines, and spaces of all kinds, as a byte-level BPE writes them.
const TEXT: [&str; 16] = [
    "<|im_start|>",
    "The",
    "Ġcat",
    "Ġsat",
    "Ċ",
    "Ġ",
    "ĠĠ",
    "on",
    "Ġa",
    "Ġ<b>",
    "ĊĊ",
    "un",
    "believ",
    "able",
    "Ġcat",
    ".",
];

/// Returns the causal attention of a head: some structure, and the first token as a sink.
fn causal(seed: usize) -> Array2<f32> {
    let n = TEXT.len();
    let logit = |i: usize, j: usize| {
        ((i * 13 + j * 7 + seed * 5) as f32 * 0.61).sin() + if j == 0 { 2.0 } else { 0.0 }
    };
    let mut map = Array2::from_shape_fn((n, n), |(i, j)| if j > i { 0.0 } else { logit(i, j).exp() });
    for mut row in map.rows_mut() {
        let sum = row.sum();
        row /= sum;
    }
    map
}

fn page(start: Start) -> Page {
    let layer = |block: usize| {
        let heads = vec![causal(block), causal(block + 7)];
        let mean = (&heads[0] + &heads[1]) / 2.0;
        Layer { name: format!("layers.{block}"), mean, heads, lambda2: vec![0.5, f64::NAN] }
    };
    Page {
        title: "tiny-lm · 16 tokens".into(),
        facts: vec![("Network".into(), "two layers".into())],
        image: None,
        reference: None,
        layout: Layout::text(spelling(&TEXT)),
        alpha: 0.9,
        start,
        bounces: BOUNCES,
        layers: vec![layer(0), layer(1)],
        layers_word: "layers".into(),
        figures: Vec::new(),
    }
}

/// Opens a page; `None` if there is no browser.
fn opened(page: &Page) -> Option<Browser> {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("index.html");
    std::fs::write(&file, page.to_html().expect("a sound page")).expect("writable");
    let mut browser = Browser::start()?;
    browser.resize(1280, 1200);
    browser.open(&file);
    Some(browser)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// Compares the shown chain with markov-core.
fn check(browser: &mut Browser, map: &Array2<f32>, token: usize, direction: Direction) {
    let current = browser.eval("tokenrank.current()");
    assert_eq!(current["token"], token);
    let matrix = Stochastic::new(map.clone()).expect("a transition matrix");
    let chain = matrix.teleport(0.9).and_then(|matrix| matrix.towards(direction)).expect("a chain");
    let bounces = bounce_token(&chain, token, BOUNCES).expect("bounces");
    for (n, row) in bounces.rows().into_iter().enumerate() {
        assert!(worst(&numbers(&current["bounces"][n]), &row.to_vec()) < QUANTISED, "bounce {}", n + 1);
    }
    let pi = token_rank(&chain, Stop::strict()).expect("a steady state").pi;
    assert!(worst(&numbers(&current["steady"]), &pi.to_vec()) < QUANTISED, "the steady state");
}

/// Words are read, picked by pointer and keyboard, and coloured by the numbers of the chain.
#[test]
fn a_reader_picks_words() {
    let Some(mut browser) = opened(&page(Start::Token(14))) else { return };
    let page = page(Start::Token(14));
    let mean = (&page.layers[0].mean + &page.layers[1].mean) / 2.0;
    check(&mut browser, &mean, 14, Direction::Forward);

    let flow = "document.querySelector('.flow[data-show=\"chosen\"]')";
    let text = browser.eval(&format!("{flow}.innerText"));
    assert_eq!(
        text, "<|im_start|>The cat sat↵\n␣␣␣on a <b>↵↵\n\nunbelievable cat.",
        "the text as a reader sees it"
    );
    let chain = browser.eval("document.getElementById('chain').textContent");
    assert_eq!(chain, "mean of layers, mean of heads · forward · start: “cat” (token 14) · α = 0.9");
    assert_eq!(
        browser.eval(&format!("[...{flow}.querySelectorAll('.start')].map((word) => +word.dataset.token)")),
        json!([14])
    );
    // The word of the largest probability has the colour at the end of the scale.
    let colours = browser.eval(&format!(
        "(() => {{ const state = tokenrank.current().bounces[0]; const best = state.indexOf(Math.max(...state));
           return [best, getComputedStyle({flow}.querySelectorAll('.word')[best]).backgroundColor]; }})()"
    ));
    assert_eq!(colours, json!([0, "rgb(254, 232, 37)"]));
    let words = browser.eval("document.getElementById('rank-words').textContent");
    assert!(
        words.as_str().expect("text").contains("only move to earlier tokens and collect on the first one"),
        "{words}"
    );

    // A click on a word, on a column, and the keys.
    browser.eval(&format!("{flow}.querySelectorAll('.word')[12].click()"));
    check(&mut browser, &mean, 12, Direction::Forward);
    browser.eval(&format!("{flow}.focus()"));
    for (key, token) in [
        ("ArrowLeft", 11),
        ("ArrowRight", 12),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("End", 15),
        ("ArrowRight", 15),
    ] {
        browser.press(key);
        assert_eq!(browser.eval("tokenrank.current().token"), token, "{key}");
    }
    // From the end of the last line to the line above, and back down; beyond the first line nothing changes.
    browser.press("ArrowUp");
    let above = browser.eval("tokenrank.current().token").as_u64().expect("a token");
    assert!((5..=10).contains(&above), "token {above} is in the second line");
    browser.press("ArrowDown");
    assert!(browser.eval("tokenrank.current().token").as_u64().expect("a token") > 10);
    browser.press("Home");
    browser.press("ArrowUp");
    assert_eq!(browser.eval("tokenrank.current().token"), 0);

    browser.eval(
        "(() => { const canvas = document.querySelector('#strip .map canvas'); const box = canvas.getBoundingClientRect();
           const at = { clientX: box.left + (3.5 / 16) * box.width, clientY: box.top + 5, bubbles: true };
           canvas.dispatchEvent(new PointerEvent('pointermove', at)); canvas.dispatchEvent(new MouseEvent('click', at)); })()",
    );
    check(&mut browser, &mean, 3, Direction::Forward);
    let tip = browser.eval("document.getElementById('tip').innerText");
    assert!(tip.as_str().expect("text").starts_with("“sat” · token 3"), "{tip}");
    assert_eq!(
        browser.eval("document.querySelectorAll('.word.hover').length"),
        2,
        "the word is outlined in both texts"
    );

    browser.eval("tokenrank.choose({ layer: 1, head: 1, direction: 'backward', bounce: 'inf' })");
    check(&mut browser, &page.layers[1].heads[1], 3, Direction::Backward);
    let words = browser.eval("document.getElementById('map-words').textContent");
    assert!(
        words.as_str().expect("text").contains("only move to later tokens and collect on the last one"),
        "{words}"
    );
    let hash = browser.eval("location.hash");
    assert!(
        hash.as_str().expect("text").contains("layer=layers.1&head=1&direction=backward&token=3&bounce=inf"),
        "{hash}"
    );
    assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
}

/// A start of several words has a button to come back to, and a row if it is a distribution.
#[test]
fn walks_start_from_several_words() {
    let weights = (0..TEXT.len()).map(|token| if token % 5 == 0 { 0.25 } else { 0.0 }).collect::<Vec<f64>>();
    let start = |weights| Start::Weighted { name: "the question".into(), weights };
    let Some(mut browser) = opened(&page(start(weights))) else { return };
    assert_eq!(browser.eval("tokenrank.current().token"), "word");
    assert_eq!(browser.eval("document.querySelectorAll('#strip .map').length"), BOUNCES + 2);
    browser.eval("tokenrank.choose({ token: 3 })");
    let start = browser.eval("document.querySelector('#strip canvas').getAttribute('aria-label')");
    assert_eq!(start, "Map of token probabilities; largest: “sat”, 100 %", "the first row follows the start");
    browser.eval("document.querySelector('#other-tokens button').click()");
    assert_eq!(browser.eval("tokenrank.current().token"), "word");

    let even = Start::Even { name: "“unbelievable”".into(), tokens: vec![11, 12, 13] };
    let Some(mut browser) = opened(&page(even)) else { return };
    let marked = browser.eval(
        "[...document.querySelectorAll('.flow[data-show=\"inf\"] .start')].map((word) => word.textContent)",
    );
    assert_eq!(marked, json!(["un", "believ", "able"]));
    assert_eq!(browser.eval("document.querySelectorAll('#strip .map').length"), BOUNCES + 1);
    assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
}

/// Texts of every kind of script, hidden characters, and tokens of which nothing is known.
#[test]
fn tokens_of_every_kind_can_be_read() {
    let text = |pieces: &[&str]| Layout::text(pieces.iter().map(|&piece| piece.to_owned()).collect());
    for (layout, shown, direction) in [
        (text(&["one", "two", "three"]), "one two three", "ltr"),
        (text(&["我", "们 ", "在"]), "我们 在", "ltr"),
        (text(&["\u{5d0}", " \u{5d1}", "a\u{202e}b"]), "\u{5d0} \u{5d1}a\\u{202e}b", "rtl"),
        (text(&["", "\t", " \u{0}"]), "∅⇥ \\u{0}", "ltr"),
        // Joiners belong to words of Persian and to emoji; alone they are invisible.
        (
            text(&["\u{645}\u{6cc}\u{200c}\u{62e}", " \u{200d}", " b"]),
            "\u{645}\u{6cc}\u{200c}\u{62e} \\u{200d} b",
            "rtl",
        ),
        (Layout::numbered(3), "0 1 2", "ltr"),
    ] {
        let map = Array2::from_elem((3, 3), 1.0 / 3.0);
        let layer = Layer { name: "layer".into(), mean: map, heads: Vec::new(), lambda2: Vec::new() };
        let page = Page { layout, layers: vec![layer], ..page(Start::Token(1)) };
        let Some(mut browser) = opened(&page) else { return };
        let seen = browser.eval(
            "(() => { const flow = document.querySelector('.flow'); return [flow.innerText, flow.dir]; })()",
        );
        assert_eq!(seen, json!([shown, direction]));
        let chain = browser.eval("document.getElementById('chain').textContent");
        assert_eq!(chain.as_str().expect("text").contains("start: token 1 ·"), shown == "0 1 2", "{chain}");
        assert_eq!(browser.eval("document.getElementById('lambda')"), Value::Null, "no head, no table");
        assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
    }
}
