//! The content of the page for one run.

use std::path::PathBuf;

use super::budget::Budget;
use super::images::Images;
use super::items::Items;
use super::links::Links;
use super::recipe::Recipe;
use super::values::Values;
use eval::experiments::spec::{MethodInfo, Unit};
use eval::experiments::{Head, difference_notes, head};
use eval::metrics::significance::{Interval, LEAST_ITEMS, PValue, Significance, too_few};
use eval::results::{Comparison, Results};
use eval::{ModelSource, Result, RunFolder};
use runs::layout::RECORDS;

pub(super) struct Run {
    /// Path of its folder relative to the folder of all runs, or the name of its experiment.
    pub name: String,
    pub results: Results,
    /// The methods of the experiment.
    pub methods: Vec<MethodInfo>,
    pub values: Values,
    pub differences: Vec<Differences>,
    /// Notes that explain intervals and verdicts of the differences.
    pub differences_notes: Vec<String>,
    pub images: Images,
    pub items: Items,
    /// Link to the records.
    pub records: String,
    pub recipe: Recipe,
    /// Notes that explain the values.
    pub notes: Vec<String>,
}

/// Differences of methods in one metric.
pub(super) struct Differences {
    pub head: Head,
    pub rows: Vec<Difference>,
}

/// A difference of two methods, in the units of the head.
pub(super) struct Difference {
    pub method: String,
    pub minus: String,
    pub value: f64,
    /// Lower and upper end of its interval, and the p-value; `None` if there are too few items.
    pub interval: Option<(f64, f64, PValue)>,
    /// Number of items that it is computed from.
    pub items: usize,
    pub significance: Significance,
}

impl Run {
    /// Reads a run. `list` is where the list of its items goes if some are not on the page, `left` the number of runs from this one on.
    ///
    /// # Errors
    /// Fails if records are missing, damaged, or of another run.
    pub(super) fn of(
        name: String,
        folder: &RunFolder,
        links: &Links,
        budget: &mut Budget,
        (list, left): (PathBuf, usize),
    ) -> Result<Self> {
        let results = folder.results.clone();
        let mut items = Items::read(folder, links)?;
        belong_together(folder, &items)?;
        let mut images = Images::find(&folder.path, links, budget);
        images.side_by_side(&items, links, budget);
        items.cut(budget.items(items.bytes(), left), list, links)?;
        items.embed(budget);
        let spreads = &items.view.spreads;
        let values = Values::of(&results, spreads);
        Ok(Self {
            name,
            methods: results.experiment.methods(),
            differences: differences(&results, &spreads.comparisons),
            differences_notes: difference_notes(
                results.comparisons.iter().chain(&spreads.comparisons),
                if results.images.is_some() {
                    "the same images, each with all its objects"
                } else {
                    "the same items"
                },
                "",
            ),
            notes: notes(&results, &values),
            records: links.to(&folder.path.join(RECORDS)),
            recipe: Recipe::of(folder, links),
            values,
            images,
            items,
            results,
        })
    }

    pub(super) fn is_miniature(&self) -> bool {
        self.values.paper.is_some() && !self.values.comparable
    }
}

/// Refuses records that do not match the results, since intervals and items would come from another run.
fn belong_together(folder: &RunFolder, items: &Items) -> Result<()> {
    let results = &folder.results;
    let refuse = |what: String| {
        let reason = format!("{what}: they are of different runs or have been changed since");
        Err(runs::Error::damaged(&folder.path.join(RECORDS), reason).into())
    };
    let answered = items.view.rows.iter().filter(|row| row.failed.is_none()).count();
    if answered as u64 != results.items {
        return refuse(format!("{answered} items are answered here and {} in results.json", results.items));
    }
    for ((metric, method), spread) in &items.view.spreads.values {
        let Some(value) = results.value(metric, method) else { continue };
        // Summation in another order changes the last digits.
        if (value - spread.value).abs() > 1e-9 * value.abs().max(1.0) {
            let found = spread.value;
            return refuse(format!(
                "{metric} of {method} is {found:?} according to the records, but {value:?} in results.json"
            ));
        }
    }
    Ok(())
}

/// Returns the paired comparisons grouped by metric, those of the results first.
fn differences(results: &Results, further: &[Comparison]) -> Vec<Differences> {
    let methods = results.experiment.methods();
    let label = |key: &str| {
        methods.iter().find(|method| method.key == key).map_or(key, |method| &method.label).to_owned()
    };
    let mut all: Vec<Differences> = Vec::new();
    for comparison in results.comparisons.iter().chain(further) {
        let head = head(results, &comparison.metric);
        let (scale, found) = (head.spec.unit.scale(), &comparison.difference);
        let ends = |one: &Interval| (scale * one.low(), scale * one.high(), one.p_value());
        let row = Difference {
            method: label(&comparison.method),
            minus: label(&comparison.minus),
            value: scale * found.value(),
            interval: found.interval().map(ends),
            items: found.items(),
            significance: found.significance(head.spec.better.higher_is_better()),
        };
        match all.iter_mut().find(|known| known.head.key == head.key) {
            Some(known) => known.rows.push(row),
            None => all.push(Differences { head, rows: vec![row] }),
        }
    }
    all
}

/// Returns the name of the network: its hub id or the name of its folder.
pub(super) fn network(results: &Results) -> String {
    match &results.experiment.model.source {
        ModelSource::Path(path) => {
            path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
        }
        ModelSource::Id(id) => id.clone(),
    }
}

/// Writes a number of items, such as `1 item`.
pub(super) fn items_of(count: u64) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

fn notes(results: &Results, values: &Values) -> Vec<String> {
    let mut notes = Vec::new();
    let of_run: Vec<String> = values.whole.iter().map(|text| format!(", {text}")).collect();
    let percent = values.heads.iter().any(|head| head.spec.unit == Unit::Percent);
    let in_images = results.images.map(|images| format!(" in {images} images")).unwrap_or_default();
    notes.push(format!(
        "{}{in_images}{}{}.",
        items_of(results.items),
        of_run.concat(),
        if percent { "; fractions in percent" } else { "" }
    ));
    let kind = results.experiment.task.kind();
    notes.push(kind.meaning(results));
    if (0..values.heads.len()).any(|column| values.has_intervals(column)) {
        notes.push(format!(
            "Intervals: 95 % percentile intervals of a bootstrap over the {}, {} resamples. Methods share their items, so the \
             intervals of two may overlap although their difference is significant: see the differences.",
            if results.images.is_some() { "images" } else { "items" },
            values.resamples
        ));
    } else if values.resamples > 0 && results.independent_items() < LEAST_ITEMS as u64 {
        notes.push(too_few());
    }
    if values.comparable && values.paper.is_some() {
        notes.push("Δ: ours − paper's.".into());
    }
    if let Some(paper) = &values.paper {
        notes.push((kind.facts().source_note)(paper));
    }
    notes
}
