//! `slurm`.

use std::path::{Path, PathBuf};

use eval::{Plan, RunOptions, Source, Sweep};
use runs::slurm::{ArrayJob, Resources, Submitted, submit, submit_command};

use super::each::Each;
use crate::args::SlurmArgs;
use crate::failure::Failure;
use crate::print;

/// Every experiment is checked here, before a node is requested.
pub(crate) fn slurm(args: &SlurmArgs) -> Result<(), Failure> {
    let mut job = job(args)?;
    let mut each = Each::of(args.configs.len());
    for config in &args.configs {
        each.take(config, add(args, config, &mut job));
    }
    each.conclude("can be spread")?;
    if let ([_], false) = (&args.configs[..], job.sweep) {
        job.runs.clear();
    }
    let script = job.write()?;
    if args.submit {
        let Submitted { jobs, said } = submit(&script)?;
        if !said.is_empty() {
            say!("{}", said.trim_end());
        }
        print(&jobs);
    } else {
        print(&format!("{}\n", submit_command(&script)?));
    }
    Ok(())
}

/// Checks an experiment, and that its shards can resume in their folders.
fn add(args: &SlurmArgs, config: &Path, job: &mut ArrayJob) -> Result<(), Failure> {
    let options = RunOptions {
        assignments: args.assignments.clone(),
        limit: args.limit,
        // The GPU belongs to the nodes, not to this machine.
        device: "cpu".into(),
        ..RunOptions::default()
    };
    let tell = |notes: &[String]| notes.iter().for_each(|note| say!("{}: note: {note}", config.display()));
    let (sweep, plan);
    let runs: Vec<(PathBuf, &Plan)> = match Sweep::new(config, &options)? {
        Some(found) => {
            sweep = found;
            tell(&sweep.notes);
            job.sweep = true;
            sweep.runs().collect()
        }
        None => {
            plan = Plan::new(config, &options)?;
            tell(&plan.notes);
            vec![(PathBuf::new(), &plan)]
        }
    };
    let most = |count: fn(&Plan) -> usize| runs.iter().map(|(_, plan)| count(plan)).max().unwrap_or(0);
    let (items, batches, shards) = (most(Plan::items), most(Plan::batches), args.shards.get());
    if shards > batches {
        return Err(Failure::usage(format!(
            "{} has {batches} batches ({items} items) for {shards} shards, which share whole batches; give --nodes at \
             most {batches}, or make the batches of the task smaller",
            config.display()
        )));
    }
    // Folders of several runs are named as `tokenrank run` names them.
    let mut folder = job.out.clone();
    if args.configs.len() > 1 {
        folder.extend(config.file_stem());
    }
    for (below, plan) in runs {
        let folder: PathBuf = folder.iter().chain(&below).collect();
        plan.spreads_in(&folder, shards, job.resources.gpu.is_some())?;
        job.runs.push(folder);
    }
    say!("{}: ready, {items} items in {batches} batches on {shards} shards", config.display());
    Ok(())
}

/// Returns the job without the parts that depend on its experiments.
fn job(args: &SlurmArgs) -> Result<ArrayJob, Failure> {
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
        configs: args.configs.iter().map(|config| on_node(config)).collect::<Result<_, _>>()?,
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
        runs: Vec::new(),
        sweep: false,
        prologue: wanted.prologue.clone(),
        folder: args.folder.as_deref().map_or_else(|| Ok(out.join("slurm")), absolute)?,
        name,
        out,
    })
}

/// Returns the joined names of the experiments. Fails if two names are equal, since their folders would be the same.
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

/// Returns what the nodes are to run: the absolute path of a file, or the name of an experiment in the program.
fn on_node(config: &Path) -> Result<PathBuf, Failure> {
    match Source::of(config) {
        Ok(Source::File(path)) => absolute(&path),
        Ok(Source::Program(_)) => Ok(config.into()),
        // The check of the experiment reports the error.
        Err(_) => absolute(config),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |e| Failure::usage(format!("invalid path `{}`: {e}", path.display()));
    std::path::absolute(path).map_err(failed)
}
