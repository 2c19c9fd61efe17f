//! The code, the machine and the libraries that made a run.

use models::Device;
use serde::{Deserialize, Serialize};

/// The code that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Version of the program.
    pub version: String,
    /// Commit of the checkout, if known; it ends in `-dirty` if the sources differed from the commit.
    pub commit: Option<String>,
    /// SHA-256 of the sources and the versions of all dependencies.
    pub sources_sha256: String,
}

impl Code {
    /// Returns the code that this program was built from.
    pub fn current() -> Self {
        let commit = env!("TOKENRANK_COMMIT");
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: (!commit.is_empty()).then(|| commit.into()),
            sources_sha256: env!("TOKENRANK_SOURCES").into(),
        }
    }
}

/// The machine and libraries of a run, without host name, user name or path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system and processor architecture.
    pub platform: String,
    /// Processor, if the system reports it.
    pub processor: Option<String>,
    /// Number of threads that libtorch computes with.
    pub threads: i32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Version of libtorch, if known.
    pub libtorch: Option<String>,
}

impl Environment {
    /// Returns the environment of this process, which computes on `device`.
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
