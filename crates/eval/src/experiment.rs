//! Experiment files.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tasks::OLD_NAMES;
use tasks::dataset::DatasetConfig;
use tasks::diffseg::DiffSegConfig;
use tasks::guidance::GuidanceConfig;
use tasks::kept::KeptConfig;
use tasks::masking::MaskingConfig;
use tasks::segment::SegmentConfig;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Value};

use crate::by_name;
use crate::error::{Error, Result};
use crate::judge::MetricsConfig;
use crate::model::ModelConfig;
use crate::source::Source;

/// An experiment: a network, a dataset, and what is measured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Experiment {
    /// Title in tables and figures.
    pub title: String,
    /// Seed of all random choices of the experiment. Each item draws from a stream of its own, given by seed and name.
    #[serde(default)]
    pub seed: u64,
    /// The table of the paper that the results are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fills: Option<Fills>,
    /// The network.
    pub model: ModelConfig,
    /// The dataset; one table, such as `[dataset.imagenet]`.
    pub dataset: DatasetConfig,
    /// The kind of experiment and its settings; one table, such as `[task.masking]`.
    pub task: TaskConfig,
    /// How generated images are scored; only for `[task.guidance]`, which requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfig>,
}

/// Cells of a table of the paper.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fills {
    /// Table of the paper: name of a file in `eval/tables`, without extension.
    pub table: String,
    /// Column of that table, if the run fills only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// `[task.*]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskConfig {
    /// Accuracy while the most important tokens are removed.
    Masking(MaskingConfig),
    /// Zero-shot segmentation by a word of the prompt.
    Segment(SegmentConfig),
    /// Images generated with self-attention guidance.
    Guidance(GuidanceConfig),
    /// Segmentation without prompts: self-attention is merged around anchors.
    Diffseg(DiffSegConfig),
    /// How many tokens a threshold on their score keeps.
    Kept(KeptConfig),
}

impl Serialize for Experiment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Experiment {
    /// Moves the image size of a masking experiment from `[model]`, where older files have it, to its task.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut experiment = Self::deserialize(deserializer)?;
        if let TaskConfig::Masking(task) = &mut experiment.task
            && let Some(side) = experiment.model.image_size.take()
            && task.image_size.replace(side).is_some()
        {
            let reason = format!(
                "{} is the old name of {}; give only one of them",
                OLD_SIZE.join("."),
                SIZE.join(".")
            );
            return Err(D::Error::custom(reason));
        }
        Ok(experiment)
    }
}

/// Path of the image size of a masking experiment, and its path in older files.
const SIZE: [&str; 3] = ["task", "masking", "image_size"];
const OLD_SIZE: [&str; 2] = ["model", "image_size"];

impl Experiment {
    /// The top-level keys of an experiment file.
    pub(crate) const KEYS: [&'static str; 7] =
        ["title", "seed", "fills", "model", "dataset", "task", "metrics"];

    /// Returns whether the difference from the published value is meaningful. It is not for miniature data sets.
    pub(crate) fn is_comparable(&self) -> bool {
        !matches!(self.dataset, DatasetConfig::Mini(_))
    }

    /// Reads an experiment, a file or one that the program carries, and applies `--set` assignments (`key.path=value`; a
    /// value that is not TOML is read as a string).
    ///
    /// # Errors
    /// Fails if it cannot be read or is not an experiment; the message carries line and column.
    pub fn read(path: &Path, assignments: &[String]) -> Result<Self> {
        let document = document(path, assignments)?;
        parse(path, &document).map_err(|mut error| {
            if let Error::Config { reason, .. } = &mut error
                && !assignments.is_empty()
            {
                reason.push_str(&format!(" (with {})", assignments.join(", ")));
            }
            error
        })
    }
}

/// Returns the title of an experiment, with or without a sweep; `None` if the file is something else.
///
/// # Errors
/// Fails if the file cannot be read or is not a valid experiment.
pub fn title(path: &Path) -> Result<Option<String>> {
    let mut document = document(path, &[])?;
    if !document.contains_key("task") {
        return Ok(None);
    }
    document.remove("sweep");
    Ok(Some(parse(path, &document)?.title))
}

/// Reads an experiment and applies assignments, without checking its keys.
pub(crate) fn document(path: &Path, assignments: &[String]) -> Result<DocumentMut> {
    let refuse = |reason: String| Error::Config { path: path.into(), reason };
    let text = Source::of(path)?.read().map_err(|e| refuse(format!("cannot be read: {e}")))?;
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| refuse(brief(&e.to_string())))?;
    for assignment in assignments {
        set(&mut document, assignment)
            .map_err(|reason| Error::Override { assignment: assignment.clone(), reason })?;
    }
    Ok(document)
}

