//! What generated pictures are compared with, other than a folder.

use std::path::Path;

use models::features::{FeatureFile, PictureFeatures};
use models::matrix_file::read_npz;
use ndarray::{Ix1, Ix2};

use crate::error::{Error, Result};
use crate::metrics::fidelity::{FeatureSet, Gaussian, Item, Reference};

/// What a `--reference` is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    /// `.npz` with `mu` and `sigma`.
    Statistics,
    /// `.safetensors` of `--save-reference`.
    Features,
}

impl Kind {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            _ if path.is_dir() => Ok(Self::Folder),
            // Others, such as pipes, would only be met when every picture is drawn, and may never end.
            _ if path.exists() && !path.is_file() => {
                refuse("reference", format!("{} is no regular file; give a folder or a file", path.display()))
            }
            "npz" => Ok(Self::Statistics),
            "safetensors" => Ok(Self::Features),
            _ if path.exists() => refuse(
                "reference",
                format!(
                    "{} is neither a folder of pictures, nor .npz statistics, nor .safetensors features",
                    path.display()
                ),
            ),
            _ => {
                let reason = "no such folder or file; give a folder of pictures, .npz statistics or .safetensors features";
                Err(tasks::Error::Dataset { path: path.into(), reason: reason.into() }.into())
            }
        }
    }
}

fn refuse<T>(option: &'static str, reason: String) -> Result<T> {
    Err(Error::Option { option, reason })
}

/// The usual `mu` `[d]` and `sigma` `[d, d]`, which pytorch-fid, clean-fid and others write.
pub(super) fn statistics(path: &Path) -> Result<Reference> {
    let [mean, covariance] = read_npz(path, ["mu", "sigma"]).map_err(models::Error::from)?;
    let shapes =
        format!("`mu` is {:?} and `sigma` {:?}; [d] and [d, d] are needed", mean.shape(), covariance.shape());
    let (Ok(mean), Ok(covariance)) =
        (mean.into_dimensionality::<Ix1>(), covariance.into_dimensionality::<Ix2>())
    else {
        return Err(Error::Task(tasks::Error::Dataset { path: path.into(), reason: shapes }));
    };
    // The usual layout does not say how many pictures are behind it.
    Ok(Reference::Statistics(Gaussian::new(mean, covariance, None)?))
}

/// Features that were kept, if they come from the weights with this hash.
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
    for (number, PictureFeatures { features, logits }) in items {
        set.add(number, Item { features, logits })?;
    }
    Ok(Reference::Features(set.finish()))
}

/// Keeps features for [`features`].
pub(super) fn save(path: &Path, name: &str, sha256: &str, set: &FeatureSet) -> Result<()> {
    let items = set.items().map(|(number, item)| {
        let Item { features, logits } = item.clone();
        (number, PictureFeatures { features, logits })
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
            assert!(message.contains(name) && message.contains("no regular file"), "{message}");
        }
    }
}
