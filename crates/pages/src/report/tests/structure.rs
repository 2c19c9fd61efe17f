//! Tests of the page as text.

use super::super::items::Items;
use super::super::links::Links;
use super::*;
use eval::Error;

/// Elements without an end tag.
const VOID: [&str; 6] = ["meta", "link", "img", "input", "br", "hr"];

struct Element {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Returns the start tags of a page and checks that end tags match them. The text of scripts and styles is skipped.
fn elements(html: &str) -> Vec<Element> {
    let (mut found, mut open) = (Vec::new(), Vec::<String>::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(end) = rest.strip_prefix('/') {
            let (name, after) = end.split_once('>').expect("an end tag");
            assert_eq!(open.pop().as_deref(), Some(name), "what is open is closed");
            rest = after;
            continue;
        }
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).expect("a name");
        assert!(length > 0, "a bare `<` before {}", &rest[..30.min(rest.len())]);
        let name = rest[..length].to_owned();
        rest = &rest[length..];
        let mut attributes: Vec<(String, String)> = Vec::new();
        while !rest.starts_with('>') {
            rest = rest.trim_start();
            let length = rest.find(['=', ' ', '>']).expect("an attribute");
            let key = rest[..length].to_owned();
            rest = &rest[length..];
            let mut value = String::new();
            if let Some(quoted) = rest.strip_prefix("=\"") {
                let (inside, after) = quoted.split_once('"').expect("a quote");
                value = inside
                    .replace("&quot;", "\"")
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&");
                rest = after;
            }
            assert!(!attributes.iter().any(|(known, _)| *known == key), "{name} has {key} twice");
            attributes.push((key, value));
        }
        rest = &rest[1..];
        if name == "script" || name == "style" {
            rest = &rest[rest.find(&format!("</{name}>")).expect("its end")..];
        }
        if !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        found.push(Element { name, attributes });
    }
    assert_eq!(open, [""; 0]);
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a page")
}

#[test]
fn the_page_of_a_run_has_everything_and_loads_nothing() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = page(dir.path(), 60);
    assert_eq!(path, dir.path().join("report.html"));
    let html = read(&path);
    let elements = elements(&html);
    let named = |name: &'static str| elements.iter().filter(move |element| element.name == name);
    for landmark in ["header", "nav", "main", "footer", "h1"] {
        assert_eq!(named(landmark).count(), 1, "{landmark}");
    }
    assert!(
        elements
            .iter()
            .any(|element| element.get("class") == Some("skip") && element.get("href") == Some("#main"))
    );

    // Loaded content is in the page; links lead to the page itself, to embedded data, or to files in its folder.
    for element in &elements {
        for key in ["src", "srcset", "data", "action"] {
            let value = element.get(key).unwrap_or("data:");
            assert!(value.starts_with("data:"), "{} {key} {value}", element.name);
        }
        let href = element.get("href").unwrap_or("#");
        assert!(!href.contains(':') || href.starts_with("data:"), "{href}");
        assert!(!element.attributes.iter().any(|(key, _)| key.starts_with("on") && key != "onsubmit"));
    }
    assert!(
        !html.contains("http:") && !html.contains("https:") && !html.contains("url("),
        "another place is named"
    );
    let ids: Vec<&str> = elements.iter().filter_map(|element| element.get("id")).collect();
    for (place, id) in ids.iter().enumerate() {
        assert!(!ids[..place].contains(id), "the id #{id} occurs twice");
    }
    for element in &elements {
        for key in ["aria-labelledby", "aria-describedby"] {
            assert!(element.get(key).is_none_or(|id| ids.contains(&id)), "{key} {:?}", element.get(key));
        }
        if let Some(anchor) = element.get("href").and_then(|href| href.strip_prefix('#')) {
            assert!(ids.contains(&anchor), "#{anchor} leads nowhere");
        }
    }

    // A miniature says so, shows the paper's value and no difference.
    assert!(html.contains("A miniature."));
    assert!(html.contains("<td class=\"paper\" data-value=\"0.26\">0.26</td>"));
    let values =
        html.split("id=\"run-1-values\"").nth(1).expect("values").split("</table>").next().expect("a table");
    assert!(
        values.contains(">paper</th>") && !values.contains(">Δ</th>"),
        "a difference to the paper's value"
    );
    // Intervals, failures, the recipe.
    assert!(html.contains(" … ") && html.contains("1 item could not be answered"));
    // The meaning of the numbers.
    assert!(html.contains("AUC: accuracy ÷ unmasked accuracy, mean over 0–95 %"));
    assert!(html.contains("tokenrank run masking-vit.toml --limit 60 --device cpu"));
    for file in ["records.jsonl", "results.json", "run.json"] {
        assert!(elements.iter().any(|element| element.get("href") == Some(file)), "{file}");
    }
    for kind in ["md", "tex", "csv", "parquet"] {
        let file = format!("masking-vit-values.{kind}");
        assert!(elements.iter().any(|element| element.get("download") == Some(&file)), "{file}");
    }
    // The page contains the table without the script, sorted with the worst items first.
    let rows: Vec<_> = named("tr").filter(|row| row.get("data-item").is_some()).collect();
    assert_eq!(rows.len(), 25);
}

