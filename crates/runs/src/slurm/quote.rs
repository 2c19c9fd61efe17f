//! Quotes words of a script, for the shell and for `#SBATCH` lines.

use std::path::Path;

use models::escape;

use super::{Given, SlurmError};

/// Quotes any text without a line break as one word for the shell.
pub(super) fn shell(what: Given, text: &str) -> Result<String, SlurmError> {
    let text = one_line(what, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    Ok(if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    })
}

/// Quotes a path, see [`shell`].
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

/// Quotes the path of a file in `folder` for a `#SBATCH` line, where `%` begins a placeholder and a backslash disables these.
/// `name` may contain `%a`.
pub(super) fn sbatch_file(what: Given, folder: &Path, name: &str) -> Result<String, SlurmError> {
    let folder = text(what, folder)?;
    if folder.contains('\\') {
        let reason =
            "contains a backslash, which Slurm does not allow in the path of a log; choose another folder";
        return Err(SlurmError::Text { what, value: folder.into(), reason });
    }
    sbatch(what, &format!("{}/{name}", folder.replace('%', "%%")))
}

/// Returns a line that is written into a script as it was given; refuses line breaks and other characters that are not
/// shown, with which a script would be another than it looks.
pub(super) fn one_line(what: Given, text: &str) -> Result<&str, SlurmError> {
    if text.contains(['\n', '\r', '\0']) {
        let reason = "contains a line break; write it on one line";
        return Err(SlurmError::Text { what, value: escape::line(text).into_owned(), reason });
    }
    if text.contains(|c| escape::is_hidden(c) && c != '\t') {
        let reason = "contains a character that is not shown; write it without that";
        return Err(SlurmError::Text { what, value: escape::line(text).into_owned(), reason });
    }
    Ok(text)
}

fn text(what: Given, path: &Path) -> Result<&str, SlurmError> {
    path.to_str().ok_or_else(|| SlurmError::Text {
        what,
        value: path.display().to_string(),
        reason: "is not valid UTF-8; choose another path",
    })
}
