//! Runs cargo on the workspace such that the loader finds libtorch.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::error::{Error, Result};
use crate::libtorch::Libtorch;
use crate::setup::{self, Ready};
use crate::workspace::Workspace;

/// The environment variable with the folders that the dynamic loader searches.
const LOADER_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// One call of cargo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its arguments.
    pub args: Vec<String>,
    /// Whether it runs documentation tests. rustdoc builds them in a temporary folder and without our linker flags, so
    /// they have no rpath to libtorch.
    pub documentation: bool,
}

impl Step {
    /// A step that does not run documentation tests.
    pub(crate) fn new(args: &[&str], rest: &[String]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).chain(rest.iter().cloned()).collect();
        Self { args, documentation: false }
    }
}

/// The columns of the masking table, on miniature networks.
const FIRST: [&str; 4] = [
    "configs/mini/masking-vit.toml",
    "configs/mini/masking-clip.toml",
    "configs/mini/masking-dinov1.toml",
    "configs/mini/masking-dinov2.toml",
];

/// The folder of the experiments on miniatures, and that of the ablations, whose curves `report` draws.
const MINIATURES: [&str; 2] = ["configs/mini", "configs/mini/ablations"];

/// Returns the demo: the masking table on the miniatures or, if `full`, the tables of all experiments and ablations there are.
///
/// # Errors
/// Fails if the experiments cannot be listed.
pub(crate) fn demo(workspace: &Workspace, full: bool, args: &[String]) -> Result<Step> {
    let mut configs: Vec<String> = FIRST.map(str::to_owned).into();
    if full {
        for folder in MINIATURES {
            let path = workspace.root.join(folder);
            let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let entries = entries.map_err(|error| {
                Error::missing(format!("the experiments in {} cannot be listed: {error}", path.display()))
            })?;
            let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
            let mut more: Vec<String> = names
                .filter(|name| name.ends_with(".toml"))
                .map(|name| format!("{folder}/{name}"))
                .filter(|config| !configs.contains(config))
                .collect();
            more.sort();
            configs.extend(more);
        }
    }
    let head = ["run", "--package", "tokenrank", "--", "run"];
    let configs = configs.iter().map(String::as_str);
    Ok(Step::new(&head.into_iter().chain(configs).collect::<Vec<_>>(), args))
}

/// Returns the tests that arguments of cargo select: of some packages, targets or names.
pub(crate) fn test(args: &[String]) -> Step {
    let picks_package = args.iter().take_while(|arg| *arg != "--").any(|arg| {
        arg == "-p" || arg == "--package" || arg.starts_with("-p=") || arg.starts_with("--package=")
    });
    let head: &[&str] =
        if picks_package { &["test", "--no-fail-fast"] } else { &["test", "--workspace", "--no-fail-fast"] };
    Step { documentation: true, ..Step::new(head, args) }
}

/// Runs cargo, prepared for this workspace.
#[derive(Debug)]
pub(crate) struct Cargo {
    workspace: Workspace,
    ready: Ready,
    loader_path: OsString,
    rpath_fails: bool,
}

impl Cargo {
    /// Sets up the workspace if needed.
    pub(crate) fn new(workspace: &Workspace) -> Result<Self> {
        let ready = setup::ensure(workspace, false)?;
        let exe = env::current_exe().ok();
        let rpath = Rpath {
            users_libtorch: matches!(ready.libtorch, Libtorch::Users(_)),
            replaced_by: RUSTFLAGS
                .into_iter()
                .find(|name| env::var_os(name).is_some_and(|value| !value.is_empty())),
            elsewhere: exe.is_none_or(|exe| !in_usual_target(&exe, &workspace.root)),
        };
        let folder = ready.libtorch.folder().join("lib");
        if let Some(reason) = rpath.fails() {
            let folder = folder.display();
            eprintln!(
                "{reason}: xtask sets {LOADER_PATH} for the programs it starts; to start a binary by hand, set \
                 {LOADER_PATH}={folder}"
            );
        }
        Ok(Self {
            workspace: workspace.clone(),
            loader_path: prepend(&folder, env::var_os(LOADER_PATH))?,
            rpath_fails: rpath.fails().is_some(),
            ready,
        })
    }

    /// Runs one step in this terminal and returns its exit code.
    pub(crate) fn run(&self, step: &Step) -> Result<u8> {
        exit_code(&mut self.command(step))
    }

    /// A step, ready to be started.
    pub(crate) fn command(&self, step: &Step) -> Command {
        let mut command = cargo(&self.workspace, step);
        if let Libtorch::Users(folder) = &self.ready.libtorch {
            command.env("LIBTORCH", folder);
        }
        if let Some(cxx) = self.ready.cxx {
            command.env("CXX", cxx);
        }
        if step.documentation {
            command.env(LOADER_PATH, &self.loader_path);
        }
        self.find_libtorch(&mut command);
        command
    }

    /// Names libtorch to a program that was built here, where its rpath does not lead there.
    pub(crate) fn find_libtorch(&self, command: &mut Command) {
        if self.rpath_fails {
            command.env(LOADER_PATH, &self.loader_path);
        }
    }
}

