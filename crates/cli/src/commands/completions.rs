//! `completions` and `man`.

use clap::CommandFactory;
use runs::FileAction;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::print_escaped;

/// Prints the script by which a shell completes this program's arguments.
pub(crate) fn completions(args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "tokenrank", &mut script);
    print_escaped(&String::from_utf8_lossy(&script));
}

/// Writes a manual page for the program and one for each command.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Args::command(), &args.dir));
    Ok(written.map_err(eval::Error::file(FileAction::Write, &args.dir))?)
}
