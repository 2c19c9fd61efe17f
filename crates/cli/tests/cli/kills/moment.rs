//! When a process is killed, and the kill.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tasks::Rng;

use crate::experiments::{SIGXFSZ, limited};

/// What `kill -9` sends.
pub const SIGKILL: i32 = 9;

/// What ends a process.
pub enum Moment {
    /// A kill so long after its start.
    After(Duration),
    /// A kill behind so many changes in its folder.
    Behind(usize),
    /// The system, where a file would grow beyond so many blocks of 512 bytes.
    Beyond(usize),
}

impl Moment {
    /// Any of them: within the time that the process takes, or in the middle of a write that comes after the first `least`
    /// bytes of a file. Every other such write is in the first of the files, whose sizes these are.
    pub fn any(takes: Duration, sizes: &[usize], least: usize, rng: &mut Rng) -> Self {
        match rng.below(3) {
            0 => Self::After(takes.mul_f64(0.8 * rng.unit())),
            1 => Self::Behind(1 + rng.below(12)),
            _ => {
                let file = if rng.chance(0.5) { 0 } else { rng.below(sizes.len().max(1)) };
                let (least, blocks) = (least.div_ceil(512), sizes.get(file).map_or(0, |size| size / 512));
                Self::Beyond(least + rng.below(blocks.saturating_sub(least).max(1)))
            }
        }
    }

    /// The signal by which the process ends.
    pub fn signal(&self) -> i32 {
        if matches!(self, Self::Beyond(_)) { SIGXFSZ } else { SIGKILL }
    }

    /// Starts the program, and ends it when the moment comes. Returns how it ended.
    pub fn strike(&self, mut command: Command, folder: &Path) -> ExitStatus {
        if let Self::Beyond(blocks) = *self {
            command = limited(&command, blocks);
        }
        let seen = listing(folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the binary starts");
        if self.comes(&mut child, folder, seen) {
            child.kill().expect("killed");
        }
        child.wait().expect("a child")
    }

    /// Waits for the moment. False if the process ended before, or ends by itself.
    fn comes(&self, child: &mut Child, folder: &Path, mut seen: Vec<(PathBuf, u64)>) -> bool {
        let mut running = || child.try_wait().expect("a child").is_none();
        match *self {
            Self::After(time) => {
                let until = Instant::now() + time;
                while Instant::now() < until && running() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Self::Behind(changes) => {
                for _ in 0..changes {
                    while running() {
                        let now = listing(folder);
                        if now != seen {
                            seen = now;
                            break;
                        }
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            }
            Self::Beyond(_) => return false,
        }
        running()
    }
}

/// Names and sizes of the files in a folder, at any depth.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.push((entry.path(), about.len()));
    }
    found
}
