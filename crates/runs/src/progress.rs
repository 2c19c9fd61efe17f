//! A progress bar on stderr; nothing where stderr is no terminal.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line for the person who waits. Where it cannot be written, as when the terminal has gone, the work goes on.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Says what was noted while files were listed and read.
pub fn say_notes() {
    models::notes::take().iter().for_each(|line| say(line));
}

/// A bar over `total` items of which `done` are there already.
pub fn bar(total: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64);
    let template = "{bar:32} {pos}/{len} items · {per_sec} · {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
