//! `ls`.

use std::path::Path;

use models::hub::{Hub, Model, Registry};

use crate::args::{Listing, LsArgs};
use crate::failure::Failure;
use crate::print;

pub(crate) fn ls(args: &LsArgs) -> Result<(), Failure> {
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
    section(Listing::Experiments, "experiments", experiments(Path::new("configs")));
    let tables = eval::experiments::paper_tables()
        .into_iter()
        .map(|(name, table)| (name.to_owned(), table.title))
        .collect();
    section(Listing::Tables, "tables", tables);
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

/// Returns the experiment files below a folder with their titles; an unreadable file is listed with a hint instead.
fn experiments(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
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
