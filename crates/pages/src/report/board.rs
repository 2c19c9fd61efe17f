//! The ranking of all methods of several runs on the same network and items.

use std::collections::BTreeMap;

use eval::evidence::Evidence;
use eval::experiments::{Head, head};
use eval::metrics::significance::{LEAST_ITEMS, PairedDifference, Significance};
use eval::results::Results;
use eval::{Cell, Result, Row, RunFolder, Table};

use super::run::{items_of, network};

/// Maximum number of methods in a ranking; the best are shown.
const MOST: usize = 40;
/// Maximum number of runs that are named for one method.
const NAMED: usize = 3;

/// A method of one or several runs.
struct Entry {
    label: String,
    /// Names of the runs that have it with the same answers.
    runs: Vec<String>,
    evidence: Evidence,
}

/// Returns a ranking for each network, data set and metric on which several of the runs, given with their names, can be compared.
///
/// # Errors
/// Fails if records are missing or damaged.
pub(super) fn boards(runs: &[(String, &RunFolder)]) -> Result<Vec<Table>> {
    let mut groups: BTreeMap<String, Vec<&(String, &RunFolder)>> = BTreeMap::new();
    for run in runs {
        groups.entry(same(&run.1.results)).or_default().push(run);
    }
    let mut boards = Vec::new();
    for group in groups.into_values().filter(|group| group.len() > 1) {
        boards.extend(of_group(&group)?);
    }
    Ok(boards)
}

/// Returns a text that is equal for two runs if their numbers can be compared: experiment, network, data, and meaning of the metric.
fn same(results: &Results) -> String {
    let experiment = &results.experiment;
    // The hash of the data of a generated run covers its own images too; there, the reference and the noise must be the same.
    let data = match &results.judge {
        Some(judge) => format!("{}/{}/{}", judge.reference_sha256, judge.weights_sha256, experiment.seed),
        None => results.data.sha256.clone(),
    };
    let fractions = results.curves.as_ref().map(|curves| &curves.fractions);
    let meaning = experiment.task.kind().meaning(results);
    format!("{}/{}/{data}/{meaning}/{fractions:?}", experiment.task.name(), results.weights.sha256)
}

/// Returns the rankings of runs that differ at most in their items: runs that could not read some item are apart from the others.
fn of_group(group: &[&(String, &RunFolder)]) -> Result<Vec<Table>> {
    let mut of_items: BTreeMap<Vec<String>, (Vec<Entry>, usize)> = BTreeMap::new();
    let Some((_, first)) = group.first() else { return Ok(Vec::new()) };
    let metric = first.results.experiment.task.kind().facts().goal.metric;
    for (name, folder) in group {
        let mut evidence = Evidence::read(folder, metric)?;
        let ids = evidence.values().next().map_or_else(Vec::new, |one| one.ids().to_vec());
        let (entries, runs) = of_items.entry(ids).or_default();
        *runs += 1;
        for method in folder.results.experiment.methods() {
            let Some(evidence) = evidence.remove(&method.key) else { continue };
            let is_known = |one: &&mut Entry| one.label == method.label && one.evidence.is_same(&evidence);
            match entries.iter_mut().find(is_known) {
                Some(known) => known.runs.push(name.clone()),
                None => entries.push(Entry { label: method.label, runs: vec![name.clone()], evidence }),
            }
        }
    }
    let head = head(&first.results, metric);
    let Some(higher) = head.spec.better.higher_is_better() else { return Ok(Vec::new()) };
    let several = of_items.into_values().filter(|(entries, runs)| *runs > 1 && !entries.is_empty());
    Ok(several.map(|(entries, runs)| table(&first.results, &head, higher, entries, runs)).collect())
}

