//! Downloads from a stand-in hub: success, resuming, refusals, and the state of the cache afterwards.

mod archives;
mod attacks;
mod folders;
mod lock_file;
mod planted;
mod refusals;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use models::hub::{Hub, HubError, Model, Progress, Registry};
use server::{COMMIT, File, Reply, Request, Server, StandIn, git_hash, honest, sha256};

/// Where the first connection is cut.
const CUT: usize = 300_000;

fn weights() -> Vec<u8> {
    (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn files() -> Vec<File> {
    vec![("config.json", b"{}".to_vec()), ("model.safetensors", weights())]
}

fn model_at(revision: &str, more: &str) -> Model {
    let text = format!(
        "[[model]]\nname = \"tiny\"\nid = \"tests/tiny\"\nrevision = \"{revision}\"\nlicence = \"MIT\"\n\
         files = [\"config.json\", \"model.safetensors\"]\n{more}"
    );
    Registry::parse(&text).expect("a registry").models()[0].clone()
}

fn model() -> Model {
    model_at("main", "")
}

fn hub_at(server: &Server, cache: &Path) -> Hub {
    Hub::at(&server.url(), cache).with_pause(Duration::ZERO)
}

fn repository(cache: &Path) -> PathBuf {
    cache.join("models--tests--tiny")
}

/// Names of the data, finished or not.
fn blobs(cache: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(repository(cache).join("blobs")).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

/// The whole model and nothing else is in the cache.
#[track_caller]
fn assert_complete(folder: &Path, cache: &Path) {
    assert_eq!(folder, repository(cache).join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read(folder.join("config.json")).expect("a config"), b"{}");
    assert!(std::fs::read(folder.join("model.safetensors")).expect("weights") == weights(), "other weights");
    let (config, weights) = (git_hash(b"{}"), sha256(&weights()));
    let mut expected = [config, weights];
    expected.sort();
    assert_eq!(blobs(cache), expected);
}

/// Records the progress.
#[derive(Default)]
struct Told {
    notes: Vec<String>,
    done: Vec<String>,
    furthest: u64,
}

impl Progress for Told {
    fn at(&mut self, _file: &str, done: u64, _size: Option<u64>) {
        self.furthest = self.furthest.max(done);
    }
    fn done(&mut self, file: &str) {
        self.done.push(file.into());
    }
    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

#[test]
fn a_model_is_fetched_once() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let hub = hub_at(&stand_in.hub, cache.path()).with_token("hf_secret");
    let mut told = Told::default();
    let folder = hub.fetch(&model(), &mut told)?;
    assert_complete(&folder, cache.path());
    assert_eq!(told.done, ["config.json", "model.safetensors"]);
    assert_eq!((told.furthest, told.notes), (weights().len() as u64, vec![]));

    // The layout of Python's library.
    let link = std::fs::read_link(folder.join("model.safetensors")).expect("a link");
    assert_eq!(link, Path::new("../../blobs").join(sha256(&weights())));
    let branch = std::fs::read_to_string(repository(cache.path()).join("refs/main")).expect("a branch");
    assert_eq!(branch, COMMIT);

    // The branch is resolved once; all later requests name the same commit.
    let line = |request: &Request| format!("{} {}", request.method, request.path);
    assert_eq!(
        stand_in.hub.requests().iter().map(line).collect::<Vec<_>>(),
        [
            "HEAD /tests/tiny/resolve/main/config.json",
            "HEAD /api/resolve-cache/config.json?etag=x",
            &format!("GET /tests/tiny/resolve/{COMMIT}/config.json"),
            "GET /api/resolve-cache/config.json?etag=x",
            &format!("HEAD /tests/tiny/resolve/{COMMIT}/model.safetensors"),
            &format!("GET /tests/tiny/resolve/{COMMIT}/model.safetensors"),
        ]
    );
    // The token is for the hub, not for the storage on another port.
    let tokens = |server: &Server| {
        let requests = server.requests().into_iter();
        requests.map(|request| request.headers.get("authorization").cloned()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&stand_in.hub), vec![Some("Bearer hf_secret".to_owned()); 6]);
    assert_eq!(tokens(&stand_in.storage), [None]);

    // The model is complete, so neither fetching nor finding it makes a request.
    let asked = stand_in.hub.requests().len();
    assert_eq!(hub.fetch(&model(), &mut ())?, folder);
    assert_eq!(hub.snapshot(&model())?, folder);
    assert_eq!(hub.snapshot(&model_at(COMMIT, ""))?, folder);
    assert_eq!(stand_in.hub.requests().len(), asked);
    Ok(())
}

#[test]
fn files_that_another_program_has_fetched_are_used() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let hub = hub_at(&stand_in.hub, cache.path());
    let folder = hub.fetch(&model(), &mut ())?;
    // The blob without a link, as after a fetch of another commit.
    std::fs::remove_file(folder.join("model.safetensors")).expect("removable");
    assert!(
        matches!(hub.snapshot(&model()), Err(HubError::Missing { files, .. }) if files == ["model.safetensors"])
    );
    assert_complete(&hub.fetch(&model(), &mut ())?, cache.path());
    assert_eq!(stand_in.ranges(), ["-"], "the weights were downloaded again");

    // A dangling link, after somebody removed blobs.
    std::fs::remove_file(repository(cache.path()).join("blobs").join(sha256(&weights()))).expect("removable");
    assert_complete(&hub.fetch(&model(), &mut ())?, cache.path());
    assert_eq!(stand_in.ranges(), ["-", "-"]);
    Ok(())
}

#[test]
fn an_interrupted_download_is_resumed() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let cut_first = |_: &_, nth, reply| Reply { cut_after: (nth == 1).then_some(CUT), ..reply };
    let stand_in = StandIn::start(files(), honest, cut_first);
    let mut told = Told::default();
    let folder = hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut told)?;
    assert_complete(&folder, cache.path());
    assert_eq!(stand_in.ranges(), ["-".to_owned(), format!("bytes={CUT}-")]);
    assert!(told.notes[0].contains("model.safetensors"), "{:?}", told.notes);
    Ok(())
}

