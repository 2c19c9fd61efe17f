//! `compare`.

use eval::compare::{Request, RunUpdate};

use crate::args::CompareArgs;
use crate::failure::Failure;
use crate::{colored, print_escaped};

pub(crate) fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let request = Request {
        result: args.result.clone(),
        baseline: args.baseline.clone(),
        tolerances: args.tolerances.clone(),
        only: args.only.clone(),
        strict: args.strict,
        update: args.update,
        prune: args.prune,
        junit: args.junit.clone(),
        markdown: args.markdown.clone(),
    };
    let answer = request.answer()?;
    let report = answer.report.clone();
    // Printed before anything is written, since writing may fail.
    if let Some(report) = &report {
        print_escaped(&report.to_text(args.all, colored()));
    }
    let update = request.write(answer)?;
    for (what, path) in [("junit:   ", &args.junit), ("markdown:", &args.markdown)] {
        if let (Some(path), Some(_)) = (path, &report) {
            say!("{what} {}", path.display());
        }
    }
    let baseline = args.baseline.display();
    match (update, report) {
        (Some(update), _) => {
            let what = match (update.created, update.is_written()) {
                (true, _) => "created from this result",
                (false, true) => "updated",
                (false, false) => "already has these values and was left alone",
            };
            say!("baseline: {baseline} {what}");
            for line in update.lines() {
                say!("  {line}");
            }
            if update.runs.values().any(|run| *run == RunUpdate::Kept) {
                say!("  --prune removes the runs that were kept");
            }
            if update.tolerances_changed {
                say!("  tolerances have changed");
            }
            Ok(())
        }
        (None, Some(report)) if !report.passes() => {
            let advice = match args.baseline.is_dir() {
                true => "",
                false => "; if all of it is meant, the same command with --update makes it the baseline",
            };
            Err(Failure::moved(format!(
                "the result differs from {baseline}: {}{advice}",
                report.closing().trim_end_matches('.')
            )))
        }
        _ => Ok(()),
    }
}
