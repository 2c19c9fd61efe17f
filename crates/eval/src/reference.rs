//! The configuration reference (`docs/configuration.md`) and the JSON schema of experiment files (`configs/schema.json`), both
//! generated from the types that read the files. A test compares them with the committed ones; with `UPDATE_REFERENCE=1` it
//! writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tasks::OLD_NAMES;

use crate::experiment::Experiment;

/// Returns the JSON schema of an experiment file, with `[sweep]` and old names.
fn schema() -> Value {
    let mut schema = json!(schemars::schema_for!(Experiment));
    schema["title"] = "tokenrank experiment".into();
    schema["properties"]["sweep"] = json!({ "$ref": "#/$defs/Sweep" });
    schema["$defs"]["Sweep"] = json!({
        "description": "Settings that take several values: each combination is a run, and one table shows all of them. A key is a \
                        setting of the task (`alpha`) or a full path (`model.path`); its value lists what the setting becomes.",
        "type": "object",
        "additionalProperties": {
            "anyOf": [{ "type": "array", "minItems": 1 }, { "$ref": "#/$defs/Sweep" }],
        },
    });
    if let Some(weights) = schema["$defs"]["HeadShare"]["oneOf"].as_array_mut() {
        weights.push(json!({ "const": "mean", "deprecated": true, "description": "Old name of `equal`." }));
    }
    for name in OLD_NAMES {
        for place in places(&schema, name.table) {
            let Some(table) = schema.pointer_mut(&place).and_then(Value::as_object_mut) else { continue };
            let Some(mut setting) = table["properties"].get(name.new).cloned() else { continue };
            setting["description"] = format!("Old name of `{}`.", name.new).into();
            setting["deprecated"] = true.into();
            table["properties"][name.old] = setting;
            let required = table.get_mut("required").and_then(Value::as_array_mut);
            if let Some(required) = required.filter(|required| required.contains(&json!(name.new))) {
                required.retain(|key| key != name.new);
                table.insert("anyOf".into(), json!([{ "required": [name.new] }, { "required": [name.old] }]));
            }
        }
    }
    schema
}

/// Returns JSON pointers to the schemas of a table such as `task.masking`, or of the settings of methods, such as
/// `task.segment.methods`.
fn places(schema: &Value, table: &str) -> BTreeSet<String> {
    let mut parts = table.split('.').skip(1);
    let kind = parts.next().unwrap_or_default();
    let of = |reference: &Value| Some(reference["$ref"].as_str()?.trim_start_matches('#').to_owned());
    let variants = schema["$defs"]["TaskConfig"]["oneOf"].as_array().into_iter().flatten();
    let task: Option<String> = variants.filter_map(|variant| of(&variant["properties"][kind])).next();
    match (task, parts.next()) {
        (Some(task), None) => [task].into(),
        (Some(task), Some(_)) => {
            let tables = schema.pointer(&format!("{task}/properties/methods/items/anyOf/1/properties"));
            tables
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(_, settings)| of(settings))
                .collect()
        }
        (None, _) => BTreeSet::new(),
    }
}

/// Where the settings of an inner table are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    /// Below the row of the table.
    Here,
    /// In a section of their own.
    Elsewhere,
}

impl Inner {
    /// Of the table at this path; the file as a whole has sections for its tables.
    fn of(path: &str) -> Self {
        if path.is_empty() { Self::Elsewhere } else { Self::Here }
    }
}

/// Writes the reference from a schema.
struct Reference<'a> {
    schema: &'a Value,
    text: String,
}

