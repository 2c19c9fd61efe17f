//! The items of a run. The page contains the rows that the script shows first; the script then sorts, filters and pages.

use std::borrow::Cow;

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use eval::experiments::view::{Item, Score};

use super::SHOWN_FAILURES;
use crate::report::items::{ItemList, Items};
use crate::report::run::Run;
use chain_page::html::json;
use models::escape::text as plain;

/// Number of items on a page of the table, also in the script.
const SHOWN: usize = 25;

/// Data for the script.
#[derive(Serialize)]
struct Data<'a> {
    shown: usize,
    /// Number of items of the run, which may not all be here.
    all: usize,
    ids: Vec<Cow<'a, str>>,
    lines: Vec<usize>,
    facts: Vec<Facts<'a>>,
    methods: &'a [String],
    lead: usize,
    scores: Vec<ScoreData<'a>>,
    /// Failed items, each with the reason.
    failed: Vec<(usize, Cow<'a, str>)>,
    flagged: &'a Option<(&'static str, Vec<usize>)>,
    strips: Option<StripsData<'a>>,
    /// Thumbnails: item, URI, width, height; without those in the table.
    thumbnails: Vec<(usize, &'a str, usize, usize)>,
    /// Items whose thumbnails are in the table, with width and height.
    drawn: Vec<(usize, usize, usize)>,
    records: &'a str,
    /// Links to the folders with the images that each method generated.
    folders: &'a [String],
}

#[derive(Serialize)]
struct Facts<'a> {
    head: &'static str,
    values: Vec<&'a str>,
}

#[derive(Serialize)]
struct ScoreData<'a> {
    title: &'a str,
    meaning: &'a str,
    /// 1 if more is better, -1 if less is better, otherwise 0.
    better: i8,
    digits: usize,
    values: &'a [Vec<Option<f64>>],
}

#[derive(Serialize)]
struct StripsData<'a> {
    title: &'a str,
    steps: &'a [String],
    right: &'a [Vec<String>],
}

pub(super) fn section(id: &str, run: &Run) -> Markup {
    let items = &run.items;
    let Some(score) = items.view.scores.first() else {
        return html! { p.words { "No method has a score for each item." } };
    };
    let order = items.worst_first(score, items.view.lead);
    let first: Vec<usize> = order.into_iter().take(SHOWN).collect();
    html! {
        div.items data-items {
            p.words data-meaning { (score.meaning) }
            @if let Some(list) = &items.list {
                p.note role="note" {
                    (items.view.rows.len()) " of the " (items.all) " items are on this page, to limit its size: first those at either end "
                    "of a score of a method or of its difference from " (items.methods[items.view.lead]) ", then others at even distances. "
                    "All items with their scores are in " a href=(list.href) { (name_of(list)) } "."
                }
            }
            @for note in &items.view.notes { p.note role="note" { (note) } }
            @if let Some(note) = &items.thumbnails.note { p.note role="note" { (note) } }
            (controls(id, items, score))
            noscript { p.note {
                "Without JavaScript, the table shows the " (first.len()) " of " (items.all) " items that are worst for " (items.methods[items.view.lead])
                ". All items are in " a href=(run.records) { "records.jsonl" } "."
            } }
            div.scroll tabindex="0" role="region" aria-labelledby={ (id) "-items-title" } { (table(run, score, &first)) }
            div.pages.scripted {
                button type="button" data-go="-1" { "Previous" }
                span data-range aria-live="polite" {
                    "1–" (first.len()) " of " (items.view.rows.len())
                }
                button type="button" data-go="1" { "Next" }
                label { span { "Rows" } select data-size {
                    @for size in [SHOWN, 100, 500] { option value=(size) { (size) } }
                } }
            }
            script type="application/json" { (PreEscaped(json(&data(run, &first)))) }
        }
    }
}

/// Returns the name of the file with all items.
fn name_of(list: &ItemList) -> String {
    plain(&list.path.file_name().unwrap_or_default().to_string_lossy()).into_owned()
}

/// Counts the items of a group: those on the page, and all if some are not.
fn count(shown: usize, all: usize) -> String {
    if shown == all { all.to_string() } else { format!("{shown} of {all}") }
}

/// Returns the names of the two ends of a score.
fn ends(score: &Score) -> (&'static str, &'static str) {
    match score.higher_is_better {
        Some(_) => ("Worst 50", "Best 50"),
        None => ("Largest 50", "Smallest 50"),
    }
}

