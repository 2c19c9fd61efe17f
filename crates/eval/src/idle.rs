//! Settings without effect: no method of the experiment reads them.

use serde_json::Value;

use crate::experiment::TaskConfig;

/// A setting that differs from its default and that no method reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Idle {
    /// The key as in `--set`: `task.masking.alpha`.
    key: String,
    /// The value as JSON.
    value: Value,
    /// Why the setting has no effect, and what to do, if the methods are not the reason.
    reason: Option<String>,
}

/// Returns the settings of a task that have no effect on any of its methods.
pub(crate) fn idle(task: &TaskConfig) -> Vec<Idle> {
    let own = settings(task);
    let of_methods: Vec<Value> = task.kind().alone().iter().map(settings).collect();
    let settings = own.as_object().into_iter().flatten();
    // A method that does not read a setting has its default.
    let unread = settings.filter(|(name, value)| {
        !of_methods.is_empty()
            && of_methods.iter().all(|one| !one.get(*name).is_some_and(|one| part(one, value)))
    });
    unread
        .map(|(name, value)| Idle {
            key: format!("task.{}.{name}", task.name()),
            value: value.clone(),
            reason: task.kind().contradiction(name),
        })
        .collect()
}

/// Returns the settings that have no effect in any of several combinations.
pub(crate) fn in_all<'a>(mut tasks: impl Iterator<Item = &'a TaskConfig>) -> Vec<Idle> {
    let mut found = tasks.next().map(idle).unwrap_or_default();
    for task in tasks {
        let here = idle(task);
        found.retain(|known| here.iter().any(|idle| idle.key == known.key));
    }
    found
}

impl Idle {
    /// Returns a sentence for each setting.
    ///
    /// # Errors
    /// Fails if a setting contradicts other settings, rather than being left over from another list of methods.
    pub(crate) fn notes(idle: &[Self]) -> Result<Vec<String>, String> {
        let note = |Self { key, value, reason }: &Self| match reason {
            Some(reason) => Err(format!("{key} = {value} has no effect: {reason}")),
            None => Ok(format!("{key} = {value} has no effect: none of the methods listed reads it")),
        };
        idle.iter().map(note).collect()
    }
}

/// Returns the table `[task.NAME]` as JSON.
fn settings(task: &TaskConfig) -> Value {
    serde_json::json!(task).get(task.name()).cloned().unwrap_or_default()
}

