//! `run` and `validate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eval::{Outcome, Plan, RunOptions, Sweep, execute, paper_tables};

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::{print, print_table};

/// What an experiment file asks for.
enum Job {
    Run(Box<Plan>),
    Sweep(Sweep),
}

/// Every experiment is checked before the first one starts.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let jobs = jobs(args)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = move || {
        // The second Ctrl-C does not wait for the batch in flight.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(5);
        }
        eprintln!("finishing the batch in flight; Ctrl-C again stops at once");
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::other(format!("cannot watch for Ctrl-C: {e}")))?;
    let mut outcomes = Vec::new();
    for job in &jobs {
        match job {
            Job::Run(plan) => {
                let outcome = execute(plan, &stop)?;
                outcome.tables.iter().for_each(print_table);
                tell(&outcome);
                outcomes.push(outcome);
            }
            Job::Sweep(sweep) => {
                let outcome = sweep.execute(&stop, |number, total, settings| {
                    eprintln!("run {number} of {total}: {settings}");
                })?;
                print_table(&outcome.table);
                print_table(&outcome.summary);
                eprintln!("results:  {}", outcome.out.join("sweep.json").display());
            }
        }
    }
    for (name, table) in paper_tables(&outcomes) {
        print_table(&table);
        if let Some(out) = &args.out {
            table.export(out, &name)?;
            eprintln!("table:    {}", out.join(name).with_extension("md").display());
        }
    }
    Ok(())
}

fn tell(outcome: &Outcome) {
    let (items, seconds) = (outcome.fresh, outcome.took.as_secs_f64());
    match items {
        0 => eprintln!("every item was there already"),
        _ => eprintln!("{items} items in {seconds:.1} s ({:.1} per second)", items as f64 / seconds),
    }
    if let Some(memory) = &outcome.results.memory {
        eprintln!("memory:   {memory}");
    }
    eprintln!("results:  {}", outcome.out.join("results.json").display());
    for picture in &outcome.pictures {
        eprintln!("picture:  {}", picture.display());
    }
}

pub fn validate(args: &RunArgs) -> Result<(), Failure> {
    for (config, job) in args.configs.iter().zip(jobs(args)?) {
        let (what, title) = match &job {
            Job::Run(plan) => (format!("{} items", plan.items()), &plan.experiment.title),
            Job::Sweep(sweep) => {
                let (combinations, runs) = (sweep.variants.len(), sweep.plans().count());
                let items = sweep.items();
                (format!("{combinations} combinations in {runs} runs of {items} items"), &sweep.title)
            }
        };
        print(&format!("{}: ready, {what}: {title}\n", config.display()));
    }
    Ok(())
}

fn jobs(args: &RunArgs) -> Result<Vec<Job>, Failure> {
    let several = args.configs.len() > 1;
    // Below one folder, runs are told apart by the names of their files.
    let folder = |config: &Path| Some(args.out.as_ref()?.join(config.file_stem()?));
    let job = |(index, config): (usize, &PathBuf)| {
        if several
            && args.out.is_some()
            && args.configs[..index].iter().any(|other| folder(other) == folder(config))
        {
            let name = config.file_stem().unwrap_or_default().to_string_lossy();
            return Err(Failure::usage(format!(
                "two experiments are called {name}: below one --out both would have the same folder; run them one by one, \
                 or leave --out away"
            )));
        }
        let options = RunOptions {
            assignments: args.assignments.clone(),
            limit: args.limit,
            out: if several { folder(config) } else { args.out.clone() },
            device: args.device.clone(),
        };
        match Sweep::new(config, &options)? {
            Some(sweep) => Ok(Job::Sweep(sweep)),
            None => Ok(Job::Run(Box::new(Plan::new(config, &options)?))),
        }
    };
    args.configs.iter().enumerate().map(job).collect()
}
