//! A comparison as JUnit XML, which CI systems show.

use models::escape;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::report::Report;
use super::verdict::Compared;

/// Test case that every run has in addition to its values.
const IDENTITY: &str = "same experiment, items, data and weights";

impl Report {
    /// Formats the report as JUnit XML: a suite for each run, a test case for each of its values and one for the run itself.
    ///
    /// # Errors
    /// Fails if a name cannot be written as XML.
    pub fn to_junit(&self) -> Result<String, String> {
        let mut runs: Vec<&str> = self.values.iter().map(|value| &*value.run).collect();
        runs.extend(self.differences.iter().map(|difference| &*difference.run));
        runs.sort_unstable();
        runs.dedup();
        let mut junit = quick_junit::Report::new(&*escape::line(&self.suite));
        junit.add_test_suites(runs.into_iter().map(|run| self.suite_of(run)));
        // Removes characters that XML does not allow and quick_junit keeps.
        let xml = junit.to_string().map_err(|e| e.to_string())?;
        Ok(xml.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
    }

    fn suite_of(&self, run: &str) -> TestSuite {
        let mut suite = TestSuite::new(&*escape::line(run));
        let differences: Vec<String> = self
            .differences
            .iter()
            .filter(|difference| difference.run == run)
            .map(|difference| difference.what.clone())
            .collect();
        let status = match differences.is_empty() {
            true => TestCaseStatus::success(),
            false => failure(&differences.join("\n"), "another run"),
        };
        suite.add_test_case(case(run, IDENTITY, status));
        for value in self.values.iter().filter(|value| value.run == run) {
            suite.add_test_case(self.case_of(value));
        }
        suite
    }

    fn case_of(&self, value: &Compared) -> TestCase {
        let sentence = value.sentence();
        if value.verdict.fails(self.strict) {
            let status = failure(&sentence, &value.verdict.to_string());
            return case(&value.run, &value.name(), status);
        }
        let mut case = case(&value.run, &value.name(), TestCaseStatus::success());
        case.set_system_out(&*escape::text(&sentence));
        case
    }
}

fn case(run: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(&*escape::line(name), status);
    case.set_classname(&*escape::line(run));
    case
}

fn failure(message: &str, kind: &str) -> TestCaseStatus {
    let message = escape::text(message);
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(&*message).set_type(kind).set_description(&*message);
    status
}
