//! The items of a run, with thumbnails of some of them.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::PathBuf;

use eval::experiments::view::{Item, ItemView, Score};
use eval::{Result, Row, RunFolder, Table};
use runs::progress;

use super::budget::Budget;
use super::links::Links;
use super::thumbnails::{OF_EACH, OF_LEAD, Thumbnails};
use models::escape::text as plain;

/// Number of best and of worst items of a score that come first if there is no room for all, as many as a quick filter shows.
const AT_AN_END: usize = 50;
/// Number of failed items, and of items of the group with a filter, that come next.
const OF_GROUP: usize = 100;

/// The list of all items of a run, in a file beside the page.
pub(super) struct ItemList {
    pub path: PathBuf,
    pub href: String,
    /// Content of the file: CSV.
    pub bytes: Vec<u8>,
}

/// The items as shown on the page.
pub(super) struct Items {
    /// Items and scores.
    pub view: ItemView,
    /// Labels of the methods.
    pub methods: Vec<String>,
    pub thumbnails: Thumbnails,
    /// Links to the folders with the images that each method generated.
    pub folders: Vec<String>,
    /// Number of items of the run, on the page or not.
    pub all: usize,
    /// Number of failed items, on the page or not.
    pub failed: usize,
    /// Number of items of the group with a filter, on the page or not.
    pub flagged: usize,
    /// The list of all items, if some are not on the page.
    pub list: Option<ItemList>,
}

