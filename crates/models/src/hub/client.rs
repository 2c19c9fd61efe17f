//! Requests to the hub: the description of a file, and its data from a given byte on.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ureq::http::header::{AUTHORIZATION, IF_RANGE, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderValue, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::address::{Endpoint, is_this_machine, join, origin, public, without_user};
use super::content::Tag;
use super::error::{HubError, Result};
use super::registry::{Model, is_commit};
use super::retry::RequestError;
use super::settings::Hub;
use super::transfer::Opened;

const MAX_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(20);
/// Timeout for a server that sends nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Maximum size of the list of a repository's files, in bytes. Data sets with 10,000 files have about 3 MB.
const LISTING_BYTES: u64 = 16 << 20;

/// A requested file.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) model: &'a Model,
    pub(super) revision: &'a str,
    pub(super) file: &'a str,
}

/// Description of a file by the hub.
pub(super) struct Remote {
    pub(super) commit: String,
    pub(super) tag: Tag,
    pub(super) size: Option<u64>,
}

/// Client of one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    mirror: Option<Endpoint>,
    token: Option<HeaderValue>,
}

/// Description of a file at a web address.
pub(super) struct WebRemote {
    pub(super) size: Option<u64>,
    /// A strong entity tag or a date, which changes with the file.
    pub(super) validator: Option<String>,
}

impl Client {
    pub(super) fn new(hub: &Hub) -> Result<Self> {
        if !origin(hub.endpoint.url()).is_some_and(|(scheme, ..)| scheme == "https" || scheme == "http") {
            return Err(HubError::Endpoint { shown: hub.endpoint.to_string() });
        }
        let token = hub.token.as_ref().map(|token| HeaderValue::from_str(&format!("Bearer {}", token.0)));
        let mut token = token.transpose().map_err(|_| HubError::Token)?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        let mut config = Agent::config_builder()
            .user_agent(concat!("tokenrank/", env!("CARGO_PKG_VERSION")))
            // A compressed response would have a different length than the file.
            .accept_encoding("identity")
            .http_status_as_error(false)
            // Redirects are followed here: the token is sent to the hub only, and the first response describes the
            // file.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls())
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        if is_this_machine(hub.mirror.as_ref().unwrap_or(&hub.endpoint).url()) {
            // A proxy cannot reach this machine.
            config = config.proxy(None);
        }
        let (endpoint, mirror) = (hub.endpoint.clone(), hub.mirror.clone());
        Ok(Self { agent: config.build().new_agent(), endpoint, mirror, token })
    }

