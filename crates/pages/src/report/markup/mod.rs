//! The page's HTML.

mod items;
mod run;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::run::items_of;
use super::{IN_FULL, Overview, Page};
use chain_page::html as page;
use models::escape::text as plain;

const STYLE: &str = include_str!("report.css");
const SCRIPTS: [&str; 4] = [
    include_str!("tables.js"),
    include_str!("curves.js"),
    include_str!("items.js"),
    include_str!("report.js"),
];

pub(super) fn page(report: &Page) -> Markup {
    let several = report.overview.len() > 1;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(page::POLICY);
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (report.title) " · tokenrank report" }
                link rel="icon" href="data:,";
                style { (PreEscaped(page::STYLE)) (PreEscaped(STYLE)) }
                // Runs before the first rendering, so that elements which need the script do not shift the others.
                script { (PreEscaped("document.documentElement.dataset.script = \"\";")) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    h1 { (report.title) }
                    p.lead { (lead(report)) }
                }
                nav.contents aria-label="On this page" { ul { (contents(report)) } }
                main #main tabindex="-1" {
                    (unfinished(report))
                    (failed(report))
                    @for (index, table) in report.together.iter().enumerate() { (together(index, table)) }
                    @for (index, sweep) in report.sweeps.iter().enumerate() { (self::sweep(index, sweep)) }
                    @for (index, table) in report.boards.iter().enumerate() { (board(index, table)) }
                    @if several { (overview(report)) }
                    @for (index, run) in report.runs.iter().enumerate() {
                        (run::section(&format!("run-{}", index + 1), run, several))
                    }
                }
                footer {
                    p { "Made by tokenrank " (env!("CARGO_PKG_VERSION")) ". The page is complete in itself: it loads nothing, and links to "
                        "files lead into the folder of the runs." }
                }
                p #said .unseen role="status" {}
                script { @for script in SCRIPTS { (PreEscaped(script)) "\n" } }
            }
        }
    }
}

fn lead(report: &Page) -> String {
    match (&report.runs[..], report.overview.len()) {
        ([only], 1) => run::about(only),
        (_, runs) => {
            let items: u64 = report.overview.iter().map(|run| run.items).sum();
            format!("{runs} runs · {}", items_of(items))
        }
    }
}

fn contents(report: &Page) -> Markup {
    html! {
        @match &report.runs[..] {
            [run] if report.overview.len() == 1 => {
                @for part in run::parts(run) { li { a href={ "#run-1-" (part.id()) } { (part.title()) } } }
            }
            runs => {
                @if !report.together.is_empty() { li { a href="#together-1" { "Together" } } }
                @if !report.sweeps.is_empty() { li { a href="#sweep-1" { "Sweep" } } }
                @if !report.boards.is_empty() { li { a href="#board-1" { "Ranking" } } }
                li { a href="#runs" { "Runs" } }
                @for (index, run) in runs.iter().enumerate() { li { a href={ "#run-" (index + 1) } { (run.name) } } }
            }
        }
    }
}

/// Lists the unfinished runs, which the page does not contain.
fn unfinished(report: &Page) -> Markup {
    let count = report.unfinished.len();
    html! {
        @if count > 0 {
            section.failed aria-labelledby="unfinished-title" {
                h2 #unfinished-title { (count) @if count == 1 { " run has" } @else { " runs have" } " not finished" }
                p.words {
                    @if count == 1 { "Its" } @else { "Their" } " results are not on this page. The command that started a run continues "
                    "it where it stopped; shards become a run when they are merged."
                }
                ul.list {
                    @for (name, href) in report.unfinished.iter().take(SHOWN_FAILURES) { li { a href={ (href) "/" } { (name) } } }
                    @if count > SHOWN_FAILURES { li { "… and " (count - SHOWN_FAILURES) " more" } }
                }
            }
        }
    }
}

