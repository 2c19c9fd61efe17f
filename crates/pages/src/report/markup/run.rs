//! The section of a run.

use maud::{Markup, html};

use super::{items, tables};
use eval::experiments::spec::MethodInfo;

use crate::report::images::{Figure, Grid, Images};
use crate::report::recipe::Recipe;
use crate::report::run::{Run, items_of, network};
use crate::report::svg::{Chart, DASHES};
use chain_page::html::data_uri;
use eval::results::Curves;
use models::escape::text as plain;

/// A part of a run's section.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Values,
    Differences,
    Curves,
    Images,
    Items,
    Made,
}

impl Part {
    /// Returns the id of the part, which is appended to the id of the run.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Differences => "differences",
            Self::Curves => "curves",
            Self::Images => "pictures",
            Self::Items => "items",
            Self::Made => "made",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Values => "Values",
            Self::Differences => "Differences",
            Self::Curves => "Curves",
            Self::Images => "Figures and images",
            Self::Items => "Items",
            Self::Made => "How it was made",
        }
    }
}

/// Returns the parts of a run's section that have content.
pub(super) fn parts(run: &Run) -> Vec<Part> {
    let images =
        !run.images.figures.is_empty() || run.images.grid.is_some() || !run.images.left_out.is_empty();
    let all = [
        (Part::Values, true),
        (Part::Differences, !run.differences.is_empty()),
        (Part::Curves, run.results.curves.is_some()),
        (Part::Images, images),
        (Part::Items, true),
        (Part::Made, true),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(part, _)| part).collect()
}

/// Returns task, network, data and number of items in one line.
pub(super) fn about(run: &Run) -> String {
    let model = network(&run.results);
    let (task, data) = (run.results.experiment.task.name(), &run.results.data.dataset);
    format!("{task} · {model} on {data} · {}", items_of(run.results.items))
}

pub(super) fn section(id: &str, run: &Run, several: bool) -> Markup {
    html! {
        section class=(if several { "run apart" } else { "run" }) id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } .unseen[!several] { (plain(&run.results.experiment.title)) }
            @if several { p.words { (run.name) " · " (about(run)) } }
            @if run.is_miniature() {
                p.note role="note" {
                    b { "A miniature." } " Its numbers cannot be compared with the paper's. The paper's values are shown only for their "
                    "order, without differences."
                }
            }
            @for part in parts(run) {
                section.part id={ (id) "-" (part.id()) } aria-labelledby={ (id) "-" (part.id()) "-title" } {
                    h3 id={ (id) "-" (part.id()) "-title" } { (part.title()) }
                    (content(id, part, run))
                }
            }
        }
    }
}

fn content(id: &str, part: Part, run: &Run) -> Markup {
    let label = format!("{id}-{}-title", part.id());
    match part {
        Part::Values => {
            let table = run.values.table(&run.results.experiment.title, run.notes.clone());
            html! {
                @if run.values.heads.is_empty() {
                    p.note role="note" { "No metric is defined over these items, so there is nothing to compare with the paper's values." }
                }
                (tables::values(&run.values, &label))
                (tables::notes(&run.notes))
                (tables::downloads(&table, &format!("{}-values", file_name(&run.name))))
            }
        }
        Part::Differences => tables::differences(run, id),
        Part::Curves => {
            html! { @if let Some(curves) = &run.results.curves { (self::curves(id, curves, &run.methods)) } }
        }
        Part::Images => images(run),
        Part::Items => items::section(id, run),
        Part::Made => made(id, &run.recipe),
    }
}

/// Returns a name that is valid on every file system.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect()
}

