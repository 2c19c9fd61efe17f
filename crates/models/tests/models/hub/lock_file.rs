//! The lock file, and files that nothing proves.

use std::fs;
use std::path::{Path, PathBuf};

use models::hub::{Hub, HubError, Model};

use super::server::{COMMIT, File, Reply, Request, StandIn, Twist, git_hash, honest, sha256};
use super::{Told, assert_complete, files, hub_at, model, weights};

/// A mirror with entity tags of its own.
fn tagless(_: &Request, _: usize, mut reply: Reply) -> Reply {
    for (name, value) in &mut reply.headers {
        if name.ends_with("tag") || name.ends_with("Tag") {
            *value = format!("\"md5-{}\"", reply.content.len());
        }
    }
    reply
}

/// A machine with a cache of its own, and the lock file of all.
struct Machine {
    cache: tempfile::TempDir,
    lock: PathBuf,
}

impl Machine {
    fn new(lock: &Path) -> Self {
        Self { cache: tempfile::tempdir().expect("a scratch folder"), lock: lock.into() }
    }

    fn hub(&self, stand_in: &StandIn) -> Hub {
        hub_at(&stand_in.hub, self.cache.path()).with_lock_file(&self.lock)
    }

    fn fetch(&self, stand_in: &StandIn) -> Result<PathBuf, HubError> {
        self.hub(stand_in).fetch(&model(), &mut ())
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.lock).expect("a lock file")
    }
}

fn lock(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("models.lock.toml")
}

#[test]
fn the_first_fetch_writes_what_later_ones_must_find() -> Result<(), HubError> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (first, stand_in) = (Machine::new(&lock(&folder)), StandIn::start(files(), honest, honest));
    first.fetch(&stand_in)?;
    let text = first.text();
    let (config, weights_hash) = (sha256(b"{}"), sha256(&weights()));
    let expected = format!(
        "\n[model.\"tests/tiny\"]\ncommit = \"{COMMIT}\"\n\n[model.\"tests/tiny\".files.\"config.json\"]\nsize = 2\n\
         sha256 = \"{config}\"\n\n[model.\"tests/tiny\".files.\"model.safetensors\"]\nsize = 1000000\n\
         sha256 = \"{weights_hash}\"\n"
    );
    assert!(text.starts_with("# ") && text.ends_with(&expected), "{text}");

    // The same on this machine, without a request, and on another one; nothing is written.
    let before = fs::metadata(&first.lock).expect("a file").modified().expect("a time");
    let asked = stand_in.hub.requests().len();
    first.fetch(&stand_in)?;
    assert_eq!(stand_in.hub.requests().len(), asked);
    let second = Machine::new(&lock(&folder));
    assert_complete(&second.fetch(&stand_in)?, second.cache.path());
    assert_eq!(fs::metadata(&first.lock).expect("a file").modified().expect("a time"), before);

    // A mirror without hashes: the lock file proves the files.
    let third = Machine::new(&lock(&folder));
    let mirror = StandIn::start(files(), tagless, honest);
    let told = &mut Told::default();
    let fetched = third.hub(&mirror).fetch(&model(), told)?;
    assert!(fs::read(fetched.join("model.safetensors")).expect("weights") == weights());
    assert_eq!(told.notes, [""; 0]);
    assert_eq!(third.text(), text);
    Ok(())
}

/// Each: what the hub serves, how, and the words of the refusal.
#[test]
fn what_differs_from_the_lock_file_is_refused() -> Result<(), HubError> {
    fn other_weights(tag: Twist) -> StandIn {
        let mut other = weights();
        other[77] ^= 1;
        StandIn::start(vec![("config.json", b"{}".to_vec()), ("model.safetensors", other)], tag, honest)
    }
    let other_config: Vec<File> = vec![("config.json", b"[]".to_vec()), ("model.safetensors", weights())];
    let longer: Vec<File> = vec![("config.json", b"{}".to_vec()), ("model.safetensors", vec![0; 1_000_001])];
    let cases = [
        (other_weights(honest), "sha256"),
        (other_weights(tagless), "sha256"),
        (StandIn::start(other_config, honest, honest), "sha256"),
        (StandIn::start(longer, tagless, honest), "size"),
    ];
    let folder = tempfile::tempdir().expect("a scratch folder");
    Machine::new(&lock(&folder)).fetch(&StandIn::start(files(), honest, honest))?;
    let text = fs::read_to_string(lock(&folder)).expect("a lock file");
    for (stand_in, word) in cases {
        let machine = Machine::new(&lock(&folder));
        let error = machine.fetch(&stand_in).expect_err("another file").to_string();
        for word in [word, "tests/tiny", "models.lock.toml pins"] {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
        assert_eq!(machine.text(), text);
    }
    // The same in a cache that is complete without the lock file.
    let machine = Machine::new(&folder.path().join("another.toml"));
    machine.fetch(&other_weights(honest))?;
    let machine = Machine { lock: lock(&folder), ..machine };
    let error = machine.fetch(&other_weights(honest)).expect_err("other weights").to_string();
    assert!(error.contains("model.safetensors") && error.contains("from the cache"), "{error}");
    Ok(())
}

#[test]
fn the_commit_of_the_lock_file_is_fetched_even_if_the_branch_has_moved() -> Result<(), HubError> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    Machine::new(&lock(&folder)).fetch(&StandIn::start(files(), honest, honest))?;
    let moved = |request: &Request, _, reply: Reply| {
        if request.path.contains("/main/") { reply.with("X-Repo-Commit", &"f".repeat(40)) } else { reply }
    };
    let machine = Machine::new(&lock(&folder));
    assert_complete(&machine.fetch(&StandIn::start(files(), moved, honest))?, machine.cache.path());

    let pinned = Model { revision: "e".repeat(40), ..model() };
    let stand_in = StandIn::start(files(), honest, honest);
    let error = machine.hub(&stand_in).fetch(&pinned, &mut ()).expect_err("another commit").to_string();
    assert!(error.contains(COMMIT) && error.contains("commit is eeee"), "{error}");
    Ok(())
}

