//! A Slurm cluster of two nodes on this machine: `munged`, `slurmctld` and two `slurmd` of its own in a scratch folder, on free ports
//! of 127.0.0.1. Nothing of the system's own Slurm or munge is read or touched.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::browser::skipped::find;

/// How long anything may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);

/// The nodes. Two processes with names of their own: every other thing of a machine they share.
pub const NODES: [&str; 2] = ["node1", "node2"];

/// Tasks that a node runs at a time, whatever the machine has.
const CPUS: usize = 2;

/// The daemons; gone when this is dropped, and when the test process dies in whatever way.
pub struct Cluster {
    dir: tempfile::TempDir,
    watchman: Child,
    daemons: Vec<(String, Child)>,
}

/// Waits until its standard input closes, then kills whatever belongs to the cluster in folder `$1`: what has its SLURM_CONF
/// (daemons, and jobs with all they started), and what has a file of it open (slurmstepd writes its title over its
/// environment).
const WATCHMAN: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(
        grep -lszFx "SLURM_CONF=$1/slurm.conf" /proc/[0-9]*/environ
        find /proc/[0-9]*/fd -maxdepth 1 -lname "$1/*" 2> /dev/null
    ); do
        pid=${file#/proc/}
        pid=${pid%%/*}
        [ "$pid" = "$PPID" ] || kill -9 "$pid" 2> /dev/null && found=yes
    done
    [ -n "$found" ] || exit 0
    sleep 0.1
done
"#;

impl Cluster {
    /// Starts the nodes of a Slurm that is installed.
    ///
    /// # Panics
    /// If a daemon does not start; the message has what the daemons logged.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("slurm").tempdir().expect("a scratch folder");
        for folder in ["munge", "state"].into_iter().chain(NODES) {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        // munged wants its socket to be reachable, and its key not to be.
        for (path, mode) in [(dir.path().to_owned(), 0o755), (dir.path().join("munge"), 0o755)] {
            permit(&path, mode);
        }
        let mut key = [0; 128];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key));
        read.expect("random bytes");
        std::fs::write(dir.path().join("munge/key"), key).expect("written");
        permit(&dir.path().join("munge/key"), 0o400);
        std::fs::write(dir.path().join("slurm.conf"), configuration(dir.path())).expect("written");
        let watchman = Command::new("sh")
            .args(["-c", WATCHMAN, "watchman"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh");
        let mut cluster = Self { dir, watchman, daemons: Vec::new() };
        if let Err(message) = cluster.start_daemons() {
            panic!("Slurm is installed but does not start: {message}");
        }
        cluster
    }

    fn start_daemons(&mut self) -> Result<(), String> {
        let munge = self.path("munge");
        let file = |option: &str, name: &str| format!("--{option}={}", munge.join(name).display());
        self.daemon(
            "munged",
            "munged",
            &[
                "--foreground",
                &file("key-file", "key"),
                &file("socket", "socket"),
                &file("pid-file", "pid"),
                &file("log-file", "log"),
                &file("seed-file", "seed"),
            ],
        )?;
        self.until_started("munged answers", |_| munge.join("socket").exists())?;
        self.daemon("slurmctld", "slurmctld", &["-D"])?;
        for node in NODES {
            self.daemon(node, "slurmd", &["-D", "-N", node])?;
        }
        self.until_started("the nodes are ready", |it| NODES.iter().all(|node| it.is_idle(node)))
    }

    fn daemon(&mut self, name: &str, program: &str, args: &[&str]) -> Result<(), String> {
        let log = File::create(self.path(&format!("{name}.out"))).expect("a log");
        let child = self
            .command(find(program).unwrap_or_else(|| program.into()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        let child = child.map_err(|e| format!("{program} does not start: {e}"))?;
        self.daemons.push((name.to_owned(), child));
        Ok(())
    }

    /// Waits for something; the error has the ends of the daemons' logs.
    fn until(&self, what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > PATIENCE {
                return Err(format!("{what}: not after {PATIENCE:?}\n{}", self.logs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines of every log: a daemon that refuses its configuration says so on its output, others in their files.
    fn logs(&self) -> String {
        let end = |name: &str| {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{name}:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
        };
        let names = [
            "munged.out",
            "munge/log",
            "slurmctld.out",
            "slurmctld.log",
            "node1.out",
            "node1/log",
            "node2.out",
            "node2/log",
        ];
        names.map(end).join("\n")
    }

    /// As [`until`](Self::until), for the start: a daemon that ends is not waited for.
    fn until_started(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut ended = None;
        let mut daemons = std::mem::take(&mut self.daemons);
        let waited = self.until(what, || {
            let mut states = daemons.iter_mut().map(|(name, daemon)| (name.clone(), daemon.try_wait()));
            ended = states.find_map(|(name, state)| Some((name, state.ok()??)));
            ended.is_some() || done(self)
        });
        self.daemons = daemons;
        match ended {
            Some((name, status)) => Err(format!("{name} ended with {status}\n{}", self.logs())),
            None => waited,
        }
    }

    /// [`until`](Self::until), which must come.
    #[track_caller]
    pub fn wait(&self, what: &str, done: impl FnMut() -> bool) {
        if let Err(message) = self.until(what, done) {
            panic!("{message}\n{}", self.ask("squeue", &["--array"]));
        }
    }

    /// A program that talks to this cluster, and hears nothing of another one on which this test may be a job.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let of_slurm = ["SLURM", "SBATCH_", "SQUEUE_", "SINFO_", "SCANCEL_", "SCONTROL_", "MUNGE"];
            if name.to_str().is_some_and(|name| of_slurm.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command.env("SLURM_CONF", self.path("slurm.conf"));
        command
    }

    /// Changes lines of the configuration, of which the daemons hear at once.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let path = self.path("slurm.conf");
        let text = std::fs::read_to_string(&path).expect("slurm.conf");
        std::fs::write(&path, change(text)).expect("written");
        assert!(self.tell("scontrol", &["reconfigure"]).status.success(), "Slurm takes the configuration");
    }

    /// Takes a whole node as soon as Slurm gives it, by a partition that is above the others, and gives it back at once.
    pub fn take_over(&self, node: &str) -> String {
        let output = self.ask(
            "sbatch",
            &[
                "--parsable",
                "--partition=high",
                "--exclusive",
                "--nodelist",
                node,
                "--output=/dev/null",
                "--wrap=true",
            ],
        );
        assert!(!output.is_empty(), "sbatch takes the job");
        output
    }

    /// What one of Slurm's commands prints.
    pub fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().expect("a command of Slurm");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Tells Slurm something; it may refuse where a task has ended meanwhile.
    pub fn tell(&self, program: &str, args: &[&str]) -> Output {
        self.command(program).args(args).output().expect("a command of Slurm")
    }

    /// The state of a job or task; none where it has ended.
    pub fn state(&self, task: &str) -> Option<String> {
        let states = self.ask("squeue", &["--noheader", "--array", "--format=%T", "--jobs", task]);
        states.lines().next().map(str::to_owned)
    }

    /// Exit code of a job that has ended, of the longest of an array.
    pub fn exit_code(&self, job: &str) -> Option<i32> {
        let text = self.ask("scontrol", &["show", "job", job]);
        let (_, rest) = text.split_once(" ExitCode=")?;
        rest.split(':').next()?.parse().ok()
    }

    /// How often a task was started again.
    pub fn restarts(&self, task: &str) -> usize {
        let text = self.ask("scontrol", &["show", "job", task]);
        let restarts =
            text.split_once("Restarts=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        restarts.unwrap_or_else(|| panic!("no restarts of {task}: {text}"))
    }

    /// A node loses its power: its daemon, its tasks' supervisors and its tasks die at once.
    pub fn lose(&mut self, node: &str) {
        let place = self.daemons.iter().position(|(name, _)| name == node).expect("slurmd");
        let (_, mut slurmd) = self.daemons.remove(place);
        slurmd.kill().expect("killed");
        slurmd.wait().expect("gone");
        for pid in self.processes().into_iter().filter(|&pid| self.is_on(pid, node)) {
            // One that ends by itself meanwhile is as dead.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        // What slurmctld does by itself when the node has not answered for SlurmdTimeout.
        let name = format!("NodeName={node}");
        let lost = self.tell("scontrol", &["update", &name, "State=DOWN", "Reason=lost"]);
        assert!(lost.status.success(), "the node is given up");
    }

    /// The node is back.
    pub fn boot(&mut self, node: &str) {
        self.daemon(node, "slurmd", &["-D", "-b", "-N", node]).expect("slurmd starts again");
        self.wait("the node is back", || self.is_idle(node));
    }

    /// Whether a process is a task of this node, or the supervisor of one.
    fn is_on(&self, pid: u32, node: &str) -> bool {
        variables(pid).any(|variable| variable == format!("SLURMD_NODENAME={node}").as_bytes())
            || open_files(pid).any(|file| file.starts_with(self.path(node)))
    }

    /// Every process of this cluster.
    pub fn processes(&self) -> Vec<u32> {
        processes(self.dir.path())
    }

    /// A file in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn is_idle(&self, node: &str) -> bool {
        self.ask("sinfo", &["--noheader", "--partition=main", "--nodes", node, "--format=%T"]) == "idle"
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchman.stdin.take());
        let _ = self.watchman.wait();
        for (_, daemon) in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Processes of the cluster in this folder, as the watchman knows them; not this one.
pub fn processes(dir: &Path) -> Vec<u32> {
    let sign = format!("SLURM_CONF={}", dir.join("slurm.conf").display());
    let belongs = |&pid: &u32| {
        variables(pid).any(|variable| variable == sign.as_bytes())
            || open_files(pid).any(|file| file.starts_with(dir))
    };
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id()).filter(belongs).collect()
}

/// The environment that a process was started with.
fn variables(pid: u32) -> impl Iterator<Item = Vec<u8>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
}

fn open_files(pid: u32) -> impl Iterator<Item = PathBuf> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| file.path().read_link().ok())
}

fn permit(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permitted");
}

/// Ports that nobody listens on.
fn free_ports<const N: usize>() -> [u16; N] {
    // All of them held until the last is found, so that none comes twice.
    let listeners = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn configuration(dir: &Path) -> String {
    let [controller, first, second] = free_ports();
    let at = |name: &str| dir.join(name).display().to_string();
    let user = if is_root() { "root".to_owned() } else { std::env::var("USER").unwrap_or_default() };
    // Credentials that expire soon: Slurm waits for that before it starts a requeued task again.
    format!(
        "ClusterName=scratch
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge},cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller}
StateSaveLocation={state}
SlurmdSpoolDir={at_node}/spool
SlurmctldPidFile={pid}
SlurmdPidFile={at_node}/pid
SlurmctldLogFile={log}
SlurmdLogFile={at_node}/log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
KillWait=30
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={one} NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs={CPUS}
NodeName={two} NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs={CPUS}
PartitionName=main Nodes={one},{two} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=2
PartitionName=high Nodes={one},{two} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
",
        one = NODES[0],
        two = NODES[1],
        munge = at("munge/socket"),
        state = at("state"),
        // Slurm puts the node's name in place of %n.
        at_node = at("%n"),
        pid = at("slurmctld.pid"),
        log = at("slurmctld.log"),
    )
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.starts_with(b"0\n")
}
