//! `fetch`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use models::hub::{Hub, HubError, Model, Progress, Registry};

use crate::args::{FetchArgs, LOCK_FILE};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::limits::on_interruption;
use crate::print;

/// All names are checked before the first download.
pub(crate) fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let registry = Registry::embedded()?;
    let models = args.names.iter().map(|name| registry.find(name)).collect::<Result<Vec<_>, _>>()?;
    // A file gets its name only when it is complete, so the program may stop at any moment. It exits without
    // destructors, which would run while other threads still work.
    let after = if args.unverified { "; files without a hash start over" } else { "" };
    let stop = move || {
        say!("interrupted; run the same command again to resume{after}");
        signal_hook::low_level::exit(ExitCode::Interrupted.code().into());
    };
    on_interruption(stop)?;
    let hub = Hub::from_env()?.with_offline(args.offline).with_unverified(args.unverified);
    let hub = hub.with_lock_file(&args.lock);
    for model in models {
        let folder = fetch_one(&hub, model, &args.lock)?;
        print(&format!("{}\n", folder.display()));
    }
    Ok(())
}

/// A lock file that nobody asked for may be missing: the current folder may be read-only.
fn fetch_one(hub: &Hub, model: &Model, lock: &Path) -> Result<PathBuf, HubError> {
    match hub.fetch(model, &mut Bar::default()) {
        Err(HubError::File { path, source, .. })
            if path == lock && lock == Path::new(LOCK_FILE) && !lock.exists() =>
        {
            say!(
                "cannot write {}: {source}; the model is complete, but nothing pins its files. --lock names another file",
                path.display()
            );
            hub.snapshot(model)
        }
        done => done,
    }
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