impl<'a> Reference<'a> {
    fn write(schema: &Value) -> String {
        let mut reference = Reference { schema, text: String::new() };
        reference.text.push_str(INTRODUCTION);
        reference.table("", "Top level", schema, "");
        for (key, heading) in [("fills", "`[fills]`"), ("model", "`[model]`")] {
            reference.table(key, heading, &schema["properties"][key], "");
        }
        for family in ["dataset", "task"] {
            for (kind, settings) in reference.variants(&schema["properties"][family]) {
                let path = format!("{family}.{kind}");
                reference.table(&path, &format!("`[{path}]`"), settings, "");
                reference.methods(&path, settings);
            }
        }
        reference.table("metrics", "`[metrics]`", &schema["properties"]["metrics"], "");
        let sweep = reference.description(&schema["properties"]["sweep"]);
        reference.push(format_args!("\n## `[sweep]`\n\n{sweep}\n"));
        reference
            .push(format_args!("\n## Old names\n\nThese still parse.\n\n| old | present |\n|---|---|\n"));
        for name in OLD_NAMES {
            reference.push(format_args!("| `{0}.{1}` | `{0}.{2}` |\n", name.table, name.old, name.new));
        }
        reference.text.push_str(OLD_GRAMMAR);
        reference.text
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(text);
    }

