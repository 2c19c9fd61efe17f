//! The items of a run, with thumbnails of some of them.

use std::cmp::Ordering;

use eval::experiments::view::{ItemView, Score};
use eval::{Result, RunFolder};
use runs::progress;

use super::budget::Budget;
use super::links::Links;
use super::thumbnails::{OF_EACH, OF_LEAD, Thumbnails};
use models::escape::text as plain;

/// The items as shown on the page.
pub(super) struct Items {
    /// Items and scores.
    pub view: ItemView,
    /// Labels of the methods.
    pub methods: Vec<String>,
    pub thumbnails: Thumbnails,
    /// Links to the folders with the images that each method generated.
    pub folders: Vec<String>,
}

impl Items {
    /// Reads the items of a run.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub(super) fn read(run: &RunFolder, links: &Links, budget: &mut Budget) -> Result<Self> {
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
        let mut items = Self { methods, folders, thumbnails: Thumbnails::default(), view };
        items.embed(budget);
        Ok(items)
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
    fn embed(&mut self, budget: &mut Budget) {
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
