//! What other users of the cache may have put there. One line of a table for each attack.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::attacks::End::{self, Fetched, Refused};
use super::attacks::{CONFIG, WEIGHTS, assert_end, half};
use super::server::{COMMIT, StandIn, git_hash, honest, sha256};
use super::{files, hub_at, model, repository, weights};

const PRECIOUS: &[u8] = b"a file of somebody else";

/// What somebody has put into the cache, given the cache and a file that must not change.
type Planted = (&'static str, fn(&Path, &Path), End);

fn in_blobs(cache: &Path, name: &str) -> PathBuf {
    let folder = repository(cache).join("blobs");
    fs::create_dir_all(&folder).expect("writable");
    folder.join(name)
}

fn in_snapshot(cache: &Path, name: &str) -> PathBuf {
    let refs = repository(cache).join("refs");
    fs::create_dir_all(&refs).expect("writable");
    fs::write(refs.join("main"), COMMIT).expect("writable");
    let folder = repository(cache).join("snapshots").join(COMMIT);
    fs::create_dir_all(&folder).expect("writable");
    folder.join(name)
}

fn incomplete(cache: &Path) -> PathBuf {
    in_blobs(cache, &format!("{}.incomplete", sha256(&weights())))
}

const PLANTED: &[Planted] = &[
    (
        "a partial file that is a link",
        |cache, victim| symlink(victim, incomplete(cache)).expect("a link"),
        Refused(&["it is a link; remove it"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a partial file that is a link to nothing",
        |cache, victim| symlink(victim.with_extension("new"), incomplete(cache)).expect("a link"),
        Refused(&["it is a link; remove it"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a partial file that is a second name",
        |cache, victim| fs::hard_link(victim, incomplete(cache)).expect("a link"),
        Refused(&["hard link"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a partial file that is a pipe",
        |cache, _| {
            let status = Command::new("mkfifo").arg(incomplete(cache)).status();
            assert!(status.expect("mkfifo").success());
        },
        Refused(&["not a regular file"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a partial file that is a device",
        |cache, _| symlink("/dev/full", incomplete(cache)).expect("a link"),
        Refused(&["it is a link"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a lock that is a link",
        |cache, victim| {
            let locks = cache.join(".locks/models--tests--tiny");
            fs::create_dir_all(&locks).expect("writable");
            symlink(victim, locks.join(format!("{}.lock", sha256(&weights())))).expect("a link");
        },
        Refused(&["it is a link"], &[CONFIG]),
    ),
    (
        "a folder in the place of the weights",
        |cache, _| fs::create_dir(in_blobs(cache, &sha256(&weights()))).expect("writable"),
        Refused(&["it is a folder; remove it"], &[CONFIG, WEIGHTS]),
    ),
    (
        "a cache behind a link to nothing",
        |cache, victim| symlink(victim.with_extension("new"), repository(cache)).expect("a link"),
        Refused(&["it is a link to a folder that does not exist"], &[]),
    ),
    (
        "other weights under the right hash, as after a download that nobody checked",
        |cache, _| fs::write(in_blobs(cache, &sha256(&weights())), vec![7; 1_000_000]).expect("writable"),
        Fetched,
    ),
    (
        "half of the weights under the right hash, linked",
        |cache, _| {
            fs::write(in_blobs(cache, &sha256(&weights())), half()).expect("writable");
            let target = format!("../../blobs/{}", sha256(&weights()));
            symlink(target, in_snapshot(cache, WEIGHTS)).expect("a link");
        },
        Fetched,
    ),
    (
        "another configuration under the right hash, linked",
        |cache, _| {
            fs::write(in_blobs(cache, &git_hash(b"{}")), "[]").expect("writable");
            symlink(format!("../../blobs/{}", git_hash(b"{}")), in_snapshot(cache, CONFIG)).expect("a link");
        },
        Fetched,
    ),
    (
        "a snapshot that leads out of the cache",
        |cache, victim| {
            symlink(victim, in_snapshot(cache, CONFIG)).expect("a link");
            symlink(victim, in_snapshot(cache, WEIGHTS)).expect("a link");
        },
        Fetched,
    ),
    (
        "files in the snapshot itself",
        |cache, _| {
            fs::write(in_snapshot(cache, CONFIG), "[]").expect("writable");
            fs::write(in_snapshot(cache, WEIGHTS), half()).expect("writable");
        },
        Fetched,
    ),
    (
        "a blob that is a link to nothing",
        |cache, victim| {
            symlink(victim.with_extension("new"), in_blobs(cache, &sha256(&weights()))).expect("a link")
        },
        Fetched,
    ),
    (
        "a branch without a commit",
        |cache, _| {
            in_snapshot(cache, CONFIG);
            fs::write(repository(cache).join("refs/main"), "../../../etc").expect("writable");
        },
        Fetched,
    ),
    (
        "a branch at a commit that nobody has",
        |cache, _| {
            in_snapshot(cache, CONFIG);
            fs::write(repository(cache).join("refs/main"), "f".repeat(40)).expect("writable");
        },
        Fetched,
    ),
];

#[test]
fn a_cache_that_others_can_write_to_does_no_harm() {
    for (name, plant, end) in PLANTED {
        let cache = tempfile::tempdir().expect("a scratch folder");
        let victim = cache.path().join("victim");
        fs::write(&victim, PRECIOUS).expect("writable");
        plant(cache.path(), &victim);
        let stand_in = StandIn::start(files(), honest, honest);
        let hub = hub_at(&stand_in.hub, cache.path());
        let result = hub.fetch(&model(), &mut ());
        assert_end(name, end, result, &hub);
        assert_eq!(fs::read(&victim).expect("readable"), PRECIOUS, "{name}");
        assert!(!victim.with_extension("new").exists(), "{name}");
    }
}