#[test]
fn hostile_names_are_escaped() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let evil = "</script><img src=x onerror=alert(1)>\" onfocus=\"alert(2)' {{}} <!--\u{202e}";
    let mut experiment = experiment();
    experiment.title = format!("title {evil}");
    let answers = answers(30, &experiment, |item| format!("{evil}{item}"));
    let folder = dir.path().join("runs & \"more\" <b>");
    forge(&folder.join("a:b"), evil.trim_start_matches("</script>"), &experiment, &answers);
    forge(&folder.join("<i>"), "second", &experiment, &answers);
    let out = dir.path().join("page.html");
    let written = report(&folder, Some(&out)).expect("a page");
    assert_eq!((written.runs, &written.path), (2, &out));
    let html = read(&out);
    let elements = elements(&html);
    assert_eq!(html.matches("<script").count(), 2 + 2, "a name has begun a script");
    for element in &elements {
        assert!(
            !element
                .attributes
                .iter()
                .any(|(key, _)| key.starts_with("onerror") || key.starts_with("onfocus"))
        );
        assert!(element.get("src") != Some("x"));
    }
    assert!(html.contains("title &lt;/script&gt;&lt;img src=x"));
    // Direction marks in names are shown.
    assert!(html.contains("id=\"run-1-title\">title &lt;/script&gt;"), "the title");
    assert!((0..30).any(|item| html.contains(&format!("&lt;!--\\u{{202e}}{item}<"))), "an item");
    let records = "runs%20%26%20%22more%22%20%3Cb%3E/a%3Ab/records.jsonl";
    assert!(elements.iter().any(|element| element.get("href") == Some(records)));
}

#[test]
fn unfinished_and_damaged_runs_are_refused_without_a_page() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let refused = |word: &str| {
        let error = report(dir.path(), None).expect_err("refused");
        assert!(matches!(error, Error::Run(runs::Error::Unreadable { .. })), "{error}");
        let message = error.to_string();
        assert!(message.contains(word) && !message.contains('\n'), "{message}");
        assert!(!dir.path().join("report.html").exists());
    };
    refused("no finished run here");
    page(dir.path(), 40);
    std::fs::remove_file(dir.path().join("report.html")).expect("removed");
    let file = |name: &str| dir.path().join(name);
    let records = std::fs::read(file("records.jsonl")).expect("records");
    std::fs::write(file("records.jsonl"), &records[..records.len() / 2]).expect("written");
    refused("whole records");
    std::fs::write(file("records.jsonl"), &records).expect("written");
    let results = std::fs::read(file("results.json")).expect("results");
    std::fs::write(file("results.json"), &results[..100]).expect("written");
    refused("results.json");
    std::fs::remove_file(file("results.json")).expect("removed");
    refused("has not finished");
    std::fs::write(file("run.json"), "{").expect("written");
    refused("run.json is damaged");
}

#[test]
fn records_of_another_run_are_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
    let experiment = experiment();
    let mut answers = answers(40, &experiment, |item| item.to_string());
    forge(&ours, "masking-vit", &experiment, &answers);
    let Some(Answer::Record(record)) = answers.first_mut() else { panic!("a record") };
    let label = record.label;
    record.predicted.values_mut().flatten().for_each(|class| *class = label);
    forge(&others, "masking-vit", &experiment, &answers);
    std::fs::copy(others.join("records.jsonl"), ours.join("records.jsonl")).expect("copied");
    let message = report(&ours, None).expect_err("refused").to_string();
    assert!(message.contains("records.jsonl") && message.contains("of different runs"), "{message}");
    report(&others, None).expect("a page");
}

