//! What `fetch` is asked for.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use eval::Needs;
use models::files::write_whole;
use models::hub::{Model, Registry, UnpackedFolder, WebFile};
use tasks::dataset::{MissingPart, Place};

use crate::failure::Failure;

/// Folder of files from web addresses that are fetched by their names.
const CHECKPOINTS: &str = "checkpoints";

/// Something to fetch.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A repository of the hub.
    Model(Box<Model>),
    /// A file from a web address.
    File { file: WebFile, to: PathBuf },
    /// An archive, downloaded or the user's own.
    Archive { file: WebFile, given: Option<PathBuf>, folders: Vec<UnpackedFolder> },
    /// A file of the user's own, which is copied to its place.
    Copied { from: PathBuf, to: PathBuf },
    /// Something that the user must get.
    ByHand { what: String, how: String },
}

/// Returns everything that names and experiments ask for, each once. `given` are the user's own files.
pub(super) fn wanted(
    names: &[String],
    needs: &Needs,
    given: &[PathBuf],
    registry: &Registry,
) -> Result<Vec<Item>, Failure> {
    if let Some(absent) = given.iter().find(|path| !path.is_file()) {
        return Err(Failure::usage(format!("--from {}: no such file", absent.display())));
    }
    let mut items = Vec::new();
    for name in names {
        items.push(match registry.find_file(name) {
            Some(file) => {
                Item::File { file: file.clone(), to: Path::new(CHECKPOINTS).join(file.file_name()) }
            }
            None => Item::Model(Box::new(registry.find(name)?)),
        });
    }
    for id in &needs.checkpoints {
        items.push(Item::Model(Box::new(registry.find_id(id)?)));
    }
    for (id, split) in &needs.datasets {
        items.push(Item::Model(Box::new(Model::dataset(id, split)?)));
    }
    items.extend(needs.files.iter().map(|to| {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        match registry.find_file(&name) {
            Some(file) => Item::File { file: file.clone(), to: to.clone() },
            None => by_hand(to, "no published file has this name; put yours there"),
        }
    }));
    items.extend(needs.folders.iter().map(|folder| {
        by_hand(folder, "this network is named by its folder; put it there, or name a checkpoint of the hub with model.id")
    }));
    let mut used = Vec::new();
    for part in &needs.parts {
        let own =
            given.iter().find(|path| path.file_name().is_some_and(|name| name == part.file.file_name()));
        used.extend(own);
        items.push(of_part(part, own.cloned()));
    }
    match given.iter().find(|path| !used.contains(path)) {
        Some(other) => {
            let expected: Vec<&str> = needs.parts.iter().map(|part| part.file.file_name()).collect();
            Err(Failure::usage(format!(
                "--from {}: no experiment lacks a file of this name{}",
                other.display(),
                if expected.is_empty() {
                    String::new()
                } else {
                    format!("; missing: {}", expected.join(", "))
                }
            )))
        }
        None => Ok(items),
    }
}

fn of_part(part: &MissingPart, own: Option<PathBuf>) -> Item {
    let file = part.file.clone();
    match (&part.place, own) {
        (_, None) if part.login => by_hand(
            Path::new(file.file_name()),
            "is served after a registration only; download it and give it with --from FILE",
        ),
        (Place::Folders(folders), given) => Item::Archive { file, given, folders: folders.clone() },
        (Place::File(to), Some(from)) => Item::Copied { from, to: to.clone() },
        (Place::File(to), None) => Item::File { file, to: to.clone() },
    }
}

fn by_hand(what: &Path, how: &str) -> Item {
    Item::ByHand { what: what.display().to_string(), how: how.to_owned() }
}

/// Copies a file of the user's own to its place, which gets it whole or not at all.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied = to.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        write_whole(to, |out| {
            let mut from = std::fs::File::open(from)?;
            io::copy(&mut from, out)?;
            out.flush()
        })
    });
    copied.map_err(|e| Failure::unread(format!("cannot copy {} to {}: {e}", from.display(), to.display())))
}
