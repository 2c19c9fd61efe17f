//! What a network says of generated images. The metrics are not sums over the images; intervals come from resampling these.

use crate::experiments::spec::{Better, Listed, MetricSpec, Noise, PaperColumn};
use crate::experiments::target::PaperTarget;
use crate::metrics::fidelity::{Resampled, Summary};
use crate::picture_metrics::Titles;
use crate::results::{Comparison, MetricValue, Resamples};

/// A metric of generated images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuidanceMetric {
    /// Inception Score, or the score of the class probabilities of another network.
    Score,
    /// Fréchet distance between features: FID with the published Inception.
    Frechet,
    /// Kernel distance between features: KID with the published Inception.
    Kernel,
    /// Fraction of the generated images among the reference (arXiv 1904.06991).
    Precision,
    /// Fraction of the reference among the generated images (arXiv 1904.06991).
    Recall,
}

impl GuidanceMetric {
    /// All of them, in the order of results.
    pub const ALL: [Self; 5] = [Self::Score, Self::Frechet, Self::Kernel, Self::Precision, Self::Recall];
    /// Those of the paper, in its order.
    pub const OF_PAPER: [Self; 3] = [Self::Score, Self::Frechet, Self::Kernel];

    /// What the shared code must know of it.
    pub fn spec(self) -> MetricSpec {
        let relative = Noise { absolute: 0.0, relative: 0.005, item: 0.0 };
        let beside = |column, noise, spec| MetricSpec { column: PaperColumn::Named(column), noise, ..spec };
        // One generated image comes to lie inside or outside.
        let fraction = |spec| MetricSpec { noise: Noise::ITEM, listed: Listed::Always, ..spec };
        match self {
            Self::Score => {
                beside("IS", relative, MetricSpec::plain("inception-score", "class score", Better::Higher))
            }
            Self::Frechet => {
                beside("FID", relative, MetricSpec::plain("frechet", "Fréchet distance", Better::Lower))
            }
            Self::Kernel => {
                let noise = Noise { absolute: 0.0005, relative: 0.02, item: 0.0 };
                let spec = MetricSpec::plain("kernel", "kernel distance", Better::Lower);
                MetricSpec { digits: 5, ..beside("KID", noise, spec) }
            }
            Self::Precision => fraction(MetricSpec::plain("precision", "precision", Better::Higher)),
            Self::Recall => fraction(MetricSpec::plain("recall", "recall", Better::Higher)),
        }
    }

    /// Its title among those that the features give.
    pub fn title(self, titles: &Titles) -> &str {
        match self {
            Self::Score => &titles.score,
            Self::Frechet => &titles.frechet,
            Self::Kernel => &titles.kernel,
            Self::Precision => "precision",
            Self::Recall => "recall",
        }
    }

    /// Its value in a summary.
    pub fn value(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Score => summary.inception_score.map(|score| score.mean),
            Self::Frechet => Some(summary.frechet),
            Self::Kernel => summary.kernel.map(|kernel| kernel.distance.mean),
            Self::Precision => summary.precision_recall.map(|found| found.precision),
            Self::Recall => summary.precision_recall.map(|found| found.recall),
        }
    }

    /// How far its value is from certain: a standard error over resamples, or the standard deviation over subsets.
    pub fn error(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Kernel => summary.kernel.map(|kernel| kernel.distance.std),
            Self::Score | Self::Frechet | Self::Precision | Self::Recall => {
                self.resampled(summary).map(|found| found.standard_error)
            }
        }
    }

    /// The metric over resamples of the images, where it was resampled.
    pub fn resampled(self, summary: &Summary) -> Option<&Resampled> {
        match self {
            Self::Score => summary.inception_score_resampled.as_ref(),
            Self::Frechet => summary.frechet_resampled.as_ref(),
            Self::Kernel | Self::Precision | Self::Recall => None,
        }
    }
}

/// What the metrics say of a method.
pub(super) struct Judged {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) summary: Summary,
    /// Fraction of the tokens that were degraded; `None` where nothing is.
    pub(super) mask_area: Option<f64>,
}

/// The values of all metrics, method by method.
pub(super) fn values(judged: &[Judged], paper: Option<&PaperTarget>) -> Vec<MetricValue> {
    let of_method = |method: &Judged| {
        GuidanceMetric::ALL.map(|metric| {
            let spec = metric.spec();
            MetricValue {
                name: spec.key.to_owned(),
                method: Some(method.key.clone()),
                value: metric.value(&method.summary),
                higher_is_better: spec.better.higher_is_better(),
                published: paper.and_then(|paper| paper.published(&spec, &method.key)),
            }
        })
    };
    judged.iter().flat_map(of_method).collect()
}

/// The metrics over resamples of the picture numbers.
pub(super) fn resamples(judged: &[Judged]) -> Vec<Resamples> {
    let of = |method: &Judged| {
        GuidanceMetric::ALL.map(|metric| {
            let values = metric.resampled(&method.summary)?.values.clone();
            Some(Resamples { metric: metric.spec().key.into(), method: method.key.clone(), values })
        })
    };
    judged.iter().flat_map(of).flatten().collect()
}

/// Every method minus the one listed before it, and minus the first, over the same resamples of the picture numbers.
pub(super) fn comparisons(judged: &[Judged]) -> Vec<Comparison> {
    let mut pairs: Vec<(&Judged, &Judged)> = judged.windows(2).map(|pair| (&pair[1], &pair[0])).collect();
    if let Some((first, rest)) = judged.split_first() {
        pairs.extend(rest.iter().skip(1).map(|method| (method, first)));
    }
    let of_pair = |(method, minus): (&Judged, &Judged)| {
        GuidanceMetric::ALL.map(|metric| {
            let (ours, theirs) = (metric.resampled(&method.summary)?, metric.resampled(&minus.summary)?);
            let difference = ours.minus(theirs)?;
            let (method, minus) = (method.key.clone(), minus.key.clone());
            Some(Comparison { metric: metric.spec().key.to_owned(), method, minus, difference })
        })
    };
    pairs.into_iter().flat_map(of_pair).flatten().collect()
}
