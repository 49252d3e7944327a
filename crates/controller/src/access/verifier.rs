//! From a token to who shows it.

use super::caller::Caller;
use super::claims::{Claims, Parties};
use super::denied::{Denied, Refusals, Shown};
use super::key_set::{KeySet, choose};
use super::key_source::{KeySource, KeySourceError, LiveKeySet, UNKNOWN_KEY_PAUSE};
use super::secret_file::{self, ADMIN_TOKEN_FILE, JWT_SECRET_FILE, Kind, SecretFileError};
use crate::events::{EventItem, EventStart, EventStream};
use crate::handle::{Controller, SubmitError};
use crate::secret::{Secret, now};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use spawnery_cluster::State;
use spawnery_model::Timestamp;
use spawnery_model::limits::TOKEN_LEEWAY;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest token that is looked at: with many templates it fits into the headers that proxies
/// let through.
const TOKEN_LENGTH_MAX: usize = 8192;

/// The longest admin token.
const ADMIN_TOKEN_LENGTH_MAX: usize = 256;

/// What the admin token begins with, so that people and secret scanners recognise it.
const ADMIN_TOKEN_PREFIX: &str = "spawnery_";

/// Bytes of the shortest secret that tokens are signed with: those of its hash (RFC 7518,
/// section 3.2).
const JWT_SECRET_BYTES_MIN: usize = 32;

/// The longest secret that is read from a file.
const JWT_SECRET_BYTES_MAX: usize = 4096;

/// How often a stream's token is compared with the clock, which somebody may set.
const EXPIRY_LOOK: Duration = Duration::from_secs(60);

/// When revocations that could not be read are read again.
const REVOCATIONS_RETRY: Duration = Duration::from_secs(1);

/// The event that says that something was revoked.
const REVOKED_EVENT: &str = "token.revoked";

/// The secret that tokens of this server are signed with. Shows nothing of itself.
#[derive(Clone)]
pub struct JwtSecret(Vec<u8>);

