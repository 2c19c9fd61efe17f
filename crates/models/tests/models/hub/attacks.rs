//! What a hub, or a mirror on the way to it, may answer. One line of a table for each attack.

use std::path::PathBuf;
use std::time::Duration;

use models::ErrorKind;
use models::hub::{Hub, HubError};

use super::server::{COMMIT, Length, Reply, Request, StandIn, Twist, git_hash, honest, sha256};
use super::{assert_complete, blobs, files, hub_at, model, weights};

/// The end of an attack.
pub enum End {
    /// The model is complete, with the published content and nothing else.
    Fetched,
    /// The message contains these words, and the cache holds blobs of these files and nothing else.
    Refused(&'static [&'static str], &'static [&'static str]),
}

use End::{Fetched, Refused};

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";

/// Changes the answers about one file.
fn on(file: &str, request: &Request, reply: Reply, change: impl FnOnce(Reply) -> Reply) -> Reply {
    if request.path.split('?').next().is_some_and(|path| path.ends_with(file)) {
        change(reply)
    } else {
        reply
    }
}

/// A mirror that answers itself, with an entity tag of its own.
fn mirrored(reply: Reply, tag: &str, content: Vec<u8>) -> Reply {
    let reply = reply.without("X-Linked-Etag").without("X-Linked-Size").without("Location");
    Reply { status: 200, content, ..reply.with("ETag", &format!("\"{tag}\"")) }
}

pub fn half() -> Vec<u8> {
    weights()[..500_000].to_vec()
}