#[test]
fn runs_that_have_not_finished_are_named() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let experiment = experiment();
    for name in ["vit", "clip"] {
        let answers = answers(20, &experiment, |item| item.to_string());
        forge(&dir.path().join(name), "masking-vit", &experiment, &answers);
    }
    std::fs::remove_file(dir.path().join("clip/results.json")).expect("removed");
    let written = report(dir.path(), None).expect("a page");
    assert_eq!((written.runs, &written.unfinished[..]), (1, &[dir.path().join("clip")][..]));
    let html = read(&written.path);
    elements(&html);
    assert!(html.contains("1 run has not finished</h2>") && html.contains("<a href=\"clip/\">clip</a>"));
}

#[test]
fn several_runs_fill_one_table_of_the_paper() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let mut experiment = experiment();
    forge(
        &dir.path().join("vit"),
        "masking-vit",
        &experiment,
        &answers(20, &experiment, |item| item.to_string()),
    );
    experiment.fills.as_mut().expect("a table").column = Some("CLIP".into());
    forge(
        &dir.path().join("clip"),
        "masking-clip",
        &experiment,
        &answers(20, &experiment, |item| item.to_string()),
    );
    let html = read(&report(dir.path(), None).expect("a page").path);
    elements(&html);
    assert!(html.contains("id=\"together-1\"") && html.contains("Masking the most influential tokens: AUC"));
    assert!(html.contains("href=\"#run-2\"") && html.contains("2 runs · 38 items"));
}

/// Returns the rows of a ranking: the text of every cell.
fn ranking(html: &str) -> Vec<Vec<String>> {
    let board = html.split("<section id=\"board-1\"").nth(1).expect("a ranking");
    let body = board.split("<tbody>").nth(1).expect("a table").split("</tbody>").next().expect("its end");
    let text = |cell: &str| {
        let start = cell.find('>').expect("a tag") + 1;
        cell[start..].split('<').next().expect("a text").to_owned()
    };
    let cells = |row: &str| {
        let row = row.replace("<th scope=\"row\"", "<td");
        row.split("<td").skip(1).map(text).collect()
    };
    body.split("<tr>").skip(1).map(cells).collect()
}

#[test]
fn several_runs_on_the_same_items_are_ranked_together() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let one = experiment();
    let found = answers(60, &one, |item| item.to_string());
    forge(&dir.path().join("one"), "masking-vit", &one, &found);
    // The other run differs in TokenRank only, which finds the tokens at once.
    let mut better = found.clone();
    for answer in &mut better {
        let Answer::Record(record) = answer else { continue };
        let label = record.label;
        let predicted = record.predicted.get_mut("tokenrank").expect("TokenRank");
        predicted.iter_mut().for_each(|class| *class = (label + 1) % 10);
    }
    let other = Experiment::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/mini/masking-vit.toml"),
        &["task.masking.layers=all".to_owned()],
    )
    .expect("an experiment");
    forge(&dir.path().join("other"), "masking-vit", &other, &better);
    let html = read(&report(dir.path(), None).expect("a page").path);
    elements(&html);
    assert!(
        html.contains("Ranking by AUC ↓: masking with vit on mini") && html.contains("href=\"#board-1\"")
    );
    let rows = ranking(&html);
    // Nine methods, of which one has other answers in the other run.
    assert_eq!(rows.len(), 10);
    let of = |method: &str, run: &str| {
        let row = rows.iter().find(|row| row[0] == method && row[1] == run);
        row.unwrap_or_else(|| panic!("{method} of {run} is not in {rows:?}")).clone()
    };
    assert_eq!(of("TokenRank", "other")[2..4], ["best", "1"]);
    let (behind, shared) = (of("TokenRank", "one"), of("Random", "one, other"));
    assert!(behind[2] == "behind" && shared[2] == "behind", "{rows:?}");
    let number = |text: &str| text.replace('−', "-").parse::<f64>().expect("a number");
    let values: Vec<f64> = rows.iter().map(|row| number(&row[4])).collect();
    assert!(values.is_sorted(), "{values:?}");
    for row in &rows[1..] {
        let [value, low, high, difference, from, to] = [4, 5, 6, 7, 8, 9].map(|column| number(&row[column]));
        assert!(low <= value && value <= high && from <= difference && difference <= to, "{row:?}");
        assert!((difference - (value - values[0])).abs() < 2e-3, "{row:?}");
        assert_eq!(row[2] == "tie", from <= 0.0, "{row:?}");
    }

    // A run over other items is not ranked with these.
    std::fs::remove_dir_all(dir.path().join("other")).expect("removed");
    forge(&dir.path().join("other"), "masking-vit", &other, &better[..40]);
    let html = read(&report(dir.path(), None).expect("a page").path);
    assert!(!html.contains("board-1"));
}

