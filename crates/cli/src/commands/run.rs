//! `run` and `merge`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eval::{Finished, MergeOptions, Outcome, ShardOutcome, execute, paper_tables};

use super::validate::{Job, jobs};
use crate::args::{MergeArgs, RunArgs};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::print_table;

/// Every experiment is checked before the first one starts.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let stop = watch()?;
    let mut jobs = jobs(args, || refuse_stopped(&stop, Fresh::Kept), |_| Ok(()), |_, _| {})?;
    // All of them before the first record: until then starting over again loses nothing, from then on nothing need be.
    for job in &mut jobs {
        refuse_stopped(&stop, Fresh::Kept)?;
        job.start_over()?;
    }
    let mut done = Done::default();
    for job in &jobs {
        refuse_stopped(&stop, Fresh::Done)?;
        done.take(job, &stop).map_err(resumable)?;
    }
    done.conclude(args.out.as_deref())
}

/// Shards to whole runs.
pub fn merge(args: &MergeArgs) -> Result<(), Failure> {
    let options =
        MergeOptions { dirs: args.dirs.clone(), out: args.out.clone(), device: args.device.clone() };
    let mut done = Done::default();
    let stop = watch()?;
    eval::merge(&options, &stop).map_err(resumable)?.into_iter().for_each(|outcome| done.run(outcome));
    let of_sweep = |outcome: &Outcome| outcome.out.parent().is_some_and(|folder| folder.ends_with("runs"));
    if done.outcomes.iter().any(of_sweep) {
        say!("for the sweep's table: the command of the shards without --shard, which finds everything done");
    }
    let folder = args.out.as_deref().or(match &args.dirs[..] {
        [only] => Some(only.as_path()),
        _ => None,
    });
    done.conclude(folder)
}

/// A switch that Ctrl-C, or a scheduler's SIGTERM, turns on.
fn watch() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = move || {
        // The second one does not wait for the batch in flight. Nor does it run destructors: libtorch's would do so while the
        // main thread computes.
        if flag.swap(true, Ordering::Relaxed) {
            signal_hook::low_level::exit(ExitCode::Interrupted.code().into());
        }
        say!("stopping after the batch in flight; Ctrl-C again stops at once");
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::other(format!("cannot watch for Ctrl-C: {e}")))?;
    Ok(stop)
}

/// Whether `--fresh` belongs to the command that goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    /// Not all folders have been begun anew, and there is no record to lose in those that have.
    Kept,
    /// All folders have been begun anew.
    Done,
}

/// The command as it was given, as a shell reads it.
fn again(fresh: Fresh) -> Vec<u8> {
    let stays = |word: &OsString| fresh == Fresh::Kept || word != "--fresh";
    let words: Vec<OsString> = std::env::args_os().filter(stays).collect();
    // Fails at a zero byte only, which no argument has.
    shlex::bytes::try_join(words.iter().map(|word| word.as_encoded_bytes())).unwrap_or_default()
}

/// An interruption between two experiments.
fn refuse_stopped(stop: &AtomicBool, fresh: Fresh) -> Result<(), Failure> {
    if !stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let message = match fresh {
        Fresh::Kept => "interrupted before the first experiment began",
        Fresh::Done => "interrupted between two experiments; what was answered is kept",
    };
    Err(Failure::interrupted(message, again(fresh)))
}

/// An interruption of an experiment with the command that goes on from there.
fn resumable(error: eval::Error) -> Failure {
    let eval::Error::Run(runs::Error::Interrupted { done, out, .. }) = &error else { return error.into() };
    let message = match done {
        0 => {
            format!(
                "interrupted before the first item in {}; what was answered before is kept",
                out.display()
            )
        }
        _ => error.to_string(),
    };
    Failure::interrupted(&message, again(Fresh::Done))
}

/// What the jobs of a command have come to.
#[derive(Default)]
struct Done {
    outcomes: Vec<Outcome>,
    /// Items whose data cannot be read, with the reasons; the runs of a sweep have the same items.
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
                    say!("results:  {}", outcome.out.join("sweep.json").display());
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

    /// The tables of the paper that several runs fill, and the exit code.
    fn conclude(self, folder: Option<&Path>) -> Result<(), Failure> {
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
            1 => (1, "item"),
            count => (count, "items"),
        };
        Err(Failure::unread(format!(
            "{count} {items} could not be read and count for nothing in the table ({first}{}); everything else is done. Mend \
             or leave out what is wrong; the same command tries it again and keeps the rest",
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
    for picture in &outcome.figures {
        say!("picture:  {}", picture.display());
    }
}

fn tell_pace(items: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    match items {
        0 => say!("every item was there already"),
        _ => say!("{items} items in {seconds:.1} s ({:.1} per second)", items as f64 / seconds),
    }
}