#[test]
fn the_partial_file_of_an_earlier_process_is_resumed() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    {
        // The connection is cut at the same place for ever.
        let stand_in = StandIn::start(files(), honest, |_, nth, reply| {
            if nth == 1 { Reply { cut_after: Some(CUT), ..reply } } else { Reply::status(503) }
        });
        let error = hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ()).expect_err("no weights");
        assert!(error.to_string().contains("HTTP 503"), "{error}");
        assert!(!error.to_string().contains("secret"), "the signature of an address was shown: {error}");
    }
    let incomplete = format!("{}.incomplete", sha256(&weights()));
    assert!(blobs(cache.path()).contains(&incomplete), "{:?}", blobs(cache.path()));
    assert!(!repository(cache.path()).join("refs").exists(), "half a snapshot became the branch");

    let stand_in = StandIn::start(files(), honest, honest);
    assert_complete(&hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ())?, cache.path());
    assert_eq!(stand_in.ranges(), [format!("bytes={CUT}-")]);
    Ok(())
}

#[test]
fn a_server_that_ignores_ranges_sends_everything_again() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, |_, nth, reply| Reply {
        start: 0,
        cut_after: (nth == 1).then_some(CUT),
        ..reply
    });
    assert_complete(&hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ())?, cache.path());
    assert_eq!(stand_in.ranges(), ["-".to_owned(), format!("bytes={CUT}-")]);
    Ok(())
}

/// A server that ignores ranges, with a connection that always breaks: retries end.
#[test]
fn downloads_that_never_get_further_are_given_up() {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in =
        StandIn::start(files(), honest, |_, _, reply| Reply { start: 0, cut_after: Some(CUT), ..reply });
    let error = hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ()).expect_err("no weights");
    assert!(matches!(error, HubError::Cut { .. }), "{error}");
    assert!(stand_in.ranges().len() < 10, "{:?}", stand_in.ranges());
}

