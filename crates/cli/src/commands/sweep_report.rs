//! `sweep-report`.

use crate::args::SweepReportArgs;
use crate::failure::Failure;
use crate::print_table;

/// Maximum number of combinations that are printed; the files have all.
const PRINTED: usize = 20;

pub(crate) fn sweep_report(args: &SweepReportArgs) -> Result<(), Failure> {
    let mut found = eval::search_sweep(&args.dir, args.paper.as_deref())?;
    // The first row has the paper's values.
    let combinations = found.combinations.rows.len() - 1;
    if combinations > PRINTED {
        found.combinations.rows.truncate(1 + PRINTED);
        found.combinations.notes.push(format!("The nearest {PRINTED} of {combinations}; search.md has all."));
    }
    print_table(&found.combinations);
    print_table(&found.settings);
    say!("results:  {}", found.file.display());
    Ok(())
}
