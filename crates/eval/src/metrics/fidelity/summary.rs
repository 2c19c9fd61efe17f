//! All metrics of two sets of features.

use serde::{Deserialize, Serialize};

use super::{
    Features, FidelityError, Fractions, Gaussian, InceptionScore, KernelDistance, PrecisionRecall,
    RandomState, Resampled, Spread, frechet_distance, frechet_resampled, inception_score_resampled,
};

/// The reference that generated images are compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference {
    /// Features of every image.
    Features(Features),
    /// Only mean and covariance of the features: enough for the Fréchet distance, but for no other metric.
    Statistics(Gaussian),
}

/// How [`evaluate`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Settings of the Inception Score, which needs no reference.
    pub inception_score: InceptionScore,
    /// Settings of the kernel distance; subsets shrink to the smaller set, with a note.
    pub kernel: KernelDistance,
    /// Settings of precision and recall.
    pub precision_recall: PrecisionRecall,
    /// Maximum number of items per set for precision and recall, whose cost grows with its square. From larger sets, this
    /// number is drawn with the seed of the kernel distance, with a note.
    pub precision_recall_items: usize,
    /// Number of resamples for standard errors of Inception Score and Fréchet distance; 0 for none.
    pub resamples: usize,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for Settings {
    /// Returns torch-fidelity's settings, at most 10,000 items for precision and recall, no resamples.
    fn default() -> Self {
        Self {
            inception_score: InceptionScore::default(),
            kernel: KernelDistance::default(),
            precision_recall: PrecisionRecall::default(),
            precision_recall_items: 10_000,
            resamples: 0,
            seed: 0,
        }
    }
}

/// All metrics. Callers must name the features wherever they show them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of generated items.
    pub generated: usize,
    /// Number of reference items, if known.
    pub reference: Option<u64>,
    /// The Inception Score; `None` without logits, or with fewer items than splits.
    pub inception_score: Option<Spread>,
    /// The Inception Score over resamples of the generated items.
    pub inception_score_resampled: Option<Resampled>,
    /// The Fréchet distance.
    pub frechet: f64,
    /// The Fréchet distance over resamples of the generated items, which are biased upwards; the interval is corrected, see
    /// [`Resampled`].
    pub frechet_resampled: Option<Resampled>,
    /// The kernel distance; `None` against statistics.
    pub kernel: Option<KernelSummary>,
    /// Precision and recall; `None` against statistics, or with too few items.
    pub precision_recall: Option<Fractions>,
    /// Deviations from the settings and missing metrics, with the reason: a sentence each.
    pub notes: Vec<String>,
}

/// The kernel distance and its subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelSummary {
    /// Mean and standard deviation over the subsets.
    #[serde(flatten)]
    pub distance: Spread,
    /// Number of subsets.
    pub subsets: usize,
    /// Number of items in each subset.
    pub subset_size: usize,
}

/// Computes every metric of `generated` against `reference` that the data allow; notes say which are missing and why.
///
/// # Errors
/// Fails if features have different widths, are not finite, or are fewer than two.
pub fn evaluate(
    generated: &Features,
    reference: &Reference,
    settings: &Settings,
) -> Result<Summary, FidelityError> {
    let mut notes = Vec::new();
    let features = generated.features.view();
    let gaussian = match reference {
        Reference::Features(reference) => Gaussian::of(reference.features.view())?,
        Reference::Statistics(gaussian) => gaussian.clone(),
    };
    let mut summary = Summary {
        generated: generated.len(),
        reference: gaussian.items,
        inception_score: None,
        inception_score_resampled: None,
        frechet: frechet_distance(&gaussian, &Gaussian::of(features)?)?,
        frechet_resampled: None,
        kernel: None,
        precision_recall: None,
        notes: Vec::new(),
    };
    let (resamples, seed) = (settings.resamples, settings.seed);
    if resamples > 0 {
        summary.frechet_resampled = Some(frechet_resampled(features, &gaussian, resamples, seed)?);
    }
    let score = settings.inception_score;
    match generated.logits.as_ref().map(|logits| score.of(logits.view())) {
        None => notes.push("No Inception Score: these features come without classes.".to_owned()),
        Some(Err(few @ FidelityError::TooFew { .. })) => notes.push(format!("No Inception Score: {few}.")),
        Some(found) => summary.inception_score = Some(found?),
    }
    if let (Some(_), Some(logits)) = (summary.inception_score, &generated.logits)
        && resamples > 0
    {
        let resampled = inception_score_resampled(&score, logits.view(), resamples, seed)?;
        summary.inception_score_resampled = Some(resampled);
    }
    match reference {
        Reference::Features(reference) => compare(generated, reference, settings, &mut summary, &mut notes)?,
        Reference::Statistics(_) => notes.push(
            "No kernel distance, precision or recall: they need the features of the reference, and it holds their \
             mean and covariance only."
                .to_owned(),
        ),
    }
    summary.notes = notes;
    Ok(summary)
}

/// Computes the metrics that need the features of every reference item.
fn compare(
    generated: &Features,
    reference: &Features,
    settings: &Settings,
    summary: &mut Summary,
    notes: &mut Vec<String>,
) -> Result<(), FidelityError> {
    let (ours, theirs) = (generated.features.view(), reference.features.view());
    let mut kernel = settings.kernel;
    let fewest = ours.nrows().min(theirs.nrows());
    if kernel.subset_size > fewest {
        notes.push(format!(
            "Kernel distance: subsets of {fewest} instead of {}, since there are {} generated and {} reference \
             images; values are comparable between equal subset sizes only.",
            kernel.subset_size,
            ours.nrows(),
            theirs.nrows()
        ));
        kernel.subset_size = fewest;
    }
    let distance = kernel.between(ours, theirs)?;
    summary.kernel =
        Some(KernelSummary { distance, subsets: kernel.subsets, subset_size: kernel.subset_size });

    let most = settings.precision_recall_items;
    let mut rng = RandomState::new(kernel.seed);
    let mut thinned = |features: ndarray::ArrayView2<'_, f64>, whose: &str| {
        let items = features.nrows();
        if items <= most {
            return features.to_owned();
        }
        notes.push(format!(
            "Precision and recall: {most} of the {items} {whose} images, drawn with seed {}.",
            kernel.seed
        ));
        features.select(ndarray::Axis(0), &rng.choice(items, most))
    };
    let (ours, theirs) = (thinned(ours, "generated"), thinned(theirs, "reference"));
    match settings.precision_recall.between(ours.view(), theirs.view()) {
        Err(few @ FidelityError::TooFew { .. }) => notes.push(format!("No precision and recall: {few}.")),
        found => summary.precision_recall = Some(found?),
    }
    Ok(())
}
