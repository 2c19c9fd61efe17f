//! The origin of a run, and how to repeat it.

use std::path::Path;

use models::escape;

use super::links::Links;
use eval::RunFolder;
use eval::results::Results;
use runs::layout::is_items_file;

/// The origin of a run, and how to repeat it.
pub(super) struct Recipe {
    /// Name of the experiment file.
    pub file: String,
    /// Its content: TOML, or JSON if TOML cannot represent the experiment.
    pub text: String,
    /// The command that runs the experiment.
    pub command: String,
    /// Facts about data, program and machine.
    pub facts: Vec<Fact>,
    /// Files of the run: name, link, size in bytes.
    pub files: Vec<(String, String, u64)>,
}

pub(super) struct Fact {
    pub term: &'static str,
    pub description: String,
    /// Whether the description is a hash or the like, with a button to copy it.
    pub is_code: bool,
}

impl Recipe {
    pub(super) fn of(folder: &RunFolder, links: &Links) -> Self {
        let results = &folder.results;
        let (kind, text) = match toml::to_string_pretty(&results.experiment) {
            Ok(text) => ("toml", text),
            Err(_) => ("json", serde_json::to_string_pretty(&results.experiment).unwrap_or_default()),
        };
        let file = format!("{}.{kind}", folder.name());
        let mut command = vec!["tokenrank".to_owned(), "run".to_owned(), file.clone()];
        if let Some(limit) = folder.limit() {
            command.extend(["--limit".to_owned(), limit.to_string()]);
        }
        command.extend(["--device".to_owned(), results.environment.device.clone()]);
        Self {
            command: escape::shell(&command),
            file,
            text,
            facts: facts(results),
            files: files(&folder.path, links),
        }
    }
}

fn facts(results: &Results) -> Vec<Fact> {
    let Results { code, environment, weights, data, scores, judge, memory, .. } = results;
    let mut facts = Vec::new();
    let mut push = |term, description: String, is_code| facts.push(Fact { term, description, is_code });
    push("Fingerprint", results.fingerprint.clone(), true);
    push("Weights, SHA-256", weights.sha256.clone(), true);
    push("Data, SHA-256", data.sha256.clone(), true);
    push("Data set", data.dataset.clone(), false);
    for (method, sha256) in scores {
        push("Scores, SHA-256", format!("{sha256} ({method})"), false);
    }
    if let Some(judge) = judge {
        push("Judged by", judge.features.clone(), false);
        push("Its weights, SHA-256", judge.weights_sha256.clone(), true);
        push("Reference, SHA-256", judge.reference_sha256.clone(), true);
    }
    push("Program", format!("tokenrank {}", code.version), false);
    if let Some(commit) = &code.commit {
        push("Commit", commit.clone(), true);
    }
    push("Sources, SHA-256", code.sources_sha256.clone(), true);
    push("Device", environment.device.clone(), false);
    let processor = environment.processor.as_deref().unwrap_or("unknown processor");
    let threads = match environment.threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    push("Machine", format!("{}, {processor}, {threads}", environment.platform), false);
    if let Some(libtorch) = &environment.libtorch {
        push("libtorch", libtorch.clone(), false);
    }
    if let Some(memory) = memory {
        push("Memory", memory.to_string(), false);
    }
    facts
}

/// Returns the files of a run's folder, sorted by name; names of folders end in a slash.
fn files(folder: &Path, links: &Links) -> Vec<(String, String, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_run = |entry: std::fs::DirEntry| {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_other = name.ends_with(".html")
            || name.ends_with(".lock")
            || name.starts_with('.')
            || is_items_file(&name);
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        let (name, size) = if path.is_dir() { (format!("{name}/"), 0) } else { (name, size) };
        (!is_other).then(|| (name, links.to(&path), size))
    };
    let mut files: Vec<_> = entries.filter_map(of_run).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eval::Experiment;

    #[test]
    fn experiments_are_unchanged_by_writing_and_reading() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut seen = 0;
        for folder in ["mini", "paper"] {
            for entry in std::fs::read_dir(configs.join(folder)).expect("a folder") {
                let path = entry.expect("listed").path();
                if path.is_dir() {
                    continue;
                }
                let experiment = Experiment::read(&path, &[]).expect("an experiment");
                let text = toml::to_string_pretty(&experiment).expect("TOML");
                let dir = tempfile::tempdir().expect("a scratch folder");
                let copy = dir.path().join("copy.toml");
                std::fs::write(&copy, text).expect("written");
                let again = Experiment::read(&copy, &[]).expect("the same experiment");
                assert_eq!(serde_json::json!(again), serde_json::json!(experiment), "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen} experiments");
    }
}
