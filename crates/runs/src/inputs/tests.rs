use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use tasks::Rest;
use tasks::dataset::InputKind;

use super::*;

/// An item with an image and a mask, which counts how often they are hashed.
#[derive(Clone)]
struct Item {
    id: &'static str,
    files: Vec<PathBuf>,
    hashed: Arc<AtomicUsize>,
}

impl Sourced for Item {
    fn files(&self) -> Vec<InputFile> {
        let file = |path: &PathBuf| InputFile { path: path.clone(), kind: InputKind::Image };
        self.files.iter().map(file).collect()
    }

    fn sha256(&self) -> tasks::Result<String> {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let mut hasher = Sha256::new();
        for path in &self.files {
            let read = std::fs::read(path);
            hasher.update(read.map_err(|source| models::Error::Read { path: path.clone(), source })?);
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

struct Fake;

impl Task for Fake {
    type Item = Item;
    /// Name of the item and hash of its data.
    type Record = (String, String);

    const NAME: &'static str = "fake";
    const MEMORY_SETTINGS: &'static [&'static str] = &["task.fake.batch"];

    fn manifest(&self) -> &[Item] {
        &[]
    }

    fn id(item: &Item) -> &str {
        item.id
    }

    fn answered(record: &(String, String)) -> &str {
        &record.0
    }

    fn made_from(record: &(String, String)) -> Option<&str> {
        Some(record.1.as_str()).filter(|hash| !hash.is_empty())
    }

    fn batch_size(&self) -> usize {
        1
    }

    fn start(&mut self, _: Range<usize>) -> tasks::Result<Rest<(String, String)>> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}

/// Returns an item whose files are in a folder, and its record.
fn item(folder: &Path) -> (Item, (String, String)) {
    let files = ["image", "mask"].map(|name| folder.join(name));
    files.iter().for_each(|path| std::fs::write(path, "first").expect("writable"));
    let item = Item { id: "a", files: files.to_vec(), hashed: Arc::default() };
    let record = ("a".to_owned(), item.sha256().expect("readable"));
    item.hashed.store(0, Ordering::Relaxed);
    (item, record)
}

/// Compares like [`Inputs::compare`], at a time when all stamps are settled. Returns what changed.
fn later(inputs: &mut Inputs, item: &Item, record: &(String, String)) -> Option<String> {
    match inputs.found(item, item.id, Fake::made_from(record), u64::MAX) {
        Found::Same(seen) => {
            seen.into_iter().for_each(|seen| inputs.learn(seen));
            None
        }
        Found::Changed(what) => Some(what),
        Found::Unread(reason) => panic!("{reason}"),
        Found::Unknown => panic!("unknown"),
    }
}

#[test]
fn files_with_equal_metadata_are_hashed_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (item, record) = item(dir.path());
    let mut inputs = Inputs::default();
    for _ in 0..3 {
        assert_eq!(later(&mut inputs, &item, &record), None);
    }
    assert_eq!(item.hashed.load(Ordering::Relaxed), 1);
    // Entries are appended even if the file ends in a torn line.
    std::fs::write(dir.path().join(INPUTS), "{\"torn\n").expect("writable");
    inputs.save(dir.path());
    inputs.save(dir.path());
    let text = std::fs::read_to_string(dir.path().join(INPUTS)).expect("a file");
    assert_eq!(text.lines().count(), 2, "{text}");
    let mut read = Inputs::open([dir.path()]);
    assert_eq!(read.seen, inputs.seen);
    assert_eq!(later(&mut read, &item, &record), None);
    assert_eq!(item.hashed.load(Ordering::Relaxed), 1);
    // A file with a new time but the same content is hashed once more.
    let touched = std::fs::File::options().write(true).open(&item.files[1]).expect("a file");
    touched.set_modified(UNIX_EPOCH + Duration::from_secs(5)).expect("a time");
    assert_eq!(later(&mut read, &item, &record), None);
    assert_eq!(later(&mut read, &item, &record), None);
    assert_eq!(item.hashed.load(Ordering::Relaxed), 2);
}

#[test]
fn stamps_of_files_just_written_are_not_kept() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (item, record) = item(dir.path());
    let mut inputs = Inputs::default();
    let compared = inputs.compare::<Fake>(&[(&item, &record)]);
    assert_eq!((compared, inputs.seen.len()), (Compared::default(), 0));
    assert!(Inputs::look::<Fake>(std::slice::from_ref(&item)).is_empty());
}

#[test]
fn changed_files_are_named() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (item, record) = item(dir.path());
    let mut inputs = Inputs::default();
    std::fs::write(&item.files[1], "other").expect("writable");
    assert_eq!(later(&mut inputs, &item, &record), Some("a".into()), "nothing is known of the files");
    std::fs::write(&item.files[1], "first").expect("writable");
    assert_eq!(later(&mut inputs, &item, &record), None);
    // Another content of the same size and modification time.
    let time = std::fs::metadata(&item.files[1]).and_then(|found| found.modified()).expect("a time");
    std::thread::sleep(Duration::from_millis(50));
    std::fs::write(&item.files[1], "other").expect("writable");
    std::fs::File::options()
        .write(true)
        .open(&item.files[1])
        .and_then(|file| file.set_modified(time))
        .expect("a time");
    let changed = later(&mut inputs, &item, &record);
    #[cfg(unix)]
    assert_eq!(changed, Some(format!("a: {}", item.files[1].display())));
    #[cfg(not(unix))]
    assert_eq!(changed, None);
}

#[test]
fn unreadable_and_unhashed_items_do_not_count_as_changed() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (item, record) = item(dir.path());
    let silent = ("a".to_owned(), String::new());
    let mut inputs = Inputs::default();
    let compared = inputs.compare::<Fake>(&[(&item, &silent)]);
    assert_eq!((compared.changed.len(), compared.unknown), (0, 1));
    assert!(compared.unsure()[0].starts_with("1 record has no hash of the data"));
    std::fs::remove_file(&item.files[0]).expect("removable");
    let compared = inputs.compare::<Fake>(&[(&item, &record)]);
    assert_eq!((compared.changed.len(), compared.unread.len()), (0, 1));
    // The record of a finished run, whose item has left the data set.
    let lines = since_run::<Fake>(dir.path(), &[], &[&record]);
    assert_eq!(lines, ["1 item is no longer in the data set"]);
    // An item without files, as if drawn by the program.
    let drawn = Item { files: Vec::new(), ..item };
    assert_eq!(inputs.compare::<Fake>(&[(&drawn, &record)]), Compared::default());
}
