//! The settings that a sweep varies, as `[sweep]` lists them.

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::experiment::{self, Experiment};

/// Maximum number of combinations of a sweep.
const MOST: usize = 1000;

/// A setting and its values.
pub(super) struct Axis {
    /// The setting as written in `[sweep]`.
    pub(super) setting: String,
    /// The setting as written for `--set`.
    pub(super) key: String,
    pub(super) values: Vec<Value>,
}

/// Returns the axes of `[sweep]`, in the order of the file.
pub(super) fn axes(document: &DocumentMut, sweep: Item) -> Result<Vec<Axis>, String> {
    let table =
        sweep.as_table_like().ok_or("`sweep` is a table: [sweep], then settings and lists of values")?;
    let mut axes = Vec::new();
    gather(table, "", experiment::task_name(document), &mut axes)?;
    for axis in &mut axes {
        axis.key = experiment::present_key(document, &axis.key);
    }
    for (index, axis) in axes.iter().enumerate() {
        if let Some(other) = axes[..index].iter().find(|other| overlap(&axis.key, &other.key)) {
            return Err(format!(
                "sweep.{} and sweep.{} name the same setting; leave one of them out",
                other.setting, axis.setting
            ));
        }
    }
    match axes.iter().map(|axis| axis.values.len()).try_fold(1usize, usize::checked_mul) {
        _ if axes.is_empty() => {
            Err("[sweep] names no setting; write lists such as alpha = [0.9, 0.99]".into())
        }
        Some(count) if count <= MOST => Ok(axes),
        _ => Err(format!("[sweep] has more than {MOST} combinations; leave some values out")),
    }
}

/// Collects the lists of a table and of the tables in it: `noise.steps` may be written with quotes or without.
fn gather(table: &dyn TableLike, folder: &str, task: &str, axes: &mut Vec<Axis>) -> Result<(), String> {
    for (name, item) in table.iter() {
        let setting = if folder.is_empty() { name.to_owned() } else { format!("{folder}.{name}") };
        let refuse = |reason: &str| Err(format!("sweep.{setting} {reason}"));
        let Some(values) = item.as_array() else {
            match item.as_table_like() {
                Some(inner) => gather(inner, &setting, task, axes)?,
                None => {
                    return refuse("must be a list of the values to try, such as [0.9, 0.99]");
                }
            }
            continue;
        };
        let values: Vec<Value> = values.iter().map(|value| value.clone().decorated("", "")).collect();
        let mut known: Vec<String> = values.iter().map(canonical).collect();
        known.sort();
        if values.is_empty() {
            return refuse("is empty; write the values that the setting takes, such as [0.9, 0.99]");
        }
        if known.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("lists a value twice");
        }
        axes.push(Axis { key: key(&setting, task), setting, values });
    }
    Ok(())
}

/// Returns the full key of a setting: the key itself if it begins with a top-level key of the file, otherwise a key of the task.
fn key(setting: &str, task: &str) -> String {
    let first = setting.split('.').next().unwrap_or_default().trim();
    if Experiment::KEYS.contains(&first) { setting.to_owned() } else { format!("task.{task}.{setting}") }
}

/// Returns whether two keys are equal or one of them names a table that holds the other.
fn overlap(a: &str, b: &str) -> bool {
    let parts = |key: &str| -> Vec<String> {
        let mut parts: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        // `id` and `path` both name the network.
        if parts == ["model", "id"] {
            parts[1] = "path".into();
        }
        parts
    };
    let (a, b) = (parts(a), parts(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// Returns the form in which values are compared: 0.9 equals 0.90, 1 equals 1.0, 'all' equals "all".
#[expect(clippy::wildcard_enum_match_arm, reason = "TOML's values, of which no other is a number or a list")]
fn canonical(value: &Value) -> String {
    match value {
        Value::Float(number) => number.value().to_string(),
        Value::Integer(number) => number.value().to_string(),
        Value::Array(values) => format!("{:?}", values.iter().map(canonical).collect::<Vec<_>>()),
        other => plain(other).trim().to_owned(),
    }
}

/// Formats a value without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
