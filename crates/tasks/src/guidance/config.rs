//! The `[task.guidance]` table of an experiment.

use std::path::PathBuf;

use models::diffusion::SamplerKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blur::Blur;
use super::mask::{Importance, Threshold};
use super::method::{Method, SagMethod};
use super::sag::Sag;
use crate::alpha::check_alpha;
use crate::error::{Error, Result};
use crate::method::{ListSchema, list};
use crate::pixels::check_side;

/// `[task.guidance]`: images generated with self-attention guidance. The paper gives the table and few of these settings;
/// `docs/protocols.md` says which are our choices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuidanceConfig {
    /// Methods to compare. Each is a row of the table; image `k` starts from the same noise under every method.
    #[serde(with = "list")]
    #[schemars(with = "ListSchema<Method>")]
    pub methods: Vec<Method>,
    /// Number of images to generate with each method; at least 1.
    pub count: u64,
    /// Number of the first image. Image `k` starts from the noise of seed `seed + k`, so a run can be split into ranges of
    /// numbers.
    #[serde(default)]
    pub first: u64,
    /// Prompt; empty for unconditional images.
    #[serde(default)]
    pub prompt: String,
    /// Text file with a prompt on each line, in place of `prompt`: image `k` has that of line `k`, counted from 0. An empty line
    /// is an empty prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// Prompt that classifier-free guidance moves away from.
    #[serde(default)]
    pub negative_prompt: String,
    /// Scale of classifier-free guidance. Values up to 1 turn it off.
    #[serde(default = "GuidanceConfig::default_guidance_scale")]
    pub guidance_scale: f64,
    /// Sampler. Default: the one in the pipeline's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerKind>,
    /// Number of sampling steps, 1 to 1000.
    #[serde(default = "GuidanceConfig::default_steps")]
    pub steps: usize,
    /// Side of the square images in pixels. Default: the size the network was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<i64>,
    /// Height of the images in pixels, if they are not square. Default: that of `image_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// Width of the images in pixels, if they are not square. Default: that of `image_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Factor by which self-attention guidance moves the predicted noise; 0 has no effect.
    #[serde(default = "GuidanceConfig::default_scale")]
    pub scale: f64,
    /// Probability that the chain follows the attention in a step; otherwise it jumps to a random token. Range (0, 1].
    #[serde(default = "GuidanceConfig::default_alpha")]
    pub alpha: f64,
    /// Which tokens are important enough to be blurred.
    #[serde(default)]
    pub threshold: Threshold,
    /// Gaussian blur of the latents under important tokens.
    #[serde(default)]
    pub blur: Blur,
    /// Number of images that are generated together.
    #[serde(default = "GuidanceConfig::default_batch")]
    pub batch: usize,
    /// Number of images, from the first one, that are drawn side by side with their masks.
    #[serde(default = "GuidanceConfig::default_figures", alias = "shown")]
    pub figures: usize,
}

impl GuidanceConfig {
    fn default_guidance_scale() -> f64 {
        1.0
    }

    fn default_steps() -> usize {
        50
    }

    fn default_scale() -> f64 {
        0.75
    }

    fn default_alpha() -> f64 {
        0.99
    }

    fn default_batch() -> usize {
        8
    }

    fn default_figures() -> usize {
        8
    }

