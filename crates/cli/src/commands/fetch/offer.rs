//! The table of what will be downloaded.

use std::path::{Path, PathBuf};

use models::hub::{Hub, HubError, amount, free_space};

use super::bar::Bar;
use super::items::Item;
use crate::failure::Failure;

/// Items with what their servers say about them.
pub(super) struct Offers {
    rows: Vec<(Item, Row)>,
}

/// A line of the table.
struct Row {
    what: String,
    from: String,
    /// Bytes to download; `None` if the server does not say.
    size: Option<u64>,
    licence: String,
    access: &'static str,
    /// The existing folder on whose disk the bytes go.
    disk: PathBuf,
    /// Bytes on that disk at the same time: an archive lies beside what is unpacked.
    room: u64,
}

impl Offers {
    /// Asks the servers for sizes and terms. A server that does not answer well keeps its row; fetching from it gives the
    /// error.
    pub(super) fn of(hub: &Hub, items: Vec<Item>) -> Self {
        let row = |item: Item| offer(hub, item.clone()).unwrap_or_else(|_| unanswered(item));
        Self { rows: items.into_iter().map(row).collect() }
    }

    /// Whether anything has to be downloaded or unpacked.
    pub(super) fn has_downloads(&self) -> bool {
        self.rows.iter().any(|(_, row)| row.size != Some(0))
    }

    pub(super) fn into_items(self) -> Vec<Item> {
        self.rows.into_iter().map(|(item, _)| item).collect()
    }

    /// The sum of all sizes.
    pub(super) fn total(&self) -> String {
        let known: u64 = self.rows.iter().filter_map(|(_, row)| row.size).sum();
        let unknown = self.rows.iter().filter(|(_, row)| row.size.is_none()).count();
        match unknown {
            0 => amount(known),
            _ => format!("{} and {unknown} of unknown size", amount(known)),
        }
    }

    /// The table, with the total and the free room of every disk.
    pub(super) fn table(&self) -> String {
        let head = ["what", "from", "size", "licence", "access"].map(str::to_owned);
        let cells = |(_, row): &(Item, Row)| {
            let size = match row.size {
                Some(0) => "there".to_owned(),
                Some(size) => amount(size),
                None => "unknown".to_owned(),
            };
            let texts = [row.what.as_str(), &row.from, &size, &row.licence, row.access];
            texts.map(|text| models::escape::line(text).into_owned())
        };
        let lines: Vec<[String; 5]> = std::iter::once(head).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut text = String::new();
        for line in &lines {
            let padded: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(&format!("{}\n", padded.join("  ").trim_end()));
        }
        let disks: Vec<String> = self
            .disks()
            .into_iter()
            .filter_map(|(disk, _)| {
                Some(format!("{} free in {}", amount(free_space(&disk)?), disk.display()))
            })
            .collect();
        text.push_str(&format!("to download: {}; {}", self.total(), disks.join(", ")));
        text
    }

    /// Fails if a disk has less room than is needed.
    pub(super) fn check_room(&self) -> Result<(), Failure> {
        for (disk, needed) in self.disks() {
            if let Some(free) = free_space(&disk).filter(|&free| free < needed) {
                return Err(Failure::unread(format!(
                    "{} are needed in {}, and {} are free; nothing was downloaded. Free some space, point HF_HOME at \
                     another disk, or set the folders of the data sets with --set",
                    amount(needed),
                    disk.display(),
                    amount(free)
                )));
            }
        }
        Ok(())
    }

    /// Folders on different disks, each with the bytes that go there.
    fn disks(&self) -> Vec<(PathBuf, u64)> {
        let mut disks: Vec<(PathBuf, u64)> = Vec::new();
        for (_, row) in &self.rows {
            match disks.iter_mut().find(|(disk, _)| device(disk) == device(&row.disk)) {
                Some((_, needed)) => *needed = needed.saturating_add(row.room),
                None => disks.push((row.disk.clone(), row.room)),
            }
        }
        disks
    }
}

fn offer(hub: &Hub, item: Item) -> Result<(Item, Row), HubError> {
    let mut bar = Bar::default();
    let row =
        |what: String, from: String, size: Option<u64>, licence: &str, access, folder: &Path, times: u64| {
            Row {
                what,
                from,
                size,
                licence: licence.to_owned(),
                access,
                disk: existing(folder),
                room: size.unwrap_or(0).saturating_mul(times),
            }
        };
    Ok(match item {
        Item::Model(model) => {
            let offer = hub.offer(&model, &mut bar)?;
            let size = if offer.files == 0 { Some(0) } else { offer.missing };
            let access = if offer.model.gated { "terms to accept" } else { "free" };
            let (id, licence) = (offer.model.id.clone(), offer.model.licence.clone());
            let row = row(id, hub.host(), size, &licence, access, hub.cache(), 1);
            (Item::Model(Box::new(offer.model)), row)
        }
        Item::File { file, to } => {
            let offer = hub.offer_of(&file, &to, &mut bar)?;
            let size = if offer.present { Some(0) } else { offer.size };
            let folder = to.parent().unwrap_or(Path::new("."));
            let row = row(file.file_name().to_owned(), offer.host, size, &file.licence, "free", folder, 1);
            (Item::File { file, to }, row)
        }
        Item::Archive { file, given, folders } => {
            let to = folders.first().map(|folder| folder.to.clone()).unwrap_or_default();
            let folder = to.parent().unwrap_or(Path::new(".")).to_owned();
            let (name, licence) = (file.file_name().to_owned(), file.licence.clone());
            let row = match &given {
                Some(path) => {
                    let size = path.metadata().map(|found| found.len()).ok();
                    let mut row = row(name, path.display().to_string(), size, &licence, "yours", &folder, 1);
                    row.size = Some(0);
                    row
                }
                None => {
                    let offer = hub.offer_of(&file, &folder.join(file.file_name()), &mut bar)?;
                    row(name, offer.host, offer.size, &licence, "free", &folder, 2)
                }
            };
            (Item::Archive { file, given, folders }, row)
        }
        Item::Copied { from, to } => {
            let folder = to.parent().unwrap_or(Path::new(".")).to_owned();
            let row =
                row(to.display().to_string(), from.display().to_string(), Some(0), "", "yours", &folder, 0);
            (Item::Copied { from, to }, row)
        }
        Item::ByHand { what, how } => {
            let row = row(what.clone(), "you".into(), Some(0), "", "by hand", Path::new("."), 0);
            (Item::ByHand { what, how }, row)
        }
    })
}

/// The row of an item whose server refuses or does not answer.
fn unanswered(item: Item) -> (Item, Row) {
    let what = match &item {
        Item::Model(model) => model.id.clone(),
        Item::File { file, .. } | Item::Archive { file, .. } => file.file_name().to_owned(),
        Item::Copied { to, .. } => to.display().to_string(),
        Item::ByHand { what, .. } => what.clone(),
    };
    let (from, licence, disk) = (String::new(), String::new(), existing(Path::new(".")));
    (item, Row { what, from, size: None, licence, access: "refused or no answer", disk, room: 0 })
}

/// Returns the folder, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(unix)]
fn device(folder: &Path) -> Option<u64> {
    std::os::unix::fs::MetadataExt::dev(&folder.metadata().ok()?).into()
}

#[cfg(not(unix))]
fn device(folder: &Path) -> Option<PathBuf> {
    folder.canonicalize().ok()
}
