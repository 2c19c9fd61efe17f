//! Definitions of the command-line arguments.

mod slurm;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use eval::analysis::TokenList;
use eval::compare::Tolerance;
use models::flux::pipeline::ReferenceSize;
use runs::Shard;

use crate::exit_code::ExitCode;
pub(crate) use slurm::SlurmArgs;

/// Attention as discrete-time Markov chains.
#[derive(Parser)]
#[command(name = "tokenrank", version, about, long_about = LONG_ABOUT, after_help = ExitCode::help())]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Attention as discrete-time Markov chains: reruns the experiments of Erel, Dünkel et al. (NeurIPS 2025, \
arXiv 2507.17657) and analyses the attention of any network.

The result goes to stdout, progress and messages to stderr.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run experiments, or the rest of interrupted ones, and print their tables
    Run(RunArgs),
    /// Check experiments, their weights and data, without running anything
    Validate(RunArgs),
    /// Merge shards into whole runs and print their tables
    Merge(MergeArgs),
    /// Write a page about finished runs: tables next to the paper's, curves, figures, all items
    Report(ReportArgs),
    /// Compare a finished sweep with a column of the paper: which combinations come near it, and which settings decide that
    SweepReport(SweepReportArgs),
    /// Compare results with a baseline or another run: which metrics moved, and by how much
    Compare(CompareArgs),
    /// List models, datasets, experiments and tables
    Ls(LsArgs),
    /// Download published checkpoints and print their folders
    Fetch(FetchArgs),
    /// Write the attention of one forward pass to a file
    Attend(AttendArgs),
    /// Analyse attention matrices from any program as Markov chains
    Rank(RankArgs),
    /// Draw the attention of an image as a Markov chain, for any network
    Show(ShowArgs),
    /// Compare two folders of images: class score, Fréchet and kernel distance, precision, recall
    Metrics(MetricsArgs),
    /// Write the jobs that spread experiments over a Slurm cluster, and submit them on request
    Slurm(Box<SlurmArgs>),
    /// Check whether a run can start on this machine
    Doctor,
    /// Print the script by which a shell completes commands and options
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command
    Man(ManArgs),
}

#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Experiments: files such as configs/mini/masking-vit.toml, or names that `tokenrank ls` lists, such as
    /// paper/masking-vit
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Override a setting of the file, such as model.path=DIR or task.masking.layers=all
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub assignments: Vec<String>,
    /// Run only the first N items
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Folder of the run or runs [default: results/runs/NAME-FINGERPRINT]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Device on which networks run: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Run shard I of N, counted from 1, in its own folder DIR/shard-I-of-N; `tokenrank merge DIR` combines the shards.
    /// auto takes I and N from a Slurm job array, auto/N takes I from a Slurm job array or a Kubernetes Indexed Job
    #[arg(long, value_name = "I/N", value_parser = <Shard as std::str::FromStr>::from_str)]
    pub shard: Option<Shard>,
    /// Start over: remove what an earlier run left in the folder
    #[arg(long)]
    pub fresh: bool,
}

#[derive(clap::Args)]
pub(crate) struct MergeArgs {
    /// Folders of shards, or folders that contain them: the --out of the runs
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Folder of the whole run or runs [default: the folder that contains the shards]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Device for the work after the last item, such as metrics of images: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
}

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Folder of a run, of several runs (their --out), or of a sweep
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Page to write [default: DIR/report.html]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct SweepReportArgs {
    /// Folder of a finished sweep: the --out of `tokenrank run`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Column of the paper's table of the experiment, such as ViT; `tokenrank ls tables` lists them [default: the column
    /// that the experiment fills, or that of the metric of the sweep's tables]
    #[arg(long, value_name = "COLUMN")]
    pub paper: Option<String>,
}

