//! What people read on the terminal, word for word.

use insta::assert_snapshot;

use crate::common::{root, run, tokenrank, words};

fn stdout(args: &[&str]) -> String {
    String::from_utf8(run(args, 0).stdout).expect("text")
}

fn stderr(args: &[&str], code: i32) -> String {
    String::from_utf8(run(args, code).stderr).expect("text")
}

#[test]
fn help() {
    assert_snapshot!(stdout(&["--help"]), @r"
Attention as discrete-time Markov chains: reruns the experiments of Erel, Dünkel et al. (NeurIPS
2025, arXiv 2507.17657) and analyses the attention of any network.

The result goes to stdout, progress and messages to stderr.

Usage: tokenrank <COMMAND>

Commands:
  run           Run experiments, or the rest of interrupted ones, and print their tables
  validate      Check experiments, their weights and data, without running anything
  merge         Merge shards into whole runs and print their tables
  report        Write a page about finished runs: tables next to the paper's, curves, figures, all
                items
  sweep-report  Compare a finished sweep with a column of the paper: which combinations come near
                it, and which settings decide that
  compare       Compare results with a baseline or another run: which metrics moved, and by how much
  ls            List models, datasets, experiments and tables
  fetch         Download published checkpoints and print their folders
  attend        Write the attention of one forward pass to a file
  rank          Analyse attention matrices from any program as Markov chains
  show          Draw the attention of an image as a Markov chain, for any network
  metrics       Compare two folders of images: class score, Fréchet and kernel distance, precision,
                recall
  slurm         Write the jobs that spread experiments over a Slurm cluster, and submit them on
                request
  doctor        Check whether a run can start on this machine
  completions   Print the script by which a shell completes commands and options
  man           Write manual pages, one for each command
  help          Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

Exit codes: 0 fine · 2 usage or config · 3 weights, data or a run missing or unreadable · 4 a metric
moved (compare) · 5 interrupted, resumable · 1 anything else
");
}

#[test]
fn help_of_run() {
    assert_snapshot!(stdout(&["run", "-h"]), @r"
Run experiments, or the rest of interrupted ones, and print their tables

Usage: tokenrank run [OPTIONS] <CONFIG>...

Arguments:
  <CONFIG>...  Experiments: files such as configs/mini/masking-vit.toml, or names that `tokenrank
               ls` lists, such as paper/masking-vit

Options:
      --set <KEY=VALUE>  Override a setting of the file, such as model.path=DIR or
                         task.masking.layers=all
      --limit <N>        Run only the first N items
      --out <DIR>        Folder of the run or runs [default: results/runs/NAME-FINGERPRINT]
      --device <DEVICE>  Device on which networks run: cpu or cuda:N [default: cpu]
      --shard <I/N>      Run shard I of N, counted from 1, in its own folder DIR/shard-I-of-N;
                         `tokenrank merge DIR` combines the shards. auto takes I and N from a Slurm
                         job array, auto/N takes I from a Slurm job array or a Kubernetes Indexed
                         Job
      --fresh            Start over: remove what an earlier run left in the folder
  -h, --help             Print help
");
}

#[test]
fn help_of_fetch() {
    assert_snapshot!(stdout(&["fetch", "-h"]), @r"
Download published checkpoints and print their folders

Usage: tokenrank fetch [OPTIONS] [NAME]...

Arguments:
  [NAME]...  Names of `tokenrank ls models`, or the hub id of any checkpoint

Options:
      --for <CONFIG>...  Get what these experiments lack: checkpoints, classifiers, data sets
      --set <KEY=VALUE>  Override a setting of the experiments, such as dataset.coco-stuff.root=DIR
      --from <FILE>      An archive or file of a data set that you have already; it is recognised by
                         its name and unpacked where the experiments expect it
  -y, --yes              Download without asking
      --offline          Do not download anything: print the folders, or what is missing
      --lock <FILE>      File that pins what was fetched: written by the first fetch, and later
                         fetches refuse what differs [default: models.lock.toml]
      --unverified       Accept files for which the hub gives no hash or length, so that nothing
                         tells whether they are right
  -h, --help             Print help

Environment variables, as in Python's huggingface_hub, whose cache is shared: HF_HOME and
HF_HUB_CACHE (folder of the cache), HF_ENDPOINT (a mirror), HF_TOKEN (for gated models),
HF_HUB_OFFLINE=1 (no downloads), HF_HUB_DISABLE_SYMLINKS=1 (copies). TOKENRANK_MIRROR names a server
that has the files of other web addresses under HOST/PATH; HTTPS_PROXY and its kin are obeyed
");
}

#[test]
fn a_model_that_nobody_knows() {
    assert_snapshot!(stderr(&["fetch", "dinov2-base"], 2), @r"
  × no model `dinov2-base` is known; nearest: dinov2-base-imagenet1k, dino-vitb16, dino-vitb8;
  │ `tokenrank ls models` lists them all; a model of your own is given as a folder
");
}

#[test]
fn a_model_given_twice() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let text = std::fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    let text = text.replace("[model]\n", "[model]\nid = \"facebook/dino-vits16\"\n");
    std::fs::write(dir.path().join("mine.toml"), text).expect("writable");
    let output = tokenrank().args(["run", "mine.toml"]).current_dir(dir.path()).output().expect("an answer");
    assert_eq!(output.status.code(), Some(2));
    assert_snapshot!(String::from_utf8(output.stderr).expect("text"), @r"
  × experiment mine.toml: TOML parse error at line 6, column 1
  │   |
  │ 6 | [model]
  │   | ^^^^^^^
  │ a model has an `id` or a `path`, not both
");
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let text = std::fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    std::fs::write(dir.path().join("mine.toml"), text.replace("alpha =", "alfa =")).expect("writable");
    let output = tokenrank().args(["run", "mine.toml"]).current_dir(dir.path()).output().expect("an answer");
    assert_eq!(output.status.code(), Some(2));
    assert_snapshot!(String::from_utf8(output.stderr).expect("text"), @r"
× experiment mine.toml: TOML parse error at line 18, column 1
│    |
│ 18 | alfa = 0.99
│    | ^^^^
│ unknown field `alfa` (did you mean `alpha`?), expected one of `methods`, `image_size`,
│ `layers`, `cls`, `heads`, `alpha`, `lambda_weight`, `mechanism`, `direction`, `fractions`,
│ `confidence`, `batch`, `figures`
");
}

/// With the folder that a relative path counts from.
#[test]
fn weights_that_are_missing() {
    let output = run(&["run", "configs/mini/masking-vit.toml", "--set", "model.path=no/such/model"], 3);
    let folder = root().canonicalize().expect("a folder");
    assert_eq!(
        words(&output),
        format!(
            "no/such/model: no such model directory; a model is a folder with config.json and safetensors (looked for at \
             {}/no/such/model: relative paths count from the current folder)",
            folder.display()
        )
    );
}