#[test]
fn methods_that_the_items_cannot_tell_apart_are_ties() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let experiment = experiment();
    let found = answers(40, &experiment, |item| item.to_string());
    // Every other image is one step better, every other one step worse.
    let mut shifted = found.clone();
    for (item, answer) in shifted.iter_mut().enumerate() {
        let Answer::Record(record) = answer else { continue };
        let label = record.label;
        for predicted in record.predicted.values_mut() {
            let survived = predicted.iter().filter(|class| **class == label).count();
            let step = if item % 2 == 0 { survived } else { survived - 1 };
            if let Some(class) = predicted.get_mut(step) {
                *class = if item % 2 == 0 { label } else { (label + 1) % 10 };
            }
        }
    }
    for (name, answers) in [("one", &found), ("two", &shifted)] {
        forge(&dir.path().join(name), "masking-vit", &experiment, answers);
    }
    let rows = ranking(&read(&report(dir.path(), None).expect("a page").path));
    assert_eq!(rows.len(), 18);
    let best = &rows[0];
    let twin =
        rows.iter().find(|row| row[0] == best[0] && row[1] != best[1]).expect("the method in the other run");
    assert!(best[2] == "best" && twin[2] == "tie" && twin[3] == "1", "{rows:?}");
    assert!(rows.iter().any(|row| row[2] == "behind" && row[3] != "1"), "{rows:?}");
}

/// A run with more items than fit: the page keeps both ends of every score, and a file beside it has all items.
#[test]
fn items_beyond_the_budget_are_in_a_file() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    page(dir.path(), 2000);
    let folder = eval::RunFolder::open(dir.path()).expect("a run");
    let links = Links::from(dir.path()).expect("a folder");
    let all = Items::read(&folder, &links).expect("items");
    let (view, needed) = (&all.view, all.bytes());
    let html = read(&dir.path().join("report.html"));
    let data = html.split("<script type=\"application/json\">").nth(1).expect("data");
    let (data, _) = data.split_once("</script>").expect("an end");
    assert!(
        data.len() < needed + 3000 * 120 && 2 * data.len() > needed,
        "{} of about {needed} bytes",
        data.len()
    );

    let mut cut = Items::read(&folder, &links).expect("items");
    let list = dir.path().join("report-items.csv");
    cut.cut(needed, list.clone(), &links).expect("room");
    assert!(cut.list.is_none() && cut.view.rows.len() == 2000);
    cut.cut(needed - needed / 10, list.clone(), &links).expect("a list");
    let rows = &cut.view.rows;
    assert_eq!((rows.len(), cut.all, cut.failed), (1800, 2000, 1));
    let kept: Vec<usize> =
        rows.iter().map(|row| view.rows.iter().position(|one| one.id == row.id).expect("kept")).collect();
    assert!(kept.is_sorted() && rows.iter().any(|row| row.failed.is_some()));
    for (score, whole) in cut.view.scores.iter().zip(&view.scores) {
        for (method, values) in score.values.iter().enumerate() {
            assert!(kept.iter().zip(values).all(|(&item, value)| whole.values[method][item] == *value));
            let worst = all.worst_first(whole, method);
            assert!(worst[..50].iter().all(|item| kept.contains(item)), "{} of method {method}", score.title);
        }
    }
    let (_, flagged) = cut.view.flagged.as_ref().expect("a group");
    assert!(flagged.iter().all(|&item| rows[item].facts[0] != rows[item].facts[1]));

    let bytes = cut.list.expect("a list").bytes;
    let csv = String::from_utf8(bytes).expect("text");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines.len() == 2001 && lines[0].starts_with("item,failed,line,class,predicted,"), "{}", lines[0]);
    assert_eq!(lines[7].split(',').count(), 5 + view.scores.len() * view.methods.len());
    assert!(lines[2000].starts_with("scene/01999,\"torn"), "{}", lines[2000]);

    // A budget below that of the ends keeps what is furthest out.
    let mut few = Items::read(&folder, &links).expect("items");
    few.cut(needed.div_ceil(25), list, &links).expect("a list");
    assert_eq!(few.view.rows.len(), 80);
}

