//! A stand-in for the hub and for the storage it redirects to, on two ports of 127.0.0.1.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that the stand-in serves.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// A response. `content` is sent from `start` on, and only `cut_after` bytes of that if given.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub content: Vec<u8>,
    pub start: usize,
    pub cut_after: Option<usize>,
    pub length: Length,
    /// The content is sent in pieces of so many bytes, with a pause before each.
    pub pace: Option<(usize, Duration)>,
}

/// Header of a response that says how long its content is.
#[allow(dead_code, reason = "the tests of the program lie less than those of the library")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Length {
    #[default]
    Honest,
    /// The content ends with the connection.
    Absent,
    /// The content is repeated in chunks without end.
    Endless,
    Claimed(u64),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Sets or replaces a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name, value.into()));
        self
    }

    /// Removes a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }
}

/// An HTTP server that records its requests.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (requests, stop) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (log, stopped, answer) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stopped.load(Ordering::SeqCst)) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // Tests include clients that hang up or are killed.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &log, &*answer)));
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let request = Request { method, path, headers };
    log.lock().expect("no panic").push(request.clone());
    let reply = answer(&request);
    let mut stream = stream;
    let status = if reply.start > 0 { 206 } else { reply.status };
    write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\n")?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    let (total, body) = (reply.content.len(), &reply.content[reply.start..]);
    if reply.start > 0 {
        write!(stream, "Content-Range: bytes {}-{}/{total}\r\n", reply.start, total - 1)?;
    }
    match reply.length {
        Length::Honest => write!(stream, "Content-Length: {}\r\n\r\n", body.len())?,
        Length::Claimed(length) => write!(stream, "Content-Length: {length}\r\n\r\n")?,
        Length::Absent => write!(stream, "\r\n")?,
        Length::Endless => write!(stream, "Transfer-Encoding: chunked\r\n\r\n")?,
    }
    if request.method != "HEAD" {
        if reply.length == Length::Endless {
            // Until the client hangs up.
            loop {
                write!(stream, "{:x}\r\n", body.len())?;
                stream.write_all(body)?;
                write!(stream, "\r\n")?;
            }
        }
        let (size, pause) = reply.pace.unwrap_or((usize::MAX, Duration::ZERO));
        for piece in body[..reply.cut_after.unwrap_or(body.len())].chunks(size) {
            std::thread::sleep(pause);
            stream.write_all(piece)?;
            stream.flush()?;
        }
    }
    stream.flush()
}

/// A repository with one commit: small files are served by the hub after a relative redirect, weights by the storage
/// on another port.
pub struct StandIn {
    pub hub: Server,
    pub storage: Server,
}

/// Name and content of a file.
pub type File = (&'static str, Vec<u8>);

/// Changes an answer before it is sent.
pub type Twist = fn(&Request, nth: usize, Reply) -> Reply;

pub fn honest(_request: &Request, _nth: usize, reply: Reply) -> Reply {
    reply
}

impl StandIn {
    /// Serves `files` under any repository name. The twists get the number of earlier requests for their path.
    pub fn start(files: Vec<File>, hub: Twist, storage: Twist) -> Self {
        let (weights, small): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(name, _)| name.ends_with(".safetensors"));
        let by_hash = weights.iter().map(|(_, content)| (sha256(content), content.clone())).collect();
        let storage = Self::storage(by_hash, storage);
        let storage_url = storage.url();
        let count = Counter::default();
        let hub = Server::start(move |request| {
            let commit = ("X-Repo-Commit", COMMIT.to_owned());
            let file = file_of(&request.path);
            let reply = if let Some((_, content)) = weights.iter().find(|(name, _)| *name == file) {
                let hash = sha256(content);
                let headers = vec![
                    commit,
                    ("X-Linked-Etag", format!("\"{hash}\"")),
                    ("X-Linked-Size", content.len().to_string()),
                    ("Location", format!("{storage_url}/{hash}?signature=secret")),
                ];
                Reply { status: 302, headers, content: b"Found. Redirecting".to_vec(), ..Reply::default() }
            } else if let Some((_, content)) = small.iter().find(|(name, _)| *name == file) {
                if request.path.contains("/resolve/") {
                    let location = format!("/api/resolve-cache/{file}?etag=x");
                    let headers = vec![commit, ("Location", location)];
                    Reply { status: 307, headers, content: b"Temporary".to_vec(), ..Reply::default() }
                } else {
                    let headers = vec![commit, ("ETag", format!("\"{}\"", git_hash(content)))];
                    Reply { status: 200, headers, content: content.clone(), ..Reply::default() }
                }
            } else {
                Reply::status(404)
            };
            hub(request, count.nth(request), reply)
        });
        Self { hub, storage }
    }

    /// Serves data by their hash, from the requested byte on.
    fn storage(contents: BTreeMap<String, Vec<u8>>, twist: Twist) -> Server {
        let count = Counter::default();
        Server::start(move |request| {
            let hash = request.path.trim_start_matches('/').split('?').next().unwrap_or_default();
            let reply = match contents.get(hash) {
                None => Reply::status(404),
                Some(content) => {
                    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
                    let start = range.and_then(|range| range.strip_suffix('-')?.parse().ok()).unwrap_or(0);
                    Reply { status: 200, content: content.clone(), start, ..Reply::default() }
                }
            };
            twist(request, count.nth(request), reply)
        })
    }

    /// Ranges of the downloads of weights so far, `-` for requests without range.
    pub fn ranges(&self) -> Vec<String> {
        let downloads = self.storage.requests().into_iter().filter(|request| request.method == "GET");
        downloads.map(|request| request.headers.get("range").cloned().unwrap_or("-".into())).collect()
    }
}

/// The file, including folders, that a path of the hub requests.
fn file_of(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    let behind_revision = || path.split_once("/resolve/")?.1.split_once('/');
    behind_revision().map_or_else(
        || path.strip_prefix("/api/resolve-cache/").unwrap_or_default(),
        |(_revision, file)| file,
    )
}

/// Number of requests for a path.
#[derive(Default)]
struct Counter(Mutex<BTreeMap<(String, String), usize>>);

impl Counter {
    fn nth(&self, request: &Request) -> usize {
        let mut counts = self.0.lock().expect("no panic");
        let count = counts.entry((request.method.clone(), request.path.clone())).or_default();
        *count += 1;
        *count
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    models::hex(Sha256::digest(bytes))
}

/// The hash of `git hash-object`.
pub fn git_hash(bytes: &[u8]) -> String {
    let head = format!("blob {}\0", bytes.len());
    models::hex(Sha1::new().chain_update(head).chain_update(bytes).finalize())
}
