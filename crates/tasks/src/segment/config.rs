//! The `[task.segment]` table of an experiment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use models::LayerSelection;
use models::Stream;
use models::probe::WeightScope;
use models::t5::TokenLookup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::method::{Bounce, Method, Weight, concept_methods};
use super::score::ScoreSettings;
use crate::alpha::check_alpha;
use crate::error::{Error, Result};
use crate::method::{ListSchema, list, paths, twice};
use crate::pixels::check_side;
use crate::score_file::ScoreFiles;

/// Maximum number of steps of a bounce. Chains reach their steady state long before.
const MOST_STEPS: usize = 100_000;
/// Maximum number of passes at one step of the schedule.
const MOST_SAMPLES: usize = 1000;

/// `[task.segment]`: zero-shot segmentation by a word of the prompt. The paper gives the table and few of these settings;
/// `docs/protocols.md` says which are our choices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentConfig {
    /// Methods to compare. Each is a row of the table; all read the same passes.
    #[serde(with = "list")]
    #[schemars(with = "ListSchema<Method>")]
    pub methods: Vec<Method>,
    /// Prompt for a class; `{}` stands for its name and must occur once. For several classes the prompts are joined by commas.
    #[serde(default = "SegmentConfig::default_prompt")]
    pub prompt: String,
    /// Which tokens of the prompt stand for the name of the class.
    #[serde(default = "SegmentConfig::default_token")]
    pub token: TokenLookup,
    /// Number of text tokens, including padding.
    #[serde(default = "SegmentConfig::default_text_tokens")]
    pub text_tokens: usize,
    /// CLIP's embedding of the whole prompt that the transformer receives.
    #[serde(default)]
    pub pooled: Pooled,
    /// Guidance scale for transformers distilled with one. Default: the one in the pipeline's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Side in pixels of the square to which images are resized, whatever their proportions.
    #[serde(default = "SegmentConfig::default_image_size")]
    pub image_size: usize,
    /// Noise added to the images.
    #[serde(default)]
    pub noise: Noise,
    /// Layers whose attention is read.
    #[serde(default, alias = "blocks")]
    pub layers: Layers,
    /// Probability that the chain follows the attention in a step; otherwise it jumps to a random token. Range (0, 1].
    #[serde(default = "SegmentConfig::default_alpha")]
    pub alpha: f64,
    /// How a map over tokens becomes a mask over pixels.
    #[serde(default)]
    pub score: ScoreSettings,
    /// Maximum number of heads whose attention maps are in memory at once. Default: as many as fit into 256 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads_at_once: Option<usize>,
    /// Number of images that are run together.
    #[serde(default = "SegmentConfig::default_batch")]
    pub batch: usize,
    /// Number of images, from the start of the dataset, whose maps are kept and drawn.
    #[serde(default = "SegmentConfig::default_figures", alias = "overlays")]
    pub figures: usize,
}

/// CLIP's embedding of the whole prompt that the transformer receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooled {
    /// CLIP's pooled embedding of the prompt, as in generation.
    #[default]
    Prompt,
    /// Zeros, as in ConceptAttention's evaluation.
    Zeros,
}

/// Noise levels, given as steps of a sampling schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Number of steps of the schedule, 1 to 1000.
    pub steps: usize,
    /// Steps, counted from 0, at which the image is noised and passed through the network. Maps are averaged over them.
    pub at: Vec<usize>,
    /// Number of passes at each step, each with its own noise; 1 to 1000.
    pub samples: usize,
}

impl Default for Noise {
    /// Step 2 of 4, at which half of the signal is noise on the schedule of FLUX.1-schnell.
    fn default() -> Self {
        Self { steps: 4, at: vec![2], samples: 1 }
    }
}

/// Layers of each stream of a diffusion transformer. A stream that is left out is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Dual layers, in which text and image have weights of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dual: Option<LayerSelection>,
    /// Single layers, in which text and image share weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single: Option<LayerSelection>,
}

impl Default for Layers {
    /// The last ten dual layers, as in the demo of the paper's authors.
    fn default() -> Self {
        Self { dual: Some(LayerSelection::Last(10)), single: None }
    }
}

