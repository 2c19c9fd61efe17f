//! Settings of the libraries below libtorch, which they read from the environment before `main` runs.

/// Variables with the values that long work gets unless the user has chosen others.
///
/// - By default, the threads of libgomp spin between parallel regions. On cores that other programs use too, they then take time
///   from the work they wait for: on two busy cores, the masking experiment took seven times as long.
/// - glibc returns freed memory of a few megabytes to the system and asks for it again with the next tensor of that size. A
///   fifth of the time of the masking experiment was spent on fresh pages. Now it keeps up to 256 MiB.
#[cfg(unix)]
const SETTINGS: [(&str, &str); 3] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "268435456"),
];

/// Restarts the program with these settings, if one of them is missing. If the restart fails, the program continues as it is.
pub(crate) fn restart_with_settings() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let missing = || SETTINGS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
        let (1.., Ok(program)) = (missing().count(), std::env::current_exe()) else { return };
        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // `exec` returns only if it fails.
        let _ = command.args(arguments).envs(missing()).exec();
    }
}
