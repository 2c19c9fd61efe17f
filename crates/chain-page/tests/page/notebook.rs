//! The page in a frame of a notebook.

use chain_page::{Error, MAP_BUDGET, NOTEBOOK_BUDGET};
use ndarray::Array2;

use crate::browser::Browser;
use crate::{TOKENS, check_numbers, image, layers, page};

/// The frame runs its scripts and cannot reach the notebook around it.
#[test]
fn a_frame_shows_the_page() {
    let page = page(&image(), 0.99, layers());
    let frame = page.to_notebook(640).expect("a sound page");
    assert!(frame.starts_with("<iframe ") && frame.ends_with("></iframe>"), "{:.80}", frame);
    assert_eq!(frame.matches('<').count(), 2, "the page is an attribute");
    assert!(frame.contains(r#"sandbox="allow-scripts""#) && frame.contains("height: 640px"));
    assert!(!frame.contains("its address"), "a frame has no address");

    // The page reports to the notebook, as nothing else can see into the frame.
    let report = "&lt;script&gt;(async () =&gt; {
        while (document.documentElement.dataset.ready === undefined) await new Promise((done) =&gt; setTimeout(done, 20));
        tokenrank.choose({ layer: 1, head: 0, token: 9 });
        let reached = true;
        try { void parent.document.title; } catch { reached = false; }
        parent.postMessage({ current: tokenrank.current(), reached }, '*');
    })();&lt;/script&gt;&lt;/body&gt;";
    assert_eq!(frame.matches("&lt;/body&gt;").count(), 1);
    let frame = frame.replace("&lt;/body&gt;", report);
    let notebook = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><title>notebook</title>
         <script>addEventListener('message', (event) => {{
             window.received = {{ ...event.data, origin: event.origin }};
             document.documentElement.dataset.ready = '';
         }});</script>{frame}"
    );
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("notebook.html");
    std::fs::write(&file, notebook).expect("writable");
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&file);
    let received = browser.eval("window.received");
    assert_eq!((&received["reached"], &received["origin"]), (&false.into(), &"null".into()));
    let size = browser.eval("(() => { const box = document.querySelector('iframe').getBoundingClientRect(); return [box.height, box.width > 600]; })()");
    assert_eq!(size, serde_json::json!([640, true]));
    assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
    let step = serde_json::json!({
        "what": "in a frame", "current": received["current"], "hash": "", "chain": "", "large": "", "first": "",
        "steady": "", "start": "", "reason": "", "headDisabled": false, "top": [],
    });
    check_numbers(&serde_json::from_value(step).expect("a step"), &layers()[1].heads[0], 0.99);
}

/// A notebook's file holds the page, so fewer maps fit.
#[test]
fn a_notebook_holds_fewer_maps_than_a_file() {
    let states = 1000;
    let map = Array2::from_elem((states, states), 1.0 / states as f32);
    let fitting = |budget: usize| budget / states / states;
    let mut page = page(&image(), 0.99, layers());
    page.layout = chain_page::Layout::numbered(states);
    page.image = None;
    page.layers.truncate(1);
    page.layers[0].mean = map.clone();
    page.layers[0].heads = vec![map; fitting(NOTEBOOK_BUDGET)];
    page.layers[0].lambda2 = vec![0.0; fitting(NOTEBOOK_BUDGET)];
    assert!(fitting(MAP_BUDGET) > fitting(NOTEBOOK_BUDGET) + 1);
    let (html, frame) = (page.to_html().expect("sound"), page.to_notebook(700).expect("sound"));
    assert_eq!(html.matches("type=\"text/plain\"").count(), 1 + fitting(NOTEBOOK_BUDGET));
    assert_eq!(frame.matches("type=&quot;text/plain&quot;").count(), 1);
    assert!(frame.contains("all layers, without their heads, to limit the page's size"));
    assert!(!html.contains("to limit the page"));
}

#[test]
fn both_refuse_a_page_that_contradicts_itself() {
    let mut page = page(&image(), 0.99, layers());
    page.layers[1].mean = Array2::zeros((TOKENS, TOKENS));
    for refused in [page.to_html(), page.to_notebook(700)] {
        let error = refused.expect_err("a map of zeros");
        assert!(
            matches!(error, Error::Matrix { .. }) && error.to_string().contains("layer `block.1`"),
            "{error}"
        );
    }
}
