//! Numbers in README and in the pages of results against the files that they come from.
//!
//! `results/claims.toml` lists passages of documents with the values that belong into their gaps. A passage that is not in its document
//! word for word fails, and so does a number with a decimal point that is in no passage.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// `results/claims.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// Documents, each with the numbers that are not results: versions, identifiers, settings.
    document: Vec<Document>,
    claim: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    file: String,
    #[serde(default)]
    no_results: Vec<String>,
}

/// A passage with `{}` for each value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// The document.
    file: String,
    text: String,
    /// `FILE: PLACE | FORMAT`, see [`place`] and [`format`].
    values: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The rows of a table as objects.
fn rows(text: &str) -> Value {
    let mut lines = text.lines().map(cells);
    let head = lines.next().unwrap_or_default();
    let row = |cells: Vec<String>| {
        Value::Object(head.iter().cloned().zip(cells.into_iter().map(Value::String)).collect())
    };
    Value::Array(lines.map(row).collect())
}

/// The cells of a line of CSV, with or without quotes.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("a cell");
        match letter {
            // Two quotes stand for one.
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    cells
}

/// Finds a number: `metrics[name=auc;method=cls].value` is `value` of that entry of the list `metrics`. A CSV file is a list of rows. Of
/// an interval, `on_others.low` and `on_others.high` are the ends of the range on another set of images.
fn place(found: &Value, at: &str) -> f64 {
    let mut found = found;
    let mut rest = at;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (wanted, after) = inner.split_once(']').unwrap_or_else(|| panic!("`{at}` lacks a ]"));
            let fits = |entry: &&Value| {
                wanted.split(';').all(|pair| {
                    let (key, value) =
                        pair.split_once('=').unwrap_or_else(|| panic!("`{pair}` is not key=value"));
                    entry[key].as_str().map_or_else(|| entry[key].to_string(), str::to_owned) == value
                })
            };
            let list = found.as_array().unwrap_or_else(|| panic!("`{at}`: no list"));
            let mut fitting = list.iter().filter(fits);
            found = fitting.next().unwrap_or_else(|| panic!("`{at}`: no entry {wanted}"));
            assert!(fitting.next().is_none(), "`{at}`: several entries {wanted}");
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if let Some(end) = name.strip_prefix("on_others.") {
                return on_others(found, end);
            }
            found = &found[&name[..end]];
            rest = &name[end..];
        }
    }
    let number = found.as_f64().or_else(|| found.as_str().and_then(|text| text.parse().ok()));
    number.unwrap_or_else(|| panic!("`{at}` is not a number: {found}"))
}

/// Returns an end of the range in which the difference on another set of as many images is expected: the interval, √2 times as wide
/// on either side.
fn on_others(interval: &Value, end: &str) -> f64 {
    let number = |key: &str| interval[key].as_f64().unwrap_or_else(|| panic!("no {key} in {interval}"));
    let difference = number("difference");
    difference + (number(end) - difference) * std::f64::consts::SQRT_2
}

/// Writes a number: `.3` with three digits, `+.3` with its sign, `%.1` in percent, `e.1` as in 5.4e-6.
fn format(number: f64, format: &str) -> String {
    if let Some(digits) = format.strip_prefix("e.").and_then(|digits| digits.parse::<usize>().ok()) {
        return format!("{number:.digits$e}");
    }
    let (percent, rest) = format.strip_prefix('%').map_or((false, format), |rest| (true, rest));
    let (signed, rest) = rest.strip_prefix('+').map_or((false, rest), |rest| (true, rest));
    let digits: usize = rest
        .strip_prefix('.')
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("format {format}"));
    let number = if percent { 100.0 * number } else { number };
    let mut text = format!("{:.digits$}", number.abs());
    let is_zero = text.chars().all(|letter| matches!(letter, '0' | '.'));
    if number < 0.0 && !is_zero {
        text.insert(0, '−');
    } else if signed && !is_zero {
        text.insert(0, '+');
    }
    text
}

fn value(source: &str) -> String {
    let (file, rest) =
        source.split_once(": ").unwrap_or_else(|| panic!("`{source}` is not FILE: PLACE | FORMAT"));
    let (at, how) = rest.rsplit_once(" | ").unwrap_or_else(|| panic!("`{source}` has no format"));
    let text = read(file);
    let content = if file.ends_with(".csv") {
        rows(&text)
    } else {
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
    };
    format(place(&content, at), how)
}

/// Fills the gaps of a passage.
fn filled(claim: &Claim) -> String {
    let mut parts = claim.text.split("{}");
    let mut text = parts.next().unwrap_or_default().to_owned();
    assert_eq!(parts.clone().count(), claim.values.len(), "gaps and values of `{}`", claim.text);
    for (source, part) in claim.values.iter().zip(&mut parts) {
        write!(text, "{}{part}", value(source)).expect("a string");
    }
    text
}

/// The numbers of a text that have a decimal point, outside of links and code.
fn decimals(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let (mut code, mut target) = (false, false);
    let mut before = ' ';
    for letter in text.chars() {
        match letter {
            '`' => code = !code,
            '(' if before == ']' => target = true,
            ')' => target = false,
            _ => {}
        }
        plain.push(if code || target { ' ' } else { letter });
        before = letter;
    }
    let tokens = plain
        .split(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
        .map(|token| token.trim_matches('.'));
    tokens.filter(|token| token.contains('.')).map(str::to_owned).collect()
}

#[test]
fn every_number_in_the_documents_is_that_of_its_file() {
    let claims: Claims = toml::from_str(&read("results/claims.toml")).expect("results/claims.toml");
    let mut wrong = String::new();
    for Document { file, no_results } in &claims.document {
        let text = read(file);
        // Markdown breaks lines anywhere.
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = flat(&text);
        for claim in claims.claim.iter().filter(|claim| claim.file == *file) {
            let passage = flat(&filled(claim));
            if rest.contains(&passage) {
                rest = rest.replace(&passage, " ");
            } else {
                writeln!(wrong, "{file} lacks this passage, whose numbers come from files:\n  {passage}")
                    .expect("a string");
            }
        }
        for number in decimals(&rest) {
            if !no_results.contains(&number) {
                writeln!(wrong, "{file}: {number} is in no passage of results/claims.toml")
                    .expect("a string");
            }
        }
    }
    for claim in &claims.claim {
        assert!(
            claims.document.iter().any(|document| document.file == claim.file),
            "{} is not listed",
            claim.file
        );
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn numbers_are_found_and_written() {
    let json = serde_json::json!({ "metrics": [{ "name": "auc", "method": "cls", "value": 0.12345 }, { "name": "auc", "value": -2 }] });
    assert_eq!(format(place(&json, "metrics[name=auc;method=cls].value"), ".3"), "0.123");
    assert_eq!(format(place(&json, "metrics[value=-2].value"), ".1"), "−2.0");
    let csv = rows("a,\"b, c\"\n\"x, \"\"y\"\"\",0.5\nz,0.25\n");
    assert_eq!(format(place(&csv, "[a=x, \"y\"].b, c"), "%.0"), "50");
    assert_eq!(
        [format(0.0204, "+.3"), format(-0.0204, "+.2"), format(-0.0001, "+.2")],
        ["+0.020", "−0.02", "0.00"]
    );
    assert_eq!(format(5.4e-6, "e.1"), "5.4e-6");
    assert_eq!(decimals("0.5 and 1.25. Not [x](https://a.b/1.5) or `2.5`, 3."), ["0.5", "1.25"]);
}
