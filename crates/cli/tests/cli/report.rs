//! `tokenrank report`: from a run to its page.

use crate::browser::Browser;
use crate::common::{arg, root, run, verdicts, words};

#[test]
fn a_run_and_its_page() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let config = root().join("configs/mini/masking-vit.toml");
    let out = dir.path().join("run");
    run(&["run", arg(&config), "--limit", "12", "--out", arg(&out)], 0);
    for kind in ["md", "csv", "tex", "parquet"] {
        assert!(out.join("table").with_extension(kind).is_file(), "table.{kind}");
    }
    let output = run(&["report", arg(&out)], 0);
    let page = out.join("report.html");
    assert_eq!(String::from_utf8(output.stdout).expect("text"), format!("{}\n", page.display()));
    let html = std::fs::read_to_string(&page).expect("a page");
    for word in [
        "A miniature.",
        "TokenRank, λ₂",
        "href=\"table.tex\"",
        "val-000011",
        "tokenrank run masking-vit.toml",
    ] {
        assert!(html.contains(word), "{word}");
    }
    // The scenes are drawn again for their small pictures.
    assert!(html.matches("data:image/png;base64,").count() > 12, "items have pictures");

    // Elsewhere, links lead back.
    let elsewhere = dir.path().join("page.html");
    run(&["report", arg(&out), "--out", arg(&elsewhere)], 0);
    let html = std::fs::read_to_string(&elsewhere).expect("a page");
    assert!(html.contains("href=\"run/records.jsonl\""));
}

#[test]
fn the_report_opens_in_a_browser() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let config = root().join("configs/mini/masking-vit.toml");
    let out = dir.path().join("run");
    run(&["run", arg(&config), "--limit", "12", "--out", arg(&out)], 0);
    run(&["report", arg(&out)], 0);
    browser.open(&std::fs::canonicalize(out.join("report.html")).expect("a page"));
    assert_eq!(browser.eval("document.querySelector('[data-range]').textContent"), "1–12 of 12");
    assert_eq!(browser.complaints, [""; 0]);
}

/// Two images, one of which a score may happen to be better on: no page makes a verdict of that.
#[test]
fn two_images_give_no_verdict() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let config = root().join("configs/mini/masking-vit.toml");
    let [two, twelve] = ["2", "12"].map(|limit| {
        let out = dir.path().join(limit);
        run(&["run", arg(&config), "--limit", limit, "--out", arg(&out)], 0);
        run(&["report", arg(&out)], 0);
        out.join("report.html")
    });
    let (significant, p) = verdicts(&two);
    assert!(!significant.is_empty());
    assert!(significant.iter().all(|said| said == "too few items") && p.iter().all(|p| p == "–"));
    let html = std::fs::read_to_string(&two).expect("a page");
    assert!(html.contains("Fewer than 6 items have no interval and no verdict"));
    // No interval of a method's own value either.
    assert!(!html.contains("<small>"), "an interval over two images");

    let (significant, p) = verdicts(&twelve);
    assert!(significant.iter().all(|said| said != "too few items"), "{significant:?}");
    assert!(p.iter().all(|p| p == "< 0.001" || p.parse::<f64>().is_ok_and(|p| p > 0.0)), "{p:?}");
}

#[test]
fn what_is_no_finished_run_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let message = words(&run(&["report", arg(dir.path())], 3));
    assert!(message.contains("no finished run here"), "{message}");
    let nowhere = dir.path().join("nowhere");
    let message = words(&run(&["report", arg(&nowhere)], 3));
    assert!(message.contains("there is no such folder"), "{message}");

    // A shard is no run yet.
    let config = root().join("configs/mini/masking-vit.toml");
    let out = dir.path().join("run");
    run(&["run", arg(&config), "--limit", "40", "--shard", "1/2", "--out", arg(&out)], 0);
    let message = words(&run(&["report", arg(&out)], 3));
    assert!(message.contains("tokenrank merge"), "{message}");
    assert!(!out.join("report.html").exists());
    // Beside a whole run it is said that it is missing.
    run(&["run", arg(&config), "--limit", "4", "--out", arg(&dir.path().join("whole"))], 0);
    let message = words(&run(&["report", arg(dir.path())], 0));
    assert!(
        message.contains("left out because they are not finished") && message.contains(arg(&out)),
        "{message}"
    );
}
