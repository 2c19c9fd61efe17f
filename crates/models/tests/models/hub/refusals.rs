//! Refusals, their messages, and that no bad data stay in the cache.

use models::hub::{Hub, HubError};

use super::server::{COMMIT, Reply, Request, StandIn, Twist, git_hash, honest, sha256};
use super::{blobs, files, hub_at, model, model_at, weights};

/// The error of a fetch from a hub with this twist, and what it leaves in the cache.
fn refused(hub: Twist, storage: Twist, token: Option<&str>, more: &str) -> (HubError, Vec<String>) {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), hub, storage);
    let mut hub = hub_at(&stand_in.hub, cache.path());
    if let Some(token) = token {
        hub = hub.with_token(token);
    }
    let error = hub.fetch(&model_at("main", more), &mut ()).expect_err("a refusal");
    assert!(!error.to_string().contains('\n') && error.kind() != models::ErrorKind::Usage, "{error}");
    assert!(matches!(hub.snapshot(&model()), Err(HubError::Missing { .. })), "{error}");
    (error, blobs(cache.path()))
}

#[test]
fn data_with_another_hash_are_removed() {
    let flipped = |_: &Request, _, mut reply: Reply| {
        if let Some(byte) = reply.content.get_mut(77) {
            *byte ^= 1;
        }
        reply
    };
    let (error, left) = refused(honest, flipped, None, "");
    let mut bad = weights();
    bad[77] ^= 1;
    let text = error.to_string();
    for word in ["model.safetensors", "tests/tiny", &sha256(&weights()), &sha256(&bad), "removed"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert_eq!(left, [git_hash(b"{}")]);
}

#[test]
fn data_of_another_size_are_removed() {
    let longer = |_: &Request, _, mut reply: Reply| {
        reply.content.push(0);
        reply
    };
    let (error, left) = refused(honest, longer, None, "");
    assert!(matches!(error, HubError::Damaged { what: "size", .. }), "{error}");
    assert_eq!(left.len(), 1);
}

#[test]
fn data_that_are_not_the_pinned_ones_are_not_downloaded() {
    let pin = |what: &str| format!("published.\"model.safetensors\" = {{ {what} }}\n");
    let (error, left) = refused(honest, honest, None, &pin(&format!("sha256 = \"{}\"", "0".repeat(64))));
    assert!(matches!(error, HubError::NotPinned { what: "sha256", .. }), "{error}");
    assert_eq!(left.len(), 1);
    let (error, _) = refused(honest, honest, None, &pin("size = 3"));
    assert!(matches!(error, HubError::NotPinned { what: "size", .. }), "{error}");

    // A server without hashes: the pinned hash decides.
    let silent = |_: &Request, _, mut reply: Reply| {
        for (name, value) in &mut reply.headers {
            if *name == "X-Linked-Etag" {
                *value = "\"some-tag\"".into();
            }
        }
        reply
    };
    let (error, left) = refused(silent, honest, None, &pin(&format!("sha256 = \"{}\"", "0".repeat(64))));
    assert!(matches!(error, HubError::NotPinned { what: "sha256", .. }), "{error}");
    assert_eq!(left.len(), 1);
}

#[test]
fn a_gated_model_names_the_page_and_the_token() {
    let locked = |_: &Request, _, _| Reply::status(401);
    let (error, left) = refused(locked, honest, None, "gated = true\n");
    let text = error.to_string();
    for word in ["HTTP 401", "/tests/tiny and set HF_TOKEN", "Accept its terms at http://127.0.0.1"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert_eq!(left, [""; 0]);

    let forbidden = |_: &Request, _, _| Reply::status(403);
    let text = refused(forbidden, honest, Some("hf_secret"), "").0.to_string();
    for word in ["HTTP 403", "If the model is gated, accept", "account of your access token"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(!text.contains("hf_secret"), "{text}");
}

#[test]
fn a_token_that_cannot_be_sent_is_not_shown_either() {
    let (error, _) = refused(honest, honest, Some("hf_sec\nret"), "");
    assert!(matches!(error, HubError::Token), "{error}");
    assert!(!error.to_string().contains("hf_sec"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let without = |request: &Request, _, reply| {
        if request.path.ends_with("model.safetensors") { Reply::status(404) } else { reply }
    };
    let text = refused(without, honest, None, "").0.to_string();
    for word in ["tests/tiny", "no model.safetensors", "HTTP 404", COMMIT] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn offline_names_every_missing_file_and_makes_no_request() {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let hub = hub_at(&stand_in.hub, cache.path());
    let text = hub.clone().with_offline(true).fetch(&model(), &mut ()).expect_err("offline").to_string();
    for word in ["tests/tiny is not in", "config.json, model.safetensors missing"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert_eq!(stand_in.hub.requests().len(), 0);
    let folder = hub.fetch(&model(), &mut ()).expect("a model");
    assert_eq!(hub.with_offline(true).fetch(&model(), &mut ()).expect("a model"), folder);
}

#[test]
fn an_unreachable_hub_is_named() {
    let cache = tempfile::tempdir().expect("a scratch folder");
    // No machine runs a service on port 1.
    let hub = Hub::at("http://127.0.0.1:1", cache.path());
    let text = hub.fetch(&model(), &mut ()).expect_err("nobody").to_string();
    for word in ["cannot reach http://127.0.0.1:1/tests/tiny/resolve/main/config.json", "HF_ENDPOINT"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert_eq!(blobs(cache.path()), [""; 0]);
}

#[test]
fn an_answer_with_another_commit_is_refused() {
    let cache = tempfile::tempdir().expect("a scratch folder");
    let stand_in = StandIn::start(files(), honest, honest);
    let other = "f".repeat(40);
    let error =
        hub_at(&stand_in.hub, cache.path()).fetch(&model_at(&other, ""), &mut ()).expect_err("another");
    assert!(matches!(&error, HubError::Answer { what, .. } if what.contains(COMMIT)), "{error}");
}
