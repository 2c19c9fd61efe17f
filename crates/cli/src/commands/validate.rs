//! `validate`, and the check of every experiment before `run` starts the first one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eval::{Plan, RunOptions, Sweep};
use runs::FolderLocks;

use super::each::Each;
use crate::args::RunArgs;
use crate::failure::Failure;
use crate::print;

/// The job that an experiment file describes.
pub(crate) enum Job {
    Run(Box<Plan>),
    Sweep(Sweep),
}

impl Job {
    /// Returns the folders in which the job writes.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>, eval::Error> {
        match self {
            Self::Run(plan) => Ok(vec![plan.folder()?]),
            Self::Sweep(sweep) => sweep.folders(),
        }
    }

    /// Gives the job the locks on its folders, and clears these if the user asked to start over.
    pub(crate) fn start(&mut self, locks: &Arc<FolderLocks>) -> Result<(), eval::Error> {
        match self {
            Self::Run(plan) => plan.start(locks),
            Self::Sweep(sweep) => sweep.start(locks),
        }
    }

    /// Refuses a folder whose files no run has made and this job would write over.
    fn refuse_foreign(&self) -> Result<(), eval::Error> {
        match self {
            Self::Run(plan) => plan.refuse_foreign(),
            Self::Sweep(sweep) => sweep.refuse_foreign(),
        }
    }

    /// Returns the plan if the job is one run, whose table may be joined with those of others.
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Run(plan) => Some(plan),
            Self::Sweep(_) => None,
        }
    }

    /// Checks the files of every item. The runs of a sweep have the same items.
    fn check_files(&self) -> Result<(), eval::Error> {
        match self {
            Self::Run(plan) => plan.check_files(),
            Self::Sweep(sweep) => sweep.plans().next().map_or(Ok(()), Plan::check_files),
        }
    }

    /// Notes that the user should read before the job starts.
    fn notes(&self) -> &[String] {
        match self {
            Self::Run(plan) => &plan.notes,
            Self::Sweep(sweep) => &sweep.notes,
        }
    }
}

/// Checks every file, even if others have errors.
pub(crate) fn validate(args: &RunArgs) -> Result<(), Failure> {
    let ready = |config: &Path, job: &Job| {
        let (what, title) = match job {
            Job::Run(plan) => (format!("{} items", plan.items()), &plan.experiment.title),
            Job::Sweep(sweep) => {
                let (combinations, runs) = (sweep.variants.len(), sweep.plans().count());
                let items = sweep.items();
                (format!("{combinations} combinations in {runs} runs of {items} items"), &sweep.title)
            }
        };
        print(&format!("{}: ready, {what}: {title}\n", config.display()));
    };
    jobs(args, || Ok(()), Job::check_files, ready).map(|_| ())
}

/// Checks every file, also by the check `also`, and prints errors and notes to stderr. `ready` is called for each file
/// that can start; `go_on` is called before each file and may stop the checks.
///
/// # Errors
/// Fails if an experiment cannot start.
pub(crate) fn jobs(
    args: &RunArgs,
    go_on: impl Fn() -> Result<(), Failure>,
    also: impl Fn(&Job) -> Result<(), eval::Error>,
    ready: impl Fn(&Path, &Job),
) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    let mut each = Each::of(args.configs.len());
    for (index, config) in args.configs.iter().enumerate() {
        go_on()?;
        let checked = job(args, index, config).and_then(|job| {
            also(&job)?;
            Ok(job)
        });
        if let Some(job) = each.take(config, checked) {
            job.notes().iter().for_each(|note| say!("{}: note: {note}", config.display()));
            ready(config, &job);
            jobs.push(job);
        }
    }
    each.conclude("can start")?;
    if let (Some(out), [_, _, ..]) = (&args.out, &*jobs) {
        eval::refuse_foreign_tables(out, jobs.iter().filter_map(Job::plan))?;
    }
    Ok(jobs)
}

/// Checks one file.
fn job(args: &RunArgs, index: usize, config: &Path) -> Result<Job, Failure> {
    let several = args.configs.len() > 1;
    // Several runs below one folder are told apart by the names of their files.
    let folder = |config: &Path| Some(args.out.as_ref()?.join(config.file_stem()?));
    if several
        && args.out.is_some()
        && args.configs[..index].iter().any(|other| folder(other) == folder(config))
    {
        let name = config.file_stem().unwrap_or_default().to_string_lossy();
        return Err(Failure::usage(format!(
            "two experiments are called {name}: below one --out both would have the same folder; run them one by one, or \
             leave --out away"
        )));
    }
    let options = RunOptions {
        assignments: args.assignments.clone(),
        limit: args.limit,
        out: if several { folder(config) } else { args.out.clone() },
        device: args.device.clone(),
        shard: args.shard,
        fresh: args.fresh,
        command: Some(command()),
    };
    let job = match Sweep::new(config, &options)? {
        Some(sweep) => Job::Sweep(sweep),
        None => Job::Run(Box::new(Plan::new(config, &options)?)),
    };
    job.refuse_foreign()?;
    Ok(job)
}

/// Returns the command as it was given, without the arguments that do not affect the results: the folder, the shard,
/// and whether to start over.
fn command() -> String {
    let mut words = vec!["tokenrank".to_owned()];
    let mut given = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = given.next() {
        match &*word {
            "--out" | "--shard" => _ = given.next(),
            "--fresh" => {}
            _ if word.starts_with("--out=") || word.starts_with("--shard=") => {}
            _ => words.push(word),
        }
    }
    models::escape::shell(&words)
}
