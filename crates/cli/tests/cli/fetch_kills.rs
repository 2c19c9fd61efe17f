//! A campaign of `kill -9` over `fetch`: a third of the kills come at any moment, a third after a change in the cache, and a third
//! in the middle of a write. After each, the cache holds whole files and beginnings of files, and nothing else; the same
//! command goes on until the cache is equal to one that nobody disturbed, file by file and byte by byte.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tasks::Rng;

use crate::experiments::SIGXFSZ;
use crate::fetch::{Home, ID, files};
use crate::kills::moment::Moment;
use crate::kills::{asked, report};
use crate::server::{Reply, Request, StandIn, git_hash, sha256};

/// Kills in the default run, and with TOKENRANK_CAMPAIGN=full. TOKENRANK_KILLS asks for another number.
const KILLS: [usize; 2] = [12, 250];

/// Serves slowly enough that a kill often meets a download.
fn slowly(request: &Request, _: usize, reply: Reply) -> Reply {
    let size = if request.path.contains("resolve") { 200 } else { 20_000 };
    Reply { pace: Some((size, Duration::from_millis(3))), ..reply }
}

/// Every file and link below a folder, by its path: the content of a file, the target of a link.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // A file may vanish while the program runs.
            let Ok(kind) = entry.file_type() else { continue };
            let content = if kind.is_symlink() {
                std::fs::read_link(&path).map(|target| target.into_os_string().into_encoded_bytes())
            } else if kind.is_dir() {
                walk(root, &path, found);
                continue;
            } else {
                std::fs::read(&path)
            };
            found.extend(
                content.ok().map(|content| (path.strip_prefix(root).expect("below").to_owned(), content)),
            );
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// What an undisturbed fetch leaves.
struct Whole {
    tree: BTreeMap<PathBuf, Vec<u8>>,
    /// Contents by the name of their blob.
    blobs: BTreeMap<String, Vec<u8>>,
    /// How long it takes, so that kills can be spread over it.
    takes: Duration,
    /// Sizes of the blobs, the largest first.
    sizes: Vec<usize>,
}

impl Whole {
    fn of(stand_in: &StandIn) -> Self {
        let (home, start) = (Home::new(), Instant::now());
        home.run(stand_in, &["fetch", ID], 0);
        let name = |file: &str, content: &[u8]| match file.ends_with(".safetensors") {
            true => sha256(content),
            false => git_hash(content),
        };
        let takes = start.elapsed();
        let blobs: BTreeMap<String, Vec<u8>> =
            files().into_iter().map(|(file, content)| (name(file, &content), content)).collect();
        let mut sizes: Vec<usize> = blobs.values().map(Vec::len).collect();
        sizes.sort_unstable_by_key(|&size| Reverse(size));
        Self { tree: tree(home.0.path()), blobs, takes, sizes }
    }

    /// Checks what a killed process has left. Returns the number of bytes of partial downloads.
    fn check(&self, home: &Home) -> usize {
        let mut partial = 0;
        for (path, content) in tree(home.0.path()) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if let Some(blob) = name.strip_suffix(".incomplete") {
                let whole = self.blobs.get(blob).unwrap_or_else(|| panic!("{name} belongs to no file"));
                assert!(whole.starts_with(&content), "{name} is not the beginning of a file");
                partial += content.len();
            } else if name.ends_with(".lock") {
                let expected = self.tree.get(&path);
                assert!(content.is_empty() || expected == Some(&content), "{}", path.display());
            } else if !name.ends_with(".partial") {
                // Written whole or not at all.
                assert!(
                    self.tree.get(&path) == Some(&content),
                    "{} is not what a fetch leaves",
                    path.display()
                );
            }
        }
        partial
    }

    #[track_caller]
    fn assert_same(&self, home: &Home) {
        let found = tree(home.0.path());
        assert!(found.keys().eq(self.tree.keys()), "{:?} and {:?}", found.keys(), self.tree.keys());
        for (path, content) in &found {
            assert!(content == &self.tree[path], "{} differs", path.display());
        }
    }
}

#[test]
fn killed_again_and_again_a_fetch_leaves_the_cache_of_an_undisturbed_one() {
    let asked = asked(KILLS);
    let stand_in = StandIn::start(files(), slowly, slowly);
    let (whole, mut rng) = (Whole::of(&stand_in), Rng::keyed(&[5]));
    let (mut kills, mut written, mut fetches, mut in_a_file) = (0, 0, 0, 0);
    let mut home = Home::new();
    while kills < asked {
        let moment = Moment::any(whole.takes, &whole.sizes, 0, &mut rng);
        let status = moment.strike(home.command(&stand_in.hub.url(), &["fetch", ID]), home.0.path());
        let partial = whole.check(&home);
        if status.success() {
            whole.assert_same(&home);
            (home, fetches) = (Home::new(), fetches + 1);
            continue;
        }
        assert_eq!(status.signal(), Some(moment.signal()), "ended with {status}");
        kills += 1;
        written += usize::from(moment.signal() == SIGXFSZ);
        in_a_file += usize::from(partial > 0);
        // Every third time the fetch is brought to its end, so that kills meet all of its stages.
        if kills % 3 == 0 {
            home.run(&stand_in, &["fetch", ID], 0);
            whole.assert_same(&home);
            (home, fetches) = (Home::new(), fetches + 1);
        }
    }
    home.run(&stand_in, &["fetch", ID], 0);
    whole.assert_same(&home);
    let figures = json!({
        "kills": kills,
        "of them in the middle of a write": written,
        "killed with a part of a file on disk": in_a_file,
        "fetches brought to their end": fetches + 1,
        "files unlike an undisturbed fetch's": 0,
    });
    report(BTreeMap::from([("fetch", figures)]));
}
