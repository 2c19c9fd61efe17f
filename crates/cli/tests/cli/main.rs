//! The binary as people run it.
#![allow(unreachable_pub)]

mod attend;
mod backbones;
#[path = "../../../chain-page/tests/browser/mod.rs"]
mod browser;
mod bundle;
mod changed_data;
mod checkpoints;
mod common;
mod compare;
mod concurrency;
mod data;
mod determinism;
mod diffseg;
mod experiments;
mod faults;
mod fetch;
mod fetch_for;
mod fetch_hostile;
mod fetch_kills;
mod flux;
mod foreign;
mod guidance;
mod hostile;
mod injection;
mod kept;
mod kills;
mod kontext;
mod limits;
mod metrics;
mod networks;
mod on_files;
mod output;
mod outside;
mod paper;
mod paper_diffseg;
mod paper_guidance;
mod paper_segment;
mod parquet;
mod pictures;
mod published;
mod rank;
mod rank_keys;
mod rank_options;
mod references;
mod report;
mod run;
mod scores;
mod scores_diffseg;
mod scores_segment;
mod sd;
mod segment;
#[path = "../../../models/tests/models/hub/server.rs"]
mod server;
mod settings;
mod shards;
mod show;
mod skips;
mod slurm;
mod slurm_cluster;
mod sweep;
mod sweep_report;
mod text;
#[path = "../../../models/tests/models/torch_file.rs"]
mod torch_file;
mod validate;