    /// Requests the description of a file.
    pub(super) fn describe(&self, wanted: Wanted) -> Result<Remote, RequestError> {
        let mut url = self.url(wanted);
        let (mut commit, mut etag, mut size) = (None, None, None);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send("HEAD", &url, None, None)?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            // The headers of the hub itself count, not those of the storage that it redirects to.
            commit = commit.or_else(|| header("x-repo-commit").map(str::to_owned));
            etag = etag.or_else(|| header("x-linked-etag").map(str::to_owned));
            size = size.or_else(|| header("x-linked-size")?.parse().ok());
            if response.status().is_redirection() {
                if commit.is_some() && etag.is_some() {
                    break;
                }
                url = next(&url, &response)?;
                continue;
            }
            self.check(wanted, &url, &response)?;
            etag = etag.or_else(|| header("etag").map(str::to_owned));
            size = size.or_else(|| header("content-length")?.parse().ok());
            break;
        }
        let pinned = Some(wanted.revision).filter(|revision| is_commit(revision));
        if let (Some(pinned), Some(commit)) = (pinned, &commit)
            && pinned != commit
        {
            return Err(
                answer(&self.url(wanted), &format!("with commit {commit} instead of {pinned}")).into()
            );
        }
        match (commit, etag.as_deref().and_then(Tag::of_header)) {
            // Both become file names.
            (Some(commit), Some(tag)) if is_commit(&commit) => Ok(Remote { commit, tag, size }),
            _ => Err(answer(&self.url(wanted), "without the commit and entity tag that a hub sends").into()),
        }
    }

    /// Opens the data of a file from byte `from` on. Returns the byte at which they really begin, since a server may
    /// ignore the requested range.
    pub(super) fn open(&self, wanted: Wanted, mut from: u64) -> Result<Opened, RequestError> {
        let mut url = self.url(wanted);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send("GET", &url, (from > 0).then_some(from), None)?;
            let commit = response.headers().get("x-repo-commit").and_then(|commit| commit.to_str().ok());
            if let Some(commit) = commit.filter(|&commit| commit != wanted.revision) {
                let what = format!("with commit {commit} instead of {}", wanted.revision);
                return Err(answer(&url, &what).into());
            }
            if response.status().is_redirection() {
                url = next(&url, &response)?;
                continue;
            }
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
                (url, from) = (self.url(wanted), 0);
                continue;
            }
            self.check(wanted, &url, &response)?;
            return Ok((begin(&url, from, &response)?, Box::new(response.into_body().into_reader())));
        }
        Err(answer(&url, "with one redirect after another").into())
    }

    /// Requests the list of files of a repository. Returns the address and the answer.
    pub(super) fn listing_text(&self, model: &Model) -> Result<(String, String), RequestError> {
        let revision = model.revision.replace('/', "%2F");
        let folder = model.kind.api_folder();
        let mut url =
            format!("{}/api/{folder}/{}/revision/{revision}?blobs=true", self.endpoint.url(), model.id);
        let wanted = Wanted { model, revision: &model.revision, file: "list of files" };
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send("GET", &url, None, None)?;
            if response.status().is_redirection() {
                url = next(&url, &response)?;
                continue;
            }
            self.check(wanted, &url, &response)?;
            let mut text = String::new();
            let mut body = response.into_body().into_reader().take(LISTING_BYTES + 1);
            let read = body.read_to_string(&mut text);
            let cut = |e: std::io::Error| {
                RequestError::new(answer(&url, &format!("with no readable list of files ({e})")), true)
            };
            read.map_err(cut)?;
            if text.len() as u64 > LISTING_BYTES {
                return Err(answer(&url, "with a list of files that is too long").into());
            }
            return Ok((public(&url), text));
        }
        Err(answer(&url, "with one redirect after another").into())
    }

    /// Requests the size and the version of the file at a web address.
    pub(super) fn describe_web(&self, url: &str) -> Result<WebRemote, RequestError> {
        let mut at = self.mirrored(url);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send("HEAD", &at, None, None)?;
            if response.status().is_redirection() {
                at = next(&at, &response)?;
                continue;
            }
            check_web(url, &response)?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            // A weak tag may stay the same when the bytes change.
            let tag = header("etag").filter(|tag| !tag.starts_with("W/"));
            let validator = tag.or_else(|| header("last-modified")).map(str::to_owned);
            return Ok(WebRemote {
                size: header("content-length").and_then(|size| size.parse().ok()),
                validator,
            });
        }
        Err(answer(&at, "with one redirect after another").into())
    }

    /// Opens the data at a web address from byte `from` on, if they are still of the version `validator`. Returns the byte
    /// at which they really begin.
    pub(super) fn open_web(
        &self,
        url: &str,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Opened, RequestError> {
        let (mut at, mut from) = (self.mirrored(url), from);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send("GET", &at, (from > 0).then_some(from), validator)?;
            if response.status().is_redirection() {
                at = next(&at, &response)?;
                continue;
            }
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
                (at, from) = (self.mirrored(url), 0);
                continue;
            }
            check_web(url, &response)?;
            return Ok((begin(&at, from, &response)?, Box::new(response.into_body().into_reader())));
        }
        Err(answer(&at, "with one redirect after another").into())
    }

    /// The address at the user's mirror of web addresses, `MIRROR/HOST/PATH`, if there is one.
    fn mirrored(&self, url: &str) -> String {
        match (&self.mirror, url.split_once("://")) {
            (Some(mirror), Some((_, rest))) => format!("{}/{rest}", mirror.url()),
            (None, _) | (_, None) => url.to_owned(),
        }
    }

    /// Address of a file, for messages.
    pub(super) fn address(&self, wanted: Wanted) -> String {
        public(&self.url(wanted))
    }

    fn url(&self, Wanted { model, revision, file }: Wanted) -> String {
        let revision = revision.replace('/', "%2F");
        format!("{}/{}{}/resolve/{revision}/{file}", self.endpoint.url(), model.kind.url_folder(), model.id)
    }

    /// Sends one request without following redirects. The token is sent to the hub itself only.
    /// A range is answered with the whole file if that is not of the version `validator` any more.
    fn send(
        &self,
        method: &str,
        url: &str,
        from: Option<u64>,
        validator: Option<&str>,
    ) -> Result<Response<Body>, RequestError> {
        let mut request = if method == "HEAD" { self.agent.head(url) } else { self.agent.get(url) };
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(self.endpoint.url())) {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        request.call().map_err(|error| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "ureq's errors, of which new ones are neither"
            )]
            let certificate = match &error {
                ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
                ureq::Error::Io(e) => e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
                _ => false,
            };
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "ureq's errors, of which new ones are neither"
            )]
            let no_server = match &error {
                ureq::Error::HostNotFound | ureq::Error::BadUri(_) | ureq::Error::Http(_) => true,
                ureq::Error::Io(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
                _ => false,
            };
            let hint = if certificate { " (SSL_CERT_FILE can name the certificates to trust)" } else { "" };
            let reason = format!("{}{hint}", without_user(&error.to_string()));
            let error = HubError::Unreachable { url: public(url), reason };
            RequestError::new(error, !certificate && !no_server)
        })
    }

    fn check(&self, wanted: Wanted, url: &str, response: &Response<Body>) -> Result<(), RequestError> {
        let (Wanted { model, revision, file }, status) = (wanted, response.status());
        let ours = origin(url) == origin(self.endpoint.url());
        let error = match status.as_u16() {
            200 | 206 => return Ok(()),
            401 | 403 if ours => HubError::Denied {
                id: model.id.clone(),
                status: status.as_u16(),
                gated: model.gated,
                with_token: self.token.is_some(),
                page: format!("{}/{}", self.endpoint, model.id),
            },
            404 => HubError::NotFound {
                id: model.id.clone(),
                revision: revision.into(),
                file: file.into(),
                url: public(url),
            },
            code => answer(url, &format!("HTTP {code}")),
        };
        // The storage answers 403 when an address has expired; the hub then gives a new one.
        Err(refused(response, error, status == 403 && !ours))
    }
}

