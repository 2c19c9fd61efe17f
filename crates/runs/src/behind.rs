//! The end of a batch, on another thread.

use std::panic::resume_unwind;
use std::sync::mpsc::{SendError, channel};
use std::thread::{Builder, JoinHandle};

use tasks::{Answer, Rest, Result};

/// The rest of the work on a batch.
pub(crate) enum Behind<R> {
    /// Is done on a thread of its own.
    Running(JoinHandle<Result<Vec<Answer<R>>>>),
    /// Is done when it is needed, since no thread could be had.
    Waiting(Rest<R>),
}

impl<R: Send + 'static> Behind<R> {
    /// Begins the work.
    pub(crate) fn start(rest: Rest<R>) -> Self {
        // Sent to the thread once it is there: a thread that cannot be started would take its work along.
        let (give, take) = channel::<Rest<R>>();
        let work = move || take.recv().map_or_else(|_| Ok(Vec::new()), |rest| rest());
        match Builder::new().spawn(work) {
            Ok(thread) => match give.send(rest) {
                Ok(()) => Self::Running(thread),
                Err(SendError(rest)) => Self::Waiting(rest),
            },
            Err(_) => Self::Waiting(rest),
        }
    }

    /// Returns the answers. A panic of the work goes on here.
    ///
    /// # Errors
    /// The errors of the work.
    pub(crate) fn finish(self) -> Result<Vec<Answer<R>>> {
        match self {
            Self::Running(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Waiting(rest) => rest(),
        }
    }
}