/// Returns a step as the user would start it at the repository root.
pub(crate) fn cargo(workspace: &Workspace, step: &Step) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo sets LIBTORCH from .cargo/config.toml itself. torch-sys is rebuilt whenever the inherited variable changes.
    command.args(&step.args).current_dir(&workspace.root).env_remove("LIBTORCH");
    command
}

/// Runs a program in this terminal and returns its exit code.
pub(crate) fn exit_code(command: &mut Command) -> Result<u8> {
    let status = command.status().map_err(|error| {
        Error::missing(format!("{} cannot be started: {error}", command.get_program().to_string_lossy()))
    })?;
    Ok(code_of(status))
}

/// The exit code of a process; one ended by a signal counts as the shell counts it.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or_else(|| signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Variables that replace the flags in .cargo/config.toml, including the rpath.
const RUSTFLAGS: [&str; 2] = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"];

/// The conditions under which a binary finds libtorch by its rpath, which leads from `target/debug` to `.libtorch`.
struct Rpath {
    users_libtorch: bool,
    replaced_by: Option<&'static str>,
    elsewhere: bool,
}

impl Rpath {
    /// Returns why the rpath does not lead to libtorch; `None` if it does.
    fn fails(&self) -> Option<String> {
        if self.users_libtorch {
            return Some("LIBTORCH is not the folder in which the binaries look for libtorch".to_owned());
        }
        if let Some(name) = self.replaced_by {
            return Some(format!("{name} replaces the linker flags by which the binaries find libtorch"));
        }
        self.elsewhere
            .then(|| "the build folder is not target/, so the binaries do not find libtorch".to_owned())
    }
}

/// Whether this program was built in `target/<profile>` of the repository; everything else is then built there too.
fn in_usual_target(exe: &Path, root: &Path) -> bool {
    let profile = exe.canonicalize().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    profile.is_some_and(|profile| profile.parent() == Some(&root.join("target")))
}

/// Puts a folder in front of a search path.
fn prepend(folder: &Path, path: Option<OsString>) -> Result<OsString> {
    let rest = path.filter(|path| !path.is_empty());
    let rest: Vec<PathBuf> = rest.iter().flat_map(env::split_paths).collect();
    env::join_paths(std::iter::once(folder.to_owned()).chain(rest))
        .map_err(|error| Error::missing(format!("{} cannot be in {LOADER_PATH}: {error}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_demo_takes_arguments_of_run() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = Workspace { root };
        let args = |full| demo(&workspace, full, &words("--limit 4")).unwrap().args;
        let masking = format!("run --package tokenrank -- run {}", FIRST.join(" "));
        assert_eq!(args(false), words(&format!("{masking} --limit 4")));
        let all = args(true);
        assert!(
            all.join(" ").starts_with(&masking) && all.contains(&"configs/mini/segment.toml".to_owned()),
            "{all:?}"
        );
        assert_eq!(all.iter().filter(|arg| arg.ends_with("masking-vit.toml")).count(), 1);
    }

    #[test]
    fn all_tests_or_the_ones_picked() {
        assert_eq!(test(&[]).args, words("test --workspace --no-fail-fast"));
        assert_eq!(test(&words("-- power -p")).args, words("test --workspace --no-fail-fast -- power -p"));
        assert_eq!(test(&words("-p eval")).args, words("test --no-fail-fast -p eval"));
        assert_eq!(test(&words("--package=eval")).args, words("test --no-fail-fast --package=eval"));
        assert!(test(&[]).documentation);
    }

    #[test]
    fn the_rpath_serves_the_usual_build_only() {
        let usual = || Rpath { users_libtorch: false, replaced_by: None, elsewhere: false };
        assert_eq!(usual().fails(), None);
        assert!(Rpath { users_libtorch: true, ..usual() }.fails().unwrap().contains("LIBTORCH"));
        assert!(Rpath { replaced_by: Some("RUSTFLAGS"), ..usual() }.fails().unwrap().contains("RUSTFLAGS"));
        assert!(Rpath { elsewhere: true, ..usual() }.fails().unwrap().contains("target/"));
    }

    #[test]
    fn the_usual_target_is_the_repositorys() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let exe = root.join("target/debug/xtask");
        std::fs::create_dir_all(exe.parent().unwrap()).unwrap();
        std::fs::write(&exe, "").unwrap();
        assert!(in_usual_target(&exe, &root));
        assert!(!in_usual_target(&exe, &root.join("crates")));
        assert!(!in_usual_target(&root.join("gone"), &root));
    }

    #[test]
    fn libtorch_comes_first_on_the_loaders_path() {
        let folder = Path::new("/opt/libtorch/lib");
        assert_eq!(prepend(folder, None).unwrap(), "/opt/libtorch/lib");
        assert_eq!(prepend(folder, Some("".into())).unwrap(), "/opt/libtorch/lib");
        assert_eq!(prepend(folder, Some("/a:/b".into())).unwrap(), "/opt/libtorch/lib:/a:/b");
        assert!(prepend(Path::new("/a:b"), None).is_err());
    }
}
