//! `report`.

use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::print;

/// Maximum number of unfinished runs that are named.
const NAMED: usize = 20;

pub(crate) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let page = pages::report(&args.dir, args.out.as_deref())?;
    print(&format!("{}\n", page.path.display()));
    let runs = if page.runs == 1 { "run" } else { "runs" };
    say!("{} {runs}, {:.1} MiB", page.runs, page.bytes as f64 / f64::from(1 << 20));
    for list in &page.lists {
        say!("more items than fit on the page, all of them in {}", list.display());
    }
    if !page.unfinished.is_empty() {
        let names: Vec<_> =
            page.unfinished.iter().take(NAMED).map(|path| path.display().to_string()).collect();
        let more = match page.unfinished.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more, which the page counts"),
        };
        say!("left out because they are not finished: {}{more}", names.join(", "));
    }
    Ok(())
}
