//! `run` and `validate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eval::{Outcome, Plan, RunOptions, execute, paper_tables};

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::print;

/// Every experiment is checked before the first one starts.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let plans = plans(args)?;
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
    for plan in &plans {
        let outcome = execute(plan, &stop)?;
        print(&format!("{}\n", outcome.table.to_text()));
        tell(&outcome);
        outcomes.push(outcome);
    }
    for table in paper_tables(&outcomes) {
        print(&format!("{}\n", table.to_text()));
    }
    Ok(())
}

fn tell(outcome: &Outcome) {
    let (items, seconds) = (outcome.fresh, outcome.took.as_secs_f64());
    match items {
        0 => eprintln!("every item was there already"),
        _ => eprintln!("{items} items in {seconds:.1} s ({:.1} per second)", items as f64 / seconds),
    }
    eprintln!("results:  {}", outcome.out.join("results.json").display());
    for picture in &outcome.pictures {
        eprintln!("picture:  {}", picture.display());
    }
}

pub fn validate(args: &RunArgs) -> Result<(), Failure> {
    for (config, plan) in args.configs.iter().zip(plans(args)?) {
        let (items, title) = (plan.items.len(), &plan.experiment.title);
        print(&format!("{}: ready, {items} items: {title}\n", config.display()));
    }
    Ok(())
}

fn plans(args: &RunArgs) -> Result<Vec<Plan>, Failure> {
    if args.out.is_some() && args.configs.len() > 1 {
        return Err(Failure::usage(
            "--out is the folder of one run; give one experiment, or leave --out away",
        ));
    }
    let options = RunOptions {
        assignments: args.assignments.clone(),
        limit: args.limit,
        out: args.out.clone(),
        device: args.device.clone(),
    };
    args.configs.iter().map(|config| Ok(Plan::new(config, &options)?)).collect()
}
