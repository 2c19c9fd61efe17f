//! Notes of the libraries: inputs that they read in another way than the user may expect.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use crate::failure::plain;

/// Prints each note of our libraries once, on stderr.
struct Notes {
    said: Mutex<BTreeSet<String>>,
}

static NOTES: Notes = Notes { said: Mutex::new(BTreeSet::new()) };

/// Starts to print notes.
pub(crate) fn listen() {
    if log::set_logger(&NOTES).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

impl Log for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Messages of other libraries are not meant for the user.
        metadata.target().split("::").next() == Some("models")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A directory is read when an experiment is checked and again when it is run, so notes repeat.
        let note = record.args().to_string();
        let first = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(note.clone());
        if first {
            say!("note: {}", plain(&note));
        }
    }

    fn flush(&self) {}
}
