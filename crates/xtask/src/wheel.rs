//! `cargo xtask wheel`: the Python package as a wheel and a source distribution, and its tests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::launch;
use crate::requirement::{self, Requirement};
use crate::workspace::Workspace;

/// maturin, and what the tests need.
const REQUIREMENTS: &str = include_str!("../wheels/python.txt");

/// The oldest Python that the package supports.
const PYTHON: (u32, u32) = (3, 10);

/// Folder of the tests.
const TESTS: &str = "crates/python/tests";

/// The options of `wheel`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The profile that cargo builds.
    profile: String,
    /// Folder of wheel and source distribution; `None` for `target/wheels`.
    out: Option<PathBuf>,
    /// Whether the tests run on the wheel, and their further arguments.
    test: Option<Vec<String>>,
}

impl Options {
    /// Reads the arguments behind `wheel`.
    ///
    /// # Errors
    /// Fails if an argument is unknown or lacks its value.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { profile: "release".to_owned(), out: None, test: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().ok_or_else(|| Error::usage(format!("`wheel {arg}` needs a value")));
            match arg.as_str() {
                "--profile" => options.profile.clone_from(value()?),
                "--out" => options.out = Some(value()?.into()),
                "--test" => {
                    options.test = Some(args.cloned().collect());
                    break;
                }
                other => {
                    return Err(Error::usage(format!(
                        "`wheel` takes --out, --profile and --test, not `{other}`"
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// Builds the wheel and the source distribution, and tests the wheel if that was asked for. Returns the exit code.
///
/// # Errors
/// Fails if there is no suitable Python, or pip cannot install what is needed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<u8> {
    let tools = Tools::ensure(workspace)?;
    let out = options.out.clone().unwrap_or_else(|| workspace.target().join("wheels"));
    // An older wheel of the same version would be taken for the new one.
    let staging = workspace.target().join("python/built");
    remove(&staging)?;
    for task in [&["build", "--profile", &options.profile][..], &["sdist"][..]] {
        let mut maturin = Command::new(&tools.python);
        maturin.args(["-m", "maturin"]).args(task).arg("--out").arg(&staging).current_dir(&workspace.root);
        let code = launch::exit_code(maturin.env_remove("LD_LIBRARY_PATH"))?;
        if code != 0 {
            return Ok(code);
        }
    }
    fs::create_dir_all(&out).map_err(|error| unwritable(&out, &error))?;
    let mut wheel = None;
    for built in list(&staging)? {
        let place = out.join(built.file_name().unwrap_or_default());
        fs::copy(&built, &place).map_err(|error| unwritable(&place, &error))?;
        println!("{}", place.display());
        if place.extension().is_some_and(|extension| extension == "whl") {
            wheel = Some(place);
        }
    }
    let wheel = wheel.ok_or_else(|| Error::missing("maturin has written no wheel; see its output above"))?;
    match &options.test {
        Some(args) => test(workspace, &tools, &wheel, args),
        None => Ok(0),
    }
}

/// Runs the tests on the wheel: with numpy alone and, if a Python has torch, with that one too.
fn test(workspace: &Workspace, tools: &Tools, wheel: &Path, args: &[String]) -> Result<u8> {
    let code = pytest(workspace, &tools.python, tools, wheel, args)?;
    if code != 0 {
        return Ok(code);
    }
    if let Some(reason) = Requirement::Torch.missing() {
        let required = Requirement::required().map_err(Error::usage)?;
        eprintln!("wheel: the tests with torch are skipped: {reason}");
        note_skipped(workspace, &reason)?;
        return Ok(u8::from(required.contains(&Requirement::Torch)));
    }
    pytest(workspace, &requirement::python(), tools, wheel, args)
}

/// Runs the tests with a Python, on the wheel installed into a folder of its own.
fn pytest(workspace: &Workspace, python: &Path, tools: &Tools, wheel: &Path, args: &[String]) -> Result<u8> {
    let site = workspace.target().join("python/site");
    remove(&site)?;
    let mut pip = Command::new(&tools.python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    pip.arg(&site).arg(wheel);
    let code = launch::exit_code(&mut pip)?;
    if code != 0 {
        return Ok(code);
    }
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]).args(args);
    pytest.current_dir(&workspace.root).env("PYTHONPATH", &site).env("PYTHONDONTWRITEBYTECODE", "1");
    // Another libtorch on the loader's path would be mixed with the one of this Python.
    launch::exit_code(pytest.env_remove("LD_LIBRARY_PATH"))
}

/// Adds a line to the list of skipped tests, which `.ci/run` prints at its end.
fn note_skipped(workspace: &Workspace, reason: &str) -> Result<()> {
    let list = workspace.target().join("skipped.txt");
    let file = fs::File::options().create(true).append(true).open(&list);
    file.and_then(|mut file| writeln!(file, "the Python package: {}: {reason}", Requirement::Torch.name()))
        .map_err(|error| unwritable(&list, &error))
}

/// A Python with maturin, numpy and pytest, in the build folder.
struct Tools {
    python: PathBuf,
}

impl Tools {
    /// Creates the environment unless it is there with the requirements of this version.
    fn ensure(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target().join("python");
        let (venv, mark) = (folder.join("venv"), folder.join("requirements.txt"));
        let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        if python.exists() && fs::read_to_string(&mark).is_ok_and(|text| text == REQUIREMENTS) {
            return Ok(Self { python });
        }
        check_python()?;
        remove(&venv)?;
        fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&venv).stdin(Stdio::null());
        if launch::exit_code(&mut create)? != 0 {
            return Err(Error::missing(
                "python3 cannot create a virtual environment: install its venv module (Debian and Ubuntu: `apt install \
                 python3-venv`)",
            ));
        }
        let list = folder.join("wanted.txt");
        fs::write(&list, REQUIREMENTS).map_err(|error| unwritable(&list, &error))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&list);
        if launch::exit_code(pip.stdin(Stdio::null()))? != 0 {
            return Err(Error::missing(
                "pip cannot install maturin, numpy and pytest; see its output above, and set PIP_INDEX_URL where the Python \
                 package registry is reached through a mirror",
            ));
        }
        fs::rename(&list, &mark).map_err(|error| unwritable(&mark, &error))?;
        Ok(Self { python })
    }
}

/// Checks that `python3` is new enough.
fn check_python() -> Result<()> {
    let (major, minor) = PYTHON;
    let question = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    let mut python = Command::new("python3");
    python.args(["-c", &question]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if python.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::missing(format!(
        "the Python package needs a `python3` of version {major}.{minor} or newer on PATH, with pip and venv"
    )))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries =
        entries.map_err(|error| Error::missing(format!("{} cannot be listed: {error}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::missing(format!("{} cannot be removed: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::missing(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_follows_test_goes_to_pytest() {
        let options = Options::parse(&words("--profile dev --out there --test -k rank")).unwrap();
        let expected =
            Options { profile: "dev".to_owned(), out: Some("there".into()), test: Some(words("-k rank")) };
        assert_eq!(options, expected);
        assert_eq!(Options::parse(&[]).unwrap().profile, "release");
        for wrong in ["--gpu", "--out", "there"] {
            assert_eq!(Options::parse(&words(wrong)).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_build_backend_and_the_wheels_tool_are_of_one_version() {
        let pinned = REQUIREMENTS.lines().find_map(|line| line.strip_prefix("maturin==")).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let project = fs::read_to_string(root.join("pyproject.toml")).unwrap();
        let (major, minor) = crate::version::major_minor(pinned).unwrap();
        assert!(project.contains(&format!("\"maturin>={major}.{minor},<{}\"", major + 1)), "{pinned}");
    }
}
