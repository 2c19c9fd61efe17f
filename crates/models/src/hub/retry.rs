//! Retries of failed requests.

use std::time::{Duration, Instant};

use super::Progress;
use super::error::{HubError, Result};

/// Number of consecutive failures, without data in between, after which a request is given up.
const ATTEMPTS: u32 = 5;
/// Longest time in total that one request waits because the server asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The error of a request, and whether a retry may succeed.
pub(super) struct RequestError {
    error: Box<HubError>,
    passing: bool,
    /// Time after which the server asks to come again.
    after: Option<Duration>,
}

impl RequestError {
    /// An error; `passing` says that a retry may succeed.
    pub(super) fn new(error: HubError, passing: bool) -> Self {
        Self { error: Box::new(error), passing, after: None }
    }

    /// Adds the time after which the server asks to come again.
    pub(super) fn with_after(self, after: Option<Duration>) -> Self {
        Self { after, ..self }
    }
}

impl From<HubError> for RequestError {
    fn from(error: HubError) -> Self {
        Self::new(error, false)
    }
}

/// The least rate of a download: a body that is slower over a whole window counts as a cut connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeastRate {
    pub(super) bytes_per_second: u64,
    pub(super) window: Duration,
}

impl LeastRate {
    /// Number of bytes that arrive in a window at this rate. A retry that brings less is no progress.
    pub(super) fn bytes(self) -> u64 {
        (self.bytes_per_second as f64 * self.window.as_secs_f64()) as u64
    }
}

/// Measures the rate of one body.
pub(super) struct RateWatch {
    least: LeastRate,
    since: Instant,
    bytes: u64,
}

impl RateWatch {
    pub(super) fn new(least: LeastRate) -> Self {
        Self { least, since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that have arrived. Returns true if a window has passed with too few of them.
    pub(super) fn is_too_slow(&mut self, count: u64) -> bool {
        self.bytes += count;
        if self.since.elapsed() < self.least.window {
            return false;
        }
        let slow = self.bytes < self.least.bytes();
        *self = Self::new(self.least);
        slow
    }
}

/// Counts the failures of one request and waits longer before each retry.
pub(super) struct RetryPolicy {
    pause: Duration,
    failures: u32,
    /// Time waited because the server asked for it.
    waited: Duration,
}

impl RetryPolicy {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, failures: 0, waited: Duration::ZERO }
    }

    /// Resets the counts because data have arrived.
    pub(super) fn restore(&mut self) {
        (self.failures, self.waited) = (0, Duration::ZERO);
    }

    /// Makes a request until it succeeds. Returns the error if a retry cannot help or the attempts are used up.
    pub(super) fn repeat<T>(
        mut self,
        progress: &mut dyn Progress,
        request: impl Fn() -> Result<T, RequestError>,
    ) -> Result<T> {
        loop {
            match request() {
                Ok(found) => return Ok(found),
                Err(error) => self.wait(error, progress)?,
            }
        }
    }

    /// Waits before the next attempt. Returns the error if a retry cannot help or the attempts are used up.
    pub(super) fn wait(&mut self, error: RequestError, progress: &mut dyn Progress) -> Result<()> {
        let (pause, note) = self.next(error)?;
        progress.note(&note);
        std::thread::sleep(pause);
        Ok(())
    }

    /// Returns the time to wait before the next attempt, and what to tell the user.
    fn next(&mut self, RequestError { error, passing, after }: RequestError) -> Result<(Duration, String)> {
        if !passing {
            return Err(*error);
        }
        if let Some(after) = after.filter(|after| !after.is_zero()) {
            self.waited = self.waited.saturating_add(after);
            if self.waited > LONGEST_WAIT {
                return Err(HubError::Busy { reason: reason(&error), seconds: seconds(after) });
            }
            let note = format!("{}; waiting {} s, as the server asks", reason(&error), seconds(after));
            return Ok((after, note));
        }
        self.failures += 1;
        if self.failures == ATTEMPTS {
            return Err(*error);
        }
        let pause = self.pause * 2_u32.pow(self.failures - 1);
        Ok((pause, format!("{}; trying again", reason(&error))))
    }
}

/// Rounds up.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Describes an error without the advice to run the command again, since the retry happens here.
fn reason(error: &HubError) -> String {
    match error {
        HubError::Cut { file, reason, .. } => format!("{file}: {reason}"),
        HubError::Answer { url, what } => format!("{url} answers {what}"),
        HubError::UnknownModel { .. }
        | HubError::Missing { .. }
        | HubError::Unreachable { .. }
        | HubError::Busy { .. }
        | HubError::Denied { .. }
        | HubError::NotFound { .. }
        | HubError::NoCheckpoint { .. }
        | HubError::NotPublished { .. }
        | HubError::Archive { .. }
        | HubError::Web { .. }
        | HubError::NotPinned { .. }
        | HubError::Unverified { .. }
        | HubError::Damaged { .. }
        | HubError::TooLarge { .. }
        | HubError::NoRoom { .. }
        | HubError::File { .. }
        | HubError::LockFile { .. }
        | HubError::NoHome { .. }
        | HubError::Endpoint { .. }
        | HubError::Token
        | HubError::Registry(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(after: Option<u64>) -> RequestError {
        let error = HubError::Answer { url: "http://hub".into(), what: "HTTP 429".into() };
        RequestError::new(error, true).with_after(after.map(Duration::from_secs))
    }

    #[test]
    fn pauses_double_unless_the_server_names_a_time() {
        let mut policy = RetryPolicy::new(Duration::from_secs(1));
        let mut pause = |after| policy.next(busy(after)).map(|(pause, _)| pause.as_secs()).ok();
        let asked = [None, Some(12), None, Some(0), Some(300), None, Some(288), None];
        let expected = [Some(1), Some(12), Some(2), Some(4), Some(300), Some(8), Some(288), None];
        assert_eq!(asked.map(&mut pause), expected);
        let note = RetryPolicy::new(Duration::ZERO).next(busy(Some(12))).map(|(_, note)| note);
        assert_eq!(
            note.ok().as_deref(),
            Some("http://hub answers HTTP 429; waiting 12 s, as the server asks")
        );
    }

    #[test]
    fn ten_minutes_in_total_are_the_longest_wait() {
        for waits in [&[601][..], &[300, 300, 1], &[u64::MAX], &[500, u64::MAX]] {
            let mut policy = RetryPolicy::new(Duration::ZERO);
            let (last, before) = waits.split_last().expect("a wait");
            assert!(before.iter().all(|&wait| policy.next(busy(Some(wait))).is_ok()));
            let error = policy.next(busy(Some(*last))).expect_err("too long").to_string();
            assert!(error.contains(&format!("asks to come again in {last} s")), "{error}");
        }
    }

    #[test]
    fn a_rate_is_judged_over_whole_windows() {
        let least = LeastRate { bytes_per_second: 1000, window: Duration::ZERO };
        assert_eq!(LeastRate { window: Duration::from_secs(60), ..least }.bytes(), 60_000);
        assert!(!RateWatch::new(least).is_too_slow(0), "no time has passed");
        let hour = LeastRate { window: Duration::from_secs(3600), ..least };
        assert!(!RateWatch::new(hour).is_too_slow(0));
        let past = LeastRate { window: Duration::from_nanos(1), bytes_per_second: 1 << 40 };
        let mut watch = RateWatch::new(past);
        std::thread::sleep(Duration::from_millis(1));
        assert!(watch.is_too_slow(1));
    }
}
