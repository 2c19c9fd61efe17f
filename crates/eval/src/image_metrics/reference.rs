//! References other than folders: files of statistics or features.

use std::path::Path;

use models::features::{FeatureFile, ImageFeatures};
use models::matrix_file::read_npz;
use ndarray::{Ix1, Ix2};

use crate::error::{Error, Result};
use crate::metrics::fidelity::{FeatureSet, Gaussian, Item, Reference};

/// The kind of a `--reference`, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    /// A `.npz` file with `mu` and `sigma`.
    Statistics,
    /// A `.safetensors` file written by `--save-reference`.
    Features,
}

impl Kind {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            _ if path.is_dir() => Ok(Self::Folder),
            // Other files, such as pipes, would only be read after all images are generated, and may never end.
            _ if path.exists() && !path.is_file() => refuse(
                "reference",
                format!("{} is not a regular file; give a folder or a file", path.display()),
            ),
            "npz" => Ok(Self::Statistics),
            "safetensors" => Ok(Self::Features),
            _ if path.exists() => refuse(
                "reference",
                format!(
                    "{} is neither a folder of images, nor .npz statistics, nor .safetensors features",
                    path.display()
                ),
            ),
            _ => {
                let reason = "no such folder or file; give a folder of images, .npz statistics or .safetensors features";
                Err(tasks::missing(path, reason).into())
            }
        }
    }
}

fn refuse<T>(option: &'static str, reason: String) -> Result<T> {
    Err(Error::Option { option, reason })
}

/// Reads `mu` `[d]` and `sigma` `[d, d]` in the format of pytorch-fid, clean-fid and others.
pub(super) fn statistics(path: &Path) -> Result<Reference> {
    let [mean, covariance] = read_npz(path, ["mu", "sigma"]).map_err(models::Error::from)?;
    let shapes = format!(
        "expected `mu` [d] and `sigma` [d, d], found {:?} and {:?}",
        mean.shape(),
        covariance.shape()
    );
    let (Ok(mean), Ok(covariance)) =
        (mean.into_dimensionality::<Ix1>(), covariance.into_dimensionality::<Ix2>())
    else {
        return Err(Error::Task(tasks::Error::Dataset { path: path.into(), reason: shapes }));
    };
    // This format does not contain the number of images.
    Ok(Reference::Statistics(Gaussian::new(mean, covariance, None)?))
}

/// Reads saved features, if they come from the weights with this hash.
pub(super) fn features(path: &Path, sha256: &str) -> Result<Reference> {
    let FeatureFile { name, sha256: found, items } = FeatureFile::read(path)?;
    if found != sha256 {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let reason = format!(
            "holds features of {name} with weights {}…, and the weights of the network that was asked for are {}…",
            short(&found),
            short(sha256)
        );
        return Err(Error::OtherFeatures { path: path.into(), reason });
    }
    let mut set = FeatureSet::new();
    for (number, ImageFeatures { features, logits }) in items {
        set.add(number, Item { features, logits })?;
    }
    Ok(Reference::Features(set.finish()))
}

/// Saves features for [`features`].
pub(super) fn save(path: &Path, name: &str, sha256: &str, set: &FeatureSet) -> Result<()> {
    let items = set.items().map(|(number, item)| {
        let Item { features, logits } = item.clone();
        (number, ImageFeatures { features, logits })
    });
    let file = FeatureFile { name: name.to_owned(), sha256: sha256.to_owned(), items: items.collect() };
    Ok(file.write(path)?)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_folder_or_a_file() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file.npz"), b"").expect("writable");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket.npz")).expect("bound");
        std::os::unix::fs::symlink("/dev/zero", at("device.safetensors")).expect("linked");
        assert_eq!(Kind::of(dir.path()).ok(), Some(Kind::Folder));
        assert_eq!(Kind::of(&at("file.npz")).ok(), Some(Kind::Statistics));
        for name in ["socket.npz", "device.safetensors"] {
            let message = Kind::of(&at(name)).expect_err("refused").to_string();
            assert!(message.contains(name) && message.contains("not a regular file"), "{message}");
        }
    }
}