/// The error of a response. A retry may succeed if the status says so, or if the address has `expired`.
fn refused(response: &Response<Body>, error: HubError, expired: bool) -> RequestError {
    let status = response.status();
    let passing = status.is_server_error() || status == 429 || status == 408 || expired;
    let after = response.headers().get(RETRY_AFTER).filter(|_| status == 429 || status == 503);
    let after = after.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
    RequestError::new(error, passing).with_after(after)
}

/// Reads a number of seconds or a date. A number that is too large stays too long to wait for.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn tls() -> TlsConfig {
    let certificates = rustls_native_certs::load_native_certs().certs;
    let roots =
        certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// Returns the byte at which the data of a response begin, if `from` was requested.
fn begin(url: &str, from: u64, response: &Response<Body>) -> Result<u64, RequestError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    match range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
        true => Ok(from),
        false => Err(answer(url, "with another range than the requested one").into()),
    }
}

/// Checks the status of a file at a web address.
fn check_web(url: &str, response: &Response<Body>) -> Result<(), RequestError> {
    match response.status().as_u16() {
        200 | 206 => Ok(()),
        code => Err(refused(response, HubError::Web { url: public(url), code }, false)),
    }
}

fn answer(url: &str, what: &str) -> HubError {
    HubError::Answer { url: public(url), what: what.into() }
}

/// Returns the target of a redirect.
fn next(url: &str, response: &Response<Body>) -> Result<String, RequestError> {
    let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let joined = target.and_then(|target| join(url, target));
    joined.ok_or_else(|| answer(url, "with a redirect to nowhere").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_come_again_is_a_number_of_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("12", Some(12)),
            (" 0 ", Some(0)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:49 GMT", Some(12)),
            ("Sunday, 06-Nov-94 08:49:49 GMT", Some(12)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-12", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now).map(|time| time.as_secs()), seconds, "{value}");
        }
    }
}
