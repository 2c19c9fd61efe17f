//! Which combinations of a finished sweep could have produced a published column: how far each is from the paper's values and order,
//! and which settings decide that.

mod distance;
mod report;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::stored::{StoredCombination, StoredMethod, StoredSweep};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiments::paper_table;
use crate::experiments::spec::{Facts, MetricSpec};
use crate::folder::RunFolder;
use crate::paper::PaperTable;
use distance::{Distance, Published};
use runs::FolderLocks;
use runs::layout::SWEEP;
use settings::Decomposition;

pub use report::SearchOutcome;
pub(super) use report::files;

/// Name of the option that names the column.
const OPTION: &str = "paper";

/// A finished sweep next to a column of the paper.
struct Search {
    stored: StoredSweep,
    paper: PaperTable,
    column: String,
    metric: MetricSpec,
    /// The published methods that every combination has.
    methods: Vec<Published>,
    /// Number of combinations that differ in the runs of these methods.
    distinct: usize,
    /// Published methods that some combination lacks, by their names in the paper.
    missing: Vec<String>,
    /// For each combination, in the order of the file.
    distances: Vec<Distance>,
    decomposition: Decomposition,
}

/// Compares every combination of the finished sweep in `dir` with a column of the paper's table of its experiment: `column`, or the
/// column that the experiment fills, or the one with the metric of the sweep's tables. Writes `search.*` to the folder.
///
/// # Errors
/// Fails if there is no finished sweep, its runs are missing or damaged, the experiment has no table of the paper, the table has no
/// such column, or the combinations share fewer than two published methods.
pub fn search(dir: &Path, column: Option<&str>) -> Result<SearchOutcome> {
    if !dir.join(SWEEP).is_file() {
        let reason = "there is no finished sweep here (no sweep.json); give the folder of a sweep whose runs have all finished";
        return Err(Error::unreadable(dir, reason));
    }
    let locks = FolderLocks::take([dir.to_path_buf()])?;
    let search = Search::new(dir, column)?;
    locks.check(dir)?;
    search.write(dir)
}

impl Search {
    fn new(dir: &Path, column: Option<&str>) -> Result<Self> {
        let stored = StoredSweep::read(dir)?;
        let runs = runs_of(dir, &stored)?;
        let Some(first) = runs.values().next() else {
            let reason = "sweep.json does not say which run has the numbers of a combination, as earlier versions wrote it; give \
                          the command that made the sweep again, which keeps all runs and writes the file again";
            return Err(Error::unreadable(&dir.join(SWEEP), reason));
        };
        let experiment = &first.results.experiment;
        let facts = experiment.task.kind().facts();
        let fills = experiment.fills.as_ref().and_then(|fills| fills.column.as_deref());
        let (paper, column, metric) = target(facts, column.or(fills))?;
        let evidence: BTreeMap<&String, BTreeMap<String, Evidence>> = runs
            .iter()
            .map(|(name, run)| Ok((name, Evidence::read(run, metric.key)?)))
            .collect::<Result<_>>()?;
        let of = |combination: &StoredCombination, key: &str| {
            let source = combination.methods.get(key)?;
            evidence.get(&source.run)?.get(&source.method)
        };
        let (mut methods, mut missing) = (Vec::new(), Vec::new());
        for row in paper.rows() {
            let Some(value) = paper.published(&row.method, &column) else { continue };
            match stored.combinations.iter().all(|one| of(one, &row.method).is_some()) {
                true => methods.push(Published {
                    key: row.method.clone(),
                    label: stored.label(&row.method).to_owned(),
                    value: value / metric.unit.scale(),
                    rounding: paper.rounding(&column) / metric.unit.scale(),
                }),
                false => missing.push(row.label.clone()),
            }
        }
        if methods.len() < 2 {
            let reason = format!(
                "the combinations share fewer than two methods of the column {column} of the table `{}`, so they have no order to \
                 compare; name more of its methods in the experiment: {}",
                facts.name,
                paper.rows().iter().map(|row| row.method.as_str()).collect::<Vec<_>>().join(", ")
            );
            return Err(Error::Option { option: OPTION, reason });
        }
        let sources = |one: &StoredCombination| -> Vec<Option<StoredMethod>> {
            methods.iter().map(|method| one.methods.get(&method.key).cloned()).collect()
        };
        let distinct = stored.combinations.iter().map(sources).collect::<BTreeSet<_>>().len();
        let distance = |combination: &StoredCombination| {
            let found = methods.iter().filter_map(|method| of(combination, &method.key));
            Distance::of(&methods, &found.collect::<Vec<_>>())
        };
        let distances: Vec<Distance> = stored.combinations.iter().map(distance).collect();
        let decomposition = Decomposition::of(&stored, &distances);
        Ok(Self { stored, paper, column, metric, methods, distinct, missing, distances, decomposition })
    }
}

/// Opens the runs that the combinations name, by their names in `sweep.json`.
fn runs_of(dir: &Path, stored: &StoredSweep) -> Result<BTreeMap<String, RunFolder>> {
    let mut runs = BTreeMap::new();
    for source in stored.combinations.iter().flat_map(|one| one.methods.values()) {
        if runs.contains_key(&source.run) {
            continue;
        }
        let below = PathBuf::from(&source.run);
        if !below.components().all(|part| matches!(part, Component::Normal(_))) {
            let reason = format!("the run `{}` is not inside the folder of the sweep", source.run);
            return Err(Error::unreadable(&dir.join(SWEEP), reason));
        }
        runs.insert(source.run.clone(), RunFolder::open(&dir.join(below))?);
    }
    Ok(runs)
}

/// Returns the paper's table of an experiment with the column and its metric.
fn target(facts: &Facts, column: Option<&str>) -> Result<(PaperTable, String, MetricSpec)> {
    let refuse = |reason: String| Error::Option { option: OPTION, reason };
    if facts.paper_table.is_none() {
        return Err(refuse(format!("the paper has no table for the experiment `{}`", facts.name)));
    }
    let paper = paper_table(facts.name)?;
    let known = paper.columns.join(", ");
    let goal =
        facts.metric(facts.goal.metric).and_then(|metric| metric.paper_column(None).map(str::to_owned));
    let column = column.map(str::to_owned).or(goal).ok_or_else(|| {
        refuse(format!(
            "the experiment fills no column of the table `{}`; name one of its columns: {known}",
            facts.name
        ))
    })?;
    if !paper.columns.contains(&column) {
        return Err(refuse(format!(
            "the table `{}` has no column `{column}`; its columns are {known}",
            facts.name
        )));
    }
    let metric =
        (facts.metrics)().into_iter().find(|metric| metric.paper_column(Some(&column)) == Some(&column));
    let metric = metric.ok_or_else(|| refuse(format!("no metric is compared with the column `{column}`")))?;
    Ok((paper, column, metric))
}
