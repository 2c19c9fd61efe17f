//! Output: results go to stdout, everything else to stderr.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use models::escape;

/// The first error of stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Like `eprintln!`, but without a panic: a stderr that cannot be written, such as that of a closed terminal, does not
/// stop the run.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::say(&format_args!($($words)*).to_string()) };
}

/// Writes a line to stderr and ignores errors.
pub(crate) fn say(line: &str) {
    say_escaped(&escape::text(line));
}

/// Like [`say`], for text that is escaped already and may have colours.
pub(crate) fn say_escaped(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints a table to stdout.
pub(crate) fn print_table(table: &eval::Table) {
    print_escaped(&format!("{}\n", table.to_text(colored())));
}

/// Whether to colour stdout: it is a terminal and `NO_COLOR` is unset (<https://no-color.org>).
pub(crate) fn colored() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !plain
}

/// Prints to stdout. A reader that has closed the pipe (`tokenrank … | head`) is not an error. Any other error is kept
/// for [`lost`], which is asked when all work is done.
pub(crate) fn print(text: &str) {
    print_escaped(&escape::text(text));
}

/// Like [`print`], for text that is escaped already and may have colours.
pub(crate) fn print_escaped(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error);
    }
}

/// Returns the error message if something that was printed could not be written.
pub(crate) fn lost() -> Option<String> {
    let reason = LOST.get()?;
    Some(format!(
        "cannot write to stdout: {reason}; the printed results are lost, but all files were written. Free some space, or \
         redirect stdout elsewhere"
    ))
}