#[test]
fn a_damaged_partial_file_is_downloaded_once_more() -> Result<(), HubError> {
    for left in [vec![0; CUT], vec![7; weights().len()], vec![7; weights().len() + 5]] {
        let cache = tempfile::tempdir().expect("a scratch folder");
        let folder = repository(cache.path()).join("blobs");
        std::fs::create_dir_all(&folder).expect("writable");
        std::fs::write(folder.join(format!("{}.incomplete", sha256(&weights()))), left).expect("writable");
        let stand_in = StandIn::start(files(), honest, honest);
        assert_complete(&hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ())?, cache.path());
    }
    Ok(())
}

#[test]
fn requests_to_a_busy_server_are_retried() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let busy = |_: &_, nth, reply| match nth {
        1 => Reply::status(500),
        2 => Reply::status(429),
        _ => reply,
    };
    let stand_in = StandIn::start(files(), busy, busy);
    assert_complete(&hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ())?, cache.path());
    Ok(())
}

#[test]
fn a_second_process_waits_for_the_first() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, |_, _, reply| {
        std::thread::sleep(Duration::from_millis(200));
        reply
    });
    let fetch = || hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ());
    let folders = std::thread::scope(|scope| [scope.spawn(fetch), scope.spawn(fetch)].map(|one| one.join()));
    for folder in folders {
        assert_complete(&folder.expect("no panic")?, cache.path());
    }
    assert_eq!(stand_in.ranges(), ["-"], "the weights were downloaded twice");
    Ok(())
}

/// The server knows best when it will answer again.
#[test]
fn a_busy_server_names_the_time_to_come_again() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let busy = |_: &_, nth, reply: Reply| match nth {
        1 => Reply::status(429).with("Retry-After", "1"),
        2 => Reply::status(503).with("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
        _ => reply,
    };
    let stand_in = StandIn::start(files(), honest, busy);
    let mut told = Told::default();
    assert_complete(&hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut told)?, cache.path());
    let [first, second] = &told.notes[..] else { panic!("{:?}", told.notes) };
    assert!(first.contains("HTTP 429; waiting 1 s, as the server asks"), "{first}");
    assert!(second.contains("HTTP 503; trying again"), "{second}");

    // Nobody waits for a day.
    let cache = tempfile::tempdir().expect("a scratch folder");
    let closed = |_: &_, _, _| Reply::status(503).with("Retry-After", "86400");
    let stand_in = StandIn::start(files(), closed, honest);
    let error = hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ()).expect_err("closed").to_string();
    assert!(error.contains("HTTP 503 and asks to come again in 86400 s"), "{error}");
    assert_eq!(stand_in.hub.requests().len(), 1);
    Ok(())
}

/// A download of a file that the branch no longer has would stay for ever.
#[test]
fn partial_downloads_are_not_orphaned() -> Result<(), HubError> {
    let cache = tempfile::tempdir().expect("a scratch folder");
    {
        let other = vec![("config.json", b"{}".to_vec()), ("model.safetensors", vec![5; 400_000])];
        let stand_in = StandIn::start(other, honest, |_, nth, reply| {
            if nth == 1 { Reply { cut_after: Some(CUT), ..reply } } else { Reply::status(404) }
        });
        hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ()).expect_err("cut");
    }
    let blobs_folder = repository(cache.path()).join("blobs");
    let ours = blobs_folder.join(format!("{}.incomplete", sha256(&[5; 400_000])));
    assert!(ours.exists());
    // Python's library began another one, and an earlier release left others.
    let locks = cache.path().join(".locks/models--tests--tiny");
    std::fs::write(locks.join("ab.lock"), "").expect("writable");
    std::fs::write(blobs_folder.join("ab.incomplete"), "Python's").expect("writable");
    for count in 0..4 {
        let earlier = format!("{}.4711-{count}.incomplete", git_hash(b"{}"));
        std::fs::write(blobs_folder.join(earlier), "{").expect("writable");
    }
    let stand_in = StandIn::start(files(), honest, honest);
    hub_at(&stand_in.hub, cache.path()).fetch(&model(), &mut ())?;
    let mut left = [git_hash(b"{}"), sha256(&weights()), "ab.incomplete".into()];
    left.sort();
    assert_eq!(blobs(cache.path()), left);
    Ok(())
}
