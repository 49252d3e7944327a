//! Where key sets come from: files and URLs, read again when they may have changed.

use super::key_set::KeySet;
use reqwest::Url;
use reqwest::redirect::Policy;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// Bytes of one key set. More: it is refused.
const SET_BYTES_MAX: u64 = 256 << 10;

/// How long a server of keys may take to answer in full.
const FETCH_WITHIN: Duration = Duration::from_secs(10);

/// How often a key set is read again, so that a key that is withdrawn is no longer taken.
const REFRESH: Duration = Duration::from_secs(300);

/// How long keys are used while their source cannot be read. After that they may long be withdrawn.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often an unknown key makes a source be read again: anybody can name a key that does not
/// exist.
pub(super) const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// Where a key set is: a file, or a URL with `https` (or `http` on this machine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(Url),
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<KeySource, String> {
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        if !is_url {
            return match text.is_empty() || text.contains("://") {
                true => Err("a file or a URL such as https://id.example.org/jwks.json".to_owned()),
                false => Ok(KeySource::File(PathBuf::from(text))),
            };
        }
        let url = Url::parse(text).map_err(|error| format!("a URL ({error})"))?;
        if url.scheme() == "http" && !is_this_machine(url.host_str().unwrap_or_default()) {
            // Whoever is in between could make keys, and with them tokens.
            return Err("a URL with https: plain http only on this machine".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL without a password".to_owned());
        }
        Ok(KeySource::Url(url))
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => write!(f, "{}", path.display()),
            KeySource::Url(url) => write!(f, "{url}"),
        }
    }
}

/// A key set could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the key set {source_name} cannot be used: {reason}")]
pub struct KeySourceError {
    /// The file or URL.
    source_name: String,
    /// What is wrong.
    reason: String,
}

/// A key set with its source.
pub(super) struct LiveKeySet {
    source: KeySource,
    http: Option<reqwest::Client>,
    keys: Mutex<Loaded>,
    /// Held while the source is read, so that many who miss a key read it once.
    reading: tokio::sync::Mutex<Option<Instant>>,
    unknown_key_pause: Duration,
}

#[derive(Default)]
struct Loaded {
    set: Arc<KeySet>,
    at: Option<Instant>,
}

impl LiveKeySet {
    /// Reads the keys from `source`. A server that does not answer is asked again later, because it
    /// must not keep this one from starting.
    pub(super) async fn open(
        source: KeySource,
        unknown_key_pause: Duration,
    ) -> Result<LiveKeySet, KeySourceError> {
        let wrong = |reason: String| {
            let source_name = source.to_string();
            KeySourceError { source_name, reason }
        };
        let http = match &source {
            KeySource::File(_) => None,
            KeySource::Url(url) => Some(client(url).map_err(|error| wrong(error.to_string()))?),
        };
        let live = LiveKeySet {
            source: source.clone(),
            http,
            keys: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            unknown_key_pause,
        };
        match (live.read().await, &source) {
            (Ok(set), _) => live.keep(set),
            (Err(reason), KeySource::File(_)) => return Err(wrong(reason)),
            (Err(reason), KeySource::Url(_)) => {
                tracing::warn!("the key set {source} cannot be read yet: {reason}");
            }
        }
        Ok(live)
    }

    /// The keys, as they were read last.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        let loaded = self.keys.lock().expect("no holder panics");
        match loaded.at.is_some_and(|at| at.elapsed() < STALE_MAX) {
            true => loaded.set.clone(),
            false => Arc::default(),
        }
    }

    /// Reads the keys again because one is not known, unless that was done a moment ago.
    pub(super) async fn refresh_for_unknown(&self) {
        self.refresh(self.unknown_key_pause).await;
    }

    /// Reads the keys again from time to time.
    pub(super) async fn refresh_for_ever(&self) {
        loop {
            tokio::time::sleep(REFRESH).await;
            self.refresh(Duration::ZERO).await;
        }
    }

    async fn refresh(&self, pause: Duration) {
        let mut read_at = self.reading.lock().await;
        if read_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        match self.read().await {
            Ok(set) => self.keep(set),
            Err(reason) => tracing::warn!("the key set {} cannot be read: {reason}", self.source),
        }
        *read_at = Some(Instant::now());
    }

    fn keep(&self, set: KeySet) {
        let mut loaded = self.keys.lock().expect("no holder panics");
        let (count, skipped) = (set.len(), set.skipped);
        tracing::debug!("{count} keys from {}, {skipped} others skipped", self.source);
        *loaded = Loaded { set: Arc::new(set), at: Some(Instant::now()) };
    }

    async fn read(&self) -> Result<KeySet, String> {
        let text = match (&self.source, &self.http) {
            (KeySource::File(path), _) => read_file(path).await,
            (KeySource::Url(url), Some(http)) => fetch(http, url).await,
            (KeySource::Url(_), None) => Err("there is no client for it".to_owned()),
        };
        KeySet::parse(&text?)
    }
}

async fn read_file(path: &PathBuf) -> Result<Vec<u8>, String> {
    let reason = |error: std::io::Error| error.to_string();
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(reason)?;
    file.take(SET_BYTES_MAX + 1).read_to_end(&mut text).await.map_err(reason)?;
    within_size(text)
}

async fn fetch(http: &reqwest::Client, url: &Url) -> Result<Vec<u8>, String> {
    // The error names the URL, which whoever reads it knows.
    let reason = |error: reqwest::Error| innermost(&error.without_url());
    let request = http.get(url.clone()).header("accept", "application/json");
    let mut response = request.send().await.map_err(reason)?;
    if !response.status().is_success() {
        return Err(format!("it was answered with {}", response.status()));
    }
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(reason)? {
        text.extend_from_slice(&piece);
        text = within_size(text)?;
    }
    Ok(text)
}

fn within_size(text: Vec<u8>) -> Result<Vec<u8>, String> {
    match text.len() as u64 > SET_BYTES_MAX {
        true => Err(format!("it has more than {SET_BYTES_MAX} bytes")),
        false => Ok(text),
    }
}

fn client(url: &Url) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder();
    // Without encryption nothing may leave this machine, also not to a proxy.
    let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
    builder
        // Another place than the one that was configured is not asked.
        .redirect(Policy::none())
        .timeout(FETCH_WITHIN)
        .user_agent(concat!("spawnery/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
