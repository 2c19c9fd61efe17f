//! What the files of a run are called, and how deep below a folder runs may lie.

/// Version of the layout of a run's files; it rises when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// What the folder belongs to: the header of the run.
pub const HEADER: &str = "run.json";
/// The answers to the items.
pub const RECORDS: &str = "records.jsonl";
/// What the file system said of the files of the items.
pub const INPUTS: &str = "inputs.jsonl";
/// The results; where this file is, the run is complete.
pub const RESULTS: &str = "results.json";
/// The page of the run, or of the runs below a folder.
pub const PAGE: &str = "report.html";
/// A folder of images that a run has generated: `pictures/METHOD/NUMBER.png`.
pub const PICTURES: &str = "pictures";

/// How far below a folder its runs may be: an experiment's folder, `runs` and a combination's of a sweep, a shard's.
pub const DEPTH: usize = 4;
