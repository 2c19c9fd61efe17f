//! Settings that had another name in earlier versions. Files with the old names can still be read.

/// A setting and its earlier name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldName {
    /// The table that holds the setting, such as `task.masking`. For a setting of a method, the list of methods, such
    /// as `task.diffseg.methods`.
    pub table: &'static str,
    /// Earlier name.
    pub old: &'static str,
    /// Present name.
    pub new: &'static str,
}

/// Every setting of a task that was renamed. Each has a `#[serde(alias)]` too, so that JSON in old results parses.
pub const OLD_NAMES: [OldName; 8] = [
    OldName { table: "task.masking", old: "scores", new: "methods" },
    OldName { table: "task.masking", old: "overlays", new: "figures" },
    OldName { table: "task.segment", old: "blocks", new: "layers" },
    OldName { table: "task.segment", old: "overlays", new: "figures" },
    OldName { table: "task.segment.methods", old: "blocks", new: "layers" },
    OldName { table: "task.guidance", old: "shown", new: "figures" },
    OldName { table: "task.diffseg", old: "shown", new: "figures" },
    OldName { table: "task.diffseg.methods", old: "aggregate", new: "weight" },
];