impl Items {
    /// Reads all items of a run.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub(super) fn read(run: &RunFolder, links: &Links) -> Result<Self> {
        let mut view = run.results.experiment.task.kind().items(run)?;
        for note in &view.notes {
            progress::say(&format!("{}: {note}", run.path.display()));
        }
        for fact in view.rows.iter_mut().flat_map(|row| &mut row.facts) {
            *fact = plain(fact).into_owned();
        }
        let methods = view.methods.iter().map(|method| method.label.clone()).collect();
        let generated = view.generated.iter().flat_map(|generated| &generated.folders);
        let folders = generated.map(|folder| links.to(folder)).collect();
        Ok(Self {
            methods,
            folders,
            thumbnails: Thumbnails::default(),
            all: view.rows.len(),
            failed: view.rows.iter().filter(|row| row.failed.is_some()).count(),
            flagged: view.flagged.as_ref().map_or(0, |(_, flagged)| flagged.len()),
            list: None,
            view,
        })
    }

    /// Returns about how many bytes the items take on the page.
    pub(super) fn bytes(&self) -> usize {
        let view = &self.view;
        // A number has up to two digits more than are shown, a point, a digit before it, a comma, and perhaps a sign.
        let scores: usize = view.scores.iter().map(|score| score.values.len() * (score.digits + 6)).sum();
        let strips = view.strips.as_ref().map_or(0, |strips| strips.right.len() * (strips.steps.len() + 3));
        let texts = view
            .rows
            .iter()
            .map(|row| row.id.len() + row.facts.iter().map(|fact| fact.len() + 3).sum::<usize>() + 12);
        texts.sum::<usize>() + view.rows.len() * (scores + strips)
    }

    /// Drops items for which the page has no room, and makes the list of all items at `path`. Keeps the best and worst items of each
    /// score and of its difference from the lead method, then some failed ones, then others at even distances.
    ///
    /// # Errors
    /// Fails if the list cannot be made.
    pub(super) fn cut(&mut self, room: usize, path: PathBuf, links: &Links) -> Result<()> {
        let needed = self.bytes();
        if needed <= room || self.view.scores.is_empty() {
            return Ok(());
        }
        let count = (self.all as u128 * room as u128 / needed.max(1) as u128) as usize;
        let kept = self.kept(count.max(AT_AN_END));
        self.list = Some(ItemList { href: links.to(&path), path, bytes: self.table().to_csv()? });
        self.view.keep(&kept.into_iter().collect::<Vec<_>>());
        Ok(())
    }

    /// Returns this many items.
    fn kept(&self, count: usize) -> BTreeSet<usize> {
        let (view, mut kept) = (&self.view, BTreeSet::new());
        let ends: Vec<Vec<usize>> = view.scores.iter().flat_map(|score| self.ends_of(score)).collect();
        let failed =
            view.rows.iter().enumerate().filter(|(_, row)| row.failed.is_some()).map(|(item, _)| item);
        let flagged = view.flagged.iter().flat_map(|(_, flagged)| flagged.iter().copied());
        let ranked =
            (0..AT_AN_END).flat_map(|rank| ends.iter().filter_map(move |end| end.get(rank).copied()));
        for item in ranked.chain(failed.take(OF_GROUP)).chain(flagged.take(OF_GROUP)) {
            if kept.len() < count {
                kept.insert(item);
            }
        }
        let others: Vec<usize> = (0..self.all).filter(|item| !kept.contains(item)).collect();
        let left = count.saturating_sub(kept.len()).min(others.len());
        kept.extend((0..left).map(|place| others[place * others.len() / left]));
        kept
    }

    /// Returns the items at both ends of a score, the outermost first: for each method, and for the lead method minus each other.
    fn ends_of(&self, score: &Score) -> Vec<Vec<usize>> {
        let lead = score.values.get(self.view.lead);
        let differences = score.values.iter().enumerate().filter(|(method, _)| *method != self.view.lead);
        let minus = |values: &[Option<f64>]| -> Vec<Option<f64>> {
            let pairs = lead.into_iter().flatten().zip(values);
            pairs.map(|(lead, value)| Some((*lead)? - (*value)?)).collect()
        };
        let differences: Vec<_> = differences.map(|(_, values)| minus(values)).collect();
        let ends = |values: &Vec<Option<f64>>| {
            let known = values.iter().enumerate().filter_map(|(item, value)| Some(((*value)?, item)));
            let mut known: Vec<(f64, usize)> = known.collect();
            [1.0, -1.0].map(|sign| {
                let order = |a: &(f64, usize), b: &(f64, usize)| {
                    (sign * a.0).total_cmp(&(sign * b.0)).then(a.1.cmp(&b.1))
                };
                if known.len() > AT_AN_END {
                    known.select_nth_unstable_by(AT_AN_END, order);
                }
                let mut end: Vec<_> = known.iter().take(AT_AN_END).copied().collect();
                end.sort_unstable_by(order);
                end.into_iter().map(|(_, item)| item).collect()
            })
        };
        score.values.iter().chain(&differences).flat_map(ends).collect()
    }

    /// Returns a table with a row for each item: its name, why it failed, line of its record, facts, scores.
    fn table(&self) -> Table {
        let view = &self.view;
        let columns = view
            .scores
            .iter()
            // Two methods may have the same label, but not the same key.
            .flat_map(|score| {
                view.methods.iter().map(move |method| format!("{}: {}", score.title, method.key))
            });
        let row = |(item, row): (usize, &Item)| {
            let scores = view.scores.iter().flat_map(|score| &score.values).map(|values| values[item].into());
            let texts = [row.id.clone(), row.failed.clone().unwrap_or_default(), row.line.to_string()];
            Row {
                labels: texts.into_iter().chain(row.facts.iter().cloned()).collect(),
                cells: scores.collect(),
            }
        };
        Table {
            title: "Items".into(),
            labels: ["item", "failed", "line"]
                .iter()
                .chain(&view.facts)
                .map(|&head| head.to_owned())
                .collect(),
            columns: columns.collect(),
            rows: view.rows.iter().enumerate().map(row).collect(),
            notes: Vec::new(),
        }
    }

    /// Sorts items by a score of a method, worst first, or largest first if the score is neither good nor bad. Items without a
    /// value come last; equal items stay in manifest order.
    pub(super) fn worst_first(&self, score: &Score, method: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.view.rows.len()).collect();
        let Some(values) = score.values.get(method) else { return order };
        order.sort_by(|&a, &b| match (values[a], values[b]) {
            (Some(a), Some(b)) if score.higher_is_better == Some(true) => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        });
        order
    }

    /// Embeds thumbnails of the best and worst items, for each method in turn, until the budget is spent.
    pub(super) fn embed(&mut self, budget: &mut Budget) {
        let Some(score) = self.view.scores.first() else { return };
        let orders: Vec<Vec<usize>> =
            (0..self.methods.len()).map(|method| self.worst_first(score, method)).collect();
        let mut wanted = Vec::new();
        let mut push = |item: usize| {
            if self.view.rows[item].failed.is_none() && !wanted.contains(&item) {
                wanted.push(item);
            }
        };
        // First those of the lead method, by which the table is sorted when the page opens.
        let lead = orders.get(self.view.lead).into_iter();
        lead.flat_map(|order| order.iter().take(OF_LEAD)).for_each(|&item| push(item));
        for rank in 0..OF_EACH {
            for (method, order) in orders.iter().enumerate() {
                let has = |item: &&usize| score.values[method][**item].is_some();
                order.get(rank).into_iter().for_each(|&item| push(item));
                order.iter().rev().filter(has).nth(rank).into_iter().for_each(|&item| push(item));
            }
        }
        let expected = |item: usize| self.view.expected.get(item).and_then(Option::as_deref);
        let ids = |item: usize| (self.view.rows[item].id.as_str(), expected(item));
        self.thumbnails =
            Thumbnails::make(&self.view.images, wanted.into_iter().map(|item| (item, ids(item))), budget);
    }
}