impl Layers {
    /// Returns the chosen layers of a network with `dual` dual and `single` single layers.
    ///
    /// # Errors
    /// Fails if a selection names a layer that the network does not have.
    pub fn resolve(&self, dual: usize, single: usize) -> Result<BTreeMap<Stream, BTreeSet<usize>>> {
        let mut chosen = BTreeMap::new();
        for (stream, selection, depth) in
            [(Stream::Dual, &self.dual, dual), (Stream::Single, &self.single, single)]
        {
            if let Some(selection) = selection {
                chosen.insert(stream, selection.resolve(depth)?);
            }
        }
        Ok(chosen)
    }
}

impl SegmentConfig {
    fn default_prompt() -> String {
        "a {}".into()
    }

    fn default_token() -> TokenLookup {
        TokenLookup::Mean
    }

    fn default_text_tokens() -> usize {
        256
    }

    fn default_image_size() -> usize {
        512
    }

    fn default_alpha() -> f64 {
        0.99
    }

    fn default_batch() -> usize {
        1
    }

    fn default_figures() -> usize {
        6
    }

    /// Returns the prompt for classes with these names.
    pub fn prompt_for<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> String {
        let prompts: Vec<String> = names.into_iter().map(|name| self.prompt.replace("{}", name)).collect();
        prompts.join(", ")
    }

    /// Returns the settings on which the results of one method depend, with defaults for all others. If two
    /// configurations agree in this, the method need be run only once.
    pub fn of_method(&self, method: &Method) -> Self {
        let mut one = Self { methods: vec![method.clone()], ..self.clone() };
        let walks = match method {
            Method::Bounce(_) | Method::Tokenrank(_) => true,
            Method::RowSelect(_)
            | Method::ColumnSelect(_)
            | Method::ConceptAttention(_)
            | Method::Rollout(_)
            | Method::File(_) => false,
        };
        if !walks || method.alpha().is_some() {
            one.alpha = Self::default_alpha();
        }
        match method {
            Method::ConceptAttention(_) => {
                one.layers = Layers::default();
                one.token = Self::default_token();
            }
            // TokenRank does not depend on the word, but on the whole prompt.
            Method::Tokenrank(_) => one.token = Self::default_token(),
            Method::RowSelect(_) | Method::ColumnSelect(_) | Method::Bounce(_) | Method::Rollout(_) => {}
            Method::File(_) => {
                one.prompt = Self::default_prompt();
                one.token = Self::default_token();
                one.text_tokens = Self::default_text_tokens();
                one.pooled = Pooled::default();
                one.guidance = None;
                one.noise = Noise::default();
                one.layers = Layers::default();
                one.heads_at_once = None;
            }
        }
        one
    }

    /// Whether a method reads passes of the network.
    pub fn reads_passes(&self) -> bool {
        self.methods.iter().any(Method::reads_passes)
    }

    /// The files of the methods that come from files.
    pub fn score_paths(&self) -> Vec<&Path> {
        paths(&self.methods)
    }