#[derive(clap::Args)]
#[command(after_help = COMPARE_EXIT)]
pub(crate) struct CompareArgs {
    /// Folder of a run, or of several: the --out of `tokenrank run`
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,
    /// File of eval/baselines, or folder of other runs
    #[arg(value_name = "BASELINE")]
    pub baseline: PathBuf,
    /// Largest allowed difference of a metric from the baseline; overrides the baseline's own tolerances: auc=0.01,
    /// masking-vit/auc=0.02, default=0.001
    #[arg(long = "tolerance", value_name = "METRIC=VALUE", value_parser = <Tolerance as std::str::FromStr>::from_str)]
    pub tolerances: Vec<Tolerance>,
    /// Also fail if a difference within tolerance is systematic, that is, if its 95 % interval excludes 0
    #[arg(long)]
    pub strict: bool,
    /// Compare only this run, given by the name of its experiment file; may be repeated
    #[arg(long, value_name = "RUN")]
    pub only: Vec<String>,
    /// Write the runs of the result to the baseline; its other runs and its tolerances are kept
    #[arg(long)]
    pub update: bool,
    /// With --update, remove runs from the baseline that are not in the result
    #[arg(long, requires = "update", conflicts_with = "only")]
    pub prune: bool,
    /// Also list values that have not changed
    #[arg(long)]
    pub all: bool,
    /// Also write the comparison as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write the comparison as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

const COMPARE_EXIT: &str = "\
Exit code 4 if a value moved by more than its tolerance (for better or worse), is missing or is new, or if a run differs from \
the baseline's in settings, items, data or weights.";

#[derive(clap::Args)]
pub(crate) struct LsArgs {
    /// What to list [default: everything]
    pub what: Option<Listing>,
    /// Print a text that the program carries: an experiment by its name, such as paper/masking-vit, or another file of the
    /// repository, such as configs/schema.json
    #[arg(long, value_name = "NAME", conflicts_with = "what")]
    pub show: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(after_help = COMPLETIONS_PLACES)]
pub(crate) struct CompletionsArgs {
    /// Shell that reads the script
    pub shell: clap_complete::Shell,
}

const COMPLETIONS_PLACES: &str = "\
For bash: tokenrank completions bash > ~/.local/share/bash-completion/completions/tokenrank";

#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages, such as ~/.local/share/man/man1; files of the same names are replaced
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = FETCH_ENVIRONMENT)]
pub(crate) struct FetchArgs {
    /// Names of `tokenrank ls models`, or the hub id of any checkpoint
    #[arg(required_unless_present = "configs", value_name = "NAME")]
    pub names: Vec<String>,
    /// Get what these experiments lack: checkpoints, classifiers, data sets
    #[arg(long = "for", value_name = "CONFIG", num_args = 1..)]
    pub configs: Vec<PathBuf>,
    /// Override a setting of the experiments, such as dataset.coco-stuff.root=DIR
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "configs")]
    pub assignments: Vec<String>,
    /// An archive or file of a data set that you have already; it is recognised by its name and unpacked where the
    /// experiments expect it
    #[arg(long, value_name = "FILE", requires = "configs")]
    pub from: Vec<PathBuf>,
    /// Download without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Do not download anything: print the folders, or what is missing
    #[arg(long)]
    pub offline: bool,
    /// File that pins what was fetched: written by the first fetch, and later fetches refuse what differs
    #[arg(long, value_name = "FILE", default_value = LOCK_FILE)]
    pub lock: PathBuf,
    /// Accept files for which the hub gives no hash or length, so that nothing tells whether they are right
    #[arg(long)]
    pub unverified: bool,
}

/// The lock file of `fetch`, in the current folder.
pub(crate) const LOCK_FILE: &str = "models.lock.toml";

const FETCH_ENVIRONMENT: &str = "\
Environment variables, as in Python's huggingface_hub, whose cache is shared: HF_HOME and HF_HUB_CACHE (folder of the cache), \
HF_ENDPOINT (a mirror), HF_TOKEN (for gated models), HF_HUB_OFFLINE=1 (no downloads), HF_HUB_DISABLE_SYMLINKS=1 (copies). \
TOKENRANK_MIRROR names a server that has the files of other web addresses under HOST/PATH; HTTPS_PROXY and its kin are obeyed";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listing {
    /// Network architectures and published checkpoints
    Models,
    /// Kinds of datasets, and descriptors that the program carries
    Datasets,
    /// Experiment files below configs/, and experiments that the program carries
    Experiments,
    /// Tables of the paper
    Tables,
    /// Licences of the program and of what it carries
    Licences,
}