/// Parses the experiment that a document describes.
pub(crate) fn parse(path: &Path, document: &DocumentMut) -> Result<Experiment> {
    let refuse = |e: toml::de::Error| Error::Config { path: path.into(), reason: brief(&e.to_string()) };
    by_name::from_toml(&document.to_string()).map_err(refuse)
}

/// Returns a parser's message, without the quoted line if that is too long to be read.
fn brief(message: &str) -> String {
    const LONGEST_LINE: usize = 300;
    let mut lines: Vec<&str> = message.trim().lines().collect();
    if lines.iter().any(|line| line.len() > LONGEST_LINE) {
        lines.retain(|line| !line.contains(" |") && line.len() <= LONGEST_LINE);
        return lines.join(": ");
    }
    lines.join("\n")
}

fn set(document: &mut DocumentMut, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected KEY=VALUE, such as seed=1")?;
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
    insert(document, key.trim(), value)
}

/// Maximum number of parts of a dotted key; `task.masking.fractions.step` has four.
const DEEPEST_KEY: usize = 8;

/// Returns the name of the experiment's task; empty if the document has none.
pub(crate) fn task_name(document: &DocumentMut) -> &str {
    let task = document.get("task").and_then(Item::as_table_like).and_then(|task| task.iter().next());
    task.map_or("", |(name, _)| name)
}

/// Replaces old names of settings in a dotted key by the present ones.
pub(crate) fn present_key(document: &DocumentMut, key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').map(str::trim).collect();
    if parts == OLD_SIZE && task_name(document) == "masking" {
        return SIZE.join(".");
    }
    if let [task, kind, setting, ..] = &mut parts[..] {
        let table = format!("{task}.{kind}");
        if let Some(name) = OLD_NAMES.iter().find(|name| name.table == table && name.old == *setting) {
            *setting = name.new;
        }
    }
    parts.join(".")
}

/// Sets the setting at a dotted key. If the document has the setting under an old name, the present name replaces it.
pub(crate) fn insert(document: &mut DocumentMut, key: &str, value: Value) -> Result<(), String> {
    let key = &*present_key(document, key);
    let mut keys: Vec<&str> = key.split('.').collect();
    if keys == SIZE
        && let Some(model) = document.get_mut(OLD_SIZE[0]).and_then(Item::as_table_like_mut)
    {
        model.remove(OLD_SIZE[1]);
    }
    let last = keys.pop().unwrap_or_default();
    if last.is_empty() || keys.iter().any(|key| key.is_empty()) {
        return Err(format!("`{key}` is not a key; write it as in the file, such as model.path"));
    }
    if keys.len() >= DEEPEST_KEY {
        let begin = keys[..4].join(".");
        return Err(format!(
            "`{begin}.…` has {} parts; no setting has more than {DEEPEST_KEY}",
            keys.len() + 1
        ));
    }
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    let mut place = String::new();
    let parts = keys.clone();
    for (depth, key) in keys.into_iter().enumerate() {
        if let Some(methods) = table.get_mut(key).and_then(Item::as_array_mut) {
            let inner = parts[depth + 1..].iter().copied().chain([last]).collect::<Vec<_>>();
            return set_in_methods(methods, key, &inner, &value);
        }
        place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        let entry = table.entry(key).or_insert_with(|| Item::Table(toml_edit::Table::new()));
        table = entry.as_table_like_mut().ok_or_else(|| format!("`{key}` is a value, not a table"))?;
        for name in OLD_NAMES.iter().filter(|name| name.table == place) {
            if !table.contains_key(name.new)
                && let Some(item) = table.remove(name.old)
            {
                table.insert(name.new, item);
            }
        }
    }
    table.insert(last, Item::Value(value));
    // `path` and `id` both name the network; the one that was not assigned would contradict the assignment.
    match key {
        "model.path" => table.remove("id"),
        "model.id" => table.remove("path"),
        _ => None,
    };
    Ok(())
}

