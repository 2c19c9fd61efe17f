//! The locks that admit one process at a time to the folders of runs.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error as IoError, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use models::files::is_at;
use serde::{Deserialize, Serialize};

use crate::error::{Error, FileAction, Result};
use crate::progress;

/// Name of the lock file.
const NAME: &str = "run.lock";

/// The exclusive right to write to some folders, held until the value is dropped or the process ends in any way.
///
/// The operating system's lock on a file in each folder decides: it ends with its process, so a leftover file does not lock the
/// folder. The file's content names the owner in error messages, and decides on file systems without locks: there an owner
/// counts as gone if it ran on this machine, where this process would see it, and no longer runs. Timestamps are not used.
#[derive(Debug)]
pub struct FolderLocks {
    held: Vec<Lock>,
}

/// The lock on one folder.
#[derive(Debug)]
struct Lock {
    folder: PathBuf,
    file: File,
}

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// Name of the machine.
    host: String,
    /// Process number.
    pid: u32,
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

impl FolderLocks {
    /// Creates and locks all of the folders, or none of them. A folder that is given twice is locked once.
    ///
    /// All processes lock folders in one order, so of two processes with folders in common one gets all of its own.
    ///
    /// # Errors
    /// Fails with [`Error::Locked`] and the owner if another process holds one of the locks, with [`Error::SameFolder`] if two
    /// paths lead to one folder, and if a folder or lock file cannot be written.
    pub fn take(folders: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let mut found = Vec::new();
        for folder in folders {
            std::fs::create_dir_all(&folder).map_err(Error::file(FileAction::Create, &folder))?;
            let real = folder.canonicalize().map_err(Error::file(FileAction::Read, &folder))?;
            found.push((real, folder));
        }
        found.sort();
        found.dedup();
        if let Some([(_, path), (_, other)]) = found.array_windows().find(|[(one, _), (next, _)]| one == next)
        {
            return Err(Error::SameFolder { path: path.clone(), other: other.clone() });
        }
        #[cfg(unix)]
        allow_open_files(found.len());
        let mut held = Vec::new();
        let mut gone: Vec<(Owner, PathBuf)> = Vec::new();
        for (_, folder) in found {
            let (lock, before) = Lock::take(folder.clone())?;
            held.push(lock);
            if let Some(owner) = before
                && !gone.iter().any(|(known, _)| *known == owner)
            {
                gone.push((owner, folder));
            }
        }
        for (owner, folder) in gone {
            let folder = folder.display();
            progress::say(&format!("{owner} ended before it finished in {folder}; its records are kept"));
        }
        Ok(Self { held })
    }

    /// Checks that a folder is locked by this process, and is still the one that it has locked.
    ///
    /// # Errors
    /// Fails with [`Error::Lost`] if the folder was removed, moved or replaced, so that another process may work there.
    pub fn check(&self, folder: &Path) -> Result<()> {
        match self.held.iter().any(|lock| lock.folder == folder && lock.is_in_place()) {
            true => Ok(()),
            false => Err(Error::Lost { path: folder.into() }),
        }
    }
}

/// Asks the system to let this process open so many files in addition to the usual ones: a sweep may have more folders than
/// the limit that shells set.
#[cfg(unix)]
fn allow_open_files(more: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    /// Enough for everything else that a run opens.
    const OTHERS: u64 = 256;

    let wanted = OTHERS + more as u64;
    if let Ok((current, maximum)) = getrlimit(Resource::RLIMIT_NOFILE)
        && current < wanted
    {
        // If the limit stays, opening a file fails and names that file.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(maximum), maximum);
    }
}

