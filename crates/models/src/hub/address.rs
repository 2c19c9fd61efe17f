//! Web addresses: the part that may be shown, the host that is asked, the target of a redirect.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// Address of a hub without a trailing slash. It may hold a user and a password, which are never shown.
#[derive(Clone)]
pub(super) struct Endpoint(String);

impl Endpoint {
    pub(super) fn new(url: &str) -> Self {
        Self(url.trim().trim_end_matches('/').into())
    }

    /// The address for requests.
    pub(super) fn url(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&public(&self.0))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Returns an address without user, password and query, which may hold a signature.
pub(super) fn public(url: &str) -> String {
    hide_user(url).split(['?', '#']).next().unwrap_or_default().into()
}

/// Returns a text with the user and the password of every address in it replaced by `…`.
pub(super) fn without_user(text: &str) -> String {
    let hide = |word: &str| match word.split_once('@') {
        // A proxy may be given without a scheme, as `user:password@host`.
        Some((before, _)) if before.contains(':') => hide_user(word),
        _ => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(hide).collect()
}

/// Replaces everything between the scheme and the last `@` of an address, which need not be valid.
fn hide_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.find("//").map_or("", |at| &before[..at + 2]);
            format!("{scheme}…@{after}")
        }
        None => url.to_owned(),
    }
}

/// Returns scheme, host and port.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Returns the host of an address, for messages.
pub(super) fn host(url: &str) -> String {
    origin(url).map_or_else(|| public(url), |(_, host, _)| host)
}

/// Whether an address points to this machine.
pub(super) fn is_this_machine(url: &str) -> bool {
    origin(url).is_some_and(|(_, host, _)| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Returns the address to which a redirect from `url` to `target` leads, if it is valid.
pub(super) fn join(url: &str, target: &str) -> Option<String> {
    let base: Uri = url.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let joined = if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        target.to_owned()
    };
    let uri: Uri = joined.parse().ok()?;
    // A request that began over TLS must not continue without TLS.
    let allowed = uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http") && scheme == "http";
    allowed.then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_and_never_leave_tls() {
        let from = "https://hub.example:8443/a/b/resolve/main/config.json";
        let to = |target| join(from, target);
        assert_eq!(to("/x/y?z=1").as_deref(), Some("https://hub.example:8443/x/y?z=1"));
        assert_eq!(to("//cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(to("https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        for target in ["http://cdn.example/x", "file:///etc/passwd", "ftp://x/y", "x", ""] {
            assert_eq!(to(target), None, "{target}");
        }
        assert_eq!(
            join("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").as_deref(),
            Some("http://127.0.0.1:2/b")
        );
    }

    #[test]
    fn users_and_passwords_are_never_shown() {
        for (url, shown) in [
            ("https://hub.example/x?signature=s3cret#s3cret", "https://hub.example/x"),
            ("http://alice:s3cret@hub.example:80/x", "http://…@hub.example:80/x"),
            ("http://alice:s3c@cret@hub.example/x", "http://…@hub.example/x"),
            ("http://s3cret@hub.example", "http://…@hub.example"),
            ("http://alice:s3/c?r#et@hub.example/x", "http://…@hub.example/x"),
            ("http://alice:s3 cret@hub.example/x", "http://…@hub.example/x"),
            ("alice:s3cret@proxy:3128", "…@proxy:3128"),
            ("s3cret@hub.example", "…@hub.example"),
            ("//alice:s3cret@hub.example/x", "//…@hub.example/x"),
        ] {
            assert_eq!(public(url), shown);
            assert_eq!(format!("{0} {0:?}", Endpoint::new(url)), format!("{shown} {shown}"));
        }
        let reason = "bad uri: http://alice:s3cret@h/ at byte 7 (proxy bob:s3cret@p)";
        assert_eq!(without_user(reason), "bad uri: http://…@h/ at byte 7 (proxy …@p)");
    }

    #[test]
    fn this_machine_has_several_names() {
        for url in ["http://127.0.0.1:80/hf", "http://localhost:1", "http://[::1]:1"] {
            assert!(is_this_machine(url), "{url}");
        }
        for url in ["https://huggingface.co", "http://127.0.0.1.example", "http://10.0.0.1"] {
            assert!(!is_this_machine(url), "{url}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.example/x"), origin("HTTPS://hub.example:443"));
        for other in ["http://hub.example", "https://hub.example:444", "https://hub.example.evil", "nonsense"]
        {
            assert_ne!(origin("https://hub.example/x"), origin(other), "{other}");
        }
    }
}