    /// Opens the files of the methods that come from files.
    ///
    /// # Errors
    /// [`Error::Scores`]: a file cannot be read, is not a file of scores, or is for another experiment.
    pub fn score_files(&self) -> Result<ScoreFiles> {
        ScoreFiles::open("segment", &self.methods)
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        if self.methods.is_empty() {
            return refuse("task.segment.methods", "lists no methods".into());
        }
        let mut keys: Vec<&str> = self.methods.iter().map(Method::key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let reason = format!(
                "two methods are called `{}`; give one a name, as in {{ bounce = {{ name = \"…\" }} }}",
                pair[0]
            );
            return refuse("task.segment.methods", reason);
        }
        if let Some(reason) = twice(&self.methods) {
            return refuse("task.segment.methods", reason);
        }
        for method in &self.methods {
            if let Some(steps) = method.steps().filter(|steps| !(1..=MOST_STEPS).contains(steps)) {
                let reason =
                    format!("`{}` takes {steps} steps; give between 1 and {MOST_STEPS}", method.key());
                return refuse("task.segment.methods", reason);
            }
            if let Method::Bounce(Bounce { weight: Weight::Equal, scope, .. }) = method
                && *scope != WeightScope::default()
            {
                let reason =
                    format!("scope of `{}` has no effect without a weight such as \"lambda2\"", method.key());
                return refuse("task.segment.methods", reason);
            }
            if let Method::ConceptAttention(concepts) = method
                && concepts.background.is_empty()
                && concepts.softmax
            {
                let reason = format!(
                    "`{}` needs background concepts: a softmax over a single concept is 1 at every image token",
                    method.key()
                );
                return refuse("task.segment.methods", reason);
            }
        }
        let mut backgrounds = concept_methods(&self.methods).map(|concepts| &concepts.background);
        if let Some(first) = backgrounds.next()
            && backgrounds.any(|other| other != first)
        {
            let reason = "all `concept-attention` methods of a file must have the same background concepts; write a \
                          second file for other ones";
            return refuse("task.segment.methods", reason.into());
        }
        if self.prompt.matches("{}").count() != 1 {
            let reason = format!("must contain the placeholder `{{}}` exactly once, found {:?}", self.prompt);
            return refuse("task.segment.prompt", reason);
        }
        if self.layers.dual.is_none() && self.layers.single.is_none() {
            return refuse("task.segment.layers", "selects no layers; set dual, single or both".into());
        }
        let Noise { steps, at, samples } = &self.noise;
        if *steps == 0 || *steps > 1000 {
            return refuse("task.segment.noise.steps", format!("must lie between 1 and 1000, found {steps}"));
        }
        if let Some(step) = at.iter().find(|step| *step >= steps) {
            let reason =
                format!("there is no step {step}; a schedule of {steps} has steps 0 to {}", steps - 1);
            return refuse("task.segment.noise.at", reason);
        }
        if at.is_empty() || *samples == 0 {
            return refuse(
                "task.segment.noise",
                "asks for no passes: `at` is empty or `samples` is 0".into(),
            );
        }
        if *samples > MOST_SAMPLES {
            let reason = format!("must be at most {MOST_SAMPLES}, found {samples}");
            return refuse("task.segment.noise.samples", reason);
        }
        let mut alphas = self.methods.iter().filter_map(Method::alpha).chain([self.alpha]);
        alphas.try_for_each(|alpha| check_alpha("task.segment.alpha", alpha))?;
        for (setting, value) in [
            ("task.segment.batch", Some(self.batch)),
            ("task.segment.heads_at_once", self.heads_at_once),
            ("task.segment.text_tokens", Some(self.text_tokens)),
            ("task.segment.image_size", Some(self.image_size)),
        ] {
            if value == Some(0) {
                return refuse(setting, "must be at least 1".into());
            }
        }
        check_side("task.segment.image_size", self.image_size as u64)?;
        self.score.check()
    }
}

#[cfg(test)]
mod tests {
    use models::limits::MAX_PIXELS;
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_would_run_forever_are_refused() {
        let check = |methods: serde_json::Value, samples: usize, side: usize| {
            let noise = json!({ "samples": samples });
            let table = json!({ "methods": methods, "noise": noise, "image_size": side });
            let config: SegmentConfig = serde_json::from_value(table).expect("a table");
            config.check().map_err(|e| e.to_string())
        };
        let most = MAX_PIXELS.isqrt() as usize;
        for kind in ["bounce", "bounce-lambda2"] {
            let methods = |steps: usize| json!([{ kind: { "steps": steps } }]);
            assert_eq!(check(methods(MOST_STEPS), MOST_SAMPLES, most), Ok(()));
            for steps in [0, MOST_STEPS + 1, usize::MAX] {
                let message = check(methods(steps), 1, 512).expect_err("refused");
                assert!(
                    message.contains(kind) && message.contains(&format!("takes {steps} steps")),
                    "{message}"
                );
            }
        }
        let methods = json!(["row-select"]);
        let message = check(methods.clone(), MOST_SAMPLES + 1, 512).expect_err("refused");
        assert!(message.starts_with("task.segment.noise.samples: "), "{message}");
        for side in [most + 1, usize::MAX] {
            let message = check(methods.clone(), 1, side).expect_err("refused");
            assert!(message.starts_with("task.segment.image_size: "), "{message}");
        }
    }
}