/// Sets a setting of every method of one name in a list: `methods.bounce.steps` means `steps` of `"bounce"` and of
/// `{ bounce = { … } }`.
fn set_in_methods(methods: &mut Array, list: &str, key: &[&str], value: &Value) -> Result<(), String> {
    let (name, settings) = match key {
        [name, settings @ ..] if !settings.is_empty() => (*name, settings),
        _ => {
            return Err(format!(
                "`{list}` is a list; write it as a whole, or a setting of one method: {list}.NAME.SETTING"
            ));
        }
    };
    let mut found = false;
    for method in methods.iter_mut() {
        if method.as_str() == Some(name) {
            *method =
                Value::InlineTable(InlineTable::from_iter([(name, Value::InlineTable(InlineTable::new()))]));
        }
        let Some(mut table) = method.as_inline_table_mut().and_then(|table| table.get_mut(name)) else {
            continue;
        };
        let (last, folders) = settings.split_last().ok_or("a setting is missing")?;
        for folder in folders {
            let inner = table.as_inline_table_mut().ok_or_else(|| format!("`{folder}` is not in a table"))?;
            table = inner.get_or_insert(*folder, Value::InlineTable(InlineTable::new()));
        }
        let table = table
            .as_inline_table_mut()
            .ok_or_else(|| format!("`{name}` of `{list}` is a value, not a table"))?;
        table.insert(*last, value.clone());
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(format!("`{list}` has no method `{name}`, so it has no setting `{name}.{}`", settings.join(".")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::ModelSource;

    const MINI: &str = include_str!("../../../configs/mini/masking-vit.toml");

    /// Returns the files of all experiments of the repository.
    pub(crate) fn committed() -> Vec<std::path::PathBuf> {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let folders = ["mini", "mini/ablations", "paper", "paper/ablations", "examples"];
        let entries =
            folders.iter().flat_map(|folder| std::fs::read_dir(configs.join(folder)).expect("configs"));
        let files: Vec<_> =
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
        assert!(files.len() >= 30, "{files:?}");
        files
    }

    fn read(text: &str, assignments: &[&str]) -> Result<Experiment> {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("experiment.toml");
        std::fs::write(&path, text).expect("writable");
        Experiment::read(&path, &assignments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn settings_of_methods_are_assigned_by_their_names() -> Result<()> {
        const SEGMENT: &str = include_str!("../../../configs/mini/segment.toml");
        let steps = |assignments: &[&str]| -> Result<serde_json::Value> {
            let experiment = read(SEGMENT, assignments)?;
            Ok(serde_json::json!(experiment.task)["segment"]["methods"][3].clone())
        };
        let found = steps(&["task.segment.methods.bounce.steps=5"])?;
        assert_eq!(found["bounce"]["steps"], 5);
        let found = steps(&["task.segment.methods.bounce.steps=5", "task.segment.methods.bounce.alpha=0.5"])?;
        assert_eq!((&found["bounce"]["steps"], &found["bounce"]["alpha"]), (&5.into(), &0.5.into()));
        for (assignment, word) in [
            ("task.segment.methods.bouncy.steps=5", "no method `bouncy`"),
            ("task.segment.methods.bounce=5", "methods.NAME.SETTING"),
            ("task.segment.methods.bounce.steps.more=5", "more = 5"),
            ("task.segment.methods.bounce.stepz=5", "stepz"),
        ] {
            let message = steps(&[assignment]).expect_err(assignment).to_string();
            assert!(message.contains(word), "{assignment}: {message}");
        }
        Ok(())
    }

    /// An experiment of each kind with old names, and the same experiment with present ones.
    pub(crate) const OLD_AND_NEW: [(&str, &str); 4] = [
        (
            r#"
            title = "t"
            [model]
            path = "m"
            image_size = 96
            [dataset.mini]
            count = 3
            [task.masking]
            scores = ["cls", "tokenrank", "tokenrank-lambda2"]
            alpha = 0.9
            fractions = [0.0, 0.5]
            overlays = 2
            "#,
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.mini]
            count = 3
            [task.masking]
            methods = ["cls", "tokenrank", { tokenrank = { weight = "lambda2" } }]
            image_size = 96
            alpha = 0.9
            fractions = [0.0, 0.5]
            figures = 2
            "#,
        ),
        (
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.mini]
            count = 3
            [task.segment]
            methods = ["row-select", { concept-attention = { blocks = "0" } }, "bounce-lambda2",
              { bounce-lambda2 = { name = "b", weight = "squared", scope = "global" } }]
            blocks = { dual = "last:2" }
            overlays = 2
            "#,
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.mini]
            count = 3
            [task.segment]
            methods = ["row-select", { concept-attention = { layers = "0" } }, { bounce = { weight = "lambda2" } },
              { bounce = { name = "b", weight = "lambda2-squared", scope = "global" } }]
            layers = { dual = "last:2" }
            figures = 2
            "#,
        ),
        (
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.reference]
            path = "r"
            [task.guidance]
            methods = ["none", { sag = { mask = "tokenrank-lambda2" } }]
            count = 2
            shown = 1
            "#,
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.reference]
            path = "r"
            [task.guidance]
            methods = ["none", { sag = { mask = "tokenrank", weight = "lambda2" } }]
            count = 2
            figures = 1
            "#,
        ),
        (
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.masks]
            root = "r"
            [task.diffseg]
            methods = ["uniform", { tokenrank = { aggregate = "lambda2" } }, { random = { aggregate = "mean" } }]
            shown = 1
            "#,
            r#"
            title = "t"
            [model]
            path = "m"
            [dataset.masks]
            root = "r"
            [task.diffseg]
            methods = ["uniform", "tokenrank-lambda2", { random = { weight = "equal" } }]
            figures = 1
            "#,
        ),
    ];

    #[test]
    fn old_names_parse_to_the_same_experiment() -> Result<()> {
        for (old, new) in OLD_AND_NEW {
            let json = serde_json::json!(read(new, &[])?);
            assert_eq!(serde_json::json!(read(old, &[])?), json);
            // Results are written with the present names and can be read back.
            let back: Experiment = serde_json::from_value(json.clone()).expect("an experiment");
            assert_eq!(serde_json::json!(back), json);
            for name in OLD_NAMES {
                let [_, kind, ..] = name.table.split('.').collect::<Vec<_>>()[..] else { panic!("{name:?}") };
                let settings = json["task"].get(kind).map(|task| task.to_string()).unwrap_or_default();
                assert!(!settings.contains(&format!("\"{}\":", name.old)), "{name:?}: {settings}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_old_name_next_to_its_present_name_is_refused() {
        for name in OLD_NAMES.iter().filter(|name| !name.table.ends_with(".methods")) {
            let (old, _) = OLD_AND_NEW
                .iter()
                .find(|(old, _)| {
                    old.contains(&format!("[{}]", name.table)) && old.contains(&format!("{} =", name.old))
                })
                .expect("an example of the old name");
            let value = old.lines().find_map(|line| line.trim().strip_prefix(&format!("{} = ", name.old)));
            let value = value.filter(|value| !value.ends_with(',')).unwrap_or("{ dual = \"all\" }");
            let table = format!("[{}]", name.table);
            let both = old.replace(&table, &format!("{table}\n{} = {value}", name.new));
            let message = read(&both, &[]).expect_err(&both).to_string();
            let wanted = format!("`{}` is the old name of `{}`", name.old, name.new);
            assert!(
                message.contains(&wanted) && message.contains('^') && message.contains("line"),
                "{message}"
            );
        }
        let both = OLD_AND_NEW[0].0.replace("[task.masking]", "[task.masking]\nimage_size = 64");
        let message = read(&both, &[]).expect_err("both").to_string();
        assert!(message.contains("model.image_size is the old name of task.masking.image_size"), "{message}");
        let both = OLD_AND_NEW[3]
            .0
            .replace("{ aggregate = \"mean\" }", "{ aggregate = \"mean\", weight = \"equal\" }");
        let message = read(&both, &[]).expect_err("both").to_string();
        assert!(
            message.contains("`aggregate` is the old name of `weight`") && message.contains('^'),
            "{message}"
        );
    }

    #[test]
    fn assignments_accept_old_and_present_names() -> Result<()> {
        let (old, new) = OLD_AND_NEW[0];
        for text in [old, new] {
            for assignments in [
                ["task.masking.scores=[\"cls\"]", "task.masking.overlays=7", "model.image_size=64"],
                ["task.masking.methods=[\"cls\"]", "task.masking.figures=7", "task.masking.image_size=64"],
            ] {
                let TaskConfig::Masking(task) = read(text, &assignments)?.task else {
                    panic!("another task")
                };
                assert_eq!((task.methods.len(), task.figures, task.image_size), (1, 7, Some(64)));
            }
        }
        let (old, new) = OLD_AND_NEW[1];
        for text in [old, new] {
            for assignment in ["task.segment.blocks.single=all", "task.segment.layers.single=all"] {
                let TaskConfig::Segment(task) = read(text, &[assignment])?.task else {
                    panic!("another task")
                };
                let layers = serde_json::json!(task.layers);
                assert_eq!(layers, serde_json::json!({ "dual": "last:2", "single": "all" }));
            }
        }
        Ok(())
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest_one() {
        let message = read(&MINI.replace("alpha =", "alfa ="), &[]).expect_err("unknown").to_string();
        assert!(message.contains("unknown field `alfa` (did you mean `alpha`?)"), "{message}");
        assert!(!message.contains("`scores`"), "old names are not offered: {message}");
        let message =
            read(&OLD_AND_NEW[3].1.replace("{ weight", "{ wieght"), &[]).expect_err("unknown").to_string();
        assert!(message.contains("did you mean `weight`?") && message.contains('^'), "{message}");
    }

    #[test]
    fn assignments_reach_nested_keys() -> Result<()> {
        let experiment = read(
            MINI,
            &["model.path=/some where/else", "task.masking.layers=last:2", "task.masking.fractions.to=0.5"],
        )?;
        assert_eq!(experiment.model.source, ModelSource::Path("/some where/else".into()));
        let TaskConfig::Masking(masking) = experiment.task else { panic!("another task") };
        assert_eq!(masking.layers.to_string(), "last:2");
        assert_eq!(masking.fractions.values().last(), Some(&0.5));
        Ok(())
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let text = MINI.replace("[model]", "[model]\nweigths = 1");
        let message = read(&text, &[]).expect_err("an unknown key").to_string();
        assert!(message.contains("weigths") && message.contains("line"), "{message}");
        assert!(message.contains('^'), "{message}");
        let message = read(MINI, &["speed=1"]).expect_err("an unknown key").to_string();
        let keys = Experiment::KEYS.map(|key| format!("`{key}`")).join(", ");
        assert!(message.contains(&format!("expected one of {keys}")), "{message}");
    }

    #[test]
    fn a_model_is_a_folder_or_a_published_checkpoint() -> Result<()> {
        let (path, id) = ("path = \"datasets/mini/models/vit\"", "id = \"facebook/dino-vits16\"");
        let published = MINI.replace(path, id);
        let experiment = read(&published, &[])?;
        assert_eq!(experiment.model.source, ModelSource::Id("facebook/dino-vits16".into()));
        // The form in results can be read back.
        let json = serde_json::json!(experiment.model);
        assert_eq!(json, serde_json::json!({ "id": "facebook/dino-vits16", "dtype": "f32" }));
        assert_eq!(
            serde_json::from_value::<ModelConfig>(json).expect("a model").source,
            experiment.model.source
        );

        let source = |assignment: &str| Ok::<_, Error>(read(&published, &[assignment])?.model.source);
        assert_eq!(source("model.path=mine")?, ModelSource::Path("mine".into()));
        assert_eq!(source("model.id=a/b")?, ModelSource::Id("a/b".into()));

        for (text, word) in [
            (MINI.replace(path, &format!("{path}\n{id}")), "not both"),
            (MINI.replace(path, ""), "needs a `path`"),
        ] {
            let message = read(&text, &[]).expect_err("no model").to_string();
            assert!(message.contains(word) && message.contains("line") && message.contains('^'), "{message}");
        }
        Ok(())
    }

    #[test]
    fn bad_assignments_are_refused() {
        for assignment in ["seed", "=1", "model..path=x", "seed.deeper=1", "no_such_key=1"] {
            assert!(read(MINI, &[assignment]).is_err(), "{assignment} was accepted");
        }
        // The message stays short for a very deep key.
        let deep = format!("{}a=1", "a.".repeat(100_000));
        let message = super::set(&mut DocumentMut::new(), &deep).expect_err("too deep");
        assert_eq!(message, "`a.a.a.a.…` has 100001 parts; no setting has more than 8");
    }
}