    /// Follows the reference of a schema; for an option, returns the schema of its value.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            return self
                .schema
                .pointer(reference.trim_start_matches('#'))
                .map_or(schema, |found| self.resolve(found));
        }
        match schema["anyOf"].as_array().map(Vec::as_slice) {
            Some([value, null]) if null["type"] == "null" => self.resolve(value),
            _ => schema,
        }
    }

    /// Returns the description of a setting or, if it has none, of its type.
    fn description(&self, schema: &'a Value) -> String {
        let own = schema["description"].as_str();
        let text = own.or_else(|| self.resolve(schema)["description"].as_str()).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the tables of an enum such as `[task.*]`.
    fn variants(&self, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let variants = self.resolve(schema)["oneOf"].as_array();
        variants.into_iter().flatten().filter_map(|variant| properties(variant).next()).collect()
    }

    fn table(&mut self, path: &str, heading: &str, schema: &'a Value, depth: &str) {
        let meaning = self.description(schema);
        self.push(format_args!("\n##{depth} {heading}\n\n"));
        // The heading already names the table.
        let meaning = meaning.strip_prefix(&format!("{heading}: ")).unwrap_or(&meaning);
        let first: String = meaning.chars().take(1).flat_map(char::to_uppercase).collect();
        let rest: String = meaning.chars().skip(1).collect();
        self.push(format_args!("{first}{rest}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"));
        self.rows("", schema, &Value::Null, Inner::of(path));
    }

    /// Writes a row for each setting of a table and of the tables in it.
    fn rows(&mut self, path: &str, schema: &'a Value, defaults: &Value, inner: Inner) {
        let schema = self.resolve(schema);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (key, setting) in properties(schema).filter(|(_, setting)| setting["deprecated"] != true) {
            let full = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let either = || schema["anyOf"].to_string().contains(&format!("[\"{key}\"]"));
            let default = match defaults.get(key).or_else(|| setting.get("default")) {
                Some(Value::Null) | None if required.contains(&json!(key)) || either() => {
                    "required".to_owned()
                }
                Some(Value::Null) | None => String::new(),
                Some(Value::Object(_)) => "see below".into(),
                Some(value) => format!("`{value}`"),
            };
            let value = self.resolve(setting);
            let kind = self.kind(setting);
            let (meaning, values) = (self.description(setting), self.values(value));
            self.push(format_args!("| `{full}` | {kind} | {default} | {meaning}{values} |\n"));
            if inner == Inner::Here && properties(value).next().is_some() {
                let defaults =
                    defaults.get(key).or_else(|| setting.get("default")).cloned().unwrap_or_default();
                self.rows(&full, value, &defaults, inner);
            }
        }
    }

    /// Writes the methods of a task and their settings.
    fn methods(&mut self, path: &str, task: &'a Value) {
        let task = self.resolve(task);
        let forms = &task["properties"]["methods"]["items"]["anyOf"];
        let (tables, from_file) = (&forms[1], &forms[2]);
        if tables.is_null() {
            return;
        }
        self.push(format_args!("\n### `{path}.methods`\n\n| method | meaning |\n|---|---|\n"));
        let from_file = (!from_file.is_null()).then_some((FROM_FILE, from_file));
        let methods: Vec<(&str, &Value)> = properties(tables).chain(from_file).collect();
        for (name, settings) in &methods {
            let meaning = self.description(settings);
            self.push(format_args!("| `{name}` | {meaning} |\n"));
        }
        let mut rows: Vec<(Vec<&str>, String, String, String)> = Vec::new();
        for (name, settings) in
            methods.iter().filter(|(_, settings)| !self.description(settings).starts_with("Short for"))
        {
            let settings = self.resolve(settings);
            for (key, setting) in properties(settings).filter(|(_, setting)| setting["deprecated"] != true) {
                let required = settings["required"].as_array().is_some_and(|keys| keys.contains(&json!(key)));
                let default = match setting.get("default") {
                    Some(Value::Null) | None if required => "required".to_owned(),
                    Some(Value::Null) | None => String::new(),
                    Some(value) => format!("`{value}`"),
                };
                let meaning = self.description(setting) + &self.values(self.resolve(setting));
                let row = (format!("`{key}` | {}", self.kind(setting)), default, meaning);
                match rows
                    .iter_mut()
                    .find(|(_, key, default, meaning)| (key, default, meaning) == (&row.0, &row.1, &row.2))
                {
                    Some((names, ..)) => names.push(name),
                    None => rows.push((vec![name], row.0, row.1, row.2)),
                }
            }
        }
        self.push(format_args!("\n| key | type | default | meaning | of |\n|---|---|---|---|---|\n"));
        for (names, key, default, meaning) in rows {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            self.push(format_args!("| {key} | {default} | {meaning} | {} |\n", names.join(", ")));
        }
    }

    /// Returns the type of a setting in words.
    fn kind(&self, setting: &'a Value) -> String {
        let setting = self.resolve(setting);
        let kind = match &setting["type"] {
            Value::String(kind) => kind.as_str(),
            Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "",
        };
        if let Some(either) = setting["anyOf"].as_array() {
            let mut kinds: Vec<String> = either.iter().map(|one| self.kind(one)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
        match kind {
            "object" => "table".into(),
            "array" if setting["items"]["anyOf"][1]["maxProperties"] == 1 => "list of methods".into(),
            "array" => format!("list of {}s", self.kind(&setting["items"])),
            "" if !constants(setting).is_empty() => "string".into(),
            "" => "table".into(),
            kind => kind.into(),
        }
    }

    /// Returns the values of a choice and their meanings.
    fn values(&self, setting: &'a Value) -> String {
        let setting = match setting["anyOf"].as_array().map(Vec::as_slice) {
            Some([choice, list]) if list["type"] == "array" => self.resolve(choice),
            _ => setting,
        };
        constants(setting)
            .into_iter()
            .map(|(value, meaning)| {
                let meaning: String = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
                format!("<br>`\"{value}\"`: {meaning}")
            })
            .collect()
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, setting)| (key.as_str(), setting))
}

/// Returns the values of an enum of names and their descriptions, without old names.
fn constants(schema: &Value) -> Vec<(&str, &str)> {
    let each = schema["oneOf"].as_array().into_iter().flatten();
    let each =
        each.filter(|one| !one["description"].as_str().is_some_and(|text| text.starts_with("Old name of")));
    each.filter_map(|one| Some((one["const"].as_str()?, one["description"].as_str().unwrap_or_default())))
        .collect()
}

/// How a method whose scores come from a file is listed.
const FROM_FILE: &str = "{ file = …, name = … }";

const INTRODUCTION: &str = "# Configuration reference

Every key of an experiment file. Generated from the types that read it: `UPDATE_REFERENCE=1 cargo test -p eval --lib reference`
writes this page and `configs/schema.json`, which editors with TOML support (Taplo, Even Better TOML) read from the first line of
each file in `configs`. `--set KEY=VALUE` changes a key on the command line. Unknown keys are refused. An empty default means that
the setting is off or, where its meaning says so, follows from other data.

A file has one table `[dataset.*]` and one table `[task.*]`. A method in `methods` is written as its name (`\"bounce\"`) or as a
table with settings (`{ bounce = { steps = 3, name = \"bounce-3\" } }`). A method whose scores another program has computed is a
table with their file (`{ file = \"scores.safetensors\", name = \"my score\" }`); [scores.md](scores.md) describes the file. Keys are
relative to the table in the heading.
";

const OLD_GRAMMAR: &str = "| `model.image_size` (masking) | `task.masking.image_size` |
| segment: `bounce-lambda2 = { weight = \"proportional\" }`, `\"squared\"`, `\"top:N\"` | `bounce = { weight = \"lambda2\" }`, `\"lambda2-squared\"`, `\"lambda2-top:N\"` |
| guidance: `sag = { mask = \"tokenrank-lambda2\" }` | `sag = { mask = \"tokenrank\", weight = \"lambda2\" }` |
| `aggregate = \"mean\"` | `weight = \"equal\"` |
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_reference_and_the_schema_are_up_to_date() {
    let schema = schema();
    let files = [
        ("configs/schema.json", serde_json::to_string_pretty(&schema).expect("JSON") + "\n"),
        ("docs/configuration.md", Reference::write(&schema)),
    ];
    for (path, wanted) in files {
        let path = root().join(path);
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(&path, &wanted).expect("writable");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is out of date; regenerate it with UPDATE_REFERENCE=1 cargo test -p eval --lib reference",
            path.display()
        );
    }
}