fn table(results: &Results, head: &Head, higher: bool, mut entries: Vec<Entry>, runs: usize) -> Table {
    entries.sort_by(|a, b| {
        let (a, b) = (a.evidence.value, b.evidence.value);
        if higher { b.total_cmp(&a) } else { a.total_cmp(&b) }
    });
    let best = entries.first();
    let (all, items) = (entries.len(), best.map_or(0, |best| best.evidence.ids().len()));
    let row = |(place, entry): (usize, &Entry)| {
        let difference = best.filter(|_| place > 0).and_then(|best| entry.evidence.minus(&best.evidence));
        let (rank, standing) = standing(place, difference.as_ref(), higher);
        Row {
            labels: vec![entry.label.clone(), named(&entry.runs), standing.to_owned()],
            cells: cells(head, entry, rank, difference.as_ref(), place == 0),
        }
    };
    let mut notes = vec![format!(
        "All methods of {runs} runs over the same {}. A method with the same answers in several runs is listed once. Tie: the paired \
         95 % interval of the difference from the best leaves 0 in, or p is above 0.05. The best was chosen from these {all} \
         after they were measured, so that its lead is partly chance.",
        items_of(items as u64)
    )];
    if all > MOST {
        notes.push(format!("The best {MOST} of {all} are shown."));
    }
    if items < LEAST_ITEMS {
        notes.push(eval::metrics::significance::too_few());
    }
    let name = &head.title;
    Table {
        title: format!(
            "Ranking by {}: {} with {} on {}",
            head.with_arrow(),
            results.experiment.task.name(),
            network(results),
            results.data.dataset
        ),
        labels: ["method", "run", "standing"].map(str::to_owned).to_vec(),
        columns: vec![
            "rank".into(),
            head.with_arrow(),
            format!("{name}, from"),
            format!("{name}, to"),
            "Δ to the best".into(),
            "Δ, from".into(),
            "Δ, to".into(),
        ],
        rows: entries.iter().enumerate().take(MOST).map(row).collect(),
        notes,
    }
}

/// Returns the rank of the method at this place, and how it stands to the best. Ties share the first rank.
fn standing(place: usize, difference: Option<&PairedDifference>, higher: bool) -> (usize, &'static str) {
    let behind = place + 1;
    match difference.map(|found| found.significance(Some(higher))) {
        None if place == 0 => (1, "best"),
        None => (behind, "cannot be paired"),
        Some(Significance::No) => (1, "tie"),
        Some(Significance::TooFewItems) => (behind, "too few items"),
        Some(Significance::Biased) => (behind, "no interval"),
        Some(Significance::Yes { .. }) => (behind, "behind"),
    }
}

fn cells(
    head: &Head,
    entry: &Entry,
    rank: usize,
    found: Option<&PairedDifference>,
    is_best: bool,
) -> Vec<Cell> {
    let (scale, fine) = (head.spec.unit.scale(), head.spec.digits > 3);
    let value = |value: f64| if fine { Cell::Fine(scale * value) } else { Cell::Value(scale * value) };
    let difference = |value: f64| match fine {
        true => Cell::FineDifference { value: scale * value, better: None },
        false => Cell::Difference { value: scale * value, better: None },
    };
    let best = |value: f64| if fine { Cell::FineBest(scale * value) } else { Cell::Best(scale * value) };
    let (low, high) = entry.evidence.interval().unzip();
    let interval = found.and_then(PairedDifference::interval);
    let or_empty = |cell: Option<Cell>| cell.unwrap_or(Cell::Empty);
    vec![
        Cell::Count(rank),
        if is_best { best(entry.evidence.value) } else { value(entry.evidence.value) },
        or_empty(low.map(value)),
        or_empty(high.map(value)),
        or_empty(found.map(|found| difference(found.value()))),
        or_empty(interval.map(|one| difference(one.low()))),
        or_empty(interval.map(|one| difference(one.high()))),
    ]
}

/// Lists the first names, and says how many more there are.
fn named(runs: &[String]) -> String {
    let more = runs.len().saturating_sub(NAMED);
    let names: Vec<&str> = runs.iter().take(NAMED).map(String::as_str).collect();
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}
