//! The texts of the repository that the program carries, so that it works without a checkout: experiments, their schema,
//! descriptors of datasets, tables of the paper, licences. `build.rs` makes the list.

use std::path::Path;

/// A text of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Its path in the repository: `configs/paper/masking-vit.toml`.
    pub name: &'static str,
    /// Its content.
    pub text: &'static str,
}

const TEXTS: &[Text] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Number of names that an error about an unknown name suggests.
const SUGGESTIONS: usize = 3;

impl Text {
    /// Returns the name of the experiment, `paper/masking-vit`; `None` if the text is something else.
    pub fn experiment(&self) -> Option<&'static str> {
        let name = self.name.strip_prefix("configs/")?.strip_suffix(".toml")?;
        name.contains('/').then_some(name)
    }
}

/// Returns all texts, ordered by name.
pub fn texts() -> &'static [Text] {
    TEXTS
}

/// Returns the text of an experiment or of another file of the repository. Experiments also go by their short names:
/// `paper/masking-vit`, or `paper/masking-vit.toml`.
pub fn text(name: &Path) -> Option<Text> {
    let name = name.to_str()?;
    let short = name.strip_suffix(".toml").unwrap_or(name);
    TEXTS.iter().find(|text| text.name == name || text.experiment() == Some(short)).copied()
}

/// Returns the experiment of this name.
pub(crate) fn experiment(name: &Path) -> Option<Text> {
    text(name).filter(|text| text.experiment().is_some())
}

/// Returns the names of experiments that are most similar to an unknown name, best first.
pub(crate) fn nearest_experiments(name: &Path) -> Vec<&'static str> {
    let given = name.with_extension("").to_string_lossy().to_lowercase();
    let given = given.strip_prefix("configs/").unwrap_or(&given);
    // A known name that contains the given one ranks before names with other letters.
    let distance = |known: &str| (!known.contains(given), strsim::levenshtein(known, given));
    let mut names: Vec<&str> = TEXTS.iter().filter_map(Text::experiment).collect();
    names.sort_by_key(|known| distance(known));
    names.truncate(SUGGESTIONS);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_descriptor_table_and_licence_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut folders: Vec<_> = ["configs", "datasets"]
            .iter()
            .flat_map(|group| std::fs::read_dir(root.join(group)).expect("a folder"))
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.is_dir())
            .collect();
        folders.push(root.join("configs"));
        folders.extend(["mini", "paper"].map(|group| root.join("configs").join(group).join("ablations")));
        folders.push(root.join("eval/tables"));
        let mut seen = 0;
        for path in folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder")) {
            let path = path.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let name = path.strip_prefix(&root).expect("below");
                let found = text(name).map(|text| text.text.to_owned());
                let wanted = std::fs::read_to_string(&path).ok();
                assert!(found == wanted, "{}: touch crates/eval/build.rs", name.display());
                seen += 1;
            }
        }
        assert!(seen >= 25, "{seen}");
        for name in ["LICENSE-MIT", "LICENSE-APACHE", "configs/schema.json"] {
            assert!(text(Path::new(name)).is_some(), "{name}");
        }
        assert!(TEXTS.iter().any(|text| text.text.contains("Bitstream Vera")));
    }

    #[test]
    fn experiments_have_short_names() {
        let found = |name: &str| experiment(Path::new(name)).map(|text| text.name);
        let vit = Some("configs/paper/masking-vit.toml");
        for name in ["paper/masking-vit", "paper/masking-vit.toml", "configs/paper/masking-vit.toml"] {
            assert_eq!(found(name), vit, "{name}");
        }
        for name in ["masking-vit", "./paper/masking-vit", "configs/models.toml", "models", "LICENSE-MIT", ""]
        {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn unknown_names_have_neighbours() {
        let nearest = |name: &str| nearest_experiments(Path::new(name));
        assert_eq!(nearest("paper/maskin-vit")[0], "paper/masking-vit");
        assert_eq!(nearest("configs/paper/masking-Vit.toml")[0], "paper/masking-vit");
        assert_eq!(nearest("segment-voc")[0], "paper/segment-voc");
    }
}
