//! What a test binary prints, read: how many tests passed, which failed and which were skipped.

/// The sign of a test that cannot run on this machine: `skipped: TEST: REASON` on a line of its stderr
/// (`crates/xtask/tests/skipped/mod.rs` writes it).
const SKIPPED: &str = "skipped: ";

/// What stands for the name of a test where the test cannot tell it.
const UNNAMED: &str = "a test";

/// Outcome of a test binary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many tests passed, those that skipped themselves or were only compiled left out.
    pub passed: usize,
    /// How many examples of the documentation (`no_run`) were compiled and not run.
    pub compiled: usize,
    /// The tests that failed.
    pub failed: Vec<String>,
    /// `TEST: REASON` of those that cannot run here, and of those marked `#[ignore]`.
    pub skipped: Vec<String>,
}

/// The end of the name of an example that rustdoc compiles and does not run.
const COMPILED: &str = " - compile";

impl Outcome {
    /// Reads what libtest prints, of as many runs as there are in it.
    pub(crate) fn of(log: &str) -> Self {
        let (mut outcome, mut passed) = (Self::default(), Vec::new());
        for line in log.lines() {
            let (test, result) = match line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
                Some((test, result)) => (test, result),
                None => ("", line),
            };
            // Where tests run in one thread, the test writes behind the begin of libtest's line.
            if let Some(skipped) = result.strip_prefix(SKIPPED) {
                outcome.skipped.push(match skipped.split_once(": ") {
                    Some((UNNAMED, reason)) if !test.is_empty() => format!("{test}: {reason}"),
                    _ => skipped.to_owned(),
                });
            } else if !test.is_empty() {
                match result.split_once(", ").unwrap_or((result, "marked #[ignore]")) {
                    ("ok", _) => passed.push(test),
                    ("FAILED", _) => outcome.failed.push(test.to_owned()),
                    ("ignored", reason) => outcome.skipped.push(format!("{test}: {reason}")),
                    _ => {}
                }
            }
        }
        let skipped = |test: &str| {
            let says = |line: &String| line.strip_prefix(test).is_some_and(|rest| rest.starts_with(": "));
            outcome.skipped.iter().any(says)
        };
        let (compiled, ran): (Vec<&str>, Vec<&str>) =
            passed.into_iter().filter(|test| !skipped(test)).partition(|test| test.ends_with(COMPILED));
        (outcome.passed, outcome.compiled) = (ran.len(), compiled.len());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_failed_and_skipped_tests_are_told_apart() {
        let log = "
running 5 tests
skipped: faults::a_full_disk: file systems cannot be mounted here
test faults::a_full_disk ... ok
test faults::a_full_disk_too ... ok
test faults::another ... FAILED
test slow ... ignored
test slower ... ignored, takes an hour
test crates/models/src/lib.rs - attend (line 7) ... ok
test crates/models/src/lib.rs - attend (line 9) - compile ... ok

failures:
    faults::another

test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.03s
";
        let outcome = Outcome::of(log);
        assert_eq!((outcome.passed, outcome.compiled), (2, 1));
        assert_eq!(outcome.failed, ["faults::another"]);
        let skipped = [
            "faults::a_full_disk: file systems cannot be mounted here",
            "slow: marked #[ignore]",
            "slower: takes an hour",
        ];
        assert_eq!(outcome.skipped, skipped);
    }

    #[test]
    fn a_single_thread_is_read_as_well() {
        let outcome =
            Outcome::of("test page::opens ... skipped: a test: no browser\nok\ntest page::closes ... ok\n");
        assert_eq!((outcome.passed, outcome.failed.len()), (1, 0));
        assert_eq!(outcome.skipped, ["page::opens: no browser"]);
    }
}