/// Name, what the hub does, what its storage does, and the end.
type Remote = (&'static str, Twist, Twist, End);

const REMOTE: &[Remote] = &[
    (
        "weights under a tag of the mirror",
        |request, _, reply| on(WEIGHTS, request, reply, |reply| mirrored(reply, "abc-md5", weights())),
        honest,
        Refused(&[WEIGHTS, "tests/tiny", "no SHA-256", "`abc-md5`"], &[CONFIG]),
    ),
    (
        "half of the weights under an MD5, without a length",
        |request, _, reply| {
            on(WEIGHTS, request, reply, |reply| Reply {
                length: Length::Absent,
                ..mirrored(reply, &"d4".repeat(16), half())
            })
        },
        honest,
        Refused(&["no SHA-256"], &[CONFIG]),
    ),
    (
        "weights under a SHA-1",
        |request, _, reply| {
            on(WEIGHTS, request, reply, |reply| mirrored(reply, &git_hash(&weights()), weights()))
        },
        honest,
        Refused(&["no SHA-256"], &[CONFIG]),
    ),
    (
        "another content under the right tag",
        |request, _, reply| {
            on(WEIGHTS, request, reply, |reply| mirrored(reply, &sha256(&weights()), vec![7; 1_000_000]))
        },
        honest,
        Refused(&["damaged", "sha256"], &[CONFIG]),
    ),
    (
        "weights of unknown length",
        |request, _, reply| on(WEIGHTS, request, reply, |reply| reply.without("X-Linked-Size")),
        honest,
        Refused(&["no length"], &[CONFIG]),
    ),
    (
        "a length that is not a number",
        |request, _, reply| on(WEIGHTS, request, reply, |reply| reply.with("X-Linked-Size", "-1")),
        honest,
        Refused(&["no length"], &[CONFIG]),
    ),
    (
        "more than the disk holds",
        |request, _, reply| {
            on(WEIGHTS, request, reply, |reply| reply.with("X-Linked-Size", "1000000000000000"))
        },
        honest,
        Refused(&["no room for model.safetensors", "1000000.0 GB still needed", "are free"], &[CONFIG]),
    ),
    (
        "a length that is too small",
        |request, _, reply| on(WEIGHTS, request, reply, |reply| reply.with("X-Linked-Size", "500000")),
        honest,
        Refused(&["damaged", "size"], &[CONFIG]),
    ),
    (
        "weights that do not end",
        honest,
        |_, _, reply| Reply { length: Length::Endless, ..reply },
        Refused(&["damaged", "size"], &[CONFIG]),
    ),
    (
        "bodies that are shorter than the file",
        honest,
        |_, _, reply| Reply { length: Length::Claimed(300_000), ..reply },
        Fetched,
    ),
    ("tags in capitals", |_, _, reply| capitals(reply), honest, Fetched),
    ("weak tags", |_, _, reply| weak(reply), honest, Fetched),
    (
        "a tag that leads out of the cache",
        |_, _, reply| reply.with("ETag", "\"../../../evil\""),
        honest,
        Refused(&["without the commit and entity tag"], &[]),
    ),
    ("an empty tag", |_, _, reply| reply.with("ETag", "\"\""), honest, Refused(&["entity tag"], &[])),
    (
        "a tag that is not a file name",
        |_, _, reply| reply.with("ETag", &"a".repeat(10_000)),
        honest,
        Refused(&["without the commit and entity tag"], &[]),
    ),
    (
        "a header without end",
        |_, _, reply| reply.with("ETag", &"a".repeat(1_000_000)),
        honest,
        Refused(&["header"], &[]),
    ),
    (
        "a commit that leads out of the cache",
        |_, _, reply| reply.with("X-Repo-Commit", "../../evil"),
        honest,
        Refused(&["without the commit"], &[]),
    ),
    (
        "no commit",
        |_, _, reply| reply.without("X-Repo-Commit"),
        honest,
        Refused(&["without the commit"], &[]),
    ),
    (
        "another commit for the data than for the description",
        |request, _, reply| match &*request.method {
            "GET" => reply.with("X-Repo-Commit", &"f".repeat(40)),
            _ => reply,
        },
        honest,
        Refused(&["with commit ffff", COMMIT], &[]),
    ),
    (
        "a redirect to a file of this machine",
        |_, _, reply| reply.with("Location", "file:///etc/passwd"),
        honest,
        Refused(&["redirect to nowhere"], &[]),
    ),
    (
        "a redirect to itself",
        |request, _, reply| match &*request.method {
            "GET" => Reply { status: 302, ..reply.with("Location", &request.path) },
            _ => reply,
        },
        honest,
        Refused(&["one redirect after another"], &[]),
    ),
    (
        "a redirect with a password",
        |request, _, reply| match &*request.method {
            "GET" => Reply { status: 302, ..reply.with("Location", "http://alice:s3cret@127.0.0.1:1/x") },
            _ => reply,
        },
        honest,
        Refused(&["cannot reach http://…@127.0.0.1:1/x"], &[]),
    ),
    (
        "one byte at a time",
        honest,
        |_, _, reply| Reply { pace: Some((1, Duration::from_millis(10))), ..reply },
        Refused(&["at less than 100000 bytes per second"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "some bytes for each connection",
        honest,
        |_, _, reply| Reply { cut_after: Some(100), ..reply },
        Refused(&["the connection was cut"], &[CONFIG, "model.safetensors.incomplete"]),
    ),
    (
        "a changed configuration",
        |request, _, reply| on(CONFIG, request, reply, |reply| Reply { content: b"{  }".to_vec(), ..reply }),
        honest,
        Refused(&["config.json of tests/tiny is damaged", "git hash"], &[]),
    ),
    (
        "half of a configuration, without a length",
        |request, _, reply| {
            on(CONFIG, request, reply, |reply| Reply {
                content: b"{".to_vec(),
                length: Length::Absent,
                ..reply
            })
        },
        honest,
        Refused(&["damaged", "git hash"], &[]),
    ),
    (
        "a configuration under a tag of the mirror",
        |request, _, reply| on(CONFIG, request, reply, |reply| mirrored(reply, "abc-md5", b"{}".to_vec())),
        honest,
        Refused(&[CONFIG, "no hash", "`abc-md5`"], &[]),
    ),
    (
        "a configuration under the SHA-1 of its content alone",
        |request, _, reply| {
            let sha1 = "bf21a9e8fbc5a3846fb05b4fa0859e0917b2202f";
            on(CONFIG, request, reply, |reply| mirrored(reply, sha1, b"{}".to_vec()))
        },
        honest,
        Refused(&["damaged", "git hash"], &[]),
    ),
    (
        "a configuration under its SHA-256",
        |request, _, reply| {
            on(CONFIG, request, reply, |reply| mirrored(reply, &sha256(b"{ }"), b"{}".to_vec()))
        },
        honest,
        Refused(&["damaged", "sha256"], &[]),
    ),
    (
        "a configuration that does not end",
        |request, _, reply| {
            on(CONFIG, request, reply, |reply| Reply {
                content: vec![b' '; 100_000],
                length: Length::Endless,
                ..reply
            })
        },
        honest,
        Refused(&["config.json of tests/tiny is too large", "4194304 bytes"], &[]),
    ),
    (
        "a configuration of a petabyte",
        |request, _, reply| {
            on(CONFIG, request, reply, |reply| reply.with("X-Linked-Size", "1000000000000000"))
        },
        honest,
        Refused(&["too large: the hub sends 1000000000000000 bytes"], &[]),
    ),
    (
        "a time to come again that is never over",
        |_, _, _| Reply::status(429).with("Retry-After", "99999999999999999999999"),
        honest,
        Refused(&["HTTP 429 and asks to come again in 18446744073709551615 s"], &[]),
    ),
];

fn capitals(mut reply: Reply) -> Reply {
    for (name, value) in &mut reply.headers {
        if name.ends_with("tag") || name.ends_with("Tag") {
            *value = value.to_uppercase();
        }
    }
    reply
}

fn weak(mut reply: Reply) -> Reply {
    for (name, value) in &mut reply.headers {
        if name.ends_with("tag") || name.ends_with("Tag") {
            *value = format!("W/{value}");
        }
    }
    reply
}

/// Checks the end of an attack.
#[track_caller]
pub fn assert_end(name: &str, end: &End, result: Result<PathBuf, HubError>, hub: &Hub) {
    match (end, result) {
        (Fetched, Ok(folder)) => assert_complete(&folder, hub.cache()),
        (Refused(words, left), Err(error)) => {
            let text = error.to_string();
            for word in *words {
                assert!(text.contains(word), "{name}: {word} is not in: {text}");
            }
            assert!(!text.contains('\n') && !text.contains("s3cret"), "{name}: {text}");
            assert_eq!(error.kind(), ErrorKind::Input, "{name}: {text}");
            let blob = |file: &&str| match *file {
                CONFIG => git_hash(b"{}"),
                WEIGHTS => sha256(&weights()),
                "model.safetensors.incomplete" => format!("{}.incomplete", sha256(&weights())),
                other => other.to_owned(),
            };
            let mut left: Vec<_> = left.iter().map(blob).collect();
            left.sort();
            assert_eq!(blobs(hub.cache()), left, "{name}");
            assert!(matches!(hub.snapshot(&model()), Err(HubError::Missing { .. })), "{name}");
        }
        (Fetched, Err(error)) => panic!("{name}: {error}"),
        (Refused(..), Ok(folder)) => panic!("{name}: fetched to {}", folder.display()),
    }
}

#[test]
fn answers_that_are_wrong_absurd_or_unproven_are_refused() {
    for (name, hub, storage, end) in REMOTE {
        let cache = tempfile::tempdir().expect("a scratch folder");
        let stand_in = StandIn::start(files(), *hub, *storage);
        // The honest answers are far faster than this, even on a busy machine.
        let hub = hub_at(&stand_in.hub, cache.path()).with_least_rate(100_000, Duration::from_millis(300));
        let result = hub.fetch(&model(), &mut ());
        assert_end(name, end, result, &hub);
    }
}
