//! How libtorch's threads wait for work.

/// The wait policy of OpenMP, which libgomp reads before `main` runs.
#[cfg(unix)]
const POLICY: &str = "OMP_WAIT_POLICY";

/// Restarts the program with threads that sleep while they wait, unless the user has chosen a policy.
///
/// By default, the threads of libgomp spin between parallel regions. On cores that other programs use too, they then
/// take time from the work they wait for: on two busy cores, the masking experiment took seven times as long. If the
/// restart fails, the program continues as it is.
pub(crate) fn sleep_while_waiting() {
    #[cfg(unix)]
    if std::env::var_os(POLICY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // `exec` returns only if it fails.
        let _ = command.args(arguments).env(POLICY, "passive").exec();
    }
}