/// Lists the items that could not be answered, before all results.
fn failed(report: &Page) -> Markup {
    let runs: Vec<_> = report.runs.iter().filter(|run| !run.results.failed.is_empty()).collect();
    let hidden: usize = report.overview.iter().skip(report.runs.len()).map(|run| run.failed).sum();
    let count: usize = runs.iter().map(|run| run.results.failed.len()).sum::<usize>() + hidden;
    html! {
        @if count > 0 {
            section.failed aria-labelledby="failed-title" {
                h2 #failed-title {
                    (count) @if count == 1 { " item" } @else { " items" } " could not be answered"
                }
                p.words {
                    "They are excluded from all numbers below. Fix or remove these files and run the same command again: it retries "
                    "only them."
                }
                @for run in runs {
                    div.scroll tabindex="0" role="region" aria-label="Items that could not be answered" {
                        table {
                            caption { (run.name) }
                            thead { tr { th.text scope="col" { "Item" } th.text scope="col" { "Reason" } } }
                            tbody {
                                @for failure in run.results.failed.iter().take(SHOWN_FAILURES) {
                                    tr { th scope="row" { (plain(&failure.id)) } td.text { (plain(&failure.reason)) } }
                                }
                            }
                        }
                    }
                    @if run.results.failed.len() > SHOWN_FAILURES {
                        p.words { "… and " (run.results.failed.len() - SHOWN_FAILURES) " more, in results.json." }
                    }
                }
                @if hidden > 0 { p.words { (hidden) " of them belong to runs that are not shown in full." } }
            }
        }
    }
}

const SHOWN_FAILURES: usize = 100;

fn overview(report: &Page) -> Markup {
    // The runs of a sweep have the same title.
    let titles = report.overview.windows(2).any(|pair| pair[0].title != pair[1].title);
    let row = |(index, run): (usize, &Overview)| {
        let in_full = index < report.runs.len();
        html! {
            tr {
                th scope="row" {
                    @if in_full { a href={ "#run-" (index + 1) } { (run.name) } }
                    @else { a href={ (run.href) "/" } { (run.name) } }
                }
                @if titles { td.text.title { (run.title) } }
                td.text { (run.task) }
                td data-value=(run.items) { (run.items) }
                td data-value=(run.failed) { (run.failed) }
                @match &run.best {
                    Some((metric, method, value)) => {
                        td.text { (method) }
                        td { (value) }
                        td.text { (metric) }
                    }
                    None => { td {} td {} td {} }
                }
            }
        }
    };
    html! {
        section #runs aria-labelledby="runs-title" {
            h2 #runs-title { "Runs" }
            div.scroll tabindex="0" role="region" aria-labelledby="runs-title" {
                table.runs data-sortable {
                    thead { tr {
                        th.text scope="col" { "Run" }
                        @if titles { th.text scope="col" { "Experiment" } }
                        th.text scope="col" { "Task" }
                        th scope="col" { "Items" }
                        th scope="col" { "Not read" }
                        th.text scope="col" { "Best" }
                        th scope="col" { "Value" }
                        th.text scope="col" { "Metric" }
                    } }
                    tbody { @for entry in report.overview.iter().enumerate() { (row(entry)) } }
                }
            }
            @if report.overview.len() > report.runs.len() {
                p.words {
                    "The first " (IN_FULL) " runs are shown in full below. For another one, make the report of its folder."
                }
            }
        }
    }
}

fn together(index: usize, table: &eval::Table) -> Markup {
    let id = format!("together-{}", index + 1);
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (plain(&table.title)) }
            (tables::table(table, &format!("{id}-title")))
            p.words { "Lower is better. The sections of the runs below explain the values and give their intervals." }
            (tables::downloads(table, &id))
        }
    }
}

fn board(index: usize, table: &eval::Table) -> Markup {
    let id = format!("board-{}", index + 1);
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (plain(&table.title)) }
            (tables::table(table, &format!("{id}-title")))
            (tables::downloads(table, &id))
        }
    }
}

fn sweep(index: usize, sweep: &super::sweep::SweepView) -> Markup {
    let id = format!("sweep-{}", index + 1);
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (plain(&sweep.table.title)) }
            (tables::table(&sweep.table, &format!("{id}-title")))
            (tables::downloads(&sweep.table, &id))
            @if let Some(table) = &sweep.differences {
                h3 id={ (id) "-differences-title" } { (plain(&table.title)) }
                (tables::table(table, &format!("{id}-differences-title")))
                (tables::downloads(table, &format!("{id}-differences")))
            }
            (run::figures(&sweep.images))
            @if !sweep.files.is_empty() {
                p.words { "Files of the sweep: " @for (index, (name, href)) in sweep.files.iter().enumerate() {
                    @if index > 0 { ", " } a href=(href) { (name) }
                } }
            }
        }
    }
}