#[test]
fn line_numbers_of_records_match_the_file() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    page(dir.path(), 60);
    let text = read(&dir.path().join("records.jsonl"));
    let lines: Vec<&str> = text.lines().collect();
    let folder = eval::RunFolder::open(dir.path()).expect("a run");
    let answers = folder.answers::<MaskingRecord>().expect("answers");
    assert_eq!(answers.len(), 60);
    for (item, (line, answer)) in answers.into_iter().enumerate() {
        assert!(lines[line - 1].contains(&format!("scene/{item:05}")), "{line}: {answer:?}");
    }
}

#[test]
fn a_sweep_has_its_table_and_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let experiment = experiment();
    for run in ["layers-last-1", "layers-all"] {
        forge(
            &dir.path().join("runs").join(run),
            "sweep",
            &experiment,
            &answers(12, &experiment, |item| item.to_string()),
        );
    }
    let sweep = dir.path().join("sweep.json");
    let combination = |layers: &str, ours: f64| serde_json::json!({ "settings": { "layers": layers }, "auc": { "tokenrank": ours, "random": 0.8 } });
    let stored = serde_json::json!({
        "schema": 1, "title": "Open <choices>", "items": 11, "metric": "auc",
        "combinations": [combination("last:1", 0.3), combination("all", 0.9)],
    });
    std::fs::write(&sweep, stored.to_string()).expect("written");
    let html = read(&report(dir.path(), None).expect("a page").path);
    elements(&html);
    assert!(html.contains("Open &lt;choices&gt;: AUC ↓ of every combination"));
    // The best of each combination, and methods by their names.
    assert!(
        html.contains("<td class=\"best\" data-value=\"0.3\">0.300</td>") && html.contains(">TokenRank</th>")
    );
    assert!(html.contains("<td class=\"best\" data-value=\"0.8\">0.800</td>"));
    assert!(html.contains("href=\"#run-1\">runs/layers-all</a>"));
    assert!(!html.contains("against each other method"), "earlier versions did not compare methods");

    // What this version writes: the order of the file, differences, and curves.
    let difference = serde_json::json!({ "difference": -0.2, "items": 11, "low": -0.3, "high": -0.1, "level": 0.95, "p_value": 0.01, "resamples": 1000 });
    let mut whole = stored.clone();
    whole["axes"] = serde_json::json!(["layers"]);
    whole["columns"] = serde_json::json!([{ "key": "tokenrank", "label": "Ours" }, { "key": "random", "label": "By <chance>" }]);
    for one in whole["combinations"].as_array_mut().expect("combinations") {
        one["differences"] = serde_json::json!([{ "metric": "auc", "method": "tokenrank", "minus": "random", "interval": difference }]);
    }
    std::fs::write(&sweep, whole.to_string()).expect("written");
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\x2c\0\0\0\xc8".to_vec();
    png.resize(1000, 0);
    std::fs::write(dir.path().join("curve-alpha.png"), &png).expect("written");
    let html = read(&report(dir.path(), None).expect("a page").path);
    elements(&html);
    assert!(html.contains("Ours against each other method, AUC ↓") && html.contains(">By &lt;chance&gt;<"));
    assert!(
        html.contains("curve-alpha.png") && html.find(">Ours</th>") < html.find(">By &lt;chance&gt;</th>")
    );
    std::fs::remove_file(dir.path().join("curve-alpha.png")).expect("removed");

    std::fs::write(&sweep, "{").expect("written");
    let error = report(dir.path(), None).expect_err("damaged");
    assert!(
        matches!(error, Error::Run(runs::Error::Unreadable { .. }))
            && error.to_string().contains("writes it again"),
        "{error}"
    );
}

#[test]
fn images_beyond_the_budget_are_named_and_linked() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let experiment = experiment();
    forge(dir.path(), "masking-vit", &experiment, &answers(12, &experiment, |item| item.to_string()));
    // The budget counts the size of the file; the header gives 300 by 200 pixels.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\x2c\0\0\0\xc8".to_vec();
    png.resize(8 << 20, 0);
    for name in ["masks.png", "overlays.png"] {
        std::fs::write(dir.path().join(name), &png).expect("written");
    }
    std::fs::write(dir.path().join("none.png"), "not an image").expect("written");
    let html = read(&report(dir.path(), None).expect("a page").path);
    assert!(
        html.contains("What was degraded, pass by pass") && html.contains("width=\"300\" height=\"200\"")
    );
    assert!(!html.contains("What the methods see"));
    assert!(
        html.contains("up to 12 MiB of images. Left out, and available as files: <a href=\"overlays.png\">")
    );
    // The scenes of these items are not in the data set, so the page says so and does not show them.
    assert!(html.contains("cannot be read any more or have changed"));
}