/// Returns whether a method's value of a setting equals the task's value or, if that is a list, is part of it.
fn part(one: &Value, of: &Value) -> bool {
    match (one, of) {
        (Value::Array(some), Value::Array(all)) => some.iter().all(|value| all.contains(value)),
        _ => one == of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(settings: Value) -> TaskConfig {
        serde_json::from_value(settings).expect("a task")
    }

    fn keys(settings: Value) -> Vec<String> {
        idle(&task(settings)).into_iter().map(|idle| idle.key).collect()
    }

    #[test]
    fn settings_that_no_method_reads_are_found() {
        let fractions = serde_json::json!([0.0, 0.5]);
        let masking = |scores: Value, more: Value| {
            let mut table = serde_json::json!({ "methods": scores, "fractions": fractions });
            table.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
            keys(serde_json::json!({ "masking": table }))
        };
        let chosen = serde_json::json!({
            "alpha": 0.5, "lambda_weight": "squared", "heads": "after-ranking", "layers": "last:2", "cls": "dropped"
        });
        let all =
            ["layers", "cls", "heads", "alpha", "lambda_weight"].map(|key| format!("task.masking.{key}"));
        assert_eq!(masking(serde_json::json!(["random", "center"]), chosen.clone()), all);
        let of_rows = ["cls", "heads", "alpha", "lambda_weight"].map(|key| format!("task.masking.{key}"));
        assert_eq!(masking(serde_json::json!(["cls"]), chosen.clone()), of_rows);
        let lambda = ["task.masking.lambda_weight"];
        assert_eq!(masking(serde_json::json!(["random", "tokenrank"]), chosen.clone()), lambda);
        assert!(masking(serde_json::json!(["random", "tokenrank-lambda2"]), chosen).is_empty());
        // A default that is written out has no effect either, and needs no note.
        let defaults = serde_json::json!({ "alpha": 0.99, "cls": ["kept"], "layers": "all" });
        assert!(masking(serde_json::json!(["random"]), defaults).is_empty());

        let segment = |methods: Value| {
            let layers = serde_json::json!({ "single": "all" });
            let table =
                serde_json::json!({ "methods": methods, "alpha": 0.5, "token": "last", "layers": layers });
            keys(serde_json::json!({ "segment": table }))
        };
        assert_eq!(
            segment(serde_json::json!(["concept-attention"])),
            ["token", "layers", "alpha"].map(|key| format!("task.segment.{key}"))
        );
        assert_eq!(segment(serde_json::json!(["row-select"])), ["task.segment.alpha"]);
        assert_eq!(segment(serde_json::json!(["tokenrank"])), ["task.segment.token"]);
        assert!(segment(serde_json::json!(["bounce", "concept-attention"])).is_empty());
        let own = serde_json::json!([{ "bounce": { "alpha": 0.9 } }]);
        assert_eq!(segment(own), ["task.segment.alpha"]);
    }

    #[test]
    fn idle_settings_of_guidance_are_found() {
        let guidance = |methods: Value, more: Value| {
            let mut table = serde_json::json!({ "methods": methods, "count": 2 });
            table.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
            keys(serde_json::json!({ "guidance": table }))
        };
        let chosen = serde_json::json!({
            "scale": 2.0, "alpha": 0.5, "threshold": "area", "blur": { "kernel": 3, "sigma": 2.0 }
        });
        let all = ["scale", "alpha", "threshold", "blur"].map(|key| format!("task.guidance.{key}"));
        assert_eq!(guidance(serde_json::json!(["none"]), chosen.clone()), all);
        assert_eq!(guidance(serde_json::json!(["none", "sag"]), chosen.clone()), ["task.guidance.alpha"]);
        let own = serde_json::json!([{ "sag": { "mask": "tokenrank", "scale": 1.0, "alpha": 0.9 } }]);
        let mut found = guidance(own, chosen);
        found.sort();
        assert_eq!(found, ["task.guidance.alpha", "task.guidance.scale"]);

        let prompts = |scale: f64| serde_json::json!({ "negative_prompt": "fog", "guidance_scale": scale });
        assert_eq!(guidance(serde_json::json!(["none"]), prompts(1.0)), ["task.guidance.negative_prompt"]);
        assert!(guidance(serde_json::json!(["none"]), prompts(1.5)).is_empty());
    }

    #[test]
    fn a_prompt_that_is_not_read_is_refused_unless_another_combination_reads_it() {
        let scaled = |scale: f64| {
            let table = serde_json::json!({
                "methods": ["none"], "count": 2, "negative_prompt": "fog", "guidance_scale": scale
            });
            task(serde_json::json!({ "guidance": table }))
        };
        let message = Idle::notes(&idle(&scaled(0.5))).expect_err("refused");
        for word in ["task.guidance.negative_prompt", "\"fog\"", "guidance_scale is 0.5", "such as 7.5"] {
            assert!(message.contains(word), "{word} is not in {message}");
        }
        assert!(in_all([scaled(1.0), scaled(7.5)].iter()).is_empty());
        assert_eq!(in_all([scaled(0.0), scaled(1.0)].iter()).len(), 1);
    }

    #[test]
    fn committed_experiments_have_no_idle_settings() {
        for path in crate::experiment::tests::committed() {
            let mut document = crate::experiment::document(&path, &[]).expect("an experiment");
            document.remove("sweep");
            let experiment = crate::experiment::parse(&path, &document).expect("an experiment");
            assert_eq!(idle(&experiment.task), [], "{}", path.display());
        }
    }
}
