//! Threads: rayon's global ones, whose number `RAYON_NUM_THREADS` sets, or some for one call.

use pyo3::prelude::*;

use crate::failure::runtime_error;

/// Runs `work` without the interpreter's lock, on `threads` threads or on rayon's global ones.
pub(crate) fn detached<R: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce() -> R + Send,
) -> PyResult<R> {
    py.detach(|| match threads {
        None => Ok(work()),
        Some(threads) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            Ok(pool.map_err(runtime_error)?.install(work))
        }
    })
}
