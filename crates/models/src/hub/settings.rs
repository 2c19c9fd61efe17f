//! Settings of the hub (address, cache folder, access token), read from the environment as Python's `huggingface_hub`
//! does.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Endpoint;
use super::error::{HubError, Result};
use super::retry::LeastRate;
use crate::limits::read_text;

/// Maximum size of the file that holds the access token, in bytes.
const TOKEN_BYTES: u64 = 4096;

/// A body that is slower than this for a whole window counts as a cut connection.
const LEAST_RATE: LeastRate = LeastRate { bytes_per_second: 1000, window: Duration::from_secs(60) };

/// A hub with its cache and access token.
#[derive(Debug, Clone)]
pub struct Hub {
    pub(super) endpoint: Endpoint,
    /// A server that has the files of web addresses under `HOST/PATH`.
    pub(super) mirror: Option<Endpoint>,
    /// The folder of `models--organisation--repository`.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    pub(super) offline: bool,
    /// Whether the folder of a commit holds copies instead of links.
    pub(super) copies: bool,
    /// Whether files are accepted that nothing proves.
    pub(super) unverified: bool,
    /// Where the commits and hashes of fetched files are kept.
    pub(super) lock_file: Option<PathBuf>,
    pub(super) least_rate: LeastRate,
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
    /// Returns the hub that the environment names: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` or `HUGGINGFACE_HUB_CACHE`,
    /// `HF_TOKEN` or the token file, `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`; `$VARIABLE`
    /// and `~` in paths are expanded. `TOKENRANK_MIRROR` has the files of web addresses. Without `HOME` the system knows
    /// the user's home.
    ///
    /// # Errors
    /// [`HubError::NoHome`] if the cache's folder depends on the user's home, and there is none.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir)
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home_of_user: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Self> {
        let user = match variable("HOME").or_else(|| variable("USERPROFILE")) {
            Some(home) if home.is_empty() => Err("HOME is empty"),
            Some(home) => Ok(PathBuf::from(home)),
            None => home_of_user().ok_or("HOME is not set, and the system knows no home of this user"),
        };
        // A folder relative to the current one would be another folder for every command.
        let user = user
            .and_then(|home| if home.is_absolute() { Ok(home) } else { Err("HOME is not an absolute path") });
        let user = || user.clone().map_err(|reason| HubError::NoHome { reason });
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let folder = |name: &str| -> Result<Option<PathBuf>> {
            variable(name).map(|value| expand(&expand_variables(value, &variable), user)).transpose()
        };

        let home = match (folder("HF_HOME")?, folder("XDG_CACHE_HOME")?) {
            (Some(home), _) => Ok(home),
            (None, Some(caches)) => Ok(caches.join("huggingface")),
            (None, None) => user().map(|user| user.join(".cache/huggingface")),
        };
        let cache = match folder("HF_HUB_CACHE")? {
            None => folder("HUGGINGFACE_HUB_CACHE")?,
            cache => cache,
        };
        let (cache, token_file) = match (cache, folder("HF_TOKEN_PATH")?, home) {
            (cache, token_file, Ok(home)) => (
                cache.unwrap_or_else(|| home.join("hub")),
                Some(token_file.unwrap_or_else(|| home.join("token"))),
            ),
            (Some(cache), token_file, Err(_)) => (cache, token_file),
            (None, _, Err(error)) => return Err(error),
        };
        let token = text("HF_TOKEN")
            .or_else(|| Some(read_text(&token_file?, TOKEN_BYTES).ok()?.trim().to_owned()))
            .filter(|token| !token.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let is_on = |name: &str| {
            text(name)
                .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
        };
        // As in Python, HF_HUB_OFFLINE wins even if it says no.
        let offline = match variable("HF_HUB_OFFLINE") {
            Some(_) => is_on("HF_HUB_OFFLINE"),
            None => is_on("TRANSFORMERS_OFFLINE"),
        };
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let mirror = text("TOKENRANK_MIRROR").map(|url| Endpoint::new(&url));
        let copies = is_on("HF_HUB_DISABLE_SYMLINKS");
        Ok(Self { token: token.map(Token), offline, mirror, copies, ..Self::at(&endpoint, &cache) })
    }

    /// Returns a hub at this address with this cache and without token, whatever the environment says.
    pub fn at(endpoint: &str, cache: &Path) -> Self {
        Self {
            endpoint: Endpoint::new(endpoint),
            mirror: None,
            cache: cache.into(),
            token: None,
            offline: false,
            copies: false,
            unverified: false,
            lock_file: None,
            least_rate: LEAST_RATE,
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

    /// Sets a server that has the files of web addresses under `HOST/PATH`.
    #[must_use]
    pub fn with_mirror(self, url: &str) -> Self {
        Self { mirror: Some(Endpoint::new(url)), ..self }
    }

    /// Sets the pause before the second attempt; it doubles before each further one.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Accepts files that neither the hub nor a pinned hash proves, if `unverified`.
    #[must_use]
    pub fn with_unverified(self, unverified: bool) -> Self {
        Self { unverified, ..self }
    }

    /// Names the lock file. It is created if it does not exist; fetched files must be the ones that it lists.
    #[must_use]
    pub fn with_lock_file(self, path: &Path) -> Self {
        Self { lock_file: Some(path.into()), ..self }
    }

    /// Forgets the lock file.
    #[must_use]
    pub fn without_lock_file(self) -> Self {
        Self { lock_file: None, ..self }
    }

    /// Host of the hub, for messages.
    pub fn host(&self) -> String {
        super::address::host(self.endpoint.url())
    }

    /// Sets the least rate: a body that is slower over a whole window counts as a cut connection.
    #[must_use]
    pub fn with_least_rate(self, bytes_per_second: u64, window: Duration) -> Self {
        Self { least_rate: LeastRate { bytes_per_second, window }, ..self }
    }

    /// The folder that holds all checkpoints, shared with Python's `huggingface_hub`.
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

/// Expands `$NAME` and `${NAME}` as Python's `os.path.expandvars` does: unknown names stay as they are.
fn expand_variables(value: OsString, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = value.to_str() else { return value.into() };
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + "{}".len()),
            None => {
                let length = after.find(|c| !is_name(c)).unwrap_or(after.len());
                (&after[..length], length)
            }
        };
        match variable(name).and_then(|value| value.into_string().ok()) {
            Some(value) if !name.is_empty() => expanded.push_str(&value),
            Some(_) | None => {
                expanded.push('$');
                expanded.push_str(&after[..length]);
            }
        }
        rest = &after[length..];
    }
    expanded.push_str(rest);
    expanded.into()
}

/// Expands `~` to the user's home, as Python does.
fn expand(path: &Path, user: impl Fn() -> Result<PathBuf>) -> Result<PathBuf> {
    match path.strip_prefix("~") {
        Ok(below) => Ok(user()?.join(below)),
        Err(_) => Ok(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_hub(variables: &[(&str, &str)], home_of_user: Option<&str>) -> Result<Hub> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Hub::from_variables(variable, || home_of_user.map(PathBuf::from))
    }

    fn hub(variables: &[(&str, &str)]) -> Hub {
        try_hub(variables, Some("/home/of/user")).expect("a hub")
    }

    #[test]
    fn the_environment_is_read_as_in_python() {
        let cache = |variables: &[(&str, &str)]| hub(variables).cache;
        assert_eq!(cache(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "~/hf")]), Path::new("/u/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "")]), Path::new("/u/.cache/huggingface/hub"));

        assert_eq!(hub(&[]).endpoint.url(), "https://huggingface.co");
        assert_eq!(hub(&[("HF_ENDPOINT", "https://mirror/hf/")]).endpoint.url(), "https://mirror/hf");
        assert_eq!(hub(&[("HUGGINGFACE_HUB_CACHE", "/old")]).cache, Path::new("/old"));
        assert_eq!(
            hub(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")]).cache,
            Path::new("/new")
        );
        for (path, expanded) in [
            ("$SCRATCH/hf", "/scratch/hf"),
            ("${SCRATCH}/hf", "/scratch/hf"),
            ("/a$SCRATCH$SCRATCH", "/a/scratch/scratch"),
            ("/a/$NOBODY/b", "/a/$NOBODY/b"),
            ("/a/${NOBODY}/$", "/a/${NOBODY}/$"),
        ] {
            let found = hub(&[("SCRATCH", "/scratch"), ("HF_HUB_CACHE", path)]).cache;
            assert_eq!(found, Path::new(expanded), "{path}");
        }
        assert!(hub(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!hub(&[("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0")]).offline);
        assert!(hub(&[("HF_HUB_DISABLE_SYMLINKS", "yes")]).copies && !hub(&[]).copies);
        let mirror = hub(&[("TOKENRANK_MIRROR", "https://mirror/files/")]).mirror;
        assert_eq!(mirror.map(|mirror| mirror.url().to_owned()).as_deref(), Some("https://mirror/files"));
        assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(hub(&[("HF_HUB_OFFLINE", "True")]).offline);
        assert!(hub(&[("HF_HUB_OFFLINE", "1")]).with_offline(false).offline);
    }

    /// Variables, the home that the system knows, and the cache or a part of the refusal.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Result<&'a str, &'a str>);

    /// A cache below the current folder would be another one for every command.
    #[test]
    fn the_home_is_a_folder_of_the_user_or_refused() {
        let home = "/home/of/user/.cache/huggingface/hub";
        let cases: [Case; 9] = [
            (&[], Some("/home/of/user"), Ok(home)),
            (&[], None, Err("HOME is not set")),
            (&[("HOME", "")], Some("/home/of/user"), Err("HOME is empty")),
            (&[("HOME", "me")], Some("/home/of/user"), Err("not an absolute path")),
            (&[], Some(""), Err("not an absolute path")),
            (&[("HF_HOME", "~/hf")], None, Err("HOME is not set")),
            (&[("HF_HOME", "~/hf")], Some("/home/of/user"), Ok("/home/of/user/hf/hub")),
            (&[("HF_HUB_CACHE", "/c")], None, Ok("/c")),
            (&[("HOME", ""), ("HF_HOME", "/hf")], None, Ok("/hf/hub")),
        ];
        for (variables, user, expected) in cases {
            match (try_hub(variables, user), expected) {
                (Ok(hub), Ok(cache)) => assert_eq!(hub.cache, Path::new(cache), "{variables:?}"),
                (Err(error), Err(reason)) => {
                    let text = error.to_string();
                    assert!(text.contains(reason) && text.contains("HF_HOME"), "{variables:?}: {text}");
                }
                (found, _) => panic!("{variables:?}: {found:?}"),
            }
        }
        let relative = hub(&[("HF_HOME", "here")]).cache;
        assert!(relative.is_absolute() && relative.ends_with("here/hub"), "{}", relative.display());
    }

    #[test]
    fn secrets_are_never_shown() {
        let home = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(home.path().join("token"), "hf_from_file\n").expect("writable");
        let path = home.path().to_str().expect("a plain path");
        let token = |variables: &[(&str, &str)]| hub(variables).token.map(|token| token.0);
        assert_eq!(token(&[("HF_HOME", path)]).as_deref(), Some("hf_from_file"));
        assert_eq!(token(&[("HF_HOME", path), ("HF_TOKEN", " hf_mine ")]).as_deref(), Some("hf_mine"));
        assert_eq!(token(&[("HF_HOME", "/no/such/folder")]), None);
        let hub = hub(&[("HF_TOKEN", "hf_mine"), ("HF_ENDPOINT", "https://alice:s3cret@mirror")]);
        let shown = format!("{hub:?}");
        assert!(!shown.contains("hf_mine") && !shown.contains("s3cret"), "{shown}");
    }
}
