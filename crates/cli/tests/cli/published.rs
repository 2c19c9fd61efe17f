//! A stand-in for everything that `fetch` downloads from: repositories of the hub, with its list of files, and files at web
//! addresses, which a mirror has under `HOST/PATH`. Files have the published names and formats; the networks are tiny.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::common::{root, tokenrank, words};
use crate::server::{Reply, Request, Server, git_hash, sha256};
use crate::torch_file;

pub type Files = BTreeMap<String, Vec<u8>>;

/// What is published, and under which conditions.
#[derive(Default, Clone)]
pub struct Published {
    /// By hub id; data sets begin with `datasets/`.
    pub repositories: BTreeMap<String, Repository>,
    /// By address without its scheme.
    pub web: Files,
}

#[derive(Clone)]
pub struct Repository {
    pub commit: String,
    pub licence: &'static str,
    /// Whether a token is needed.
    pub gated: bool,
    pub files: Files,
}

pub const TOKEN: &str = "hf_secret";

impl Published {
    pub fn repository(&mut self, id: &str, licence: &'static str, files: Files) -> &mut Repository {
        let commit = sha256(id.as_bytes())[..40].to_owned();
        let repository = Repository { commit, licence, gated: false, files };
        self.repositories.entry(id.to_owned()).or_insert(repository)
    }

    pub fn serve(self) -> Server {
        self.serve_with(|_, reply| reply)
    }

    /// Serves everything; `twist` changes answers.
    pub fn serve_with(self, twist: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
        Server::start(move |request| twist(request, self.answer(request)))
    }

    fn answer(&self, request: &Request) -> Reply {
        let path = request.path.trim_start_matches('/').split('?').next().unwrap_or_default();
        if let Some(content) = self.web.get(path) {
            let tag = format!("\"{}\"", &sha256(content)[..16]);
            return ranged(request, content).with("ETag", &tag);
        }
        for (id, repository) in &self.repositories {
            let api =
                if id.starts_with("datasets/") { format!("api/{id}/") } else { format!("api/models/{id}/") };
            let files = format!("{id}/resolve/");
            if !path.starts_with(&api) && !path.starts_with(&files) {
                continue;
            }
            let allowed = request.headers.get("authorization").is_some_and(|value| value.ends_with(TOKEN));
            if path.starts_with(&api) {
                return Reply {
                    status: 200,
                    content: repository.listing().to_string().into(),
                    ..Reply::default()
                };
            }
            if repository.gated && !allowed {
                return Reply::status(401);
            }
            let file = path[files.len()..].split_once('/').map_or("", |(_, file)| file);
            let Some(content) = repository.files.get(file) else { return Reply::status(404) };
            let reply = ranged(request, content).with("X-Repo-Commit", &repository.commit);
            return match is_small(file) {
                true => reply.with("ETag", &format!("\"{}\"", git_hash(content))),
                false => reply
                    .with("X-Linked-Etag", &format!("\"{}\"", sha256(content)))
                    .with("X-Linked-Size", &content.len().to_string()),
            };
        }
        Reply::status(404)
    }
}

impl Repository {
    fn listing(&self) -> Value {
        let sibling = |(name, content): (&String, &Vec<u8>)| match is_small(name) {
            true => json!({ "rfilename": name, "size": content.len(), "blobId": git_hash(content) }),
            false => json!({
                "rfilename": name, "size": content.len(),
                "lfs": { "sha256": sha256(content), "size": content.len(), "pointerSize": 134 },
            }),
        };
        json!({
            "sha": self.commit, "private": false,
            "gated": if self.gated { json!("auto") } else { json!(false) },
            "cardData": { "license": self.licence },
            "siblings": self.files.iter().map(sibling).collect::<Vec<_>>(),
        })
    }
}

fn is_small(name: &str) -> bool {
    [".json", ".txt", ".md"].iter().any(|end| name.ends_with(end))
}

fn ranged(request: &Request, content: &[u8]) -> Reply {
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let start = range.and_then(|range| range.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    Reply { status: 200, content: content.to_vec(), start, ..Reply::default() }
}

/// The files of a folder, with those of folders below it.
pub fn folder(path: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![(path.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            let name =
                format!("{prefix}{}", path.file_name().and_then(|name| name.to_str()).expect("a name"));
            if path.is_dir() {
                open.push((path, format!("{name}/")));
            } else {
                files.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// The files of a miniature network.
pub fn mini(name: &str) -> Files {
    folder(&root().join("datasets/mini/models").join(name))
}

/// Replaces every safetensors file by what `torch.save` writes, as DINO and CLIP are published.
pub fn as_torch(mut files: Files) -> Files {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".safetensors")).cloned().collect();
    for name in names {
        let bytes = files.remove(&name).expect("listed");
        let path = dir.path().join("weights");
        std::fs::write(&path, bytes).expect("writable");
        let new = match name.strip_suffix("diffusion_pytorch_model.safetensors") {
            Some(folder) => format!("{folder}diffusion_pytorch_model.bin"),
            None => name.replace("model.safetensors", "pytorch_model.bin"),
        };
        files.insert(new, torch_file::torch_file(&torch_file::read(&path), |dict| dict));
    }
    files
}

/// Renames every weight file to that of the variant `fp16`.
pub fn as_fp16(files: Files) -> Files {
    let rename =
        |(name, content): (String, Vec<u8>)| (name.replace(".safetensors", ".fp16.safetensors"), content);
    files.into_iter().map(rename).collect()
}

/// Splits a safetensors file into shards and their index.
pub fn as_shards(mut files: Files, file: &str, count: usize) -> Files {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("weights");
    std::fs::write(&path, files.remove(file).expect("the file")).expect("writable");
    let tensors = torch_file::read(&path);
    let stem = file.strip_suffix(".safetensors").expect("safetensors");
    let plain = stem.rsplit('/').next().unwrap_or(stem);
    let mut weight_map = serde_json::Map::new();
    for (i, part) in tensors.chunks(tensors.len().div_ceil(count)).enumerate() {
        let shard = format!("-0000{}-of-0000{count}.safetensors", i + 1);
        let views = part.iter().map(|(name, kind, shape, data)| {
            (name, safetensors::tensor::TensorView::new(*kind, shape.clone(), data).expect("a tensor"))
        });
        files.insert(format!("{stem}{shard}"), safetensors::serialize(views, None).expect("serializable"));
        weight_map.extend(part.iter().map(|tensor| (tensor.0.clone(), json!(format!("{plain}{shard}")))));
    }
    let index = json!({ "metadata": {}, "weight_map": weight_map });
    files.insert(format!("{file}.index.json"), index.to_string().into());
    files
}

/// A user's machine: an empty cache, an empty working folder, no Python.
pub struct Machine {
    pub dir: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(dir.path().join("work")).expect("writable");
        Self { dir }
    }

    pub fn work(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    pub fn command(&self, server: &Server, args: &[&str]) -> std::process::Command {
        let mut command = tokenrank();
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "HF_TOKEN_PATH",
        ] {
            command.env_remove(name);
        }
        command
            .current_dir(self.work())
            .env("HF_HOME", self.dir.path().join("hf"))
            .env("HF_ENDPOINT", server.url())
            .env("TOKENRANK_MIRROR", server.url())
            .env("HF_TOKEN", TOKEN)
            .env("PATH", self.dir.path().join("no-programs"))
            .args(args);
        command
    }

    #[track_caller]
    pub fn run(&self, server: &Server, args: &[&str], code: i32) -> Output {
        let output = self.command(server, args).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", words(&output));
        assert!(!words(&output).contains(TOKEN), "{}", words(&output));
        output
    }
}
