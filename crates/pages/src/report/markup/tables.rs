//! Tables that can be sorted by their column heads and saved as files.

use maud::{Markup, html};

use crate::report::run::{Difference, Differences, Run};
use crate::report::svg;
use crate::report::tables::downloads as forms;
use crate::report::values::{Value, Values};
use eval::metrics::significance::Significance;
use eval::{Cell, Table};
use models::escape::text as plain;

/// Returns a number with all its digits, for sorting.
fn data(value: Option<f64>) -> Option<String> {
    value.map(|value| format!("{value}"))
}

/// Replaces the hyphen of a number by a minus sign, which is as wide as a plus.
fn minus(number: &str) -> String {
    number.replace('-', "−")
}

/// Returns any table with its notes below; `label` is the id of its heading.
pub(super) fn table(table: &Table, label: &str) -> Markup {
    let class = |cell: &Cell| match cell.better() {
        Some(true) => Some("better"),
        Some(false) => Some("worse"),
        None => cell.is_best().then_some("best"),
    };
    html! {
        div.scroll tabindex="0" role="region" aria-labelledby=(label) {
            table data-sortable {
                thead { tr {
                    @for head in &table.labels { th.text scope="col" { (head) } }
                    @for head in &table.columns { th scope="col" { (head) } }
                } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (index, name) in row.labels.iter().enumerate() {
                                @if index == 0 { th scope="row" { (name) } } @else { td.text { (name) } }
                            }
                            @for cell in &row.cells {
                                td class=[class(cell)] data-value=[data(cell.value())] { (minus(&cell.text())) }
                            }
                        }
                    }
                }
            }
        }
        (notes(&table.notes))
    }
}

pub(super) fn notes(notes: &[String]) -> Markup {
    html! { @for note in notes { p.words { (plain(note)) } } }
}

/// Returns the table of every method and metric next to the paper's value.
pub(super) fn values(values: &Values, label: &str) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-labelledby=(label) {
            table.values data-sortable {
                thead { tr {
                    th.text scope="col" { "Method" }
                    @for (index, head) in values.heads.iter().enumerate() {
                        th scope="col" { (head.with_arrow()) }
                        @if values.has_paper(index) {
                            th.paper scope="col" { "paper" }
                            @if values.comparable { th scope="col" { "Δ" } }
                        }
                    }
                } }
                tbody {
                    @for row in &values.rows {
                        tr {
                            th scope="row" { (row.label) }
                            @for (index, value) in row.cells.iter().enumerate() { (cells(values, index, value)) }
                        }
                    }
                }
            }
        }
    }
}

fn cells(values: &Values, index: usize, value: &Value) -> Markup {
    let head = &values.heads[index];
    let class = match value.difference.and_then(Cell::better) {
        Some(true) => Some("better"),
        Some(false) => Some("worse"),
        None => None,
    };
    html! {
        td class=[value.best.then_some("best")] data-value=[data(value.value)] {
            @match value.value { Some(value) => (minus(&head.text(value))), None => "–" }
            @if let Some((low, high)) = value.interval { small { (minus(&head.text(low))) " … " (minus(&head.text(high))) } }
        }
        @if values.has_paper(index) {
            td.paper data-value=[data(value.published)] {
                @match value.published { Some(value) => (values.published(index, value)), None => "–" }
            }
            @if values.comparable {
                td class=[class] data-value=[data(value.difference.and_then(Cell::value))] {
                    @match value.difference.and_then(Cell::value) {
                        Some(value) => (minus(&format!("{value:+.*}", head.spec.digits))),
                        None => "–",
                    }
                }
            }
        }
    }
}

/// Returns the paired differences, with a table for each metric.
pub(super) fn differences(run: &Run, id: &str) -> Markup {
    html! {
        @for (index, one) in run.differences.iter().enumerate() { (differences_of(one, &format!("{id}-differences-{index}"))) }
        (notes(&run.differences_notes))
    }
}

fn differences_of(one: &Differences, label: &str) -> Markup {
    let ends = one.rows.iter().filter_map(|row| row.interval);
    let reach = ends.flat_map(|(low, high, _)| [low.abs(), high.abs()]).fold(0.0, f64::max);
    let signed = |value: f64| minus(&format!("{value:+.*}", one.head.spec.digits));
    let class = |row: &Difference| match row.significance {
        Significance::Yes { better: Some(true) } => "better",
        Significance::Yes { better: Some(false) } => "worse",
        Significance::Yes { better: None }
        | Significance::No
        | Significance::TooFewItems
        | Significance::Biased => "unsure",
    };
    html! {
        div.scroll tabindex="0" role="region" aria-labelledby=(label) {
            table.differences data-sortable {
                caption id=(label) { (one.head.with_arrow()) }
                thead { tr {
                    th.text scope="col" { "Difference" }
                    th scope="col" { "Δ" }
                    th scope="col" { "from" }
                    th scope="col" { "to" }
                    td.drawn { "95 % interval around 0" }
                    th scope="col" { "p" }
                    th scope="col" { "items" }
                    th.text scope="col" { "Significant" }
                } }
                tbody {
                    @for row in &one.rows {
                        tr class=(class(row)) {
                            th scope="row" { (row.method) " − " (row.minus) }
                            td data-value=(row.value) { (signed(row.value)) }
                            @if let Some((low, high, p)) = row.interval {
                                td data-value=(low) { (signed(low)) }
                                td data-value=(high) { (signed(high)) }
                                td.drawn { (svg::interval(row.value, (low, high), reach)) }
                                td data-value=(p.value()) { (p) }
                            } @else {
                                td { "–" }
                                td { "–" }
                                td.drawn {}
                                td { "–" }
                            }
                            td data-value=(row.items) { (row.items) }
                            td.text { (row.significance) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns links that save the table in each file format, with buttons that copy text formats.
pub(super) fn downloads(table: &Table, name: &str) -> Markup {
    html! {
        div.files role="group" aria-label="This table as a file" {
            span { "Save as" }
            @for form in forms(table, name) {
                span.file {
                    a href=(form.uri) download=(form.file) { (form.label) }
                    @if let Some(text) = form.text {
                        button.copy.scripted type="button" data-copy=(text) aria-label={ "Copy as " (form.label) } { "copy" }
                    }
                }
            }
        }
    }
}
