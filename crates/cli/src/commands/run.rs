//! `run` and `merge`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eval::{Finished, MergeOptions, Outcome, ShardOutcome, execute, paper_tables};
use models::escape;

use runs::FolderLocks;

use super::validate::{Job, jobs};
use crate::args::{MergeArgs, RunArgs};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::limits::on_interruption;
use crate::print_table;

/// All experiments are checked before the first one starts.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let stop = watch()?;
    let mut jobs = jobs(args, || refuse_stopped(&stop, Fresh::Kept), |_| Ok(()), |_, _| {})?;
    // All folders are locked before the first file is removed, and stay locked until the last table is written.
    let locks = Arc::new(FolderLocks::take(folders(args, &jobs)?).map_err(eval::Error::from)?);
    // All folders are cleared before the first record is written. An interruption before that loses nothing if the
    // command starts over again; after that, nothing need be cleared.
    for job in &mut jobs {
        refuse_stopped(&stop, Fresh::Kept)?;
        job.start(&locks)?;
    }
    let mut done = Done::default();
    for job in &jobs {
        refuse_stopped(&stop, Fresh::Done)?;
        done.take(job, &stop).map_err(resumable)?;
    }
    done.conclude(args.out.as_deref())
}

/// Returns the folders in which the command writes: those of its jobs, and that of the tables which several jobs fill together.
fn folders(args: &RunArgs, jobs: &[Job]) -> Result<Vec<PathBuf>, eval::Error> {
    let shared = args.out.iter().filter(|_| args.shard.is_none() && jobs.len() > 1).cloned();
    let mut folders: Vec<PathBuf> = shared.collect();
    for job in jobs {
        folders.extend(job.folders()?);
    }
    Ok(folders)
}

/// Merges shards into whole runs.
pub(crate) fn merge(args: &MergeArgs) -> Result<(), Failure> {
    let options =
        MergeOptions { dirs: args.dirs.clone(), out: args.out.clone(), device: args.device.clone() };
    let mut done = Done::default();
    let stop = watch()?;
    let mut merged = eval::merge(&options, &stop).map_err(resumable)?;
    merged.outcomes.drain(..).for_each(|outcome| done.run(outcome));
    let of_sweep = |outcome: &Outcome| outcome.out.parent().is_some_and(|folder| folder.ends_with("runs"));
    if done.outcomes.iter().any(of_sweep) {
        say!("for the sweep's table: the command of the shards without --shard, which finds everything done");
    }
    done.conclude(options.folder())
}

/// Returns a flag that Ctrl-C, or a scheduler's SIGTERM, sets.
fn watch() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = move || {
        // The second signal does not wait for the current batch. It also exits without destructors: libtorch's would
        // run while the main thread computes.
        if flag.swap(true, Ordering::Relaxed) {
            signal_hook::low_level::exit(ExitCode::Interrupted.code().into());
        }
        say!("stopping after the current batch; press Ctrl-C again to stop at once");
    };
    on_interruption(handler)?;
    Ok(stop)
}

/// Whether the command that resumes still needs `--fresh`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    /// Yes: not all folders have been cleared, and those that have been hold no record yet.
    Kept,
    /// No: all folders have been cleared.
    Done,
}

/// Returns the command as it was given, quoted for a shell.
fn again(fresh: Fresh) -> String {
    let stays = |word: &OsString| fresh == Fresh::Kept || word != "--fresh";
    escape::shell(std::env::args_os().filter(stays))
}

/// Fails if the command was interrupted between two experiments.
fn refuse_stopped(stop: &AtomicBool, fresh: Fresh) -> Result<(), Failure> {
    if !stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let message = match fresh {
        Fresh::Kept => "interrupted before the first experiment began",
        Fresh::Done => "interrupted between two experiments; all finished items are kept",
    };
    Err(Failure::interrupted(message, again(fresh)))
}

