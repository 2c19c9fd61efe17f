//! Names of the folders of a sweep's runs.

use std::collections::HashMap;

use models::hex;
use sha2::{Digest, Sha256};

/// Maximum length of a name before a hash replaces the rest. File systems allow 255 bytes.
const LONGEST: usize = 100;

/// Returns a folder name for every combination, in order: `layers-last-4_alpha-0.99`. It depends only on the values of
/// the combination; if two names would be equal, they end with a hash of the values.
pub(super) fn folder_names<'a>(
    settings: &[&str],
    combinations: impl Iterator<Item = &'a [String]> + Clone,
) -> Vec<String> {
    let plain: Vec<String> = combinations.clone().map(|values| joined(settings, values)).collect();
    // Some file systems ignore case.
    let mut alike: HashMap<String, usize> = HashMap::new();
    for name in &plain {
        *alike.entry(name.to_ascii_lowercase()).or_default() += 1;
    }
    let named = |(mut name, values): (String, &[String])| {
        if name.len() <= LONGEST && alike.get(&name.to_ascii_lowercase()) == Some(&1) {
            return name;
        }
        // Letters are ASCII.
        name.truncate(LONGEST);
        format!("{name}-{}", brief_hash(Sha256::digest(serde_json::json!(values).to_string())))
    };
    plain.into_iter().zip(combinations).map(named).collect()
}

/// Replaces characters that some file system refuses by hyphens; several texts may become the same.
pub(super) fn letters(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Formats settings and values in characters that any file system allows; several combinations may give the same name.
fn joined(settings: &[&str], values: &[String]) -> String {
    let part = |(setting, value): (&&str, &String)| letters(&format!("{setting}-{value}"));
    settings.iter().zip(values).map(part).collect::<Vec<String>>().join("_")
}

/// Returns the first digits of a hash, enough for the name of a folder.
pub(super) fn brief_hash(hash: impl AsRef<[u8]>) -> String {
    hex(&hash.as_ref()[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(combinations: &[[&str; 2]]) -> Vec<String> {
        let combinations: Vec<Vec<String>> =
            combinations.iter().map(|values| values.map(str::to_owned).to_vec()).collect();
        folder_names(&["layers", "alpha"], combinations.iter().map(Vec::as_slice))
    }

    #[test]
    fn every_combination_has_a_unique_name() {
        let before = names(&[["last:1", "0.9"], ["last:1", "0.99"], ["all", "0.9"]]);
        assert_eq!(before, ["layers-last-1_alpha-0.9", "layers-last-1_alpha-0.99", "layers-all_alpha-0.9"]);
        // Two combinations that differ only in characters that names cannot show; the others keep their names.
        let after = names(&[["last:1", "0.9"], ["LAST-1", "0.9"], ["all", "0.9"]]);
        assert_eq!(after[2], before[2]);
        assert!(after[0] != after[1] && after[0].starts_with(&before[0]), "{after:?}");
        let turned = names(&[["LAST-1", "0.9"], ["last:1", "0.9"], ["all", "0.9"]]);
        assert_eq!(turned[..2], [after[1].clone(), after[0].clone()], "names depend only on the values");
    }

    #[test]
    fn long_values_have_short_names() {
        let long = "x/".repeat(500);
        let names = names(&[[&format!("{long}a"), "1"], [&format!("{long}b"), "1"], ["all", "1"]]);
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() < 120), "{names:?}");
        assert_eq!(names[2], "layers-all_alpha-1");
    }
}