    /// Whether classifier-free guidance is on. Only then is the negative prompt read.
    pub(crate) fn is_guided_by_text(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// Height and width of the images in pixels, for a network that was trained on images of size `trained`.
    pub fn size(&self, trained: (i64, i64)) -> (i64, i64) {
        let (height, width) = self.image_size.map_or(trained, |side| (side, side));
        (self.height.unwrap_or(height), self.width.unwrap_or(width))
    }

    /// Self-attention guidance of a method under these settings; `None` for other methods.
    pub fn sag(&self, method: &Method) -> Option<Sag> {
        let Method::Sag(own) = method else { return None };
        Some(Sag {
            importance: own.mask,
            threshold: own.threshold.unwrap_or(self.threshold),
            alpha: own.alpha.unwrap_or(self.alpha),
            scale: own.scale.unwrap_or(self.scale),
            blur: own.blur.unwrap_or(self.blur),
        })
    }

    /// Returns the settings on which the images of one method depend, with defaults for all others. If two
    /// configurations agree in this, the method need be run only once.
    pub fn of_method(&self, method: &Method) -> Self {
        let mut one = Self { methods: vec![method.clone()], ..self.clone() };
        // A method's own settings take precedence over the task's. Other methods than SAG read none of them.
        let (scale, alpha, threshold, blur) = match method {
            Method::None(_) | Method::Pag(_) | Method::Seg(_) => (false, false, false, false),
            Method::Sag(own) => (
                own.scale.is_none(),
                own.alpha.is_none() && own.mask != Importance::ColumnSum,
                own.threshold.is_none(),
                own.blur.is_none(),
            ),
        };
        if !scale {
            one.scale = Self::default_scale();
        }
        if !alpha {
            one.alpha = Self::default_alpha();
        }
        if !threshold {
            one.threshold = Threshold::default();
        }
        if !blur {
            one.blur = Blur::default();
        }
        if !self.is_guided_by_text() {
            one.negative_prompt = String::new();
        }
        one
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        if self.methods.is_empty() {
            return refuse("task.guidance.methods", "lists no methods".into());
        }
        let mut keys: Vec<&str> = self.methods.iter().map(Method::key).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let reason = format!(
                "two methods are called `{}`; give one a name, as in {{ sag = {{ name = \"…\" }} }}",
                pair[0]
            );
            return refuse("task.guidance.methods", reason);
        }
        // Method names become folder names.
        if let Some(key) = keys.iter().find(|key| !is_name(key)) {
            let reason = format!(
                "`{key}` must begin with a letter or digit; after that, `-`, `_` and `.` are allowed too"
            );
            return refuse("task.guidance.methods", reason);
        }
        for (setting, value) in [
            ("task.guidance.count", self.count),
            ("task.guidance.batch", self.batch as u64),
            ("task.guidance.steps", self.steps as u64),
        ] {
            if value == 0 {
                return refuse(setting, "must be at least 1".into());
            }
        }
        if self.steps > MOST_STEPS {
            let reason = format!("must be at most {MOST_STEPS}, found {}", self.steps);
            return refuse("task.guidance.steps", reason);
        }
        for (setting, side) in [
            ("task.guidance.image_size", self.image_size),
            ("task.guidance.height", self.height),
            ("task.guidance.width", self.width),
        ] {
            if let Some(side) = side {
                check_side(setting, side.unsigned_abs())?;
            }
        }
        if let (Some(side), Some(_), Some(_)) = (self.image_size, self.height, self.width) {
            let reason = format!("{side} has no effect next to height and width; leave it out");
            return refuse("task.guidance.image_size", reason);
        }
        if self.prompts.is_some() && !self.prompt.is_empty() {
            let reason = "names a file with a prompt for each image, but task.guidance.prompt is set too; leave one out";
            return refuse("task.guidance.prompts", reason.into());
        }
        if self.first.checked_add(self.count).is_none_or(|end| end > MOST_IMAGES) {
            let reason =
                format!("image numbers must stay below {MOST_IMAGES}, but `first` and `count` go beyond");
            return refuse("task.guidance.count", reason);
        }
        if !self.guidance_scale.is_finite() {
            return refuse("task.guidance.guidance_scale", "must be a finite number".into());
        }
        for method in &self.methods {
            if let Method::Sag(SagMethod { mask: Importance::ColumnSum, alpha: Some(alpha), .. }) = method {
                let reason = format!(
                    "alpha = {alpha} of `{}` has no effect: the column-sum mask does not depend on it; leave it \
                     out, or set mask = \"tokenrank\"",
                    method.key()
                );
                return refuse("task.guidance.methods", reason);
            }
        }
        for method in &self.methods {
            let sigma = if let Method::Seg(seg) = method { seg.sigma } else { None };
            if let Some(sigma) = sigma.filter(|sigma| !(*sigma > 0.0 && sigma.is_finite())) {
                let reason = format!(
                    "sigma = {sigma} of `{}` must be a number above 0; leave it out for an infinite blur",
                    method.key()
                );
                return refuse("task.guidance.methods", reason);
            }
            if method.perturbation().is_some_and(|(_, scale)| !scale.is_finite()) {
                return refuse(
                    "task.guidance.methods",
                    format!("scale of `{}` must be a finite number", method.key()),
                );
            }
        }
        for sag in self.methods.iter().filter_map(|method| self.sag(method)) {
            check_alpha("task.guidance.alpha", sag.alpha)?;
            if !sag.scale.is_finite() {
                return refuse("task.guidance.scale", "must be a finite number".into());
            }
            let Blur { kernel, sigma } = sag.blur;
            if kernel % 2 == 0 || !(sigma > 0.0 && sigma.is_finite()) {
                let reason = format!("kernel {kernel} must be odd and sigma {sigma} positive");
                return refuse("task.guidance.blur", reason);
            }
        }
        Ok(())
    }
}

/// The number of an image has eight digits in file names.
const MOST_IMAGES: u64 = 100_000_000;
/// Networks are trained on schedules of 1,000 steps, and a sampler cannot take more.
const MOST_STEPS: usize = 1000;

fn is_name(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    key.starts_with(|c: char| c.is_ascii_alphanumeric()) && key.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use models::limits::MAX_PIXELS;
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_and_image_size_out_of_range_are_refused() {
        let check = |steps: usize, side: i64| {
            let table = json!({ "methods": ["none"], "count": 1, "steps": steps, "image_size": side });
            let config: GuidanceConfig = serde_json::from_value(table).expect("a table");
            config.check().map_err(|e| e.to_string())
        };
        assert_eq!(check(MOST_STEPS, MAX_PIXELS.isqrt() as i64), Ok(()));
        for steps in [MOST_STEPS + 1, usize::MAX] {
            let message = check(steps, 64).expect_err("refused");
            assert!(message.starts_with("task.guidance.steps: "), "{message}");
        }
        for side in [MAX_PIXELS.isqrt() as i64 + 1, i64::MAX, i64::MIN] {
            let message = check(50, side).expect_err("refused");
            assert!(message.starts_with("task.guidance.image_size: "), "{message}");
        }
    }
}
