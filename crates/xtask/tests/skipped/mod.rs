//! How a test says that it cannot run on this machine. The tests of other crates include this file.

#[allow(dead_code, reason = "each test binary uses a part")]
#[path = "../../src/requirement.rs"]
mod requirement;

use std::io::Write;

#[allow(unused_imports, reason = "each test binary uses a part")]
pub(crate) use requirement::{Requirement, chromium, find, mount_options};

/// Whether this machine lacks what the running test needs. If so, says on stderr, past the capture of the test harness, that the
/// test is skipped, and why; `cargo xtask test` collects these lines.
///
/// # Panics
/// If `TOKENRANK_REQUIRE` names the requirement and the machine lacks it, or if it has an unknown name.
#[must_use]
pub(crate) fn lacks(requirement: Requirement) -> bool {
    let required = Requirement::required().unwrap_or_else(|message| panic!("{message}"));
    let Some(reason) = requirement.missing() else { return false };
    let name = requirement.name();
    assert!(!required.contains(&requirement), "{} requires {name}: {reason}", requirement::VARIABLE);
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("a test");
    // If stderr is closed, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {name}: {reason}");
    true
}
