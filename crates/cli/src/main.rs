//! `tokenrank`: analyses attention as Markov chains. `main` parses the arguments and calls the command.

// These macros panic if nothing can be written; those of `output` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;
mod args;
mod commands;
mod exit_code;
mod failure;
mod limits;
mod notes;
mod remedy;
mod settings;

use args::{Args, Command};
use clap::Parser;
use exit_code::ExitCode;
use failure::Failure;
use output::{colored, print, print_escaped, print_table};

fn main() -> std::process::ExitCode {
    notes::listen();
    limits::explain_aborts();
    let result = match Args::try_parse() {
        Ok(args) => limits::explain_panics(|| execute(args.command)),
        // The message quotes the arguments, which may be names of files.
        Err(refusal)
            if refusal.use_stderr() && refusal.to_string().contains(models::escape::is_hidden_in_lines) =>
        {
            Err(Failure::usage(refusal.to_string()))
        }
        Err(refusal) if refusal.use_stderr() => refusal.exit(),
        Err(help) => {
            let text = help.render();
            print_escaped(&if colored() { text.ansi().to_string() } else { text.to_string() });
            Ok(())
        }
    };
    // Prints the notes that no command has printed itself.
    models::notes::take().iter().for_each(|line| say!("{line}"));
    let failures: Vec<Failure> = result.err().into_iter().chain(output::lost().map(Failure::other)).collect();
    failures.iter().for_each(Failure::tell);
    let code = failures.first().map_or(ExitCode::Fine, Failure::code);
    std::process::ExitCode::from(code.code())
}

fn execute(command: Command) -> Result<(), Failure> {
    use Command::{Attend, Merge, Metrics, Run, Show};
    if matches!(command, Run(_) | Merge(_) | Attend(_) | Show(_) | Metrics(_)) {
        settings::restart_with_settings();
    }
    // No command trains a network.
    let _no_grad = models::no_grad();
    match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Validate(args) => commands::validate::validate(&args),
        Command::Ls(args) => commands::ls::ls(&args),
        Command::Merge(args) => commands::run::merge(&args),
        Command::Compare(args) => commands::compare::compare(&args),
        Command::Fetch(args) => commands::fetch::fetch(&args),
        Command::Attend(args) => commands::attend::attend(&args),
        Command::Rank(args) => commands::rank::rank(&args),
        Command::Show(args) => commands::show::show(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::SweepReport(args) => commands::sweep_report::sweep_report(&args),
        Command::Metrics(args) => commands::metrics::metrics(&args),
        Command::Slurm(args) => commands::slurm::slurm(&args),
        Command::Doctor => commands::doctor::doctor(),
        Command::Completions(args) => {
            commands::completions::completions(&args);
            Ok(())
        }
        Command::Man(args) => commands::completions::man(&args),
    }
}
