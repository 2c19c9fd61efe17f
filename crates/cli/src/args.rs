//! The command line, as documented: what can be said, not what it does.

mod slurm;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use eval::analysis::TokenList;
use eval::compare::Tolerance;
use runs::Shard;

use crate::exit_code::ExitCode;
pub use slurm::SlurmArgs;

/// Attention as discrete-time Markov chains.
#[derive(Parser)]
#[command(name = "tokenrank", version, about, long_about = LONG_ABOUT, after_help = ExitCode::help())]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Attention as discrete-time Markov chains: reruns the experiments of Erel, Dünkel et al. (NeurIPS 2025, \
arXiv 2507.17657) and analyses the attention of any network.

The result goes to stdout, progress and messages to stderr.";

#[derive(Subcommand)]
pub enum Command {
    /// Run experiments, or what is left of them, and print their tables
    Run(RunArgs),
    /// Check experiments, their weights and data, without running anything
    Validate(RunArgs),
    /// Put shards together to whole runs and print their tables
    Merge(MergeArgs),
    /// Write a page of finished runs: tables beside the paper's, curves, pictures, every item
    Report(ReportArgs),
    /// Hold results against a baseline or against another run: which metric moved, by how much
    Compare(CompareArgs),
    /// List what there is
    Ls(LsArgs),
    /// Download published checkpoints and print their folders
    Fetch(FetchArgs),
    /// Write the attention of one forward pass to a file
    Attend(AttendArgs),
    /// Analyse attention matrices from any program as Markov chains
    Rank(RankArgs),
    /// Draw what the attention of an image is as a Markov chain, for any network
    Show(ShowArgs),
    /// Compare two folders of pictures: class score, Fréchet and kernel distance, precision, recall
    Metrics(MetricsArgs),
    /// Write, and submit, the jobs that spread experiments over a Slurm cluster
    Slurm(Box<SlurmArgs>),
    /// Check whether a run can start on this machine
    Doctor,
}

#[derive(clap::Args)]
pub struct RunArgs {
    /// Experiment files, such as configs/mini/masking-vit.toml
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Change a setting of the file: model.path=DIR, task.masking.layers=all
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Run only the first N items
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Folder of the run or runs [default: results/runs/NAME-FINGERPRINT]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where networks run: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Run one of N parts, counted from 1, into its own folder DIR/shard-I-of-N; `tokenrank merge DIR` makes the run.
    /// auto: I and N of a Slurm job array; auto/N: I of a Slurm job array or of a Kubernetes Indexed Job
    #[arg(long, value_name = "I/N", value_parser = <Shard as std::str::FromStr>::from_str)]
    pub shard: Option<Shard>,
    /// Start over: remove what the folder has of an earlier run
    #[arg(long)]
    pub fresh: bool,
}

