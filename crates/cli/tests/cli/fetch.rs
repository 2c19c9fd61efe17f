//! `tokenrank fetch`, and experiments on what it fetched, against a stand-in hub that serves the miniature ViT.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{arg, root, tokenrank, words};
use crate::server::{COMMIT, File, Reply, Request, StandIn, git_hash, honest, sha256};

pub const ID: &str = "facebook/dinov2-small-imagenet1k-1-layer";
const NAME: &str = "dinov2-small-imagenet1k";
pub const CONFIG: &str = "configs/mini/masking-vit.toml";
const TOKEN: &str = "hf_secret";

pub fn files() -> Vec<File> {
    let folder = root().join("datasets/mini/models/vit");
    ["config.json", "preprocessor_config.json", "model.safetensors"]
        .map(|name| (name, std::fs::read(folder.join(name)).expect("the miniature")))
        .to_vec()
}

pub fn weights() -> Vec<u8> {
    files().remove(2).1
}

/// A home of Hugging Face's programs, empty at first.
pub struct Home(pub tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a scratch folder"))
    }

    /// The command with this home and no other settings of the environment.
    pub fn settle<'a>(&self, command: &'a mut Command, endpoint: &str) -> &'a mut Command {
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.0.path()).env("HF_ENDPOINT", endpoint).env("HF_TOKEN", TOKEN)
    }

    /// A command with this home; `fetch` keeps its lock file there, too.
    pub fn command(&self, endpoint: &str, args: &[&str]) -> Command {
        let mut command = tokenrank();
        self.settle(&mut command, endpoint).args(args);
        if args[0] == "fetch" {
            command.arg("--lock").arg(self.lock());
        }
        command
    }

    pub fn lock(&self) -> PathBuf {
        self.0.path().join("models.lock.toml")
    }

    #[track_caller]
    pub fn run(&self, stand_in: &StandIn, args: &[&str], code: i32) -> Output {
        let output = self.command(&stand_in.hub.url(), args).output().expect("an answer");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", words(&output));
        assert!(
            !words(&output).contains(TOKEN) && !words(&output).contains("panicked"),
            "{}",
            words(&output)
        );
        output
    }

    fn spawn(&self, stand_in: &StandIn) -> Child {
        let mut command = self.command(&stand_in.hub.url(), &["fetch", ID]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    pub fn repository(&self) -> PathBuf {
        self.0.path().join("hub/models--facebook--dinov2-small-imagenet1k-1-layer")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    fn incomplete(&self) -> PathBuf {
        self.repository().join("blobs").join(format!("{}.incomplete", sha256(&weights())))
    }

    #[track_caller]
    pub fn assert_complete(&self) {
        for (name, content) in files() {
            assert!(std::fs::read(self.snapshot().join(name)).expect(name) == content, "{name} differs");
        }
        let blobs = std::fs::read_dir(self.repository().join("blobs")).expect("blobs");
        assert_eq!(blobs.count(), files().len(), "something else was left");
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn the_folder_goes_to_stdout_and_an_experiment_finds_it() {
    let (home, stand_in) = (Home::new(), StandIn::start(files(), honest, honest));
    let out = home.0.path().join("run");
    let set = format!("model.id={ID}");
    let run = ["run", CONFIG, "--set", &set, "--limit", "3", "--out", arg(&out)];
    let validate = ["validate", CONFIG, "--set", &set];

    // Before: every missing file, and the command that gets them.
    for args in [&run[..], &validate] {
        let message = words(&home.run(&stand_in, args, 3));
        for word in [
            ID,
            "config.json, preprocessor_config.json, model.safetensors missing",
            "`tokenrank fetch dinov2-small-imagenet1k`",
        ] {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
    }
    assert!(!out.exists());
    assert_eq!(stand_in.hub.requests().len(), 0, "an experiment went to the network");

    let output = home.run(&stand_in, &["fetch", NAME, ID], 0);
    let folder = format!("{}\n", home.snapshot().display());
    assert_eq!(stdout(&output), folder.repeat(2));
    assert_eq!(words(&output), "", "progress where stderr is no terminal");
    home.assert_complete();
    let from = |server: &crate::server::Server| {
        let mut requests = server.requests().into_iter();
        requests
            .any(|request| request.headers.get("authorization").is_some_and(|value| value.contains(TOKEN)))
    };
    assert!(from(&stand_in.hub) && !from(&stand_in.storage), "the token went elsewhere");

    home.run(&stand_in, &validate, 0);
    home.run(&stand_in, &run, 0);
    let text = std::fs::read_to_string(out.join("results.json")).expect("results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(results["experiment"]["model"]["id"], ID);
    assert_eq!(results["experiment"]["model"].get("path"), None);
    let listing = stdout(&home.run(&stand_in, &["ls", "models"], 0));
    let fetched: Vec<_> = listing.lines().filter(|line| line.contains("fetched")).collect();
    assert!(matches!(fetched[..], [line] if line.contains(ID)), "{listing}");
}

#[test]
fn what_is_asked_for_wrongly() {
    let (home, stand_in) = (Home::new(), StandIn::start(files(), honest, honest));
    // The first name is fine; nothing is downloaded before all are.
    let message = words(&home.run(&stand_in, &["fetch", NAME, "dino-vit-s8"], 2));
    assert!(message.contains("`dino-vit-s8`") && message.contains("nearest: dino-vits8"), "{message}");
    let message =
        words(&home.run(&stand_in, &["validate", CONFIG, "--set", "model.id=facebook/dino-vit8"], 2));
    assert!(message.contains("nearest: facebook/dino-vits8"), "{message}");
    let message = words(&home.run(&stand_in, &["fetch", ID, "--offline"], 3));
    assert!(
        message.contains("config.json, preprocessor_config.json, model.safetensors missing"),
        "{message}"
    );
    home.run(&stand_in, &["fetch"], 2);
    assert_eq!(stand_in.hub.requests().len(), 0);

    // In a file, with the place.
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("an experiment");
    let config = home.0.path().join("both.toml");
    std::fs::write(&config, text.replace("[model]\n", "[model]\nid = \"a/b\"\n")).expect("writable");
    let message = words(&home.run(&stand_in, &["validate", arg(&config)], 2));
    assert!(
        message.contains("not both") && message.contains("both.toml") && message.contains("line 6"),
        "{message}"
    );
}

#[test]
fn refusals_of_the_hub() {
    let gated = StandIn::start(files(), |_, _, _| Reply::status(401), honest);
    let message = words(&Home::new().run(&gated, &["fetch", ID], 3));
    assert!(message.contains("HF_TOKEN") && message.contains(&format!("/{ID}")), "{message}");

    let empty = StandIn::start(Vec::new(), honest, honest);
    let message = words(&Home::new().run(&empty, &["fetch", ID], 3));
    assert!(message.contains("no config.json (HTTP 404"), "{message}");

    let damaged = StandIn::start(files(), honest, |_, _, mut reply| {
        reply.content[99] ^= 1;
        reply
    });
    let home = Home::new();
    let message = words(&home.run(&damaged, &["fetch", ID], 3));
    assert!(message.contains(&sha256(&weights())) && message.contains("removed"), "{message}");
    assert!(!home.incomplete().exists() && !home.snapshot().join("model.safetensors").exists());

    let nobody = Home::new().command("http://127.0.0.1:1", &["fetch", ID]).output().expect("an answer");
    assert_eq!(nobody.status.code(), Some(3));
    assert!(words(&nobody).contains("cannot reach http://127.0.0.1:1"), "{}", words(&nobody));
}

const CUT: usize = 50_000;

/// Serves the beginning of the weights, and then nothing for a long time.
fn stalled_weights(_: &Request, nth: usize, reply: Reply) -> Reply {
    if nth > 1 {
        std::thread::sleep(Duration::from_secs(30));
    }
    Reply { cut_after: Some(CUT), ..reply }
}

/// Serves a byte of the configuration, and then nothing for a long time.
fn stalled_config(request: &Request, _: usize, reply: Reply) -> Reply {
    match request.method == "GET" && request.path.contains("resolve-cache/config.json") {
        true => Reply { pace: Some((1, Duration::from_secs(30))), ..reply },
        false => reply,
    }
}

/// Stops a fetch in the middle of a file, as soon as it has got there, with this signal. Says how it ended.
#[cfg(unix)]
fn stopped(home: &Home, signal: &str, stalls: &StandIn, is_there: impl Fn() -> bool) -> Output {
    let mut child = home.spawn(stalls);
    while !is_there() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    child.wait_with_output().expect("an end")
}

#[test]
#[cfg(unix)]
fn stopped_in_the_middle_it_goes_on_there() {
    for (signal, code) in [("-KILL", None), ("-INT", Some(5)), ("-TERM", Some(5))] {
        let home = Home::new();
        let stalls = StandIn::start(files(), honest, stalled_weights);
        let is_there = || home.incomplete().metadata().is_ok_and(|file| file.len() >= CUT as u64);
        let output = stopped(&home, signal, &stalls, is_there);
        assert_eq!(output.status.code(), code);
        assert_eq!(words(&output).contains("run the same command again to resume"), code.is_some());
        assert!(!home.snapshot().join("model.safetensors").exists());
        let stand_in = StandIn::start(files(), honest, honest);
        home.run(&stand_in, &["fetch", ID], 0);
        assert_eq!(stand_in.ranges(), [format!("bytes={CUT}-")]);
        home.assert_complete();
    }
}

/// Small files are kept under one name as well, however often a fetch is stopped.
#[test]
#[cfg(unix)]
fn stopped_in_a_small_file_nothing_is_left_behind() {
    let home = Home::new();
    for (signal, code) in [("-INT", Some(5)), ("-KILL", None), ("-INT", Some(5))] {
        let stalls = StandIn::start(files(), stalled_config, honest);
        let is_data = |request: &Request| request.method == "GET" && request.path.contains("resolve-cache");
        let is_there = || stalls.hub.requests().iter().any(is_data);
        assert_eq!(stopped(&home, signal, &stalls, is_there).status.code(), code);
        let left = std::fs::read_dir(home.repository().join("blobs")).expect("blobs").flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().into_string().expect("a plain name")).collect();
        assert_eq!(left, [format!("{}.incomplete", git_hash(&files()[0].1))]);
    }
    home.run(&StandIn::start(files(), honest, honest), &["fetch", ID], 0);
    home.assert_complete();
}

/// A limit on the size of files stops a write as a full disk does, after the first part of it.
#[test]
#[cfg(unix)]
fn no_room() {
    let (home, stand_in) = (Home::new(), StandIn::start(files(), honest, honest));
    // In blocks of 512 or, in some shells, 1024 bytes; the signal would end the program before the write fails.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tokenrank"), "fetch", ID, "--lock"]).arg(home.lock());
    command.env("NO_COLOR", "1");
    let output = home.settle(&mut command, &stand_in.hub.url()).output().expect("an answer");
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    let message = words(&output);
    for word in ["no room for model.safetensors", "still needed", "HF_HOME"] {
        assert!(message.contains(word), "{word} is not in: {message}");
    }
    let left = home.incomplete().metadata().expect("the part that has arrived").len();
    assert!(left > 0 && left < weights().len() as u64, "{left}");
    home.run(&stand_in, &["fetch", ID], 0);
    assert_eq!(stand_in.ranges(), ["-".to_owned(), format!("bytes={left}-")]);
    home.assert_complete();
}

#[test]
fn two_processes_fetch_one_model() {
    let stand_in = StandIn::start(files(), honest, |_, _, reply| {
        std::thread::sleep(Duration::from_millis(300));
        reply
    });
    let home = Home::new();
    let children = [home.spawn(&stand_in), home.spawn(&stand_in)];
    for child in children {
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        assert_eq!(Path::new(stdout(&output).trim()), home.snapshot());
    }
    home.assert_complete();
    assert_eq!(stand_in.ranges(), ["-"], "the weights were downloaded twice");
}