fn controls(id: &str, items: &Items, score: &Score) -> Markup {
    let failed = items.view.rows.iter().filter(|row| row.failed.is_some()).count();
    let (worst, best) = ends(score);
    let mut choices = vec![("all", "All".to_owned()), ("worst", worst.to_owned()), ("best", best.to_owned())];
    if let Some((title, flagged)) = &items.view.flagged {
        choices.push(("flagged", format!("{title} ({})", count(flagged.len(), items.flagged))));
    }
    if failed > 0 {
        choices.push(("failed", format!("Failed ({})", count(failed, items.failed))));
    }
    html! {
        form.bar.scripted onsubmit="return false" aria-label="Which items, in which order" {
            label { span { "Score" } select data-score {
                @for (index, score) in items.view.scores.iter().enumerate() { option value=(index) { (score.title) } }
            } }
            label { span { "Order by" } select data-method {
                @for (index, method) in items.methods.iter().enumerate() {
                    option value=(index) selected[index == items.view.lead] { (method) }
                }
            } }
            @if items.methods.len() > 1 {
                label { span { "minus" } select data-minus {
                    option value="" { "nothing" }
                    @for (index, method) in items.methods.iter().enumerate() { option value=(index) { (method) } }
                } }
            }
            label.grow { span { "Name contains" } input type="search" data-filter autocomplete="off" spellcheck="false"; }
            fieldset {
                legend { "Show" }
                div.segments {
                    @for (value, title) in &choices {
                        label { input type="radio" name={ (id) "-show" } value=(value) checked[*value == "all"]; span { (title) } }
                    }
                }
            }
        }
    }
}

fn table(run: &Run, score: &Score, first: &[usize]) -> Markup {
    let items = &run.items;
    let images = !items.thumbnails.images.is_empty();
    html! {
        table.drill {
            thead { tr {
                @if images { td.thumb { span.unseen { "Image" } } }
                th.text scope="col" data-sort="id" { "Item" }
                @for (index, fact) in items.view.facts.iter().enumerate() { th.text scope="col" data-sort={ "fact-" (index) } { (fact) } }
                th.scripted scope="col" data-sort="difference" hidden { "Difference" }
                @for (index, method) in items.methods.iter().enumerate() {
                    th scope="col" data-sort={ "method-" (index) }
                        aria-sort=[(index == items.view.lead).then_some(
                            if score.higher_is_better == Some(true) { "ascending" } else { "descending" }
                        )] { (method) }
                }
                th scope="col" data-sort="line" { "Record" }
            } }
            tbody { @for &item in first { (row(run, score, item, &items.view.rows[item])) } }
        }
    }
}

fn row(run: &Run, score: &Score, item: usize, row: &Item) -> Markup {
    let items = &run.items;
    html! {
        tr data-item=(item) {
            @if !items.thumbnails.images.is_empty() {
                td.thumb { @if let Some(small) = items.thumbnails.images.get(&item) {
                    img src=(small.uri) width=(small.width) height=(small.height) alt="";
                } }
            }
            th scope="row" { (plain(&row.id)) @if let Some(reason) = &row.failed { small { (plain(reason)) } } }
            @for fact in &row.facts { td.text { (fact) } }
            @for (index, values) in score.values.iter().enumerate() {
                td class=[(index == items.view.lead).then_some("key")] { (text(values[item], score.digits)) }
            }
            td { a href=(run.records) { "line " (row.line) } }
        }
    }
}

fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}").replace('-', "−"))
}

fn data<'a>(run: &'a Run, first: &[usize]) -> Data<'a> {
    let items = &run.items;
    let score = |score: &'a Score| ScoreData {
        title: score.title,
        meaning: score.meaning,
        better: match score.higher_is_better {
            Some(true) => 1,
            Some(false) => -1,
            None => 0,
        },
        digits: score.digits,
        values: &score.values,
    };
    let fact = |(index, head): (usize, &&'static str)| Facts {
        head,
        values: items.view.rows.iter().map(|row| row.facts[index].as_str()).collect(),
    };
    let images = || items.thumbnails.images.iter();
    Data {
        shown: SHOWN,
        all: items.all,
        ids: items.view.rows.iter().map(|row| plain(&row.id)).collect(),
        lines: items.view.rows.iter().map(|row| row.line).collect(),
        facts: items.view.facts.iter().enumerate().map(fact).collect(),
        methods: &items.methods,
        lead: items.view.lead,
        scores: items.view.scores.iter().map(score).collect(),
        failed: items
            .view
            .rows
            .iter()
            .enumerate()
            .filter_map(|(item, row)| Some((item, row.failed.as_deref()?)))
            .enumerate()
            .map(|(index, (item, reason))| match index {
                0..SHOWN_FAILURES => (item, plain(reason)),
                _ => (item, "reason in results.json".into()),
            })
            .collect(),
        flagged: &items.view.flagged,
        strips: items.view.strips.as_ref().map(|strips| StripsData {
            title: strips.title,
            steps: &strips.steps,
            right: &strips.right,
        }),
        thumbnails: images()
            .filter(|(item, _)| !first.contains(item))
            .map(|(&item, small)| (item, small.uri.as_str(), small.width, small.height))
            .collect(),
        drawn: images()
            .filter(|(item, _)| first.contains(item))
            .map(|(&item, small)| (item, small.width, small.height))
            .collect(),
        records: &run.records,
        folders: &items.folders,
    }
}
