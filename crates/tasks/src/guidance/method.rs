//! The methods of `[task.guidance]`.

use models::{Perturbation, Perturbed, UnetPart};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blur::Blur;
use super::mask::{Importance, Threshold};
use crate::method::{HeadShare, MethodKind, Named};

/// A method, written as its name alone (`"sag"`) or with settings (`{ sag = { mask = "tokenrank" } }`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The sampler without self-attention guidance.
    None(NoSettings),
    /// Self-attention guidance (arXiv 2210.00939).
    Sag(SagMethod),
    /// Perturbed-attention guidance (arXiv 2403.17377).
    Pag(PagMethod),
    /// Smoothed energy guidance (arXiv 2408.00760).
    Seg(SegMethod),
}

/// Settings of `none`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Settings of `pag`: away from a network in which image tokens attend to themselves alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PagMethod {
    /// Key of the method in records, tables and folders. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Factor by which the guidance moves the predicted noise; 0 has no effect.
    pub scale: PerturbedScale,
    /// The parts of the UNet whose self-attention is changed, such as `["mid_block", "up_blocks.1"]`.
    pub blocks: Blocks,
}

/// Settings of `seg`: away from a network whose queries in self-attention are blurred.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SegMethod {
    /// Key of the method in records, tables and folders. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Factor by which the guidance moves the predicted noise; 0 has no effect.
    pub scale: PerturbedScale,
    /// Standard deviation of the blur in tokens, above 0. Default: infinite, so that all queries are their mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// The parts of the UNet whose self-attention is changed, such as `["mid_block", "up_blocks.1"]`.
    pub blocks: Blocks,
}

/// `scale` of `pag` and `seg`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PerturbedScale(pub f64);

impl Default for PerturbedScale {
    /// The value of both papers' experiments and of diffusers.
    fn default() -> Self {
        Self(3.0)
    }
}

/// `blocks` of `pag` and `seg`, at least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Blocks(pub Vec<UnetPart>);

impl Default for Blocks {
    /// As in both authors' code for Stable Diffusion.
    fn default() -> Self {
        Self(vec![UnetPart::Mid])
    }
}

impl TryFrom<Vec<String>> for Blocks {
    type Error = String;

    fn try_from(paths: Vec<String>) -> Result<Self, String> {
        let parts = paths.iter().map(|path| path.parse()).collect::<Result<Vec<UnetPart>, _>>()?;
        if parts.is_empty() { Err("blocks names no part of the UNet".into()) } else { Ok(Self(parts)) }
    }
}

impl From<Blocks> for Vec<String> {
    fn from(blocks: Blocks) -> Self {
        blocks.0.iter().map(UnetPart::to_string).collect()
    }
}

/// Settings of `sag`. `None` stands for the value in `[task.guidance]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SagTable", into = "SagTable")]
pub struct SagMethod {
    /// Key of the method in records, tables and folders. Default: a key derived from the mask.
    pub name: Option<String>,
    /// What makes a token important.
    pub mask: Importance,
    /// Which tokens are important enough.
    pub threshold: Option<Threshold>,
    /// Probability that the chain follows the attention in a step.
    pub alpha: Option<f64>,
    /// Factor by which the prediction is moved.
    pub scale: Option<f64>,
    /// How the image is degraded.
    pub blur: Option<Blur>,
}

/// Settings of `sag` as written. Settings that are left out are those of `[task.guidance]`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SagTable {
    /// Key of the method in records, tables and folders. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// How the importance of a token is measured. The guidance blurs the image where tokens are important.
    mask: Mask,
    /// How much each attention head counts in the map that is ranked; only for `mask = "tokenrank"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<HeadShare>,
    /// Which tokens are important enough to be blurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Threshold>,
    /// Probability that the chain follows the attention in a step, in (0, 1]; only for `mask = "tokenrank"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    /// Factor by which the guidance moves the predicted noise; 0 has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f64>,
    /// Gaussian blur of the latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    blur: Option<Blur>,
}

/// `mask` of `sag`.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Mask {
    /// Attention received from all tokens.
    #[default]
    ColumnSum,
    /// TokenRank: the steady state of the attention chain.
    Tokenrank,
    /// Old name of `mask = "tokenrank"` with `weight = "lambda2"`.
    TokenrankLambda2,
}

impl Default for SagTable {
    fn default() -> Self {
        SagMethod::default().into()
    }
}

impl TryFrom<SagTable> for SagMethod {
    type Error = &'static str;

    fn try_from(table: SagTable) -> Result<Self, Self::Error> {
        let SagTable { name, mask, weight, threshold, alpha, scale, blur } = table;
        let mask = match (mask, weight) {
            (Mask::ColumnSum, None | Some(HeadShare::Equal)) => Importance::ColumnSum,
            (Mask::ColumnSum, Some(HeadShare::Lambda2)) => {
                return Err(
                    "weight = \"lambda2\" needs mask = \"tokenrank\": column sums weight all heads equally",
                );
            }
            (Mask::Tokenrank, None | Some(HeadShare::Equal)) => Importance::Tokenrank,
            (Mask::Tokenrank, Some(HeadShare::Lambda2)) => Importance::TokenrankLambda2,
            (Mask::TokenrankLambda2, None | Some(HeadShare::Lambda2)) => Importance::TokenrankLambda2,
            (Mask::TokenrankLambda2, Some(HeadShare::Equal)) => {
                return Err(
                    "mask = \"tokenrank-lambda2\" contradicts weight = \"equal\"; write mask = \"tokenrank\"",
                );
            }
        };
        Ok(Self { name, mask, threshold, alpha, scale, blur })
    }
}