#[derive(clap::Args)]
pub(crate) struct AttendArgs {
    /// Model directory: config.json, safetensors, preprocessor_config.json; or a FLUX or Stable
    /// Diffusion pipeline with model_index.json
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Image to process, JPEG or PNG
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Text that accompanies the image, for a FLUX or Stable Diffusion pipeline (for the latter empty by default), or a
    /// text for the text tower of a CLIP directory, where the option may be repeated
    #[arg(long = "prompt", value_name = "TEXT")]
    pub prompts: Vec<String>,
    /// Layers: all, last:N, or numbers or names of blocks such as 0,3,block.11. The text tower of CLIP uses the same
    /// layers as the image tower, as far as it has them (last:N counts from its own end). For a FLUX pipeline all and
    /// last:N apply to each stream, and blocks are named as in dual.3,single.0,dual.last:4. For a Stable Diffusion
    /// pipeline the names are paths of transformer layers, or beginnings of such paths, as in
    /// mid_block,up_blocks.3.attentions.0; the ending .attn1 selects self-attention alone, .attn2 cross-attention alone
    /// [default: all; for a FLUX pipeline the last ten dual blocks, or all if it has fewer]
    #[arg(long, value_name = "LIST")]
    pub layers: Option<String>,
    /// Resize the image to N×N pixels [default: the size in preprocessor_config.json; for a FLUX pipeline 512, or its
    /// autoencoder's sample_size if that is smaller; for a Stable Diffusion pipeline the size on which its UNet was
    /// trained]
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    /// Timestep passed to the UNet of a Stable Diffusion pipeline; no noise is added to the image [default: 300]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(0..1000))]
    pub timestep: Option<u32>,
    #[command(flatten)]
    pub flux: FluxArgs,
    /// Device on which the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// File to write
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = RANK_OUTPUT)]
pub(crate) struct RankArgs {
    /// File of matrices [..., n, n] whose rows sum to 1: .safetensors, .npy, .npz, or .pt of torch.save
    pub file: PathBuf,
    /// Names of the tensors to read; `*` matches any characters, commas separate names, and the option may be repeated:
    /// block.3.probs, 'block.*.probs' [default: all square tensors named *.probs, or the only square tensor]
    #[arg(long = "key", value_name = "PATTERN")]
    pub keys: Vec<String>,
    /// Probability that the chain follows the attention in a step; otherwise it teleports. 1 means no teleport
    #[arg(long, value_name = "A", default_value_t = 0.99, allow_negative_numbers = true)]
    pub alpha: f64,
    /// File with the distribution over the tokens to which the chain teleports, [n] or [..., n]: .npy, .npz or
    /// .safetensors (its only tensor, or the one named `teleport`) [default: uniform]
    #[arg(long, value_name = "FILE")]
    pub teleport: Option<PathBuf>,
    /// Also write bounces from this token, counted from 0
    #[arg(long, value_name = "I")]
    pub start: Option<usize>,
    /// Number of bounces [default: 10]
    #[arg(long, value_name = "N", requires = "start")]
    pub bounces: Option<usize>,
    /// Follow the attention, or go backward to the tokens that attend
    #[arg(long, value_enum, default_value_t = Direction::Forward)]
    pub direction: Direction,
    /// Drop these tokens, such as padding or an attention sink, and renormalise the remaining rows: 0,3,60-76
    #[arg(long, value_name = "I,…", value_parser = <TokenList as std::str::FromStr>::from_str)]
    pub drop: Vec<TokenList>,
    /// Also write the expected visits to every token before a walk ends in one of these tokens. Walks do not teleport.
    /// They start at --start if given, otherwise at a token drawn as --teleport says, or from all tokens alike
    #[arg(long, value_name = "I,…", value_parser = <TokenList as std::str::FromStr>::from_str)]
    pub absorb: Vec<TokenList>,
    /// Also write K metastable sets of the chain that TokenRank ranks, which includes the teleport
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
    /// Largest allowed deviation of a row sum from 1 [default: 1e-3; for half precision 2e-3, for bfloat16 8e-3]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
    /// Stop the power method as the reference code does (L1 change below 1e-5, at most 200 steps) instead of computing
    /// the steady state exactly
    #[arg(long)]
    pub reference_stop: bool,
    /// File to write
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

const RANK_OUTPUT: &str = "\
The output contains, for m tokens that are not dropped: tokenrank [..., m] and iterations [...]; with --start bounces [..., N, m]; with \
--spectrum lambda, lambda.residual and lambda.condition [..., min(K, m)]; with --sets sets.assignment [..., m], sets.memberships \
[..., m, K], sets.staying and sets.weights [..., K], sets.crispness [...]; with --absorb visits and steps [..., m] and absorption \
[..., m, absorbing tokens in rising order]; with --drop tokens [m], the numbers of the remaining tokens. If several tensors \
are read, names begin with the name of the tensor: block.3.probs.tokenrank.

A quantity that cannot be computed for a matrix is NaN there, and is left out if it cannot be computed for any matrix. All others \
are written, stderr gives the reason, and the exit code is 1.";

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Model directory: config.json, safetensors, preprocessor_config.json; or a FLUX or Stable Diffusion pipeline with
    /// model_index.json
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Image to process, JPEG or PNG; without one, a FLUX pipeline generates an image from the prompt
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Text that accompanies the image, for a FLUX or Stable Diffusion pipeline (for the latter empty by default)
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Bounce from the tokens of this word of the prompt; in a Stable Diffusion pipeline from the patches that attend to
    /// it, in proportion to their cross-attention
    #[arg(long, value_name = "WORD", requires = "prompt", conflicts_with_all = ["token", "patch"])]
    pub word: Option<String>,
    /// Which of the word's tokens to bounce from [default: mean]
    #[arg(long, value_name = "WHICH", value_enum, requires = "word")]
    pub token_lookup: Option<Lookup>,
    /// Bounce from this token, counted from 0 in the order of `attend`: CLS, registers, patches row by row; for a FLUX
    /// pipeline text tokens, patches [default: the patch in the middle]
    #[arg(long, value_name = "I", conflicts_with = "patch")]
    pub token: Option<usize>,
    /// Bounce from this patch, counted from 0,0 at the top left; for a Stable Diffusion pipeline at the finest resolution
    /// shown, and at coarser ones from the patch that contains it. --token likewise
    #[arg(long, value_name = "ROW,COL", value_parser = patch)]
    pub patch: Option<(usize, usize)>,
    /// Number of bounces
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub bounces: usize,
    /// Layers that are drawn and averaged: all, last:N, or numbers or names of blocks such as 0,3,block.11; for a FLUX
    /// pipeline as in dual.3,single.0,dual.last:4; for a Stable Diffusion pipeline attn1 for all, or paths such as
    /// mid_block,up_blocks.1, of which self-attention is drawn [default: all; for a FLUX pipeline the last ten dual
    /// blocks, or all if it has fewer; for a Stable Diffusion pipeline without resolutions of more than 2000 patches]
    #[arg(long, value_name = "LIST")]
    pub layers: Option<String>,
    /// Probability that the chain follows the attention in a step; otherwise it teleports. 1 means no teleport
    #[arg(long, value_name = "A", default_value_t = 0.99, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Remove CLS and registers from the chain, before the softmax
    #[arg(long)]
    pub without_special: bool,
    /// Number of metastable sets [default: given by the gap of the spectrum]
    #[arg(long, value_name = "K")]
    pub sets: Option<usize>,
    /// Resize the image to N×N pixels, or generate it at that size [default: the size in preprocessor_config.json; for
    /// a FLUX pipeline 512, or its autoencoder's sample_size if that is smaller; for a Stable Diffusion pipeline the
    /// size on which its UNet was trained]
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    /// Timestep passed to the UNet of a Stable Diffusion pipeline; no noise is added to the image [default: 300]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(0..1000))]
    pub timestep: Option<u32>,
    #[command(flatten)]
    pub flux: FluxArgs,
    /// Device on which the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Folder for figures, index.html and show.json; files of the same names are replaced. A Stable Diffusion pipeline
    /// has a folder in it for each resolution, such as 16x16
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(clap::Args)]
#[command(after_help = METRICS_NAMES)]
pub(crate) struct MetricsArgs {
    /// Folder of generated images: PNG or JPEG files of any size, in this folder or below it
    #[arg(long, value_name = "DIR")]
    pub generated: PathBuf,
    /// Folder of real images, .npz file with their mu and sigma, or .safetensors file of --save-reference
    #[arg(long, value_name = "DIR|FILE")]
    pub reference: PathBuf,
    /// Feature network: inception:FILE (`tokenrank fetch inception-2015-12-05` gets it), clip:DIR, or mini, the
    /// miniature ViT in datasets/mini/models/vit, for miniature scenes only (mini:DIR if it lies elsewhere)
    #[arg(long, value_name = "NETWORK")]
    pub features: String,
    /// Device on which the network runs: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Number of images in one pass of the network
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
    /// Use only the first N images of each folder, by name
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the shuffle for the class score and of the subsets for the kernel distance
    #[arg(long, value_name = "S", default_value_t = 2020)]
    pub seed: u32,
    /// Number of parts over which the class score is averaged
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub splits: usize,
    /// Number of images in a subset for the kernel distance; fewer if a folder has fewer
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub subset_size: usize,
    /// Number of resamples of the generated images for standard errors and intervals; each needs an eigendecomposition
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub resamples: usize,
    /// Also write all results as JSON
    #[arg(long, value_name = "FILE.json")]
    pub out: Option<PathBuf>,
    /// Write the features of the reference folder to a file that --reference can read
    #[arg(long, value_name = "FILE.safetensors")]
    pub save_reference: Option<PathBuf>,
}

