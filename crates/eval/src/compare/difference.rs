//! What makes two runs incomparable.

use std::fmt;

/// Something that makes a run another one than the baseline's, so that no value of it can be held against that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the run.
    pub run: String,
    /// What kind of thing: `settings`, `items`, `data`, ….
    pub kind: &'static str,
    /// What it is, old before new.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.run, self.what)
    }
}
