//! Words of a script: for the shell, and for the lines that Slurm reads.

use std::path::Path;

use super::{Given, SlurmError};

/// One word for the shell, whatever is in it but a line break.
pub(super) fn shell(what: Given, text: &str) -> Result<String, SlurmError> {
    let text = one_line(what, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    Ok(if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    })
}

/// [`shell`] for a path.
pub(super) fn shell_path(what: Given, path: &Path) -> Result<String, SlurmError> {
    shell(what, text(what, path)?)
}

/// The value of an option in a `#SBATCH` line. Slurm knows quotes and backslashes there, and takes `#` for a comment.
pub(super) fn sbatch(what: Given, text: &str) -> Result<String, SlurmError> {
    let text = one_line(what, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    Ok(if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
    })
}

/// A file of `folder` in a `#SBATCH` line, where `%` has a meaning and a backslash takes it away: `name` may have `%a`.
pub(super) fn sbatch_file(what: Given, folder: &Path, name: &str) -> Result<String, SlurmError> {
    let folder = text(what, folder)?;
    if folder.contains('\\') {
        let reason = "has a backslash, which Slurm does not take in the name of a log; choose another folder";
        return Err(SlurmError::Text { what, value: folder.into(), reason });
    }
    sbatch(what, &format!("{}/{name}", folder.replace('%', "%%")))
}

/// A line that stands in a script as it was given.
pub(super) fn one_line(what: Given, text: &str) -> Result<&str, SlurmError> {
    if text.contains(['\n', '\r', '\0']) {
        let reason = "has a line break; give what belongs on one line";
        return Err(SlurmError::Text { what, value: text.escape_debug().to_string(), reason });
    }
    Ok(text)
}

fn text(what: Given, path: &Path) -> Result<&str, SlurmError> {
    path.to_str().ok_or_else(|| SlurmError::Text {
        what,
        value: path.display().to_string(),
        reason: "is not UTF-8; choose a path that is",
    })
}
