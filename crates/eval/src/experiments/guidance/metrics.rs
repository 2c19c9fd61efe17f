//! Metrics of generated images from the features of a network. They are not sums over the images; intervals come from resampling
//! the images.

use crate::experiments::spec::{Better, Listed, MetricSpec, Noise, PaperColumn};
use crate::experiments::target::PaperTarget;
use crate::image_metrics::Titles;
use crate::metrics::fidelity::{Resampled, Summary};
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
    /// All metrics, in the order of results.
    pub const ALL: [Self; 5] = [Self::Score, Self::Frechet, Self::Kernel, Self::Precision, Self::Recall];
    /// The metrics of the paper, in its order.
    pub const OF_PAPER: [Self; 3] = [Self::Score, Self::Frechet, Self::Kernel];

    /// Returns the description of the metric for the shared code.
    pub fn spec(self) -> MetricSpec {
        let relative = Noise { absolute: 0.0, relative: 0.005, item: 0.0 };
        let published =
            |column, noise, spec| MetricSpec { column: PaperColumn::Named(column), noise, ..spec };
        // One generated image may move inside or outside.
        let fraction = |spec| MetricSpec { noise: Noise::ITEM, listed: Listed::Always, ..spec };
        match self {
            Self::Score => {
                published("IS", relative, MetricSpec::plain("inception-score", "class score", Better::Higher))
            }
            Self::Frechet => {
                published("FID", relative, MetricSpec::plain("frechet", "Fréchet distance", Better::Lower))
            }
            Self::Kernel => {
                let noise = Noise { absolute: 0.0005, relative: 0.02, item: 0.0 };
                let spec = MetricSpec::plain("kernel", "kernel distance", Better::Lower);
                MetricSpec { digits: 5, ..published("KID", noise, spec) }
            }
            Self::Precision => fraction(MetricSpec::plain("precision", "precision", Better::Higher)),
            Self::Recall => fraction(MetricSpec::plain("recall", "recall", Better::Higher)),
        }
    }

    /// Returns the title of the metric for these features.
    pub fn title(self, titles: &Titles) -> &str {
        match self {
            Self::Score => &titles.score,
            Self::Frechet => &titles.frechet,
            Self::Kernel => &titles.kernel,
            Self::Precision => "precision",
            Self::Recall => "recall",
        }
    }

    /// Returns the value of the metric in a summary.
    pub fn value(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Score => summary.inception_score.map(|score| score.mean),
            Self::Frechet => Some(summary.frechet),
            Self::Kernel => summary.kernel.map(|kernel| kernel.distance.mean),
            Self::Precision => summary.precision_recall.map(|found| found.precision),
            Self::Recall => summary.precision_recall.map(|found| found.recall),
        }
    }

    /// Returns the uncertainty of the value: a standard error over resamples, or the standard deviation over subsets.
    pub fn error(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Kernel => summary.kernel.map(|kernel| kernel.distance.std),
            Self::Score | Self::Frechet | Self::Precision | Self::Recall => {
                self.resampled(summary).map(|found| found.standard_error)
            }
        }
    }

    /// Returns the metric over resamples of the images, if it was resampled.
    pub fn resampled(self, summary: &Summary) -> Option<&Resampled> {
        match self {
            Self::Score => summary.inception_score_resampled.as_ref(),
            Self::Frechet => summary.frechet_resampled.as_ref(),
            Self::Kernel | Self::Precision | Self::Recall => None,
        }
    }
}

/// The metrics of one method.
pub(super) struct Judged {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) summary: Summary,
    /// Fraction of the tokens that were degraded; `None` for a method without a mask.
    pub(super) mask_area: Option<f64>,
}

/// Returns the values of all metrics, method by method.
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

/// Returns the metrics over resamples of the image numbers.
pub(super) fn resamples(judged: &[Judged]) -> Vec<Resamples> {
    let of = |method: &Judged| {
        GuidanceMetric::ALL.map(|metric| {
            let values = metric.resampled(&method.summary)?.values.clone();
            Some(Resamples { metric: metric.spec().key.into(), method: method.key.clone(), values })
        })
    };
    judged.iter().flat_map(of).flatten().collect()
}

/// Returns the differences of every method from the one listed before it and from the first, over the same resamples of the image
/// numbers.
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
