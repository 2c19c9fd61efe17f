//! `fetch`.

use indicatif::{ProgressBar, ProgressStyle};
use models::hub::{Hub, Progress, Registry};

use crate::args::FetchArgs;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::print;

/// All names are checked before the first download.
pub(crate) fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let registry = Registry::embedded()?;
    let models = args.names.iter().map(|name| registry.find(name)).collect::<Result<Vec<_>, _>>()?;
    // A file gets its name only when it is complete, so the program may stop at any moment. It exits without
    // destructors, which would run while other threads still work.
    let stop = || {
        say!("interrupted; run the same command again to resume");
        signal_hook::low_level::exit(ExitCode::Interrupted.code().into());
    };
    ctrlc::set_handler(stop).map_err(|e| Failure::other(format!("cannot watch for Ctrl-C: {e}")))?;
    let hub = Hub::from_env().with_offline(args.offline);
    for model in models {
        let folder = hub.fetch(model, &mut Bar::default())?;
        print(&format!("{}\n", folder.display()));
    }
    Ok(())
}

/// A progress bar per file on stderr; only notes if stderr is not a terminal.
#[derive(Default)]
struct Bar {
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
