//! `tokenrank`: attention as Markov chains. Arguments → checked plan → call.

mod args;
mod commands;
mod failure;
mod threads;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    use Command::{Attend, Merge, Metrics, Run, Show};
    if matches!(args.command, Run(_) | Merge(_) | Attend(_) | Show(_) | Metrics(_)) {
        threads::sleep_while_waiting();
    }
    match dispatch(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    // Nothing here trains a network.
    let _no_grad = models::no_grad();
    match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Validate(args) => commands::run::validate(&args),
        Command::Ls(args) => commands::ls::ls(&args),
        Command::Merge(args) => commands::run::merge(&args),
        Command::Compare(args) => commands::compare::compare(&args),
        Command::Fetch(args) => commands::fetch::fetch(&args),
        Command::Attend(args) => commands::attend::attend(&args),
        Command::Rank(args) => commands::rank::rank(&args),
        Command::Show(args) => commands::show::show(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::Metrics(args) => commands::metrics::metrics(&args),
        Command::Slurm(args) => commands::slurm::slurm(&args),
        Command::Doctor => commands::doctor::doctor(),
    }
}

/// Prints a table to stdout.
fn print_table(table: &eval::Table) {
    print(&format!("{}\n", table.to_text(colored())));
}

/// Whether stdout is in colour: where somebody looks who has not asked for none (<https://no-color.org>).
fn colored() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !plain
}

/// Prints to stdout. A reader that has gone away (`tokenrank … | head`) is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
