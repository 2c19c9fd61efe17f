//! Why a distance between sets of pictures cannot be computed.

use models::ErrorKind;

/// Features that a metric cannot be computed from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FidelityError {
    /// Fewer items than the metric is defined for.
    #[error("{metric} needs at least {needed} {what}, and there are {items}; add pictures{}", or(advice))]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// Whose items these are.
        what: &'static str,
        /// How many there are.
        items: usize,
        /// How many it takes.
        needed: usize,
        /// What else helps, or nothing.
        advice: &'static str,
    },
    /// Subsets that are larger than what they are drawn from.
    #[error(
        "the kernel distance draws subsets of {subset_size} without replacement, and there are {generated} generated \
         and {reference} reference pictures; set the subset size to at most {}, or add pictures",
        generated.min(reference)
    )]
    SubsetSize {
        /// The size asked for.
        subset_size: usize,
        /// Generated items.
        generated: usize,
        /// Reference items.
        reference: usize,
    },
    /// A setting outside its range.
    #[error("{setting} is {value}; it must be {range}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// Features of two widths.
    #[error("features of {found} numbers where there are {wanted}; all must come from one network and layer")]
    Width {
        /// Numbers per item so far.
        wanted: usize,
        /// Numbers of this one.
        found: usize,
    },
    /// Logits for some items only, or of two numbers of classes.
    #[error("item {item} has {found} logits where the others have {wanted}; all must come from one network")]
    Classes {
        /// The item.
        item: u64,
        /// Logits of the others.
        wanted: usize,
        /// Logits of this one.
        found: usize,
    },
    /// Two answers for one item.
    #[error(
        "item {item} is there twice with different features; the parts come from different runs, or a picture has \
         changed between them"
    )]
    Conflict {
        /// The item.
        item: u64,
    },
    /// A number that is NaN or infinite.
    #[error(
        "item {item} has a feature that is not finite; the network overflowed, or its weights are damaged"
    )]
    NotFinite {
        /// The item, or its row.
        item: u64,
    },
    /// Statistics that are no mean and covariance of each other.
    #[error("a mean of {mean} numbers and a covariance of {rows} by {columns} do not belong together")]
    Statistics {
        /// Numbers of the mean.
        mean: usize,
        /// Rows of the covariance.
        rows: usize,
        /// Columns of the covariance.
        columns: usize,
    },
    /// The eigenvalues could not be found.
    #[error("the eigenvalues of a covariance of {width} by {width} were not found; does it hold NaN?")]
    Eigenvalues {
        /// Its width.
        width: usize,
    },
    /// A class score where the network has no classes.
    #[error("the Inception Score needs class logits, and these features come without")]
    NoLogits,
}

fn or(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(", or {advice}") }
}

impl FidelityError {
    /// What the user can do about it.
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
            | Self::NoLogits => ErrorKind::Input,
        }
    }
}
