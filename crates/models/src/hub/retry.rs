//! How often a request that failed is made again.

use std::time::Duration;

use super::Progress;
use super::error::{HubError, Result};

/// Failures in a row, with nothing arriving in between, after which a request is given up.
const ATTEMPTS: u32 = 5;

/// A request that failed, and whether the same request may succeed later.
pub(super) struct RequestError {
    error: Box<HubError>,
    passing: bool,
}

impl RequestError {
    /// A failure that another attempt may not meet, if `passing`.
    pub(super) fn new(error: HubError, passing: bool) -> Self {
        Self { error: Box::new(error), passing }
    }
}

impl From<HubError> for RequestError {
    fn from(error: HubError) -> Self {
        Self::new(error, false)
    }
}

/// Counts the failures of one request.
pub(super) struct RetryPolicy {
    pause: Duration,
    failures: u32,
}

impl RetryPolicy {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, failures: 0 }
    }

    /// Something arrived: the next failure is the first again.
    pub(super) fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits for the moment to try again, or gives the error back when there is no use in that.
    pub(super) fn wait(
        &mut self,
        RequestError { error, passing }: RequestError,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        self.failures += 1;
        if !passing || self.failures == ATTEMPTS {
            return Err(*error);
        }
        // Without the advice to give the same command again, which is done here.
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
