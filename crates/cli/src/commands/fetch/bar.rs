//! Progress bars of downloads.

use indicatif::{ProgressBar, ProgressStyle};
use models::hub::Progress;

/// A progress bar per file on stderr; only notes if stderr is not a terminal.
#[derive(Default)]
pub(super) struct Bar {
    file: String,
    bar: Option<ProgressBar>,
}

impl Progress for Bar {
    fn at(&mut self, file: &str, done: u64, size: Option<u64>) {
        if self.file != file {
            self.file = file.into();
            self.bar = None;
        }
        let bar = self.bar.get_or_insert_with(|| new_bar(file, done, size));
        bar.set_position(done);
    }

    fn done(&mut self, _file: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }
}

fn new_bar(file: &str, done: u64, size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} · {decimal_bytes_per_sec} · {eta} left",
        ),
        None => (ProgressBar::no_length(), "{msg} {decimal_bytes} · {decimal_bytes_per_sec}"),
    };
    let bar = bar.with_message(models::escape::line(file).into_owned()).with_position(done);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}