impl From<SagMethod> for SagTable {
    fn from(SagMethod { name, mask, threshold, alpha, scale, blur }: SagMethod) -> Self {
        let (mask, weight) = match mask {
            Importance::ColumnSum => (Mask::ColumnSum, None),
            Importance::Tokenrank => (Mask::Tokenrank, None),
            Importance::TokenrankLambda2 => (Mask::Tokenrank, Some(HeadShare::Lambda2)),
        };
        Self { name, mask, weight, threshold, alpha, scale, blur }
    }
}

impl Default for SagMethod {
    fn default() -> Self {
        Self {
            name: None,
            mask: Importance::ColumnSum,
            threshold: None,
            alpha: None,
            scale: None,
            blur: None,
        }
    }
}

impl Named for Method {
    const METHODS: &'static [MethodKind] = &[
        MethodKind::new("none", "no guidance"),
        MethodKind::new("sag", "SAG"),
        MethodKind::short("sag-tokenrank", "SAG + TokenRank", "sag", &[("mask", "tokenrank")]),
        MethodKind::short(
            "sag-tokenrank-lambda2",
            "SAG + TokenRank, λ₂",
            "sag",
            &[("mask", "tokenrank"), ("weight", "lambda2")],
        ),
        MethodKind::new("pag", "PAG"),
        MethodKind::new("seg", "SEG"),
    ];
    const EXAMPLE: &'static str = "{ sag = { mask = \"tokenrank\" } }";
    type Table = Self;

    fn kind_name(&self) -> &'static str {
        match self {
            Self::None(_) => "none",
            Self::Sag(SagMethod { mask, .. }) => match mask {
                Importance::ColumnSum => "sag",
                Importance::Tokenrank => "sag-tokenrank",
                Importance::TokenrankLambda2 => "sag-tokenrank-lambda2",
            },
            Self::Pag(_) => "pag",
            Self::Seg(_) => "seg",
        }
    }
}

impl Method {
    fn name(&self) -> Option<&str> {
        match self {
            Self::None(_) => None,
            Self::Sag(sag) => sag.name.as_deref(),
            Self::Pag(pag) => pag.name.as_deref(),
            Self::Seg(seg) => seg.name.as_deref(),
        }
    }

    /// The change of self-attention that the method leads away from, and its scale; `None` for other methods.
    pub fn perturbation(&self) -> Option<(Perturbation, f64)> {
        let (blocks, attention, scale) = match self {
            Self::None(_) | Self::Sag(_) => return None,
            Self::Pag(PagMethod { blocks, scale, .. }) => (blocks, Perturbed::Identity, scale),
            Self::Seg(SegMethod { blocks, scale, sigma, .. }) => {
                (blocks, Perturbed::Blurred { sigma: *sigma }, scale)
            }
        };
        Some((Perturbation { parts: blocks.0.clone(), attention }, scale.0))
    }

    /// Key of the method in records, tables and folders.
    pub fn key(&self) -> &str {
        self.name().unwrap_or(self.kind_name())
    }

    /// Name of the method in tables and figures: its own `name`, or the label of its kind.
    pub fn label(&self) -> &str {
        self.name().unwrap_or(self.kind_label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::{parse, refused, walk, written};

    #[test]
    fn methods_are_names_or_tables() -> Result<(), String> {
        let methods: Vec<Method> = parse(
            r#""none", "sag", { sag = { mask = "tokenrank" } }, { sag = { mask = "tokenrank", weight = "lambda2" } },
               { sag = { mask = "tokenrank", threshold = "area", name = "same-area", alpha = 0.9 } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        assert_eq!(keys, ["none", "sag", "sag-tokenrank", "sag-tokenrank-lambda2", "same-area"]);
        assert_eq!(written(&methods[0]), r#""none""#);
        assert_eq!(written(&methods[3]), r#"{"sag":{"mask":"tokenrank","weight":"lambda2"}}"#);
        Ok(())
    }

    #[test]
    fn every_method_and_mask_reads_back_as_itself() {
        walk::<Method>();
    }

    #[test]
    fn old_names_can_still_be_read() {
        let old = parse::<Method>(r#"{ sag = { mask = "tokenrank-lambda2" } }"#);
        assert_eq!(old, parse(r#""sag-tokenrank-lambda2""#));
    }

    #[test]
    fn unknown_methods_and_settings_are_refused() {
        refused::<Method>(&[
            ("\"cfg\"", "cfg"),
            ("{ pag = { sigma = 1.0 } }", "sigma"),
            ("{ seg = { blocks = [\"middle\"] } }", "`middle` is not a part of a UNet"),
            ("{ seg = { blocks = [] } }", "names no part"),
            ("{ sag = { masks = \"tokenrank\" } }", "masks"),
            ("{ sag = { mask = \"cls\" } }", "cls"),
            ("{ none = { scale = 1 } }", "scale"),
            ("{ sag = { weight = \"lambda2\" } }", "needs mask = \"tokenrank\""),
            ("{ sag = { mask = \"tokenrank-lambda2\", weight = \"equal\" } }", "contradicts"),
            ("{ sag-tokenrank = { mask = \"column-sum\" } }", "the method is `sag`, not `sag-tokenrank`"),
        ]);
    }
}