#[derive(clap::Args)]
pub struct MergeArgs {
    /// Folders of shards, or folders that hold them: the --out of the runs
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Folder of the whole run or runs [default: the folder that holds the shards]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where what is left after the last item is done, such as judging pictures: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

#[derive(clap::Args)]
pub struct ReportArgs {
    /// Folder of a run, of several below one --out, or of a sweep
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The page to write [default: DIR/report.html]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(after_help = COMPARE_EXIT)]
pub struct CompareArgs {
    /// Folder of a run, or one that holds several: the --out of `tokenrank run`
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,
    /// A file of eval/baselines, or the folder of other runs
    #[arg(value_name = "BASELINE")]
    pub baseline: PathBuf,
    /// How far a metric may lie from the baseline, before what that says: auc=0.01, masking-vit/auc=0.02, default=0.001
    #[arg(long = "tolerance", value_name = "METRIC=VALUE", value_parser = <Tolerance as std::str::FromStr>::from_str)]
    pub tolerances: Vec<Tolerance>,
    /// Fail as well where a difference within tolerance is systematic: its 95 % interval leaves out 0
    #[arg(long)]
    pub strict: bool,
    /// Only this run, by the name of its experiment file; may be repeated
    #[arg(long, value_name = "RUN")]
    pub only: Vec<String>,
    /// Write the runs of the result to the baseline; its other runs and its tolerances stay
    #[arg(long)]
    pub update: bool,
    /// With --update, remove runs from the baseline that the result does not have
    #[arg(long, requires = "update", conflicts_with = "only")]
    pub prune: bool,
    /// List values that are the same, too
    #[arg(long)]
    pub all: bool,
    /// Also write the comparison as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write it as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

const COMPARE_EXIT: &str = "\
Exit code 4 where a value moved by more than its tolerance, for better or worse, is missing or new, or a run is not what the \
baseline's is: other settings, items, data or weights.";

#[derive(clap::Args)]
pub struct LsArgs {
    /// What to list; everything if not given
    pub what: Option<Listing>,
}

#[derive(clap::Args)]
#[command(after_help = FETCH_ENVIRONMENT)]
pub struct FetchArgs {
    /// Names or hub ids, as `tokenrank ls models` lists them
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Download nothing: print the folders, or what is missing
    #[arg(long)]
    pub offline: bool,
}

const FETCH_ENVIRONMENT: &str = "\
Environment, as in Python's huggingface_hub, whose cache is shared: HF_HOME and HF_HUB_CACHE (where files are kept), \
HF_ENDPOINT (a mirror), HF_TOKEN (for gated models), HF_HUB_OFFLINE=1";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Network architectures and published checkpoints
    Models,
    /// Kinds of datasets
    Datasets,
    /// Experiment files below configs/
    Experiments,
    /// Tables of the paper
    Tables,
}

#[derive(clap::Args)]
pub struct AttendArgs {
    /// Model directory: config.json, safetensors, preprocessor_config.json; or a FLUX or Stable
    /// Diffusion pipeline with model_index.json
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Image to look at, JPEG or PNG
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// The text beside the image that a FLUX or Stable Diffusion pipeline looks at (for the latter, none if not given), or
    /// one for the text tower of a CLIP directory, where it may be repeated
    #[arg(long = "prompt", value_name = "TEXT")]
    pub prompts: Vec<String>,
    /// Layers: all, last:N, or block numbers or names such as 0,3,block.11. They are those of the image tower; of a
    /// text tower the same, as far as it has them (last:N counts from its own end). Of a FLUX pipeline all and last:N
    /// mean each stream, and blocks are named as in dual.3,single.0,dual.last:4. Of a Stable Diffusion pipeline they are
    /// transformer layers, named by their paths or what these begin with, as in mid_block,up_blocks.3.attentions.0; .attn1
    /// behind one means self-attention alone, .attn2 cross-attention [default: all; of a FLUX pipeline the last ten dual
    /// blocks, or all of these]
    #[arg(long, value_name = "LIST")]
    pub layers: Option<String>,
    /// Resize the image to N×N pixels instead of what preprocessor_config.json says; for a FLUX pipeline instead of 512,
    /// or of its autoencoder's sample_size where that is smaller; for a Stable Diffusion pipeline instead of what its UNet
    /// was trained on
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    /// Present the image to a Stable Diffusion pipeline as if it had the noise of this timestep; none is put on it
    /// [default: 300]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(0..1000))]
    pub timestep: Option<u32>,
    #[command(flatten)]
    pub flux: FluxArgs,
    /// Where the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// File to write
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = RANK_OUTPUT)]
pub struct RankArgs {
    /// Matrices [..., n, n] in a .safetensors, .npy or .npz file, rows summing to 1
    pub file: PathBuf,
    /// Tensors by name; `*` stands for any characters, commas separate several, and the option may be repeated:
    /// block.3.probs, 'block.*.probs' [default: all square tensors called *.probs, or the only square one]
    #[arg(long = "key", value_name = "PATTERN")]
    pub keys: Vec<String>,
    /// Share of attention in the teleporting chain; 1 is no teleport
    #[arg(long, value_name = "A", default_value_t = 0.99, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Teleport to this distribution over the tokens, [n] or [..., n] in a .npy, .npz or .safetensors file (there the only
    /// tensor, or the one called `teleport`) [default: uniform]
    #[arg(long, value_name = "FILE")]
    pub teleport: Option<PathBuf>,
    /// Also bounce from this token, counted from 0
    #[arg(long, value_name = "I")]
    pub start: Option<usize>,
    /// Number of bounces [default: 10]
    #[arg(long, value_name = "N", requires = "start")]
    pub bounces: Option<usize>,
    /// Follow the attention, or go back to those that attend
    #[arg(long, value_enum, default_value_t = Direction::Forward)]
    pub direction: Direction,
    /// Leave these tokens out, such as padding or an attention sink, and renormalise the other rows: 0,3,60-76
    #[arg(long, value_name = "I,…", value_parser = <TokenList as std::str::FromStr>::from_str)]
    pub drop: Vec<TokenList>,
    /// Also write the expected visits to every token before a walk ends in one of these tokens. Walks begin at --start, else
    /// as --teleport says, else anywhere, and do not teleport
    #[arg(long, value_name = "I,…", value_parser = <TokenList as std::str::FromStr>::from_str)]
    pub absorb: Vec<TokenList>,
    /// Also write K metastable sets of the chain that TokenRank is taken of, teleport included
    #[arg(long, value_name = "K")]
    pub sets: Option<usize>,
    /// Also write the K largest eigenvalue moduli of the matrix, without teleport
    #[arg(long, value_name = "K")]
    pub spectrum: Option<usize>,
    /// Relative accuracy of the eigenvalue moduli
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1e-10,
        requires = "spectrum",
        allow_negative_numbers = true
    )]
    pub spectrum_tolerance: f64,
    /// How far from 1 a row may sum before it is refused [default: 1e-3; of half precision 2e-3, of bfloat16 8e-3]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
    /// Stop the power method as the reference does (L1 change below 1e-5, at most 200 steps) instead of exactly
    #[arg(long)]
    pub reference_stop: bool,
    /// File to write
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

