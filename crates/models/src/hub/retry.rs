//! Retries of failed requests.

use std::time::Duration;

use super::Progress;
use super::error::{HubError, Result};

/// Number of consecutive failures, without data in between, after which a request is given up.
const ATTEMPTS: u32 = 5;

/// The error of a request, and whether a retry may succeed.
pub(super) struct RequestError {
    error: Box<HubError>,
    passing: bool,
}

impl RequestError {
    /// An error; `passing` says that a retry may succeed.
    pub(super) fn new(error: HubError, passing: bool) -> Self {
        Self { error: Box::new(error), passing }
    }
}

impl From<HubError> for RequestError {
    fn from(error: HubError) -> Self {
        Self::new(error, false)
    }
}

/// Counts the failures of one request and waits longer before each retry.
pub(super) struct RetryPolicy {
    pause: Duration,
    failures: u32,
}

impl RetryPolicy {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, failures: 0 }
    }

    /// Resets the count because data have arrived.
    pub(super) fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt. Returns the error if a retry cannot help or the attempts are used up.
    pub(super) fn wait(
        &mut self,
        RequestError { error, passing }: RequestError,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        self.failures += 1;
        if !passing || self.failures == ATTEMPTS {
            return Err(*error);
        }
        // Without the advice to run the command again, since the retry happens here.
        let reason = match &*error {
            HubError::Cut { file, reason, .. } => format!("{file}: {reason}"),
            HubError::UnknownModel { .. }
            | HubError::Missing { .. }
            | HubError::Unreachable { .. }
            | HubError::Denied { .. }
            | HubError::NotFound { .. }
            | HubError::Answer { .. }
            | HubError::NotPinned { .. }
            | HubError::Damaged { .. }
            | HubError::NoRoom { .. }
            | HubError::File { .. }
            | HubError::Token
            | HubError::Registry(_) => error.to_string(),
        };
        progress.note(&format!("{reason}; trying again"));
        std::thread::sleep(self.pause * 2_u32.pow(self.failures - 1));
        Ok(())
    }
}
