//! What a run was made with and on.

use models::Device;
use serde::{Deserialize, Serialize};

/// The code that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Version of the program.
    pub version: String,
    /// Commit of the checkout, where known; it ends in `-dirty` if the sources differed from it.
    pub commit: Option<String>,
    /// SHA-256 over the sources and the versions of all dependencies.
    pub sources_sha256: String,
}

impl Code {
    /// The code this program was built from.
    pub fn current() -> Self {
        let commit = env!("TOKENRANK_COMMIT");
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: (!commit.is_empty()).then(|| commit.into()),
            sources_sha256: env!("TOKENRANK_SOURCES").into(),
        }
    }
}

/// The machine and libraries of a run. It says nothing about who ran it where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system and processor architecture.
    pub platform: String,
    /// Processor, where the system tells.
    pub processor: Option<String>,
    /// Threads that libtorch computes with.
    pub threads: i32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Version of libtorch, where it can be told.
    pub libtorch: Option<String>,
}

impl Environment {
    /// This machine, computing on `device`.
    pub fn current(device: Device) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor,
            threads: models::device::threads(),
            device: models::device::name(device),
            libtorch: models::device::libtorch().and_then(|library| library.version),
        }
    }
}