/// Turns an interruption of an experiment into a failure with the command that resumes it.
fn resumable(error: eval::Error) -> Failure {
    let eval::Error::Run(runs::Error::Interrupted { done, out, .. }) = &error else { return error.into() };
    let message = match done {
        0 => {
            format!("interrupted before the first item in {}; all earlier results are kept", out.display())
        }
        _ => error.to_string(),
    };
    Failure::interrupted(&message, again(Fresh::Done))
}

/// The results of a command's jobs so far.
#[derive(Default)]
struct Done {
    outcomes: Vec<Outcome>,
    /// Unreadable items with the reasons. The runs of a sweep have the same items, so each is listed once.
    unread: BTreeSet<String>,
}

impl Done {
    fn take(&mut self, job: &Job, stop: &AtomicBool) -> Result<(), eval::Error> {
        match job {
            Job::Run(plan) => match execute(plan, stop)? {
                Finished::Run(outcome) => self.run(*outcome),
                Finished::Shard(shard) => self.shard(&shard),
            },
            Job::Sweep(sweep) => {
                let done = sweep.execute(stop, |number, total, settings| {
                    say!("run {number} of {total}: {settings}");
                })?;
                self.unread(&done.failed);
                if let Some(outcome) = done.outcome {
                    print_table(&outcome.table);
                    print_table(&outcome.summary);
                    outcome.differences.iter().for_each(print_table);
                    say!("results:  {}", outcome.out.join("sweep.json").display());
                    for figure in &outcome.figures {
                        say!("figure:   {}", figure.display());
                    }
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, outcome: Outcome) {
        outcome.tables.iter().for_each(print_table);
        tell(&outcome);
        self.unread(&outcome.results.failed);
        self.outcomes.push(outcome);
    }

    fn shard(&mut self, outcome: &ShardOutcome) {
        let ShardOutcome { shard, items, fresh, took, .. } = outcome;
        tell_pace(*fresh, *took);
        say!("shard {shard}: {items} items answered in {}", outcome.out.display());
        say!("when all {} shards are done: tokenrank merge {}", shard.of, outcome.run.display());
        self.unread(&outcome.failed);
    }

    fn unread(&mut self, failed: &[eval::ItemFailure]) {
        self.unread.extend(failed.iter().map(|failure| format!("{}: {}", failure.id, failure.reason)));
    }

    /// Prints the tables of the paper that several runs fill, and returns the outcome of the command.
    fn conclude(self, folder: Option<&Path>) -> Result<(), Failure> {
        if self.outcomes.len() > 1 {
            // A table must have the records of every run behind it.
            self.outcomes.iter().try_for_each(Outcome::check)?;
        }
        let runs: Vec<_> = self.outcomes.iter().map(|run| (run.name.as_str(), &run.results)).collect();
        for (name, table) in paper_tables(&runs) {
            print_table(&table);
            if let Some(folder) = folder {
                table.export(folder, &name)?;
                say!("table:    {}", folder.join(name).with_extension("md").display());
            }
        }
        let Some(first) = self.unread.first() else { return Ok(()) };
        let (count, items) = match self.unread.len() {
            1 => (1, "item could not be answered and is"),
            count => (count, "items could not be answered and are"),
        };
        Err(Failure::unread(format!(
            "{count} {items} excluded from the table (first: {first}{}). All other items are done. Fix \
             or remove these items and run the same command again, which retries only them",
            if count > 1 { "; …" } else { "" }
        )))
    }
}

fn tell(outcome: &Outcome) {
    tell_pace(outcome.fresh, outcome.took);
    if let Some(memory) = &outcome.results.memory {
        say!("memory:   {memory}");
    }
    say!("results:  {}", outcome.out.join("results.json").display());
    for figure in &outcome.figures {
        say!("figure:   {}", figure.display());
    }
}

fn tell_pace(items: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    match items {
        0 => say!("all items were already done"),
        _ => say!("{items} items in {seconds:.1} s ({:.1} per second)", items as f64 / seconds),
    }
}