const RANK_OUTPUT: &str = "\
Written are, with m tokens that are not dropped: tokenrank [..., m] and iterations [...]; with --start bounces [..., N, m]; with \
--spectrum lambda, lambda.residual and lambda.condition [..., min(K, m)]; with --sets sets.assignment [..., m], sets.memberships \
[..., m, K], sets.staying and sets.weights [..., K], sets.crispness [...]; with --absorb visits and steps [..., m] and absorption \
[..., m, absorbing tokens in rising order]; with --drop tokens [m], the numbers of those that are left. Where several tensors are \
read, names begin with theirs: block.3.probs.tokenrank.

A quantity that cannot be had for one matrix is NaN there, or left out if no matrix has it; the others are written, stderr gives \
the reason, and the exit code is 1.";

#[derive(clap::Args)]
pub struct ShowArgs {
    /// Model directory: config.json, safetensors, preprocessor_config.json; or a FLUX pipeline with model_index.json
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Image to look at, JPEG or PNG; a FLUX pipeline makes one of the prompt where none is given
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The text beside the image, for a FLUX pipeline
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Bounce from the tokens of this word of the prompt
    #[arg(long, value_name = "WORD", requires = "prompt", conflicts_with_all = ["token", "patch"])]
    pub word: Option<String>,
    /// Which of the word's T5 tokens [default: mean]
    #[arg(long, value_name = "WHICH", value_enum, requires = "word")]
    pub token_lookup: Option<Lookup>,
    /// Bounce from this token, counted from 0 as `attend` does: CLS, registers, patches row by row; text tokens, patches
    /// [default: the patch in the middle]
    #[arg(long, value_name = "I", conflicts_with = "patch")]
    pub token: Option<usize>,
    /// Bounce from this patch, counted from 0,0 at the top left
    #[arg(long, value_name = "ROW,COL", value_parser = patch)]
    pub patch: Option<(usize, usize)>,
    /// Number of bounces
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub bounces: usize,
    /// Layers that are shown and averaged: all, last:N, or block numbers or names such as 0,3,block.11; of a FLUX pipeline
    /// dual.3,single.0,dual.last:4 [default: all; of a FLUX pipeline the last ten dual blocks, or all of these]
    #[arg(long, value_name = "LIST")]
    pub layers: Option<String>,
    /// Share of attention in the teleporting chain; 1 is no teleport
    #[arg(long, value_name = "A", default_value_t = 0.99, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Leave CLS and registers out of the chain, before the softmax
    #[arg(long)]
    pub without_special: bool,
    /// Number of metastable sets [default: where the spectrum has its gap]
    #[arg(long, value_name = "K")]
    pub sets: Option<usize>,
    /// Resize the image to N×N pixels instead of what preprocessor_config.json says; for a FLUX pipeline, resize or make
    /// it, instead of 512 or of its autoencoder's sample_size where that is smaller
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    #[command(flatten)]
    pub flux: FluxArgs,
    /// Where the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Folder for pictures, index.html and show.json; files of the same names are replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = METRICS_NAMES)]
pub struct MetricsArgs {
    /// Folder of generated pictures: PNG or JPEG of any sizes, in this folder or below it
    #[arg(long, value_name = "DIR")]
    pub generated: PathBuf,
    /// Folder of real pictures, .npz with their mu and sigma, or .safetensors of --save-reference
    #[arg(long, value_name = "DIR|FILE")]
    pub reference: PathBuf,
    /// inception:FILE.safetensors (tools/convert_inception.py makes it), clip:DIR, or mini: the miniature ViT in
    /// datasets/mini/models/vit, for miniature scenes only (mini:DIR where it lies elsewhere)
    #[arg(long, value_name = "NETWORK")]
    pub features: String,
    /// Where the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Pictures in one pass of the network
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
    /// Only the first N pictures of each folder, by name
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the shuffle behind the class score and of the subsets behind the kernel distance
    #[arg(long, value_name = "S", default_value_t = 2020)]
    pub seed: u32,
    /// Parts over which the class score is averaged
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub splits: usize,
    /// Pictures of a subset of the kernel distance; fewer where there are fewer
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub subset_size: usize,
    /// Resamples of the generated pictures for standard errors and intervals; each costs an eigendecomposition
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub resamples: usize,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE.json")]
    pub out: Option<PathBuf>,
    /// Keep the features of the reference folder, for another --reference
    #[arg(long, value_name = "FILE.safetensors")]
    pub save_reference: Option<PathBuf>,
}

const METRICS_NAMES: &str = "\
Numbers carry the name of their features: only those of the published Inception-v3 are called Inception Score, FID and KID.";

/// What only FLUX pipelines have.
#[derive(clap::Args)]
#[command(next_help_heading = "FLUX pipelines")]
pub struct FluxArgs {
    /// Put on the image the noise that there is before this step, counted from 0 [default: 2]
    #[arg(long, value_name = "I")]
    pub noise_step: Option<usize>,
    /// Steps of the noise schedule, and of making an image [default: 4]
    #[arg(long, value_name = "N")]
    pub noise_steps: Option<usize>,
    /// Tokens of the prompt, padding included [default: the tokenizer's model_max_length, at most 256]
    #[arg(long, value_name = "N")]
    pub text_tokens: Option<usize>,
    /// Seed of the noise [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Type of weights and activations, also of Stable Diffusion pipelines [default: f32 on the CPU, bf16 elsewhere]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub dtype: Option<Dtype>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lookup {
    /// The first
    First,
    /// All, each as likely as the others
    Mean,
    /// The last
    Last,
    /// The one where CLIP's tokenizer has the word, as in the authors' code; often another word's
    ClipIndex,
}

/// `7,12`.
fn patch(text: &str) -> Result<(usize, usize), String> {
    let place = text
        .split_once(',')
        .and_then(|(row, col)| Some((row.trim().parse().ok()?, col.trim().parse().ok()?)));
    place.ok_or_else(|| "expected a row and a column, such as 7,12".into())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    Forward,
    Backward,
}
