//! Names of the files of a run, and how deep below a folder runs may lie.

/// Version of the layout of a run's files; it is increased when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The header, which identifies the run.
pub const HEADER: &str = "run.json";
/// The answers to the items.
pub const RECORDS: &str = "records.jsonl";
/// Metadata of the items' files, see [`Inputs`](crate::Inputs).
pub const INPUTS: &str = "inputs.jsonl";
/// The results; a run with this file is complete.
pub const RESULTS: &str = "results.json";
/// The combinations of a sweep, in its folder.
pub const SWEEP: &str = "sweep.json";
/// The page of the run, or of the runs below a folder.
pub const PAGE: &str = "report.html";
/// The folder of images that a run has generated: `pictures/METHOD/NUMBER.png`.
pub const PICTURES: &str = "pictures";

/// Number of levels below a folder in which runs are searched: experiment, `runs`, combination of a sweep, shard.
pub const DEPTH: usize = 4;
