//! What the tests of the binary share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Root of the repository, where the README's commands are run.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of the test's own.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

/// Whether TOKENRANK_CAMPAIGN asks for the whole of what the default run does a part of.
pub fn full_campaign() -> bool {
    std::env::var_os("TOKENRANK_CAMPAIGN").is_some_and(|value| value == "full")
}

/// The binary, in the root of the repository.
pub fn tokenrank() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenrank"));
    command.current_dir(root()).env("NO_COLOR", "1").env_remove("COLUMNS");
    command
}

/// Runs and expects this exit code; stderr is shown otherwise.
#[track_caller]
pub fn run(args: &[&str], code: i32) -> Output {
    let output = tokenrank().args(args).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Checks that tables and results of a run whose few items say nothing have differences, and neither an interval, a p value nor a
/// verdict.
#[track_caller]
pub fn says_nothing(out: &Path, items: u64) {
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let results: serde_json::Value = serde_json::from_str(&read("results.json")).expect("JSON");
    let comparisons = results["comparisons"].as_array().expect("comparisons");
    assert!(!comparisons.is_empty());
    for comparison in comparisons {
        let found = comparison["interval"].as_object().expect("a difference");
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert!(keys == ["difference", "items"] && found["items"] == items, "{comparison}");
    }
    let table = read("comparisons.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.contains(" − ")).collect();
    assert_eq!(rows.len(), comparisons.len(), "{table}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, significant, _, low, high, p, of] = &cells[..] else { panic!("{row}") };
        assert_eq!(
            [*significant, *low, *high, *p, *of],
            ["too few items", "–", "–", "–", &items.to_string()]
        );
    }
    assert!(table.contains("Fewer than 6 items have no interval and no verdict"), "{table}");
    assert!(!table.contains("resamples"), "{table}");
}

/// The cells of the column "Significant" of a page of runs, and those of the column "p".
pub fn verdicts(page: &Path) -> (Vec<String>, Vec<String>) {
    let html = std::fs::read_to_string(page).expect("a page");
    let column = |place: usize| {
        let tables =
            html.split("<table class=\"differences\"").skip(1).map(|rest| rest.split("</table>").next());
        let rows = tables.flatten().flat_map(|table| table.split("<tr class=").skip(1));
        let cell = |row: &str| {
            let cell = row.split("<td").nth(place).expect("a cell").split_once('>').expect("a tag").1;
            cell.split('<').next().expect("text").replace("&lt;", "<")
        };
        rows.map(cell).collect()
    };
    (column(7), column(5))
}

/// The words of an error, line breaks and decoration undone.
pub fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.replace(['×', '│', '╰', '─', '▶'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
