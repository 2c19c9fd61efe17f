//! `ls`.

use std::path::Path;

use eval::embedded::{self, Text};
use models::hub::{Hub, Model, Registry};

use crate::args::{Listing, LsArgs};
use crate::failure::Failure;
use crate::{print, print_escaped};

pub(crate) fn ls(args: &LsArgs) -> Result<(), Failure> {
    if let Some(name) = &args.show {
        let text = embedded::text(name).ok_or_else(|| unknown(name))?;
        print_escaped(text.text);
        return Ok(());
    }
    let wanted = |listing| args.what.is_none_or(|what| what == listing);
    let mut text = String::new();
    let mut section = |listing, head: &str, rows: Vec<(String, String)>| {
        if wanted(listing) {
            let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            text.push_str(&format!("{head}\n"));
            for (name, what) in rows {
                text.push_str(&format!("  {name:width$}  {what}\n"));
            }
        }
    };
    let own = |rows: &[(&str, &str)]| rows.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
    section(Listing::Models, "models", own(&models::ARCHITECTURES));
    section(Listing::Models, "checkpoints, for `tokenrank fetch` and [model] id", checkpoints()?);
    section(Listing::Datasets, "datasets", own(&tasks::dataset::KINDS));
    section(Listing::Datasets, "descriptors of datasets, for [model] zero_shot and --show", texts(dataset));
    section(Listing::Experiments, "experiments", experiments(Path::new("configs")));
    let tables = eval::experiments::paper_tables()
        .into_iter()
        .map(|(name, table)| (name.to_owned(), table.title))
        .collect();
    section(Listing::Tables, "tables", tables);
    section(Listing::Licences, "licences, for --show", texts(licence));
    print(&text);
    Ok(())
}

/// Returns the published checkpoints with a description of each.
fn checkpoints() -> Result<Vec<(String, String)>, Failure> {
    // Without a cache nothing is fetched.
    let (hub, registry) = (Hub::from_env().ok(), Registry::embedded()?);
    let row = |model: &Model| {
        let gated = if model.gated { ", gated" } else { "" };
        let fetched =
            if hub.as_ref().is_some_and(|hub| hub.snapshot(model).is_ok()) { ", fetched" } else { "" };
        (model.name.clone(), format!("{}, licence: {}{gated}{fetched}", model.id, model.licence))
    };
    Ok(registry.models().iter().map(row).collect())
}

fn unknown(name: &Path) -> Failure {
    Failure::usage(format!(
        "the program has no text of the name `{}`; `tokenrank ls` lists experiments, descriptors of datasets and licences",
        name.display()
    ))
}

/// Returns the names of texts in the program with a description of each.
fn texts(about: impl Fn(&Text) -> Option<&str>) -> Vec<(String, String)> {
    let row = |text: &Text| Some((text.name.to_owned(), about(text)?.to_owned()));
    embedded::texts().iter().filter_map(row).collect()
}

/// Returns the title of a dataset; `None` for any other text.
fn dataset(text: &Text) -> Option<&str> {
    let mut lines = text.text.lines().filter(|_| text.name.starts_with("datasets/"));
    Some(lines.find_map(|line| line.strip_prefix("title = "))?.trim_matches('"'))
}

/// Returns the first line of a licence; `None` for any other text.
fn licence(text: &Text) -> Option<&str> {
    let mut lines = text.text.lines().map(str::trim).filter(|_| text.name.contains("LICENSE"));
    Some(lines.find(|line| !line.is_empty())?.trim_end_matches(':'))
}

/// Returns the experiment files below a folder, and the experiments in the program for which the folder has no file, all with
/// their titles; an unreadable file is listed with a hint instead.
fn experiments(folder: &Path) -> Vec<(String, String)> {
    let own = embedded::texts().iter().filter(|text| !Path::new(text.name).exists());
    let titled = |name: &str| Some((name.to_owned(), eval::title(Path::new(name)).ok()??));
    let mut found: Vec<_> = own.filter_map(Text::experiment).filter_map(titled).collect();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let title = eval::title(&path)
                    .unwrap_or_else(|_| Some("cannot be read; `tokenrank validate` says why".into()));
                found.extend(title.map(|title| (path.display().to_string(), title)));
            }
        }
    }
    found.sort();
    found
}
