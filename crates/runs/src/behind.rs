//! Work on another thread while this one goes on.

use std::panic::resume_unwind;
use std::sync::mpsc::{SendError, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

type Work<'scope, O> = Box<dyn FnOnce() -> O + Send + 'scope>;

/// Work that has been begun.
pub(crate) enum Behind<'scope, O> {
    /// It is done on a thread of its own.
    Running(ScopedJoinHandle<'scope, Option<O>>),
    /// It is done when it is needed, since no thread could be had.
    Waiting(Work<'scope, O>),
}

impl<'scope, O: Send + 'scope> Behind<'scope, O> {
    /// Work that is done already.
    pub(crate) fn done(outcome: O) -> Self {
        Self::Waiting(Box::new(|| outcome))
    }

    /// Begins work.
    pub(crate) fn start(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() -> O + Send + 'scope) -> Self {
        // Sent to the thread once it is there: a thread that cannot be started would take its work along.
        let (give, take) = channel::<Work<'scope, O>>();
        match Builder::new().spawn_scoped(scope, move || Some(take.recv().ok()?())) {
            Ok(thread) => match give.send(Box::new(work)) {
                Ok(()) => Self::Running(thread),
                Err(SendError(work)) => Self::Waiting(work),
            },
            Err(_) => Self::Waiting(Box::new(work)),
        }
    }

    /// Returns what the work returns, when it is done. A panic goes on here.
    pub(crate) fn finish(self) -> O {
        match self {
            Self::Running(thread) => match thread.join() {
                Ok(Some(outcome)) => outcome,
                Ok(None) => unreachable!("a thread is kept only with its work"),
                Err(panic) => resume_unwind(panic),
            },
            Self::Waiting(work) => work(),
        }
    }
}
