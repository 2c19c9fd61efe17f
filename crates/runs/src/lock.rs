//! The lock that admits one process at a time to a run's folder.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, FileAction, Result};
use crate::progress;

/// Name of the lock file.
const NAME: &str = "run.lock";

/// The exclusive right to write to a run's folder, held until the value is dropped or the process ends in any way.
///
/// The operating system's lock on the file decides: it ends with its process, so a leftover file does not lock the folder. The
/// file's content names the owner in error messages, and decides on file systems without locks: there an owner counts as gone
/// if it ran on this machine, where this process would see it, and no longer runs. Timestamps are not used.
pub(crate) struct Lock {
    file: File,
}

/// The process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Name of the machine.
    pub host: String,
    /// Process number.
    pub pid: u32,
    /// Boot of the system and start of the process in ticks since then, because process numbers are reused.
    started: Option<String>,
    /// Namespace of the process number: containers on one machine do not see each other's processes.
    namespace: Option<String>,
}

/// Written as `process 4711 on node17`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

impl Lock {
    /// Locks the folder.
    ///
    /// # Errors
    /// Fails with [`Error::Locked`] and the owner if another process holds the lock, and if the file cannot be written.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options().map_err(Error::file(FileAction::Write, &path))?;
        let locked = file.try_lock();
        let owner = read(&mut file);
        let refuse =
            || Err(Error::Locked { path: folder.into(), owner: owner.as_ref().map(ToString::to_string) });
        match (locked, &owner) {
            (Err(TryLockError::WouldBlock), _) => return refuse(),
            (Err(TryLockError::Error(_)), Some(owner)) if !owner.is_gone() => return refuse(),
            (_, Some(owner)) => {
                progress::say(&format!("{owner} ended before it finished this run; its records are kept"));
            }
            (_, None) => {}
        }
        let mut lock = Self { file };
        let owner = serde_json::json!(Owner::current());
        lock.write(format!("{owner}\n").as_bytes()).map_err(Error::file(FileAction::Write, &path))?;
        Ok(lock)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file has no owner. The file is not removed: a process about to open it must not lock a deleted file. If it
        // cannot be emptied, the next process finds an owner that no longer runs.
        let _ = self.file.set_len(0);
    }
}

/// Returns the owner that the file names; `None` if it names none.
fn read(file: &mut File) -> Option<Owner> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Owner {
    fn current() -> Self {
        let pid = std::process::id();
        Self { host: host(), pid, started: started(pid), namespace: namespace() }
    }

    /// Whether the process certainly no longer runs.
    fn is_gone(&self) -> bool {
        let in_sight = self.host == host() && self.namespace.is_some() && self.namespace == namespace();
        in_sight && self.started.is_some() && started(self.pid) != self.started
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}

/// Returns the namespace of process numbers; `None` if the system does not report it.
fn namespace() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

/// Returns boot and start of a process; `None` if it does not run or the system does not report it.
fn started(pid: u32) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may have spaces and parentheses itself.
    let (_, after) = stat.rsplit_once(')')?;
    // proc(5): starttime is field 22, the 20th after the name.
    let ticks = after.split_whitespace().nth(19)?;
    Some(format!("{} {ticks}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A process that a test starts holds every lock of this process for a moment, until its program replaces it.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn a_locked_folder_names_its_owner() -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let first = Lock::take(dir.path())?;
        let message = Lock::take(dir.path()).err().expect("refused").to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        assert_eq!(std::fs::read(dir.path().join(NAME)).expect("the file stays"), b"");
        Lock::take(dir.path()).map(drop)
    }

    #[test]
    fn lock_files_of_dead_processes_are_ignored() -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let started = started(child.id());
        child.wait().expect("ends");
        let dead = Owner { pid: child.id(), started, ..Owner::current() };
        for text in [serde_json::json!(dead).to_string(), "{\"host\": \"torn".into(), "\0\0\0".into()] {
            std::fs::write(dir.path().join(NAME), text).expect("writable");
            Lock::take(dir.path()).map(drop)?;
        }
        Ok(())
    }

    #[test]
    fn without_system_locks_an_owner_is_recognised_by_its_start() {
        let current = Owner::current();
        assert!(!current.is_gone());
        assert!(Owner { started: Some("another boot 1".into()), ..current.clone() }.is_gone());
        assert!(
            !Owner { host: "elsewhere".into(), started: Some("x 1".into()), ..current.clone() }.is_gone()
        );
        // Processes of another container cannot be seen from here, whether or not they run.
        for namespace in [Some("pid:[1]".to_owned()), None] {
            let started = Some("another boot 1".to_owned());
            assert!(!Owner { namespace, started, ..current.clone() }.is_gone());
        }
        assert!(!Owner { started: None, ..current }.is_gone());
        // Lock files of older versions have no namespace.
        let before = serde_json::json!({ "host": host(), "pid": 1, "started": "another boot 1" });
        assert!(!serde_json::from_value::<Owner>(before).expect("an owner").is_gone());
    }
}