#[test]
fn every_setting_has_a_meaning_and_every_table_refuses_unknown_keys() {
    fn walk(schema: &Value, path: &str, problems: &mut Vec<String>) {
        if let Some(table) = schema["properties"].as_object() {
            if schema["additionalProperties"] != false {
                problems.push(format!("{path} takes any key"));
            }
            for (key, setting) in table {
                if setting["description"].as_str().is_none_or(str::is_empty) && setting["$ref"].is_null() {
                    problems.push(format!("{path}/{key} has no description"));
                }
            }
        }
        let inner: Vec<(String, &Value)> = match schema {
            Value::Object(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        for (key, value) in inner.iter().filter(|(key, _)| key != "default") {
            walk(value, &format!("{path}/{key}"), problems);
        }
    }

    let mut problems = Vec::new();
    walk(&schema(), "", &mut problems);
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Returns the first violation of a schema by a value; knows only the keywords that our schema uses.
fn violation(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    let all = |schemas: &Value| schemas.as_array().cloned().unwrap_or_default();
    let number = |limit: &Value| limit.as_f64().expect("a number");
    let fits = |schema: &Value| violation(root, schema, value, path).is_none();
    let Some(keywords) = schema.as_object() else {
        return (schema == false).then(|| format!("{path}: not allowed"));
    };
    for (keyword, of) in keywords {
        let problem = match keyword.as_str() {
            "$ref" => {
                let target = root.pointer(of.as_str()?.trim_start_matches('#')).expect("a definition");
                violation(root, target, value, path)
            }
            "anyOf" => (!all(of).iter().any(&fits)).then(|| format!("{path}: no alternative fits {value}")),
            "oneOf" => (all(of).iter().filter(|one| fits(one)).count() != 1)
                .then(|| format!("{path}: not exactly one alternative fits {value}")),
            "const" => (value != of).then(|| format!("{path}: {value} is not {of}")),
            "enum" => (!all(of).contains(value)).then(|| format!("{path}: {value} is not one of {of}")),
            "type" => {
                let kinds = if of.is_array() { all(of) } else { vec![of.clone()] };
                let is = |kind: &Value| match kind.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("number") => value.is_number(),
                    Some("null") => value.is_null(),
                    _ => panic!("unknown type {kind}"),
                };
                (!kinds.iter().any(is)).then(|| format!("{path}: {value} is not of type {of}"))
            }
            "required" => value.as_object().and_then(|table| {
                let missing =
                    all(of).into_iter().find(|key| !table.contains_key(key.as_str().unwrap_or_default()))?;
                Some(format!("{path}: {missing} is missing"))
            }),
            "properties" | "additionalProperties" => value.as_object().and_then(|table| {
                table.iter().find_map(|(key, value)| {
                    let own = schema["properties"].get(key);
                    let schema = match keyword.as_str() {
                        "properties" => own?,
                        _ => own.map_or(Some(of), |_| None)?,
                    };
                    violation(root, schema, value, &format!("{path}.{key}"))
                })
            }),
            "items" => value.as_array().and_then(|list| {
                list.iter()
                    .enumerate()
                    .find_map(|(i, value)| violation(root, of, value, &format!("{path}.{i}")))
            }),
            "minimum" => value
                .as_f64()
                .filter(|value| *value < number(of))
                .map(|value| format!("{path}: {value} < {of}")),
            "maximum" => value
                .as_f64()
                .filter(|value| *value > number(of))
                .map(|value| format!("{path}: {value} > {of}")),
            "minItems" => value.as_array().filter(|list| list.is_empty()).map(|_| format!("{path}: empty")),
            "minProperties" => {
                value.as_object().and_then(|table| table.is_empty().then(|| format!("{path}: empty")))
            }
            "maxProperties" => value
                .as_object()
                .and_then(|table| (table.len() > 1).then(|| format!("{path}: too many keys"))),
            "$schema" | "$defs" | "title" | "description" | "default" | "deprecated" | "format"
            | "pattern" => None,
            unknown => panic!("{path}: the schema uses {unknown}, which this test does not check"),
        };
        if problem.is_some() {
            return problem;
        }
    }
    None
}

#[test]
fn committed_experiments_satisfy_the_schema_and_name_it() {
    let schema = schema();
    for path in crate::experiment::tests::committed() {
        let text = std::fs::read_to_string(&path).expect("readable");
        let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        let file = named.and_then(|name| path.parent()?.join(name).canonicalize().ok());
        let wanted = root().join("configs/schema.json").canonicalize().ok();
        assert!(file.is_some() && file == wanted, "{} does not name the schema", path.display());
        let value = json!(toml::from_str::<toml::Value>(&text).expect("TOML"));
        assert_eq!(violation(&schema, &schema, &value, ""), None, "{}", path.display());
    }
}

#[test]
fn the_schema_accepts_old_names_and_refuses_unknown_keys() {
    let schema = schema();
    for (text, refused) in
        crate::experiment::tests::OLD_AND_NEW.map(|(old, _)| (old.to_owned(), false)).into_iter().chain(
            [
                ("alpha = 0.9", "alfa = 0.9"),
                ("\"cls\"", "\"clss\""),
                ("count = 3", "count = \"3\""),
                ("path = \"m\"", ""),
            ]
            .map(|(good, bad)| {
                let text = crate::experiment::tests::OLD_AND_NEW[0].1;
                assert!(text.contains(good), "{good}");
                (text.replacen(good, bad, 1), true)
            }),
        )
    {
        let value = json!(toml::from_str::<toml::Value>(&text).expect("TOML"));
        assert_eq!(violation(&schema, &schema, &value, "").is_some(), refused, "{text}");
    }
}

#[test]
fn a_sweep_satisfies_the_schema() {
    let schema = schema();
    let sweep = |table: Value| violation(&schema, &json!({ "$ref": "#/$defs/Sweep" }), &table, "sweep");
    assert_eq!(
        sweep(json!({ "alpha": [0.9, 0.99], "model": { "image_size": [64] }, "noise.at": [[1], [2]] })),
        None
    );
    assert!(sweep(json!({ "alpha": 0.9 })).is_some());
}
