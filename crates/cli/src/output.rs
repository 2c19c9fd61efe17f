//! The result on stdout, everything else on stderr.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

/// The first thing that went wrong with stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// `eprintln!` that never panics: a stderr that cannot be written, such as that of a terminal that has gone, stops no work.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::say(format_args!($($words)*).to_string()) };
}

/// Writes a line to stderr, as far as that can be written.
pub fn say(line: impl AsRef<[u8]>) {
    let line = [line.as_ref(), b"\n"].concat();
    let _ = io::stderr().write_all(&line);
}

/// Prints a table to stdout.
pub fn print_table(table: &eval::Table) {
    print(&format!("{}\n", table.to_text(colored())));
}

/// Whether stdout is in colour: where somebody looks who has not asked for none (<https://no-color.org>).
pub fn colored() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !plain
}

/// Prints to stdout. A reader that has gone away (`tokenrank … | head`) is no error; any other is [`lost`]'s to say when
/// all work is done.
pub fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error);
    }
}

/// Why something that was printed has not arrived.
pub fn lost() -> Option<String> {
    let reason = LOST.get()?;
    Some(format!(
        "cannot write to stdout: {reason}; what was to be printed is lost, files are written all the same. Make room, or \
         send stdout somewhere else"
    ))
}
