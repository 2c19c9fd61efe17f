//! Arguments of `tokenrank slurm`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use runs::slurm::Gpu;

#[derive(clap::Args)]
#[command(after_help = SLURM_NOTES)]
pub(crate) struct SlurmArgs {
    /// Experiments: files such as configs/mini/masking-vit.toml, or names that `tokenrank ls` lists, such as
    /// paper/masking-vit
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Number of shards, that is, tasks of the job array; each runs on a node or on a GPU of one
    #[arg(long = "nodes", visible_alias = "shards", value_name = "N")]
    pub shards: NonZeroUsize,
    /// Submit the array and the merge, and print the ids of both jobs
    #[arg(long)]
    pub submit: bool,
    /// Override a setting of the file, such as model.path=DIR or task.masking.layers=all
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Run only the first N items
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Folder of the run or runs, on a file system that every node sees [default: results/runs/NAME-slurm]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder for scripts and logs [default: slurm in the folder of the run]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Run at most M shards at a time
    #[arg(long, value_name = "M")]
    pub max_running: Option<NonZeroUsize>,
    /// Seconds before the time limit at which a shard is told to finish its batch; must be more than a batch takes
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub grace: u32,
    /// Number of times that a shard is requeued after it reached its time limit
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_requeues: u32,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Resources of each shard and of the merge")]
pub(crate) struct ResourceArgs {
    /// GPU: 1, or with its type as in a100:1; networks then run on cuda:0 [default: none, networks run on the CPU]
    #[arg(long = "gpus", value_name = "[TYPE:]1")]
    pub gpu: Option<Gpu>,
    /// Number of CPU cores
    #[arg(long, value_name = "N")]
    pub cpus: Option<NonZeroUsize>,
    /// Memory, such as 16G
    #[arg(long = "mem", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Time limit in a format of Slurm: minutes, HH:MM:SS, D-HH. A shard that reaches it is requeued
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// Partition
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
    /// Account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Additional option for sbatch, as in --sbatch=--constraint=ib; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Additional option for sbatch for the merge alone, as in --merge-sbatch=--mem=64G
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub merge_sbatch: Vec<String>,
    /// Shell line that runs before tokenrank starts, such as "module load cuda"; may be repeated
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub prologue: Vec<String>,
}

const SLURM_NOTES: &str = "\
Experiments are checked here first. A shard that is preempted, loses its node or reaches its time limit is requeued and resumes \
where it stopped. The merge starts when all shards have ended, and names those that are not done, if any. To resume after a \
failure, run the printed command again: shards that are done end at once.";