impl Lock {
    /// Locks a folder. Also returns the owner that has ended without releasing the lock, if there is one.
    fn take(folder: PathBuf) -> Result<(Self, Option<Owner>)> {
        let path = folder.join(NAME);
        let failed = |error| Error::file(FileAction::Write, &path)(error);
        loop {
            // A link may lead to a file of somebody else, which must not be overwritten.
            if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(failed(IoError::new(ErrorKind::AlreadyExists, "it is not a regular file")));
            }
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            let locked = file.try_lock();
            let owner = read(&mut file);
            let refused = match (&locked, &owner) {
                (Err(TryLockError::WouldBlock), _) => true,
                (Err(TryLockError::Error(_)), Some(owner)) => !owner.is_gone(),
                (Err(TryLockError::Error(_)), None) | (Ok(()), _) => false,
            };
            if refused {
                return Err(Error::Locked { path: folder, owner: owner.as_ref().map(ToString::to_string) });
            }
            // Somebody may have removed the folder or the file between the two steps.
            if !is_at(&file, &path) {
                std::fs::create_dir_all(&folder).map_err(Error::file(FileAction::Create, &folder))?;
                continue;
            }
            let mut lock = Self { folder, file };
            lock.write(format!("{}\n", serde_json::json!(Owner::current())).as_bytes()).map_err(failed)?;
            return Ok((lock, owner));
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    /// Whether the path of the lock file still leads to this lock.
    fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.folder.join(NAME))
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

    fn take(folder: &Path) -> Result<FolderLocks> {
        FolderLocks::take([folder.to_path_buf()])
    }

    #[test]
    fn a_locked_folder_names_its_owner() -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let first = take(dir.path())?;
        let message = take(dir.path()).expect_err("refused").to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        assert_eq!(std::fs::read(dir.path().join(NAME)).expect("the file stays"), b"");
        take(dir.path()).map(drop)
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
            take(dir.path()).map(drop)?;
        }
        Ok(())
    }

    #[test]
    fn folders_are_locked_together_or_not_at_all() -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        let held = take(&b)?;
        let refused = FolderLocks::take([c.clone(), b.clone(), a.clone()]).expect_err("refused");
        assert!(matches!(&refused, Error::Locked { path, .. } if *path == b), "{refused}");
        [&a, &c].into_iter().try_for_each(|folder| take(folder).map(drop))?;
        drop(held);
        let all = FolderLocks::take([a.clone(), b.clone(), a.clone()])?;
        all.check(&a)?;
        assert!(matches!(all.check(&c), Err(Error::Lost { .. })), "not locked");
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_sweep_may_have_more_folders_than_a_process_may_open_files() -> Result<()> {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let (current, maximum) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, maximum.min(128), maximum).expect("a lower limit");
        let all = FolderLocks::take((0..160).map(|number| dir.path().join(number.to_string())));
        setrlimit(Resource::RLIMIT_NOFILE, current, maximum).expect("the limit from before");
        assert_eq!(all?.held.len(), 160);
        Ok(())
    }

    #[test]
    fn a_folder_that_was_removed_or_replaced_is_noticed() -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let run = dir.path().join("run");
        let lost = |locks: &FolderLocks| matches!(locks.check(&run), Err(Error::Lost { .. }));
        let first = take(&run)?;
        std::fs::rename(&run, dir.path().join("moved")).expect("renamed");
        assert!(lost(&first));
        // Somebody else's.
        std::fs::create_dir(&run).expect("writable");
        std::fs::write(run.join(NAME), "").expect("writable");
        assert!(lost(&first));
        take(&run).map(drop)
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_neither_around_a_lock_nor_to_other_files() -> Result<()> {
        use std::os::unix::fs::symlink;

        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a scratch folder");
        let [run, link, other, file] = ["run", "link", "other", "file"].map(|name| dir.path().join(name));
        let held = take(&run)?;
        symlink(&run, &link).expect("a link");
        assert!(matches!(take(&link), Err(Error::Locked { .. })));
        drop(held);
        let twice = FolderLocks::take([run.clone(), link.clone()]);
        assert!(matches!(twice, Err(Error::SameFolder { .. })));
        std::fs::create_dir(&other).expect("writable");
        std::fs::write(&file, "mine").expect("writable");
        symlink(&file, other.join(NAME)).expect("a link");
        let message = take(&other).expect_err("refused").to_string();
        assert!(message.contains("not a regular file"), "{message}");
        assert_eq!(std::fs::read(&file).expect("a file"), b"mine");
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
