//! Why a distance between sets of images cannot be computed.

use models::ErrorKind;

/// Why a metric cannot be computed from features.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FidelityError {
    /// There are fewer items than the metric needs.
    #[error("{metric} needs at least {needed} {what}, and there are {items}; add images{}", or(advice))]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// What the items are, such as `generated images`.
        what: &'static str,
        /// Number of items.
        items: usize,
        /// Number of items that the metric needs.
        needed: usize,
        /// What else helps; may be empty.
        advice: &'static str,
    },
    /// Subsets are larger than the sets from which they are drawn.
    #[error(
        "the kernel distance draws subsets of {subset_size} without replacement, and there are {generated} generated \
         and {reference} reference images; set the subset size to at most {}, or add images",
        generated.min(reference)
    )]
    SubsetSize {
        /// The requested size.
        subset_size: usize,
        /// Number of generated items.
        generated: usize,
        /// Number of reference items.
        reference: usize,
    },
    /// A setting is outside its range.
    #[error("{setting} is {value}; it must be {range}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// Its range.
        range: &'static str,
    },
    /// Features have two widths.
    #[error("expected features of {wanted} numbers, found {found}; all must come from one network and layer")]
    Width {
        /// Numbers per item so far.
        wanted: usize,
        /// Numbers of this one.
        found: usize,
    },
    /// Only some items have logits, or logits have two numbers of classes.
    #[error("item {item} has {found} logits where the others have {wanted}; all must come from one network")]
    Classes {
        /// The item.
        item: u64,
        /// Logits of the others.
        wanted: usize,
        /// Logits of this one.
        found: usize,
    },
    /// One item was given twice with different features.
    #[error(
        "item {item} was given twice with different features; the parts come from different runs, or an image has \
         changed between them"
    )]
    Conflict {
        /// The item.
        item: u64,
    },
    /// A number is NaN or infinite.
    #[error(
        "item {item} has a feature that is not finite; the network overflowed, or its weights are damaged"
    )]
    NotFinite {
        /// The item, or its row.
        item: u64,
    },
    /// The mean and the covariance have different sizes.
    #[error("a mean of {mean} numbers and a covariance of {rows} by {columns} do not belong together")]
    Statistics {
        /// Numbers of the mean.
        mean: usize,
        /// Rows of the covariance.
        rows: usize,
        /// Columns of the covariance.
        columns: usize,
    },
    /// The eigenvalues of a covariance could not be computed.
    #[error("the eigenvalues of a covariance of {width} by {width} were not found; does it hold NaN?")]
    Eigenvalues {
        /// Its width.
        width: usize,
    },
    /// Means or covariances are so large that their distance is not a finite number.
    #[error(
        "the Fréchet distance of means of {width} numbers is not finite; the numbers of the reference or of the images are \
         too large, which damaged statistics would explain"
    )]
    Overflow {
        /// Numbers per mean.
        width: usize,
    },
    /// The Inception Score was requested for a network without classes.
    #[error("the Inception Score needs class logits, and these features come without")]
    NoLogits,
}

fn or(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(", or {advice}") }
}

impl FidelityError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } => ErrorKind::Usage,
            Self::TooFew { .. }
            | Self::SubsetSize { .. }
            | Self::Width { .. }
            | Self::Classes { .. }
            | Self::Conflict { .. }
            | Self::NotFinite { .. }
            | Self::Statistics { .. }
            | Self::Eigenvalues { .. }
            | Self::Overflow { .. }
            | Self::NoLogits => ErrorKind::Input,
        }
    }
}
