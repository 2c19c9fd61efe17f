//! What makes two runs incomparable.

use std::fmt;

/// A difference that makes a run incomparable with the baseline's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the run.
    pub run: String,
    /// Kind of the difference: `settings`, `items`, `data`, ….
    pub kind: &'static str,
    /// Description, old before new.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.run, self.what)
    }
}