impl JwtSecret {
    /// Takes `secret`, if it is long enough.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<JwtSecret, AccessError> {
        let secret = secret.into();
        match secret.len() < JWT_SECRET_BYTES_MIN {
            true => Err(AccessError::SecretTooShort),
            false => Ok(JwtSecret(secret)),
        }
    }

    /// A secret that nobody knows.
    pub fn generate() -> JwtSecret {
        JwtSecret(Secret::generate().reveal().as_bytes().to_vec())
    }

    /// Reads the secret from a file that only its owner can read.
    pub fn read(path: &Path) -> Result<JwtSecret, AccessError> {
        let kind = Kind { prefix: "", ..JWT_SECRET };
        match secret_file::read(path, &kind)? {
            Some(secret) => JwtSecret::new(secret),
            None => Err(AccessError::NoSecretFile(path.to_owned())),
        }
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

const ADMIN_TOKEN: Kind = Kind {
    what: "the admin token",
    prefix: ADMIN_TOKEN_PREFIX,
    length_min: ADMIN_TOKEN_PREFIX.len() + 32,
    length_max: ADMIN_TOKEN_LENGTH_MAX,
};

const JWT_SECRET: Kind = Kind {
    what: "the secret of tokens",
    prefix: "",
    length_min: JWT_SECRET_BYTES_MIN,
    length_max: JWT_SECRET_BYTES_MAX,
};

/// Which tokens are taken.
#[derive(Debug, Clone)]
pub struct Config {
    admin: AdminHash,
    /// What tokens of this server are signed with.
    pub secret: JwtSecret,
    /// Where the public keys of others are, who make tokens for this server.
    pub key_sets: Vec<KeySource>,
    /// Who has to have made a token (`iss`); without, that is not looked at. It is also what
    /// tokens of this server say.
    pub issuer: Option<String>,
    /// For whom a token has to be (`aud`); without, it must not say. It is also what tokens of
    /// this server say.
    pub audience: Option<String>,
    /// How often a token that names an unknown key makes the key sets be read again.
    pub unknown_key_pause: Duration,
}

impl Config {
    /// With the admin token and, if no `secret` is given, the secret of tokens in `data_dir`. Makes
    /// what is not there, readable by its owner only.
    pub fn open(data_dir: &Path, secret: Option<JwtSecret>) -> Result<Config, AccessError> {
        let admin = secret_file::open(&data_dir.join(ADMIN_TOKEN_FILE), &ADMIN_TOKEN)?;
        let secret = match secret {
            Some(secret) => secret,
            None => {
                JwtSecret::new(secret_file::open(&data_dir.join(JWT_SECRET_FILE), &JWT_SECRET)?)?
            }
        };
        Ok(Config { secret, ..Config::of_admin(&admin) })
    }

    /// With `token` as the admin token, and a secret that nobody knows.
    pub fn of_admin(token: &str) -> Config {
        Config {
            admin: AdminHash(hash(token)),
            secret: JwtSecret::generate(),
            key_sets: Vec::new(),
            issuer: None,
            audience: None,
            unknown_key_pause: UNKNOWN_KEY_PAUSE,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct AdminHash([u8; 32]);

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Tokens cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A secret in the data folder cannot be used.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The secret is too short.
    #[error(
        "the secret of tokens has less than {JWT_SECRET_BYTES_MIN} bytes, which can be guessed"
    )]
    SecretTooShort,
    /// The file that is to hold the secret is not there.
    #[error("there is no file {} with the secret of tokens", .0.display())]
    NoSecretFile(std::path::PathBuf),
    /// A key set cannot be used.
    #[error(transparent)]
    KeySource(#[from] KeySourceError),
    /// The controller does not say what is revoked.
    #[error("the revoked tokens cannot be read: {0}")]
    Controller(#[from] SubmitError),
}

/// Says who shows a token. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    admin: AdminHash,
    decoding: DecodingKey,
    encoding: EncodingKey,
    parties: Parties,
    key_sets: Vec<Arc<LiveKeySet>>,
    revocations: Arc<watch::Sender<Revocations>>,
    refusals: Refusals,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What is revoked, as of a position in the journal.
#[derive(Debug, Default)]
struct Revocations {
    position: u64,
    ids: BTreeSet<String>,
    subjects: BTreeMap<String, Timestamp>,
}

impl Revocations {
    fn of(state: &State) -> Revocations {
        let access = state.access();
        let subjects = access.revoked_subjects().iter();
        Revocations {
            position: state.position(),
            ids: access.revoked_ids().keys().cloned().collect(),
            subjects: subjects.map(|(subject, revoked)| (subject.clone(), revoked.at)).collect(),
        }
    }

    /// A token that does not say when it was issued counts as old. The admin token is no such
    /// token: it is replaced in its file.
    fn has(&self, caller: &Caller) -> bool {
        if caller.expires_at.is_none() {
            return false;
        }
        let by_id = caller.jti.as_ref().is_some_and(|id| self.ids.contains(id));
        let issued_at = caller.issued_at.unwrap_or_default();
        by_id || self.subjects.get(&caller.subject).is_some_and(|at| issued_at <= *at)
    }
}

impl Verifier {
    /// Starts to verify tokens as `config` says, with what `controller` knows of revocations.
    pub async fn start(controller: &Controller, config: Config) -> Result<Verifier, AccessError> {
        let mut key_sets = Vec::new();
        for source in config.key_sets {
            let set = LiveKeySet::open(source, config.unknown_key_pause).await?;
            key_sets.push(Arc::new(set));
        }
        // Followed before it is read, so that nothing in between is missed.
        let events = controller.events(EventStart::Now);
        let revocations = Arc::new(watch::channel(Revocations::default()).0);
        read_revocations(controller, &revocations).await?;
        let mut tasks: Vec<JoinHandle<()>> = Vec::new();
        tasks.push(tokio::spawn(follow(events, controller.while_it_lives(), revocations.clone())));
        for set in &key_sets {
            let set = set.clone();
            tasks.push(tokio::spawn(async move { set.refresh_for_ever().await }));
        }
        let JwtSecret(secret) = config.secret;
        let inner = Inner {
            admin: config.admin,
            decoding: DecodingKey::from_secret(&secret),
            encoding: EncodingKey::from_secret(&secret),
            parties: Parties { issuer: config.issuer, audience: config.audience },
            key_sets,
            revocations,
            refusals: Refusals::default(),
            tasks,
        };
        Ok(Verifier { inner: Arc::new(inner) })
    }

    /// Who shows `token`: the admin token or a JWT. Waits only if its key is not known, and its
    /// source was not read a moment ago. What is refused is counted by its reason.
    pub async fn verify(&self, token: &str) -> Result<Caller, Denied> {
        let mut verified = self.check(token);
        if let Err(Denied::UnknownKey(_)) = verified
            && !self.inner.key_sets.is_empty()
        {
            for set in &self.inner.key_sets {
                set.refresh_for_unknown().await;
            }
            verified = self.check(token);
        }
        verified.inspect_err(|denied| self.inner.refusals.count(denied))
    }

    /// Resolves when the token of `caller` is revoked or expires, with what it is. Whatever is open
    /// in the caller's name has to end then.
    pub fn watch(&self, caller: &Caller) -> impl Future<Output = Denied> + Send + use<> {
        let mut revocations = self.inner.revocations.subscribe();
        let caller = caller.clone();
        async move {
            loop {
                if revocations.borrow_and_update().has(&caller) {
                    return Denied::Revoked;
                }
                let look = match caller.expires_at.map(|at| at.plus(TOKEN_LEEWAY).since(now())) {
                    Some(left) if left.0 == 0 => return Denied::Expired,
                    Some(left) => EXPIRY_LOOK.min(Duration::from_millis(left.0)),
                    None => EXPIRY_LOOK,
                };
                // If nobody revokes any more the server is stopping, which others tell.
                tokio::select! {
                    Ok(()) = revocations.changed() => {}
                    () = tokio::time::sleep(look) => {}
                }
            }
        }
    }

    /// How often tokens were refused, by the word for the reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        self.inner.refusals.read().into_iter()
    }

    /// Counts a refusal that the caller found itself: of a request without a token.
    pub fn count(&self, denied: &Denied) {
        self.inner.refusals.count(denied);
    }

    /// A secret of 256 bits that only this server can make of `purpose`, the same each time.
    pub fn derive(&self, purpose: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"spawnery derived secret 1\0");
        hasher.update(self.inner.admin.0);
        hasher.update(purpose.as_bytes());
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what is revoked, so that whatever comes after this knows it.
    pub(super) async fn read_revocations(
        &self,
        controller: &Controller,
    ) -> Result<(), SubmitError> {
        read_revocations(controller, &self.inner.revocations).await
    }

    pub(super) fn encoding(&self) -> &EncodingKey {
        &self.inner.encoding
    }

    pub(super) fn parties(&self) -> &Parties {
        &self.inner.parties
    }

    /// Verifies with the keys that are known.
    fn check(&self, token: &str) -> Result<Caller, Denied> {
        if token.len() > TOKEN_LENGTH_MAX {
            return Err(Denied::Malformed("it is too long"));
        }
        if self.is_admin(token) {
            return Ok(Caller::admin());
        }
        let header = Header::of(token)?;
        let sets: Vec<Arc<KeySet>> = self.inner.key_sets.iter().map(|set| set.keys()).collect();
        let claims = self.open(token, &header, &sets)?;
        let caller = claims.caller(&self.inner.parties, now())?;
        match self.inner.revocations.borrow().has(&caller) {
            true => Err(Denied::Revoked),
            false => Ok(caller),
        }
    }

    /// Takes the same time whatever the token is.
    fn is_admin(&self, token: &str) -> bool {
        if token.len() > ADMIN_TOKEN_LENGTH_MAX {
            return false;
        }
        // Hashes of what an attacker sends are random to the attacker, so not even a comparison
        // that stopped early would tell anything about the token.
        let shown = hash(token);
        let pairs = shown.iter().zip(&self.inner.admin.0);
        pairs.fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// The claims of a token whose signature is right. Which key it is, the header says; which
    /// algorithm that key is for, it does not.
    fn open(&self, token: &str, header: &Header, keys: &[Arc<KeySet>]) -> Result<Claims, Denied> {
        let id = header.kid.as_deref();
        match header.alg.as_str() {
            "HS256" => {
                if let Err(wrong @ Denied::Algorithm { .. }) = choose(keys, "HS256", id) {
                    return Err(wrong);
                }
                decode(token, &self.inner.decoding, Algorithm::HS256)
            }
            known @ ("EdDSA" | "RS256" | "ES256") => {
                let key = choose(keys, known, id)?;
                decode(token, key.decoding(), key.algorithm())
            }
            other => Err(Denied::Algorithm { found: Shown::new(other), wanted: None }),
        }
    }
}

/// The parameters of a token's header that are looked at (RFC 7515, section 4.1). Keys that it
/// brings or points to are not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Header {
    fn of(token: &str) -> Result<Header, Denied> {
        let no_jwt = Denied::Malformed("it is neither the admin token nor a JWT");
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(no_jwt);
        };
        let text = URL_SAFE_NO_PAD.decode(header).map_err(|_| no_jwt.clone())?;
        let header: Header = serde_json::from_slice(&text).map_err(|_| no_jwt)?;
        if header.crit.is_some() {
            let reason = "its header has extensions that have to be understood (`crit`)";
            return Err(Denied::Malformed(reason));
        }
        Ok(header)
    }
}

fn decode(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Denied> {
    // What the claims say is looked at by ourselves, so that each reason can be told.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation);
    decoded.map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => {
            Denied::Malformed("its claims cannot be read")
        }
        _ => Denied::Signature,
    })
}

async fn read_revocations(
    controller: &Controller,
    revocations: &watch::Sender<Revocations>,
) -> Result<(), SubmitError> {
    let read = controller.query(Revocations::of).await?;
    revocations.send_if_modified(|known| {
        let is_newer = read.position >= known.position;
        if is_newer {
            *known = read;
        }
        is_newer
    });
    Ok(())
}

/// Follows what is revoked for as long as the controller lives.
async fn follow(
    mut events: EventStream,
    controller: impl Fn() -> Option<Controller> + Send,
    revocations: Arc<watch::Sender<Revocations>>,
) {
    while let Some(item) = events.next().await {
        if matches!(&item, EventItem::Event(_, event) if event.kind != REVOKED_EVENT) {
            continue;
        }
        loop {
            let Some(controller) = controller() else {
                return;
            };
            match read_revocations(&controller, &revocations).await {
                Ok(()) => break,
                Err(error) => tracing::warn!("the revoked tokens cannot be read: {error}"),
            }
            drop(controller);
            tokio::time::sleep(REVOCATIONS_RETRY).await;
        }
    }
}
