use tasks::masking::Fractions;
use toml::Value;

use super::*;
use crate::experiment::tests::committed;
use crate::experiment::{Experiment, TaskConfig};

/// More experiments, so that every possible table occurs in one of them or in a file in `configs`.
const TABLES: [&str; 6] = [
    r#"
    title = "t"
    fills = { table = "masking", column = "ViT" }
    [model]
    path = "m"
    zero_shot = { descriptor = "d", templates = "single" }
    [dataset.folder]
    root = "r"
    subset = { count = 5, seed = 3 }
    [task.masking]
    methods = [{ random = {} }]
    fractions = { from = 0.0, to = 0.9, step = 0.3 }
    "#,
    r#"
    title = "t"
    model = { path = "m" }
    [dataset.imagenet]
    root = "r"
    subset = { count = 5 }
    [task.masking]
    methods = ["random"]
    fractions = [0.0, 0.5]
    "#,
    r#"
    title = "t"
    model = { path = "m" }
    dataset = { mini = { count = 3, objects = { from = 1, to = 3 } } }
    [task.segment]
    methods = [{ row-select = { name = "a" } }, { bounce = { steps = 3 } }, { bounce-lambda2 = { weight = "lambda2-top:2" } },
      { tokenrank = { alpha = 0.9 } }, { concept-attention = { softmax = true } }, { rollout = { name = "b" } }]
    noise = { steps = 4, at = [2], samples = 1 }
    layers = { dual = "all" }
    score = { side = 64, blur = true }
    "#,
    r#"
    title = "t"
    model = { path = "m" }
    dataset = { reference = { path = "r" } }
    metrics = { features = "mini", kernel = { subsets = 5, subset_size = 6 } }
    [task.guidance]
    methods = [{ none = {} }, { sag = { mask = "tokenrank", blur = { kernel = 3, sigma = 1.0 } } }]
    count = 2
    blur = { kernel = 9, sigma = 1.0 }
    "#,
    r#"
    title = "t"
    model = { path = "m" }
    dataset = { masks = { root = "r" } }
    [task.diffseg]
    methods = [{ uniform = { side = 6 } }, { tokenrank = { number = 3 } }, { tokenrank-sampled = { number = 3 } },
      { column-sum = { radius = 1 } }, { random = { number = 9 } }]
    "#,
    r#"
    title = "t"
    model = { path = "m" }
    dataset = { coco-stuff = { root = "r" } }
    [task.diffseg]
    methods = ["uniform"]
    "#,
];

/// Calls `change` once for every table below the root, with the document in which this table is the list of its values.
fn each_as_list(document: &Value, change: &mut impl FnMut(&str, &Value)) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "TOML's values, of which no other holds more")]
    fn places(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        if value.is_table() && !path.is_empty() {
            found.push(path.to_vec());
        }
        for (key, value) in inner {
            places(value, &[path, &[key]].concat(), found);
        }
    }

    fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
        path.iter().fold(value, |value, key| {
            if value.is_array() {
                &mut value[key.parse::<usize>().expect("a place")]
            } else {
                &mut value[key.as_str()]
            }
        })
    }

    let mut found = Vec::new();
    places(document, &[], &mut found);
    for path in found {
        let mut changed = document.clone();
        let place = at(&mut changed, &path);
        let Value::Table(table) = place.clone() else { panic!("not a table") };
        *place = Value::Array(table.into_iter().map(|(_, value)| value).collect());
        change(&path.join("."), &changed);
    }
}

#[test]
fn no_table_of_an_experiment_is_read_from_a_list() {
    let mut texts: Vec<String> = TABLES.map(str::to_owned).to_vec();
    texts.extend(committed().iter().map(|path| std::fs::read_to_string(path).expect("readable")));
    let mut refused = std::collections::BTreeSet::new();
    for text in texts {
        let mut document: Value = toml::from_str(&text).expect("TOML");
        document.as_table_mut().expect("a document").remove("sweep");
        let text = |document: &Value| toml::to_string(document).expect("TOML");
        from_toml::<Experiment>(&text(&document)).unwrap_or_else(|e| panic!("{e} in {document}"));
        each_as_list(&document, &mut |place, changed| {
            let message = match from_toml::<Experiment>(&text(changed)) {
                Err(error) => error.to_string(),
                // `fractions` may be a list.
                Ok(Experiment { task: TaskConfig::Masking(task), .. })
                    if place == "task.masking.fractions" =>
                {
                    assert!(matches!(task.fractions, Fractions::List(_)), "{task:?}");
                    return;
                }
                Ok(read) => panic!("{place} was read from a list: {read:?}"),
            };
            assert!(message.contains('^'), "{place}: {message}");
            refused.insert(place.to_owned());
        });
    }
    for place in [
        "model",
        "model.zero_shot",
        "fills",
        "metrics",
        "metrics.kernel",
        "dataset",
        "dataset.mini",
        "dataset.mini.objects",
        "dataset.folder.subset",
        "dataset.imagenet.subset",
        "task",
        "task.masking",
        "task.segment.noise",
        "task.segment.layers",
        "task.segment.score",
        "task.segment.methods.1.bounce",
        "task.guidance.blur",
        "task.guidance.methods.0.none",
        "task.guidance.methods.1.sag.blur",
        "task.diffseg.methods.4.random",
    ] {
        assert!(refused.contains(place), "{place} was not tried among {refused:?}");
    }
}

#[test]
fn the_error_names_the_keys_and_the_place() {
    let text = TABLES[0].replace("{ count = 5, seed = 3 }", "[5, 3]");
    let message = from_toml::<Experiment>(&text).expect_err("refused").to_string();
    for word in ["subset = [5, 3]", "^", "expected a table with keys among `count`, `seed`, found a list"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
}
