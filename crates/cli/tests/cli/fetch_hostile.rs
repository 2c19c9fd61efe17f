//! `tokenrank fetch` where nothing proves a file, and where the environment is not as it should be.

use std::path::Path;
use std::process::Command;

use crate::common::{scratch, tokenrank, words};
use crate::fetch::{CONFIG, Home, ID, files, stdout, weights};
use crate::server::{COMMIT, Reply, Request, StandIn, honest, sha256};

/// A mirror with entity tags of its own.
fn tagless(_: &Request, _: usize, reply: Reply) -> Reply {
    let length = reply.content.len().to_string();
    let moved = reply.headers.iter().any(|(name, _)| *name == "X-Linked-Etag");
    let tag = if moved { "X-Linked-Etag" } else { "ETag" };
    if reply.status == 307 { reply } else { reply.with(tag, &format!("\"md5-{length}\"")) }
}

#[test]
fn what_nothing_proves_is_refused_unless_it_is_asked_for() {
    let (home, mirror) = (Home::new(), StandIn::start(files(), tagless, honest));
    let message = words(&home.run(&mirror, &["fetch", ID], 3));
    for word in
        [ID, "config.json", "gives no hash", "`md5-", "X-Linked-Etag", "`tokenrank fetch --unverified`"]
    {
        assert!(message.contains(word), "{word} is not in: {message}");
    }
    assert!(!home.repository().exists() && !home.lock().exists());

    let output = home.run(&mirror, &["fetch", ID, "--unverified"], 0);
    let message = words(&output);
    assert_eq!(message.matches("WARNING: ").count(), 3, "{message}");
    assert!(message.contains(&format!("model.safetensors of {ID} is not verified")), "{message}");
    assert_eq!(stdout(&output).trim(), home.snapshot().display().to_string());
    let set = format!("model.id={ID}");
    let message = words(&home.run(&mirror, &["validate", CONFIG, "--set", &set], 0));
    assert!(message.contains("model.safetensors") && message.contains("are not hashes"), "{message}");
    home.run(&mirror, &["fetch", ID], 3);

    // The hub itself: the files get their right names, and no note is printed.
    let hub = StandIn::start(files(), honest, honest);
    home.run(&hub, &["fetch", ID], 0);
    assert_eq!(words(&home.run(&hub, &["fetch", ID], 0)), "");
    assert_eq!(words(&home.run(&hub, &["validate", CONFIG, "--set", &set], 0)), "");
}

#[test]
fn the_lock_file_is_written_by_the_first_fetch_and_pins_the_next() {
    let (folder, stand_in) = (scratch(), StandIn::start(files(), honest, honest));
    let fetch = |home: &Home, stand_in: &StandIn, folder: &Path| {
        let mut command = tokenrank();
        let command = home.settle(&mut command, &stand_in.hub.url()).args(["fetch", ID]).current_dir(folder);
        let output = command.output().expect("an answer");
        (output.status.code(), words(&output))
    };
    assert_eq!(fetch(&Home::new(), &stand_in, folder.path()), (Some(0), String::new()));
    let text = std::fs::read_to_string(folder.path().join("models.lock.toml")).expect("a lock file");
    for word in [ID, COMMIT, &sha256(&weights()), &sha256(&files()[0].1)] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }

    let mut other = files();
    other[2].1[99] ^= 1;
    let (code, message) = fetch(&Home::new(), &StandIn::start(other.clone(), honest, honest), folder.path());
    assert_eq!(code, Some(3), "{message}");
    for word in ["model.safetensors", &sha256(&weights()), &sha256(&other[2].1), "models.lock.toml pins"] {
        assert!(message.contains(word), "{word} is not in: {message}");
    }

    // Nobody can write there; the model is complete all the same.
    if cfg!(target_os = "linux") {
        let (code, message) = fetch(&Home::new(), &stand_in, Path::new("/proc"));
        assert_eq!(code, Some(0), "{message}");
        assert!(message.contains("cannot write models.lock.toml") && message.contains("--lock"), "{message}");
    }
}

#[test]
fn passwords_in_addresses_are_never_shown() {
    let path = "http://alice:s3cret@127.0.0.1:1/hub";
    for (endpoint, proxy, word) in [
        (path, "", "http://…@127.0.0.1:1/hub"),
        ("http://alice:s3/cret@127.0.0.1:1", "", "HF_ENDPOINT"),
        ("alice:s3cret@127.0.0.1:1", "", "HF_ENDPOINT"),
        ("ftp://alice:s3cret@127.0.0.1:1", "", "HF_ENDPOINT"),
        ("http://hub.invalid", "http://bob:s3cret@127.0.0.1:1", "cannot reach http://hub.invalid"),
        ("http://hub.invalid", "bob:s3cret@127.0.0.1:1", "cannot reach http://hub.invalid"),
        ("https://hub.invalid", "http://bob:s3cret@127.0.0.1:1", "cannot reach https://hub.invalid"),
    ] {
        let mut command = Home::new().command(endpoint, &["fetch", ID]);
        let output = command.env("ALL_PROXY", proxy).env("RUST_LOG", "trace").output().expect("an answer");
        let text = words(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(word), "{word} is not in: {text}");
        assert!(!text.contains("s3") && !text.contains("cret"), "{text}");
    }
}

#[test]
#[cfg(unix)]
fn without_a_home_nothing_is_written_to_the_current_folder() {
    for (home, word) in [(None, "/"), (Some(""), "HF_HOME"), (Some("."), "HF_HOME"), (Some("a"), "HF_HOME")] {
        let folder = scratch();
        let mut command = tokenrank();
        for name in ["HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HOME", "USERPROFILE"] {
            command.env_remove(name);
        }
        if let Some(home) = home {
            command.env("HOME", home);
        }
        // A model that nobody has in a cache; nobody listens at this address.
        command.env("HF_ENDPOINT", "http://127.0.0.1:1").args([
            "fetch",
            "dinov2-registers-giant-imagenet1k",
            "--offline",
        ]);
        let output = command.current_dir(folder.path()).output().expect("an answer");
        let text = words(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(word) && !text.contains(" .cache"), "{home:?}: {text}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

/// As on a network file system whose lock daemon does not run.
#[test]
#[cfg(target_os = "linux")]
fn a_file_system_without_locks_is_no_obstacle() {
    let folder = scratch();
    let (source, library) = (folder.path().join("flock.c"), folder.path().join("flock.so"));
    std::fs::write(&source, "#include <errno.h>\nint flock(int f, int o) { errno = ERRNO; return -1; }\n")
        .expect("writable");
    for errno in ["ENOLCK", "ENOSYS", "EOPNOTSUPP"] {
        let mut compiler = Command::new("c++");
        compiler.args(["-shared", "-fPIC", &format!("-DERRNO={errno}"), "-x", "c", "-o"]);
        assert!(compiler.args([&library, &source]).status().expect("a compiler").success());
        let (home, stand_in) = (Home::new(), StandIn::start(files(), honest, honest));
        let mut command = home.command(&stand_in.hub.url(), &["fetch", ID]);
        let output = command.env("LD_PRELOAD", &library).output().expect("an answer");
        assert_eq!(output.status.code(), Some(0), "{errno}: {}", words(&output));
        home.assert_complete();
    }
}
