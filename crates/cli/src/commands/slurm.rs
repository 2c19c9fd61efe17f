//! `slurm`.

use std::path::{Path, PathBuf};

use eval::slurm::{ArrayJob, Resources, SlurmError, submit, submit_command};
use eval::{Plan, RunOptions, Sweep};

use crate::args::SlurmArgs;
use crate::failure::Failure;
use crate::print;

/// Every experiment is checked here, before a node is asked for.
pub fn slurm(args: &SlurmArgs) -> Result<(), Failure> {
    let mut sweep = false;
    for config in &args.configs {
        let work = Work::of(args, config)?;
        let (items, batches, config) = (work.items, work.batches, config.display());
        if args.shards.get() > batches {
            return Err(Failure::usage(format!(
                "{config} has {batches} batches ({items} items) for {} shards, which share whole batches; give --nodes at \
                 most {batches}, or make the batches of the task smaller",
                args.shards
            )));
        }
        eprintln!("{config}: ready, {items} items in {batches} batches on {} shards", args.shards);
        sweep |= work.sweep;
    }
    let script = job(args, sweep)?.write()?;
    if args.submit {
        print(&submit(&script)?);
    } else {
        print(&format!("{}\n", submit_command(&script)?));
    }
    Ok(())
}

/// What there is to share.
struct Work {
    items: usize,
    /// Of the longest run of a sweep.
    batches: usize,
    sweep: bool,
}

impl Work {
    /// Of an experiment whose weights and data are there. The GPU is the nodes', not this machine's.
    fn of(args: &SlurmArgs, config: &Path) -> Result<Self, Failure> {
        let options = RunOptions {
            assignments: args.assignments.clone(),
            limit: args.limit,
            out: args.out.clone(),
            device: "cpu".into(),
            ..RunOptions::default()
        };
        if let Some(sweep) = Sweep::new(config, &options)? {
            let batches = sweep.plans().map(Plan::batches).max().unwrap_or(0);
            return Ok(Self { items: sweep.items(), batches, sweep: true });
        }
        let plan = Plan::new(config, &options)?;
        Ok(Self { items: plan.items(), batches: plan.batches(), sweep: false })
    }
}

fn job(args: &SlurmArgs, sweep: bool) -> Result<ArrayJob, Failure> {
    let name = name(&args.configs)?;
    let out = match &args.out {
        Some(out) => absolute(out)?,
        None => absolute(&Path::new("results/runs").join(format!("{name}-slurm")))?,
    };
    let wanted = &args.resources;
    Ok(ArrayJob {
        program: std::env::current_exe()
            .map_err(|e| Failure::other(format!("cannot find this program: {e}")))?,
        directory: absolute(Path::new("."))?,
        configs: args.configs.iter().map(|config| absolute(config)).collect::<Result<_, _>>()?,
        assignments: args.assignments.clone(),
        limit: args.limit,
        shards: args.shards,
        max_running: args.max_running,
        resources: Resources {
            partition: wanted.partition.clone(),
            account: wanted.account.clone(),
            time: wanted.time.clone(),
            cpus: wanted.cpus,
            memory: wanted.memory.clone(),
            gpu: wanted.gpu.clone(),
        },
        grace: args.grace,
        max_requeues: args.max_requeues,
        sbatch: wanted.sbatch.clone(),
        merge_sbatch: wanted.merge_sbatch.clone(),
        sweep,
        prologue: wanted.prologue.clone(),
        folder: args.folder.as_deref().map_or_else(|| Ok(out.join("slurm")), absolute)?,
        name,
        out,
    })
}

/// The names of the experiments, which also tell their folders apart.
fn name(configs: &[PathBuf]) -> Result<String, Failure> {
    let names: Vec<_> =
        configs.iter().map(|config| config.file_stem().unwrap_or_default().to_string_lossy()).collect();
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        Some((_, name)) => Err(Failure::usage(format!(
            "two experiments are called {name}: both would have the same folder; spread them one by one"
        ))),
        None => Ok(names.join("+")),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |e| Failure::usage(format!("{} is no path: {e}", path.display()));
    std::path::absolute(path).map_err(failed)
}

impl From<SlurmError> for Failure {
    fn from(error: SlurmError) -> Self {
        match error {
            SlurmError::Text { .. } => Self::usage(error.to_string()),
            SlurmError::File(error) => error.into(),
            SlurmError::Submit { .. } => Self::other(error.to_string()),
        }
    }
}
