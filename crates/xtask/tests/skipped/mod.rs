//! How a test says that it cannot run on this machine. The tests of other crates include this file.

use std::io::Write;

/// Says on stderr, past the capture of the test harness, that the running test is skipped, and why. `cargo xtask test` collects
/// these lines.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("a test");
    // Nobody listens: the test has nothing else to say.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}