fn curves(id: &str, curves: &Curves, methods: &[MethodInfo]) -> Markup {
    let charts = [
        ("Top-1 accuracy, %", &curves.accuracy),
        ("Still right, % of those right before", &curves.still_right),
    ];
    let percent =
        |value: Option<&f64>| value.map_or("–".to_owned(), |value| format!("{:.1}", 100.0 * value));
    html! {
        div.curves data-curves {
            div.charts {
                @for (title, values) in charts {
                    figure {
                        figcaption { (title) }
                        (Chart {
                            title: &format!("{title}, over the fraction of removed tokens; the numbers are in the table below"),
                            x: &curves.fractions,
                            x_label: "% of patch tokens removed",
                            series: methods
                                .iter()
                                .enumerate()
                                .filter_map(|(place, method)| Some((place, values.get(&method.key)?.as_slice())))
                                .collect(),
                        }.draw())
                    }
                }
            }
            label.at.scripted {
                span { "Values at " b data-at {} }
                input type="range" min="0" max=(curves.fractions.len().saturating_sub(1)) step="1" value="0"
                    aria-label="Fraction of removed tokens at which values are shown";
            }
            ul.legend {
                @for (place, MethodInfo { key, label, .. }) in methods.iter().enumerate() {
                    li data-series=(place) tabindex="0" {
                        svg.swatch viewBox="0 0 34 10" aria-hidden="true" {
                            line class={ "ink-" (place % 12) } x1="1" x2="33" y1="5" y2="5" stroke-dasharray=(DASHES[place % 12]) {}
                        }
                        span { (label) }
                        @for (_, values) in charts {
                            span.value.scripted data-values=[values.get(key).map(|values| {
                                values.iter().map(|value| format!("{:.1}", 100.0 * value)).collect::<Vec<_>>().join(" ")
                            })] {}
                        }
                    }
                }
            }
            @for (index, (title, values)) in charts.into_iter().enumerate() {
                details {
                    summary { "Numbers: " (title) }
                    div.scroll tabindex="0" role="region" aria-label=(title) {
                        table #{ (id) "-curve-" (index) } {
                            thead { tr {
                                th.text scope="col" { "% removed" }
                                @for fraction in &curves.fractions { th scope="col" { (format!("{:.0}", 100.0 * fraction)) } }
                            } }
                            tbody {
                                @for MethodInfo { key, label, .. } in methods {
                                    tr {
                                        th scope="row" { (label) }
                                        @for step in 0..curves.fractions.len() {
                                            td { (percent(values.get(key).and_then(|values| values.get(step)))) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn images(run: &Run) -> Markup {
    html! {
        @if let Some(grid) = &run.images.grid { (side_by_side(grid)) }
        (figures(&run.images))
    }
}

/// Returns figures from files, and links to those that do not fit on the page.
pub(super) fn figures(images: &Images) -> Markup {
    let figure = |figure: &Figure| {
        html! {
            figure {
                figcaption { b { (figure.title) } " " a href=(figure.href) { (figure.file) } }
                div.scroll tabindex="0" role="region" aria-label=(figure.title) {
                    img src=(figure.uri) width=(figure.width) height=(figure.height) alt={ (figure.title) " (" (figure.file) ")" }
                       ;
                }
            }
        }
    };
    html! {
        @for one in &images.figures { (figure(one)) }
        @if !images.left_out.is_empty() {
            p.note role="note" {
                "The page holds up to " (crate::report::budget::IMAGES >> 20) " MiB of images. Left out, and available as files: "
                @for (index, (name, href)) in images.left_out.iter().enumerate() {
                    @if index > 0 { ", " } a href=(href) { (name) }
                }
                "."
            }
        }
    }
}

fn side_by_side(grid: &Grid) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Images from the same noise" {
            table.pictures {
                caption { "The same noise under each method" }
                thead { tr { td {} @for (name, _) in &grid.rows { th scope="col" { (name) } } } }
                tbody {
                    @for (place, method) in grid.methods.iter().enumerate() {
                        tr {
                            th scope="row" { (method) }
                            @for (name, shown) in &grid.rows {
                                td {
                                    @if let Some(image) = &shown[place] {
                                        a href=(image.href) {
                                            img src=(image.uri) width=(image.width) height=(image.height)
                                                alt={ (method) ", " (name) };
                                        }
                                    } @else { "–" }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if grid.rows.len() < grid.of {
            p.words { "The first " (grid.rows.len()) " of " (grid.of) "; links to the others are among the items." }
        }
    }
}

fn made(id: &str, recipe: &Recipe) -> Markup {
    let uri = data_uri("application/toml;charset=utf-8", recipe.text.as_bytes());
    html! {
        div.made {
            div {
                h4 { "Run it again" }
                p.words { "Save the file in the folder from which the paths of the experiment start, and run there:" }
                div.code {
                    pre tabindex="0" { code { (recipe.command) } }
                    button.copy.scripted type="button" data-copy=(recipe.command) aria-label="Copy the command" { "copy" }
                }
                p.files {
                    span.file {
                        a href=(uri) download=(recipe.file) { "Save " (recipe.file) }
                        button.copy.scripted type="button" data-copy=(recipe.text) aria-label={ "Copy " (recipe.file) } { "copy" }
                    }
                }
                details {
                    summary { (recipe.file) }
                    pre tabindex="0" { code { (recipe.text) } }
                }
                h4 { "Files" }
                ul.list {
                    @for (name, href, size) in &recipe.files {
                        li { a href=(href) { (name) } @if *size > 0 { " " span.faint { (bytes(*size)) } } }
                    }
                }
            }
            dl.facts id={ (id) "-facts" } {
                @for fact in &recipe.facts {
                    div {
                        dt { (fact.term) }
                        dd {
                            @if fact.is_code {
                                code { (fact.description) } " "
                                button.copy.scripted type="button" data-copy=(fact.description)
                                    aria-label={ "Copy: " (fact.term) } { "copy" }
                            } @else { (fact.description) }
                        }
                    }
                }
            }
        }
    }
}

fn bytes(size: u64) -> String {
    match size {
        0..1_024 => format!("{size} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", size as f64 / 1_024.0),
        _ => format!("{:.1} MiB", size as f64 / 1_048_576.0),
    }
}
