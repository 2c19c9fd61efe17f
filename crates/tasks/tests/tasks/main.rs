//! Datasets and experiments, in one binary. `hostile` has one of its own.

mod datasets;
mod diffseg;
mod guidance;
mod masking;
mod mini;
mod parquet;
mod segmentation;
