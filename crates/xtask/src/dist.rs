//! `cargo xtask dist`: the program with everything it needs besides glibc, as a folder and an archive.

mod libraries;
mod licences;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::elf::Dynamic;
use crate::error::{Error, Result};
use crate::launch::{Cargo, Step};
use crate::libtorch::Libtorch;
use crate::setup;
use crate::version::{Found, inspect};
use crate::workspace::Workspace;
use libraries::{Libraries, file_name};

/// The options of `dist`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The profile that cargo builds.
    pub(crate) profile: String,
    /// A program to take instead of building one.
    pub(crate) binary: Option<PathBuf>,
    /// Whether the libraries of CUDA are taken along.
    pub(crate) cuda: bool,
    /// The folder of folder and archive; `None` for `target/dist`.
    pub(crate) out: Option<PathBuf>,
    /// Whether an archive is written.
    pub(crate) archive: bool,
}

impl Options {
    /// Reads the arguments behind `dist`.
    ///
    /// # Errors
    /// Fails if an argument is unknown or lacks its value.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options =
            Self { profile: "release".to_owned(), binary: None, cuda: false, out: None, archive: true };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| Error::usage(format!("`dist {arg}` needs a value")));
            match arg.as_str() {
                "--profile" => options.profile.clone_from(value()?),
                "--binary" => options.binary = Some(value()?.into()),
                "--out" => options.out = Some(value()?.into()),
                "--cuda" => options.cuda = true,
                "--no-archive" => options.archive = false,
                other => {
                    return Err(Error::usage(format!(
                        "`dist` takes --out, --profile, --binary, --cuda and --no-archive, not `{other}`"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// The name of the bundle.
    fn name(&self) -> String {
        let kind = if self.cuda { "-cuda" } else { "" };
        format!("tokenrank-{}-x86_64-linux{kind}", env!("CARGO_PKG_VERSION"))
    }
}

/// The hashes of all files of a bundle, by which a later call knows that it is one.
const SUMS: &str = "SHA256SUMS";

/// Builds the program and makes a bundle of it. Returns the exit code.
///
/// # Errors
/// Fails if the program cannot be built, a library or licence is missing, or something else is at the place of the bundle.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<u8> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err(Error::missing("bundles are made on x86-64 Linux only"));
    }
    let out = options.out.clone().unwrap_or_else(|| workspace.target().join("dist"));
    fs::create_dir_all(&out).map_err(|error| unwritable(&out, &error))?;
    let bundle =
        Bundle { folder: out.join(options.name()), archive: out.join(format!("{}.tar.gz", options.name())) };
    bundle.refuse_other(options.archive)?;

    let built = match &options.binary {
        Some(binary) => {
            setup::ensure(workspace, false)?;
            binary.clone()
        }
        None => {
            let args = ["build", "--package", "tokenrank", "--profile", &options.profile];
            let code = Cargo::new(workspace)?.run(&Step::new(&args, &[]))?;
            if code != 0 {
                return Ok(code);
            }
            let folder = if options.profile == "dev" { "debug" } else { &options.profile };
            workspace.target().join(folder).join("tokenrank")
        }
    };
    let libtorch = Libtorch::chosen(workspace);
    let libraries = libraries::needed(&built, &libtorch.folder().join("lib"), options.cuda)?;

    let staging = Staging::new(&out)?;
    let folder = staging.0.join(options.name());
    licences::write(workspace, &libraries, &folder.join("licences"))?;
    let glibc = fill(&folder, &built, &libraries)?;
    let Found::Good(version) = inspect(libtorch.folder()) else {
        return Err(Error::missing(format!("{} has changed; start again", libtorch.folder().display())));
    };
    put(&folder.join("build-version"), &format!("{version}\n"))?;
    write_share(&folder)?;
    copy_tree(&workspace.root.join("datasets/mini"), &folder.join("datasets/mini"))?;
    let readme = include_str!("dist/README.md").replace("@NAME@", &options.name());
    put(&folder.join("README.md"), &readme.replace("@GLIBC@", &format!("{}.{}", glibc.0, glibc.1)))?;
    write_sums(&folder)?;
    let archive = options.archive.then(|| pack(workspace, &staging.0, &options.name())).transpose()?;

    bundle.refuse_other(options.archive)?;
    if bundle.folder.exists() {
        rename(&bundle.folder, &staging.0.join("old"))?;
    }
    rename(&folder, &bundle.folder)?;
    println!("{}", bundle.folder.display());
    if let Some(archive) = archive {
        rename(&archive, &bundle.archive)?;
        rename(&sums_of(&archive), &sums_of(&bundle.archive))?;
        println!("{}", bundle.archive.display());
    }
    eprintln!("{} libraries; it needs glibc {}.{} or newer", libraries.len(), glibc.0, glibc.1);
    Ok(0)
}

/// Where a bundle is written.
struct Bundle {
    folder: PathBuf,
    archive: PathBuf,
}

impl Bundle {
    /// Fails if there is something else than an earlier bundle, which may be replaced.
    fn refuse_other(&self, archive: bool) -> Result<()> {
        if self.folder.symlink_metadata().is_ok() {
            let sums = fs::read_to_string(self.folder.join(SUMS)).unwrap_or_default();
            let known =
                |name: &str| name == SUMS || sums.lines().any(|line| line.ends_with(&format!("  ./{name}")));
            let files = files(&self.folder)?;
            if let Some(other) = files.iter().find(|name| !known(name)) {
                return Err(refuse(&self.folder, &format!("has {other}, which no bundle has")));
            }
            if sums.is_empty() {
                return Err(refuse(&self.folder, "is no bundle"));
            }
        }
        if archive && self.archive.symlink_metadata().is_ok() {
            let check = Command::new("sha256sum")
                .args(["--check", "--status", "--strict"])
                .arg(file_name(&sums_of(&self.archive)))
                .current_dir(self.archive.parent().unwrap_or(Path::new(".")))
                .stderr(process::Stdio::null())
                .status();
            if !check.is_ok_and(|status| status.success()) {
                return Err(refuse(&self.archive, "is not the archive whose hash lies next to it"));
            }
        }
        Ok(())
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::missing(format!("{} {reason}: move it away, or choose another folder with --out", path.display()))
}

/// The file with the hash of an archive.
fn sums_of(archive: &Path) -> PathBuf {
    archive.with_file_name(format!("{}.sha256", file_name(archive)))
}

/// Copies program and libraries, such that they find each other and look nowhere else first. Returns the oldest version of glibc
/// with which they run.
fn fill(folder: &Path, program: &Path, libraries: &Libraries) -> Result<(u32, u32)> {
    let mut oldest = (2, 0);
    let program = ("tokenrank".to_owned(), program.to_owned(), "$ORIGIN/lib");
    let libraries = libraries.iter().map(|(name, path)| (format!("lib/{name}"), path.clone(), "$ORIGIN"));
    for (name, path, search) in std::iter::once(program).chain(libraries) {
        let copy = folder.join(name);
        copy_file(&path, &copy)?;
        let dynamic = Dynamic::read(&copy)?;
        oldest = oldest.max(dynamic.glibc.unwrap_or_default());
        // What a library without a path needs is found by those that need it.
        if search == "$ORIGIN/lib" || !dynamic.search.is_empty() {
            dynamic.set_search(&copy, search)?;
        }
    }
    Ok(oldest)
}

/// Writes completions and manual pages to the places below `share` where shells and `man` look for them.
fn write_share(folder: &Path) -> Result<()> {
    let call = |args: &[&str]| {
        let output = Command::new(folder.join("tokenrank")).args(args).env_remove("LD_LIBRARY_PATH").output();
        match output {
            Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => {
                Err(Error::missing(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")))
            }
            Err(error) => Err(Error::missing(format!("the bundled program cannot be started: {error}"))),
        }
    };
    for (shell, file) in [
        ("bash", "bash-completion/completions/tokenrank"),
        ("fish", "fish/vendor_completions.d/tokenrank.fish"),
        ("zsh", "zsh/site-functions/_tokenrank"),
    ] {
        put(&folder.join("share").join(file), &call(&["completions", shell])?)?;
    }
    call(&["man", &folder.join("share/man/man1").to_string_lossy()]).map(|_| ())
}

/// Writes the hashes of all files in a folder.
fn write_sums(folder: &Path) -> Result<()> {
    let names: Vec<String> = files(folder)?.into_iter().map(|name| format!("./{name}")).collect();
    let output = Command::new("sha256sum").arg("--").args(names).current_dir(folder).output();
    put(&folder.join(SUMS), &printed("sha256sum", output)?)
}

/// Packs a folder, so that equal files give equal archives, and writes the hash of the archive next to it.
fn pack(workspace: &Workspace, folder: &Path, name: &str) -> Result<PathBuf> {
    let archive = folder.join(format!("{name}.tar.gz"));
    let mut commit = Command::new("git");
    commit.args(["log", "-1", "--format=%ct"]).current_dir(&workspace.root);
    let time = std::env::var("SOURCE_DATE_EPOCH").or_else(|_| printed("git", commit.output()));
    let time = time.map(|time| time.trim().to_owned()).unwrap_or_else(|_| "0".to_owned());
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go+rX,go-w"]);
    tar.arg(format!("--mtime=@{time}")).args(["--use-compress-program=gzip -n", "--create", "--file"]);
    printed("tar", tar.arg(&archive).arg(name).current_dir(folder).output())?;
    let mut sum = Command::new("sha256sum");
    let sum = printed("sha256sum", sum.arg(file_name(&archive)).current_dir(folder).output())?;
    put(&sums_of(&archive), &sum)?;
    Ok(archive)
}

/// Returns what a program has printed.
fn printed(program: &str, output: io::Result<process::Output>) -> Result<String> {
    let output = output.map_err(|error| Error::missing(format!("{program} cannot be started: {error}")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        return Err(Error::missing(format!("{program} failed: {reason}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the names of the files in a folder and below it, relative to it, in order.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let unreadable =
            |error: io::Error| Error::missing(format!("{} cannot be read: {error}", next.display()));
        for entry in fs::read_dir(&next).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_type().map_err(unreadable)?.is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    files(from)?.iter().try_for_each(|name| copy_file(&from.join(name), &to.join(name)))
}

/// Copies a file and makes the folders above the copy.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(from, to));
    copied.map(|_| ()).map_err(|error| {
        Error::missing(format!("{} cannot be copied to {}: {error}", from.display(), to.display()))
    })
}

fn put(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).map_err(|error| unwritable(path, &error))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| unwritable(to, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::missing(format!("{} cannot be written: {error}", path.display()))
}

/// A folder on the same disk as the bundle, from which finished parts are renamed; it is removed at the end.
struct Staging(PathBuf);

impl Staging {
    fn new(out: &Path) -> Result<Self> {
        let folder = out.join(format!(".partial-{}", process::id()));
        fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
        // The bundled program is started from here.
        Ok(Self(folder.canonicalize().map_err(|error| unwritable(&folder, &error))?))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let plain = parse("").unwrap();
        assert_eq!((plain.profile.as_str(), plain.cuda, plain.archive), ("release", false, true));
        assert!(plain.name().ends_with("-x86_64-linux"));
        let all = parse("--cuda --out there --binary here --no-archive --profile dev").unwrap();
        assert!(all.name().ends_with("-x86_64-linux-cuda"));
        assert_eq!((all.out, all.binary), (Some("there".into()), Some("here".into())));
        assert_eq!((all.profile.as_str(), all.archive), ("dev", false));
    }

    #[test]
    fn only_a_bundle_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle { folder: dir.path().join("bundle"), archive: dir.path().join("bundle.tar.gz") };
        bundle.refuse_other(true).unwrap();
        put(&bundle.folder.join("lib/one.so"), "one").unwrap();
        let message = bundle.refuse_other(true).unwrap_err().to_string();
        assert!(message.contains("has lib/one.so, which no bundle has"), "{message}");
        write_sums(&bundle.folder).unwrap();
        bundle.refuse_other(true).unwrap();
        put(&bundle.folder.join("lib/two.so"), "two").unwrap();
        assert!(bundle.refuse_other(true).is_err());
        fs::remove_dir_all(&bundle.folder).unwrap();
        fs::create_dir(&bundle.folder).unwrap();
        assert!(bundle.refuse_other(true).is_err());
        fs::remove_dir(&bundle.folder).unwrap();

        put(&bundle.archive, "mine").unwrap();
        let message = bundle.refuse_other(true).unwrap_err().to_string();
        assert!(message.contains("is not the archive whose hash lies next to it"), "{message}");
        bundle.refuse_other(false).unwrap();
    }

    #[test]
    fn equal_files_are_packed_equally_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_owned() };
        let packed = ["first", "second"].map(|place| {
            let folder = dir.path().join(place);
            put(&folder.join("bundle/a/file"), "text").unwrap();
            let archive = pack(&workspace, &folder, "bundle").unwrap();
            Bundle { folder: folder.join("nothing"), archive: archive.clone() }.refuse_other(true).unwrap();
            fs::read(archive).unwrap()
        });
        assert!(packed[0] == packed[1]);
    }
}