#[test]
fn several_processes_add_to_one_lock_file() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let names: Vec<String> = (0..6).map(|number| format!("tests/tiny-{number}")).collect();
    std::thread::scope(|scope| {
        for id in &names {
            let machine = Machine::new(&lock(&folder));
            let (model, stand_in) = (Model { id: id.clone(), ..model() }, &stand_in);
            scope.spawn(move || machine.hub(stand_in).fetch(&model, &mut ()).expect("a model"));
        }
    });
    let text = fs::read_to_string(lock(&folder)).expect("a lock file");
    let found: Vec<_> =
        text.lines().filter(|line| line.starts_with("[model.") && !line.contains("files")).collect();
    let expected: Vec<_> = names.iter().map(|id| format!("[model.\"{id}\"]")).collect();
    assert_eq!(found, expected);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn files_that_nothing_proves_are_marked_until_something_does() -> Result<(), HubError> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (machine, mirror) = (Machine::new(&lock(&folder)), StandIn::start(files(), tagless, honest));
    let told = &mut Told::default();
    machine.hub(&mirror).with_unverified(true).fetch(&model(), told)?;
    assert_eq!(told.notes.len(), 2);
    assert!(told.notes.iter().all(|note| note.starts_with("WARNING: ")), "{:?}", told.notes);
    assert_eq!(machine.text().matches("unverified = true").count(), 2, "{}", machine.text());

    // It proves nothing, but still pins.
    let error = machine.fetch(&mirror).expect_err("unproven");
    assert!(matches!(error, HubError::Unverified { .. }), "{error}");
    let other = vec![("config.json", b"[]".to_vec()), ("model.safetensors", weights())];
    let mirror = StandIn::start(other, tagless, honest);
    let another = Machine::new(&lock(&folder));
    let error = another.hub(&mirror).with_unverified(true).fetch(&model(), &mut ()).expect_err("another");
    assert!(matches!(error, HubError::NotPinned { .. }), "{error}");

    // The hub's hashes prove the files.
    let hub = StandIn::start(files(), honest, honest);
    machine.fetch(&hub)?;
    assert!(!machine.text().contains("unverified"), "{}", machine.text());
    let told = &mut Told::default();
    machine.hub(&hub).fetch(&model(), told)?;
    assert_eq!(told.notes, [""; 0]);
    Ok(())
}

#[test]
fn lock_files_that_nobody_wrote_so_are_refused() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let file = |name: &str, hash: &str| {
        format!(
            "[model.\"a/b\"]\ncommit = \"{COMMIT}\"\nfiles = {{ \"{name}\" = {{ size = 1, sha256 = \"{hash}\" }} }}"
        )
    };
    let hash = "0".repeat(64);
    assert!(fs::write(lock(&folder), file("config.json", &hash)).is_ok());
    Machine::new(&lock(&folder)).fetch(&stand_in).expect("it pins another model");
    for text in [
        "[model".to_owned(),
        "[models.x]".into(),
        "model = 3".into(),
        "[model.\"a/b\"]\ncommit = \"main\"".into(),
        format!("[model.\"../b\"]\ncommit = \"{COMMIT}\""),
        file("../config.json", &hash),
        file("config.json", &git_hash(b"")),
        file("config.json", &"F".repeat(64)),
        "\u{0}".into(),
        format!("#{}", " ".repeat(2 << 20)),
    ] {
        fs::write(lock(&folder), &text).expect("writable");
        let error = Machine::new(&lock(&folder)).fetch(&stand_in).expect_err(&text).to_string();
        assert!(error.contains("models.lock.toml") && !error.contains('\n'), "{error}");
        assert_eq!(fs::read_to_string(lock(&folder)).expect("a lock file"), text);
    }
}
