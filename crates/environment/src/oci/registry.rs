//! The part of the registry protocol that fetches: see the OCI distribution specification, and
//! for tokens <https://distribution.github.io/distribution/spec/auth/token/>.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::image::{check_digest, wrong_digest};
use super::{ImageError, Reference};
use crate::limits::{IMAGE_DOCUMENT_BYTES_MAX, REGISTRY_CONNECT_MS_MAX, REGISTRY_SILENCE_MS_MAX};

/// What manifests may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Most redirects that are followed: registries use one, to where their storage is.
const REDIRECTS_MAX: usize = 5;

/// Who asks. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl Credentials {
    /// Of the text of a secret: `USER:PASSWORD`, or else a token.
    pub fn from_secret(text: &str) -> Credentials {
        let text = text.trim_end_matches(['\n', '\r']);
        match text.split_once(':') {
            Some((user, password)) => {
                Credentials::Password { user: user.to_owned(), password: password.to_owned() }
            }
            None => Credentials::Token(text.to_owned()),
        }
    }

    fn basic(&self) -> Option<String> {
        use base64::Engine;
        let Credentials::Password { user, password } = self else { return None };
        let text = format!("{user}:{password}");
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Who asks, for the registry of the image; never shown to a mirror.
    pub credentials: Option<Credentials>,
    /// Hosts, with ports, that are spoken to without encryption. Registries on this machine's
    /// loopback always are.
    pub plain_http: Vec<String>,
    /// Hosts that are asked first, in order, by the name of the registry: `docker.io`.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// A host that is asked for one repository.
#[derive(Debug)]
pub(super) struct Registry {
    http: Client,
    host: String,
    base: String,
    repository: String,
    credentials: Option<Credentials>,
    /// What the registry wanted to see last time.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    /// The hosts to ask for an image, in order: mirrors, and the registry itself.
    pub(super) fn all(
        reference: &Reference,
        options: &RegistryOptions,
    ) -> Result<Vec<Registry>, ImageError> {
        let mirrors = options.mirrors.get(&reference.registry).into_iter().flatten();
        let hosts = mirrors
            .map(|host| (host.clone(), None))
            .chain([(reference.host().to_owned(), options.credentials.clone())]);
        hosts
            .map(|(host, credentials)| {
                let plain = is_loopback(&host) || options.plain_http.contains(&host);
                let scheme = if plain { "http" } else { "https" };
                let base = format!("{scheme}://{host}/v2/{}", reference.repository);
                let repository = reference.repository.clone();
                let http = client().map_err(|error| ImageError::Unreachable {
                    step: "prepare a connection".to_owned(),
                    registry: host.clone(),
                    reason: reason(error),
                })?;
                let authorization = Mutex::new(None);
                Ok(Registry { http, host, base, repository, credentials, authorization })
            })
            .collect()
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Fetches a manifest or index, by tag or digest.
    pub(super) async fn manifest(
        &self,
        reference: &Reference,
        selector: &str,
    ) -> Result<Vec<u8>, ImageError> {
        let what = format!("the manifest of {reference}");
        let url = format!("{}/manifests/{selector}", self.base);
        let response = self.get(&url, MANIFESTS, &what, reference).await?;
        let bytes = self.document(response, &what).await?;
        if let Some(digits) = selector.strip_prefix("sha256:") {
            let expected = super::image::sha256(&format!("sha256:{digits}"), &what)?;
            check_digest(&bytes, &expected, &what)?;
        }
        Ok(bytes)
    }

    /// Fetches a small part of an image.
    pub(super) async fn small_blob(
        &self,
        reference: &Reference,
        digest: &str,
        what: &str,
    ) -> Result<Vec<u8>, ImageError> {
        let response = self.blob(reference, digest, what).await?;
        self.document(response, what).await
    }

    /// Begins to fetch a part of an image.
    pub(super) async fn blob(
        &self,
        reference: &Reference,
        digest: &str,
        what: &str,
    ) -> Result<Response, ImageError> {
        let url = format!("{}/blobs/{digest}", self.base);
        self.get(&url, "*/*", what, reference).await
    }

    pub(super) fn unreachable(&self, what: &str, error: reqwest::Error) -> ImageError {
        let step = format!("fetch {what}");
        ImageError::Unreachable { step, registry: self.host.clone(), reason: reason(error) }
    }

    async fn document(&self, mut response: Response, what: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        while let Some(part) =
            response.chunk().await.map_err(|error| self.unreachable(what, error))?
        {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > IMAGE_DOCUMENT_BYTES_MAX {
                let reason = "it is larger than 4 MiB".to_owned();
                return Err(ImageError::Malformed { what: what.to_owned(), reason });
            }
        }
        Ok(bytes)
    }

    async fn get(
        &self,
        url: &str,
        accept: &str,
        what: &str,
        reference: &Reference,
    ) -> Result<Response, ImageError> {
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut response = self.send(url, accept, known.as_deref(), what).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorize(response.headers(), what).await?;
            response = self.send(url, accept, Some(&authorization), what).await?;
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(authorization);
        }
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused(what)),
            StatusCode::NOT_FOUND => Err(ImageError::Unknown {
                image: reference.to_string(),
                registry: self.host.clone(),
            }),
            _ => Err(ImageError::Refused {
                step: format!("fetch {what}"),
                registry: self.host.clone(),
                status: status.to_string(),
            }),
        }
    }

    async fn send(
        &self,
        url: &str,
        accept: &str,
        authorization: Option<&str>,
        what: &str,
    ) -> Result<Response, ImageError> {
        let mut request = self.http.get(url).header(ACCEPT, accept);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.unreachable(what, error))
    }

    /// What the registry wants to see, by its challenge (RFC 9110, section 11.6.1).
    async fn authorize(&self, headers: &HeaderMap, what: &str) -> Result<String, ImageError> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|it| it.to_str().ok());
        let challenges: Vec<Challenge> = challenges.filter_map(Challenge::parse).collect();
        if let Some(bearer) = challenges.iter().find(|it| it.scheme == "bearer") {
            return self.token(bearer, what).await;
        }
        if challenges.iter().any(|it| it.scheme == "basic")
            && let Some(basic) = self.credentials.as_ref().and_then(Credentials::basic)
        {
            return Ok(basic);
        }
        Err(self.refused(what))
    }

    async fn token(&self, bearer: &Challenge, what: &str) -> Result<String, ImageError> {
        if let Some(Credentials::Token(token)) = &self.credentials {
            return Ok(format!("Bearer {token}"));
        }
        let realm = bearer.get("realm").unwrap_or_default();
        let malformed = |reason: &str| ImageError::Malformed {
            what: format!("the demand of the registry {} for a token", self.host),
            reason: reason.to_owned(),
        };
        let mut url = reqwest::Url::parse(realm)
            .map_err(|_| malformed("it does not say where to get one"))?;
        if url.scheme() != "https" && !self.base.starts_with("http://") {
            return Err(malformed("it leads to a place without encryption"));
        }
        let scope = format!("repository:{}:pull", self.repository);
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = bearer.get("service") {
                query.append_pair("service", service);
            }
            query.append_pair("scope", bearer.get("scope").unwrap_or(&scope));
        }
        let basic = self.credentials.as_ref().and_then(Credentials::basic);
        let response = self.send(url.as_str(), "application/json", basic.as_deref(), what).await?;
        if !response.status().is_success() {
            return Err(match response.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.refused(what),
                status => ImageError::Refused {
                    step: "get a token".to_owned(),
                    registry: self.host.clone(),
                    status: status.to_string(),
                },
            });
        }
        let bytes = self.document(response, "a token").await?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|_| malformed("the answer holds no token"))?;
        let token = token.token.or(token.access_token);
        Ok(format!("Bearer {}", token.ok_or_else(|| malformed("the answer holds no token"))?))
    }

    fn refused(&self, what: &str) -> ImageError {
        let mend = match &self.credentials {
            Some(_) => "the credentials are wrong, or do not allow this image; correct the secret",
            None => "it wants credentials; set a secret and name it, or correct the image's name",
        };
        ImageError::Credentials { step: format!("fetch {what}"), registry: self.host.clone(), mend }
    }
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let value;
            if let Some(quoted) = after.strip_prefix('"') {
                let end = quoted.find('"')?;
                value = quoted[..end].to_owned();
                rest = &quoted[end + 1..];
            } else {
                let end = after.find(',').unwrap_or(after.len());
                value = after[..end].trim().to_owned();
                rest = &after[end..];
            }
            parameters.push((key, value));
        }
        (!scheme.is_empty()).then(|| Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn client() -> reqwest::Result<Client> {
    // The library takes the credentials away when another host is named.
    let policy = Policy::custom(|attempt| {
        let before = attempt.previous().last().map(|url| url.scheme().to_owned());
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("it redirects too often")
        } else if before.as_deref() == Some("https") && attempt.url().scheme() != "https" {
            attempt.error("it redirects to a place without encryption")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .redirect(policy)
        .connect_timeout(Duration::from_millis(REGISTRY_CONNECT_MS_MAX))
        .read_timeout(Duration::from_millis(REGISTRY_SILENCE_MS_MAX))
        .user_agent(concat!("spawnery/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether a host with an optional port is this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The error with its causes, without addresses, which may hold a signature.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// For what a blob should be and is not.
pub(super) fn blob_error(
    what: &str,
    expected: &spawnery_model::ContentDigest,
    found: [u8; 32],
) -> ImageError {
    wrong_digest(what, expected, &spawnery_model::ContentDigest::from_bytes(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let text = r#"Bearer realm="https://a.example/token",service="a,b", scope=x"#;
        let it = Challenge::parse(text).expect("one");
        assert_eq!(it.scheme, "bearer");
        assert_eq!(it.get("realm"), Some("https://a.example/token"));
        assert_eq!((it.get("service"), it.get("scope")), (Some("a,b"), Some("x")));
        assert_eq!(Challenge::parse("Basic").map(|it| it.scheme), Some("basic".to_owned()));
        assert_eq!(Challenge::parse(""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"open"), None);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1:5000", "[::2]", "127.0.0.1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        let it = Credentials::from_secret("ann:hunter2\n");
        assert_eq!(it.basic().as_deref(), Some("Basic YW5uOmh1bnRlcjI="));
        assert!(!format!("{it:?}").contains("hunter2"));
        assert_eq!(Credentials::from_secret("tok"), Credentials::Token("tok".to_owned()));
    }
}