const METRICS_NAMES: &str = "\
Metrics are named after their features: only those of the published Inception-v3 are called Inception Score, FID and KID.";

/// Options of FLUX pipelines only.
#[derive(clap::Args)]
#[command(next_help_heading = "FLUX pipelines")]
pub(crate) struct FluxArgs {
    /// Add the noise that the schedule has before this step, counted from 0, to the image [default: 2]
    #[arg(long, value_name = "I")]
    pub noise_step: Option<usize>,
    /// Number of steps of the noise schedule, also when an image is generated [default: 4]
    #[arg(long, value_name = "N")]
    pub noise_steps: Option<usize>,
    /// Number of prompt tokens, including padding [default: the tokenizer's model_max_length, at most 256]
    #[arg(long, value_name = "N")]
    pub text_tokens: Option<usize>,
    /// Seed of the noise [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Reference image for a FLUX.1 Kontext pipeline, JPEG or PNG. It gets no noise; its tokens follow those of the image
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Resize the reference image to the size with the nearest proportions among those that Kontext was trained on, of
    /// about 1024×1024 pixels (preferred); keep its own size, rounded down to whole tokens (own); or resize it to N×N
    /// pixels [default: preferred]
    #[arg(long, value_name = "SIZE", requires = "reference", value_parser = <ReferenceSize as std::str::FromStr>::from_str)]
    pub reference_size: Option<ReferenceSize>,
    /// Type of weights and activations, also for Stable Diffusion pipelines [default: f32 on the CPU, bf16 elsewhere]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub dtype: Option<Dtype>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lookup {
    /// The first token
    First,
    /// All tokens, with equal probabilities
    Mean,
    /// The last token
    Last,
    /// The token at the word's position in CLIP's tokenizer, as in the authors' code; it often belongs to another word
    ClipIndex,
}

/// Parses a patch such as `7,12`.
fn patch(text: &str) -> Result<(usize, usize), String> {
    let place = text
        .split_once(',')
        .and_then(|(row, col)| Some((row.trim().parse().ok()?, col.trim().parse().ok()?)));
    place.ok_or_else(|| "expected a row and a column, such as 7,12".into())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    Forward,
    Backward,
}
