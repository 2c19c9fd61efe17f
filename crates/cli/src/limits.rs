//! What the system refuses: memory where it cannot be reported as an error, and threads.

use std::panic::{self, AssertUnwindSafe};

use models::memory::{WORK_BYTES, copy_work};

use crate::failure::Failure;

/// Explains aborts. Where an allocation of Rust or of a C++ library fails, the process is aborted after a line that says how
/// much was asked for; a second line then says what was being done and what makes it smaller, and the exit code is 1.
#[cfg(unix)]
pub(crate) fn explain_aborts() {
    use std::fs::File;
    use std::io::Write;
    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;

    let explain = || {
        let mut work = [0; WORK_BYTES];
        let length = copy_work(&mut work);
        // SAFETY: the file is not dropped, so stderr stays open.
        let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
        let _ = stderr.write_all(b"the program was aborted, most likely because memory ran out ");
        let _ = stderr.write_all(&work[..length]);
        let _ = stderr.write_all(b"\n");
        signal_hook::low_level::exit(1);
    };
    // SAFETY: the handler only reads atomics, writes to a file descriptor and ends the process.
    let registered = unsafe { signal_hook::low_level::register(signal_hook::consts::SIGABRT, explain) };
    // Without the handler, an abort has only the first line.
    let _ = registered;
}

#[cfg(not(unix))]
pub(crate) fn explain_aborts() {}

/// Calls `handler` on Ctrl-C, or on the SIGTERM of a scheduler.
///
/// # Errors
/// The handler's thread or pipe cannot be made.
pub(crate) fn on_interruption(handler: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(handler).map_err(|e| {
        Failure::other(format!(
            "cannot watch for Ctrl-C: {e}; the limit on threads or open files may be reached (ulimit -u, ulimit -n)"
        ))
    })
}

/// Does `work`. If a library panics because the system refuses a thread or memory, returns an error that says so.
pub(crate) fn explain_panics(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if explanation(&info.to_string()).is_none() {
            usual(info);
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        match explanation(text) {
            Some(explanation) => Err(Failure::other(explanation)),
            None => panic::resume_unwind(payload),
        }
    })
}

/// What a panic is about, if the system refused something.
fn explanation(panic: &str) -> Option<String> {
    if panic.contains("WouldBlock") && panic.to_lowercase().contains("thread") {
        let text = "a thread cannot be started, because the limit on processes and threads is reached (pids.max of the \
                    container, or ulimit -u); raise it, or use fewer threads with OMP_NUM_THREADS=1, RAYON_NUM_THREADS=1 \
                    and POLARS_MAX_THREADS=1. Finished items are kept";
        return Some(text.into());
    }
    // The compressor of PNG and Parquet files.
    if panic.contains("MemError") {
        let mut work = [0; WORK_BYTES];
        let length = copy_work(&mut work);
        let work = String::from_utf8_lossy(&work[..length]);
        return Some(format!("memory ran out while a file was compressed {work}").trim_end().into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_libraries_for_lack_of_memory_or_threads_are_explained() {
        let compressor = "assertion `left == right` failed\n  left: MemError\n right: Ok";
        assert!(explanation(compressor).is_some_and(|text| text.starts_with("memory ran out")));
        let thread = "cannot start a thread: Os { code: 11, kind: WouldBlock, message: \"try again\" }";
        assert!(explanation(thread).is_some_and(|text| text.starts_with("a thread cannot be started")));
        assert_eq!(explanation("index out of bounds: the len is 3 but the index is 3"), None);
    }
}
