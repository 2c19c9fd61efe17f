//! Quotes words of a script, for the shell and for `#SBATCH` lines.

use std::path::Path;

use super::SlurmError;

/// Quotes any text without a line break as one word for the shell.
pub(super) fn shell(what: &'static str, text: &str) -> Result<String, SlurmError> {
    let text = one_line(what, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    Ok(if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    })
}

/// Quotes a path, see [`shell`].
pub(super) fn shell_path(what: &'static str, path: &Path) -> Result<String, SlurmError> {
    shell(what, text(what, path)?)
}

/// Quotes the value of an option in a `#SBATCH` line, where Slurm reads quotes and backslashes and takes `#` for a comment.
pub(super) fn sbatch(what: &'static str, text: &str) -> Result<String, SlurmError> {
    let text = one_line(what, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    Ok(if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
    })
}

/// Quotes the path of a file in `folder` for a `#SBATCH` line, where `%` begins a placeholder and a backslash disables these.
/// `name` may contain `%a`.
pub(super) fn sbatch_file(what: &'static str, folder: &Path, name: &str) -> Result<String, SlurmError> {
    let folder = text(what, folder)?;
    if folder.contains('\\') {
        let reason =
            "contains a backslash, which Slurm does not allow in the path of a log; choose another folder";
        return Err(SlurmError::Text { what, value: folder.into(), reason });
    }
    sbatch(what, &format!("{}/{name}", folder.replace('%', "%%")))
}

/// Returns a line that is written into a script as it was given; refuses line breaks.
pub(super) fn one_line<'a>(what: &'static str, text: &'a str) -> Result<&'a str, SlurmError> {
    if text.contains(['\n', '\r', '\0']) {
        let reason = "contains a line break; write it on one line";
        return Err(SlurmError::Text { what, value: text.escape_debug().to_string(), reason });
    }
    Ok(text)
}

fn text<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, SlurmError> {
    path.to_str().ok_or_else(|| SlurmError::Text {
        what,
        value: path.display().to_string(),
        reason: "is not valid UTF-8; choose another path",
    })
}
