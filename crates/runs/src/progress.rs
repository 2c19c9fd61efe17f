//! Notes and a progress bar on stderr. The bar is hidden if stderr is not a terminal.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use models::escape;

/// Prints a line to stderr and ignores write errors, so that a closed terminal does not stop the run.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", escape::text(line)).as_bytes());
}

/// Prints the notes that were collected while files were listed and read.
pub fn say_notes() {
    models::notes::take().iter().for_each(|line| say(line));
}

/// Returns a bar over `total` items, of which `done` are finished already.
pub fn bar(total: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64);
    let template = "{bar:32} {pos}/{len} items · {per_sec} · {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.reset_eta();
    // The ticks come from a thread of their own, which a hidden bar does not need.
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(500));
    }
    bar
}
