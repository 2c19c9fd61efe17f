//! Settings of the hub (address, cache folder, access token), read from the environment as Python's `huggingface_hub`
//! does.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hub with its cache and access token.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address without a trailing slash.
    pub(super) endpoint: String,
    /// The folder of `models--organisation--repository`.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    pub(super) offline: bool,
    /// Pause before the second attempt; it doubles before each further one.
    pub(super) pause: Duration,
}

/// An access token. It is sent to the hub only and never printed.
#[derive(Clone)]
pub(super) struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Hub {
    /// Returns the hub that the environment names: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` or the token
    /// file, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let user =
            variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from).unwrap_or_default();
        let folder = |name: &str| variable(name).map(|value| expand(&PathBuf::from(value), &user));

        let home = folder("HF_HOME").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface")
        });
        let cache = folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN")
            .or_else(|| Some(std::fs::read_to_string(token_file).ok()?.trim().to_owned()))
            .filter(|token| !token.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()));
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache,
            token: token.map(Token),
            offline,
            pause: Duration::from_millis(500),
        }
    }

    /// Returns a hub at this address with this cache and without token, whatever the environment says.
    pub fn at(endpoint: &str, cache: &Path) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache: cache.into(),
            token: None,
            offline: false,
            pause: Duration::from_millis(500),
        }
    }

    /// Sets the access token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(Token(token.into())), ..self }
    }

    /// Forbids downloads if `offline`. A hub that the environment has set offline stays offline.
    #[must_use]
    pub fn with_offline(self, offline: bool) -> Self {
        Self { offline: self.offline || offline, ..self }
    }

    /// Sets the pause before the second attempt; it doubles before each further one.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The folder that holds all checkpoints, shared with Python's `huggingface_hub`.
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

/// Expands `~` to the user's home, as Python does.
fn expand(path: &Path, user: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.into(), |below| user.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_is_read_as_in_python() {
        let cache = |variables: &[(&str, &str)]| hub(variables).cache;
        assert_eq!(cache(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "~/hf")]), Path::new("/u/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "")]), Path::new("/u/.cache/huggingface/hub"));

        assert_eq!(hub(&[]).endpoint, "https://huggingface.co");
        assert_eq!(hub(&[("HF_ENDPOINT", "https://mirror/hf/")]).endpoint, "https://mirror/hf");
        assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(hub(&[("HF_HUB_OFFLINE", "True")]).offline);
        assert!(hub(&[("HF_HUB_OFFLINE", "1")]).with_offline(false).offline);
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_never_shown() {
        let home = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(home.path().join("token"), "hf_from_file\n").expect("writable");
        let path = home.path().to_str().expect("a plain path");
        let token = |variables: &[(&str, &str)]| hub(variables).token.map(|token| token.0);
        assert_eq!(token(&[("HF_HOME", path)]).as_deref(), Some("hf_from_file"));
        assert_eq!(token(&[("HF_HOME", path), ("HF_TOKEN", " hf_mine ")]).as_deref(), Some("hf_mine"));
        assert_eq!(token(&[("HF_HOME", "/no/such/folder")]), None);
        assert!(!format!("{:?}", hub(&[("HF_TOKEN", "hf_mine")])).contains("hf_mine"));
    }
}
