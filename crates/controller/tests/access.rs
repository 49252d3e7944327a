//! Which tokens are taken, why others are refused, and what revoking does.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use spawnery_cluster::Revoked;
use spawnery_controller::access::{
    AccessError, Caller, Config, Denied, JwtSecret, KeySource, NewToken, RevokeRequest, Role,
    Verifier,
};
use spawnery_controller::{Config as ControllerConfig, Controller};
use spawnery_model::{Bytes, DurationMs, Name, OwnerLimits};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ADMIN: &str = "spawnery_0123456789abcdef0123456789abcdef";
const SECRET: &str = "a secret of thirty-two bytes or m0re";

/// Far longer than anything takes on a slow and busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A controller with a verifier.
struct Door {
    verifier: Verifier,
    controller: Controller,
    folder: tempfile::TempDir,
}

impl Door {
    async fn open(change: impl FnOnce(&mut Config)) -> Door {
        let folder = tempfile::tempdir().unwrap();
        let config = ControllerConfig::in_folder(folder.path());
        let controller = Controller::start(config).await.unwrap();
        let mut access = Config::of_admin(ADMIN);
        access.secret = JwtSecret::new(SECRET).unwrap();
        change(&mut access);
        let verifier = Verifier::start(&controller, access).await.unwrap();
        Door { verifier, controller, folder }
    }

    /// Why a token is refused, in a word; `good` if it is not.
    async fn word(&self, token: &str) -> &'static str {
        match self.verifier.verify(token).await {
            Ok(_) => "good",
            Err(denied) => {
                let is_repeated = token.len() > 8 && denied.to_string().contains(token);
                assert!(!is_repeated, "{denied}");
                denied.word()
            }
        }
    }

    async fn token(&self, subject: &str) -> (String, String) {
        let new = NewToken {
            subject: subject.to_owned(),
            roles: [Role::User].into(),
            templates: None,
            limits: OwnerLimits::default(),
            life: DurationMs::from_secs(600),
        };
        let by = Caller::ADMIN.to_owned();
        let made = self.verifier.create_token(&self.controller, new, by, None).await.unwrap();
        (made.token, made.id)
    }

    async fn revoke(&self, revoked: Revoked) {
        let by = Caller::ADMIN.to_owned();
        let request = RevokeRequest { revoked, foreign: true, end_sessions: false, by };
        self.verifier.revoke(&self.controller, request, None).await.unwrap();
    }
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn encode(part: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn signed(header: &Value, claims: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims));
    format!("{message}.{}", encode(&sign(message.as_bytes())))
}

fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
    signed(header, claims.to_string().as_bytes(), sign)
}

/// Claims that are good, with these changes; `null` takes one out.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"sub": "ann", "roles": ["user"], "exp": now_secs() + 600});
    let fields = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => fields.remove(name),
            value => fields.insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn ours(changes: Value) -> String {
    hs256(SECRET.as_bytes(), &json!({"alg": "HS256", "typ": "JWT"}), &claims(changes))
}

#[tokio::test]
async fn a_token_says_who_it_is_and_what_that_allows() {
    let door = Door::open(|_| {}).await;
    let token = ours(json!({
        "roles": ["user", "viewer"], "templates": ["shell"], "jti": "one",
        "iat": now_secs(), "limits": {"memory": "512M", "sessions": 3},
    }));
    let caller = door.verifier.verify(&token).await.unwrap();
    assert_eq!(caller.subject, "ann");
    assert_eq!(caller.roles, [Role::User, Role::Viewer].into());
    assert!(caller.may_use(&Name::new("shell").unwrap()));
    assert!(!caller.may_use(&Name::new("other").unwrap()));
    assert_eq!(caller.limits.memory, Some(Bytes(512 << 20)));
    assert_eq!(caller.limits.sessions, Some(3));
    assert_eq!(caller.jti.as_deref(), Some("one"));
    let admin = door.verifier.verify(ADMIN).await.unwrap();
    assert_eq!(admin, Caller::admin());
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_and_counted() {
    let door = Door::open(|_| {}).await;
    let now = now_secs();
    let check = async |token: String, word: &str| {
        assert_eq!(door.word(&token).await, word, "{token}");
    };
    let said = async |changes: Value, word: &str| check(ours(changes), word).await;
    said(json!({}), "good").await;
    said(json!({"roles": "operator"}), "good").await;
    said(json!({"exp": now as f64 + 0.5}), "good").await;
    said(json!({"something": {"else": [1]}}), "good").await;
    // Times.
    said(json!({"exp": null}), "claim").await;
    said(json!({"exp": "tomorrow"}), "claim").await;
    said(json!({"exp": -1}), "claim").await;
    said(json!({"exp": 1e300}), "claim").await;
    said(json!({"exp": now - 60}), "expired").await;
    said(json!({"exp": now - 5}), "good").await;
    said(json!({"exp": now + 400 * 86_400}), "too-long").await;
    said(json!({"iat": now - 300 * 86_400, "exp": now + 300 * 86_400}), "too-long").await;
    said(json!({"nbf": now + 3600}), "not-yet").await;
    said(json!({"nbf": now + 5}), "good").await;
    said(json!({"iat": now + 3600}), "not-yet").await;
    said(json!({"nbf": true}), "claim").await;
    // Who, and what.
    said(json!({"sub": null}), "claim").await;
    said(json!({"sub": 7}), "claim").await;
    said(json!({"sub": " "}), "claim").await;
    said(json!({"sub": "a\nb"}), "claim").await;
    said(json!({"sub": "x".repeat(256)}), "claim").await;
    said(json!({"sub": "admin", "roles": ["admin"]}), "claim").await;
    said(json!({"roles": null}), "role").await;
    said(json!({"roles": []}), "role").await;
    said(json!({"roles": ["root"]}), "role").await;
    said(json!({"roles": ["user", "Admin"]}), "role").await;
    said(json!({"roles": [1]}), "role").await;
    said(json!({"templates": "shell"}), "claim").await;
    said(json!({"templates": ["Not a name"]}), "claim").await;
    said(json!({"limits": {"memroy": 1}}), "claim").await;
    said(json!({"limits": {"memory": "much"}}), "claim").await;
    said(json!({"jti": 7}), "claim").await;
    said(json!({"jti": ""}), "claim").await;
    said(json!({"aud": "somebody-else"}), "audience").await;
    let counted: std::collections::BTreeMap<_, _> = door.verifier.refusals().collect();
    assert_eq!(counted["expired"], 1);
    assert_eq!(counted["not-yet"], 2);
    assert_eq!(counted["role"], 5);
    assert_eq!(counted["audience"], 1);
    assert_eq!(counted["signature"], 0);
}

#[tokio::test]
async fn no_other_algorithm_key_or_form_is_taken() {
    let door = Door::open(|_| {}).await;
    let good = claims(json!({}));
    let check = async |token: String, word: &str| {
        assert_eq!(door.word(&token).await, word, "{token}");
    };
    let with = |header: Value| hs256(SECRET.as_bytes(), &header, &good);
    check(with(json!({"alg": "none"})), "algorithm").await;
    check(with(json!({"alg": "None"})), "algorithm").await;
    check(with(json!({"alg": "hs256"})), "algorithm").await;
    check(with(json!({"alg": "HS384"})), "algorithm").await;
    check(with(json!({"alg": "RS256"})), "unknown-key").await;
    check(with(json!({"alg": "EdDSA", "kid": "k"})), "unknown-key").await;
    check(with(json!({"typ": "JWT"})), "malformed").await;
    check(with(json!({"alg": "HS256", "crit": ["b64"], "b64": false})), "malformed").await;
    check(with(json!({"alg": "HS256", "kid": "whatever"})), "good").await;
    // Keys that the token brings or points to are not looked at.
    let own = json!({"kty": "oct", "k": encode(b"another secret of thirty-two bytes")});
    let header = json!({"alg": "HS256", "jwk": own, "jku": "http://127.0.0.1:9/"});
    check(hs256(b"another secret of thirty-two bytes", &header, &good), "signature").await;
    let header = json!({"alg": "HS256"});
    check(hs256(b"", &header, &good), "signature").await;
    let token = with(header.clone());
    let (message, signature) = token.rsplit_once('.').unwrap();
    check(format!("{message}."), "signature").await;
    check(message.to_owned(), "malformed").await;
    check(format!("{token}.x"), "malformed").await;
    check(format!("{message}.{}", &signature[4..]), "signature").await;
    check(format!("{message}.!!!"), "malformed").await;
    let (head, _) = message.split_once('.').unwrap();
    let other = encode(claims(json!({"roles": ["admin"]})).to_string().as_bytes());
    check(format!("{head}.{other}.{signature}"), "signature").await;
    let none = encode(br#"{"alg":"none"}"#);
    check(format!("{none}.{other}."), "algorithm").await;
    // A claim twice could be read in two ways.
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
    let twice = br#"{"sub":"ann","exp":9000000000,"roles":["user"],"roles":["admin"]}"#;
    check(signed(&header, twice, sign), "malformed").await;
    check(signed(&header, b"[]", sign), "malformed").await;
    check(signed(&header, b"no json", sign), "malformed").await;
    check("x".repeat(10_000), "malformed").await;
    check(String::new(), "malformed").await;
    check("..".to_owned(), "malformed").await;
    check(ADMIN[..ADMIN.len() - 1].to_owned(), "malformed").await;
}

/// Key pairs, and the key set with their public halves.
struct Keys {
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    ed: Ed25519KeyPair::generate().unwrap(),
    rsa: rsa::KeyPair::generate(KeySize::Rsa2048).unwrap(),
    ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
});

impl Keys {
    fn set(&self) -> Value {
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
             "x": encode(self.ed.public_key().as_ref())},
            {"kty": "RSA", "kid": "rsa", "alg": "RS256", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "EC", "crv": "P-256", "kid": "ec",
             "x": encode(&point[1..33]), "y": encode(&point[33..])},
            // None of these is for us.
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "RSA", "kid": "r512", "alg": "RS512", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "RSA", "kid": "short", "n": encode(&rsa.n[..128]), "e": encode(&rsa.e)},
            {"kty": "oct", "kid": "oct", "k": encode(b"a symmetric key of thirty-two bytes")},
            {"kty": "future"},
        ]})
    }

    fn rsa_sign(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// A token that is signed as the header's `alg` says.
    fn token(&self, header: Value, changes: Value) -> String {
        let claims = claims(changes).to_string();
        signed(&header, claims.as_bytes(), |message| match header["alg"].as_str() {
            Some("EdDSA") => self.ed.sign(message).as_ref().to_vec(),
            Some("RS256") => self.rsa_sign(&RSA_PKCS1_SHA256, message),
            Some("RS512") => self.rsa_sign(&RSA_PKCS1_SHA512, message),
            Some("ES256") => self.ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            other => panic!("{other:?}"),
        })
    }
}

#[tokio::test]
async fn the_keys_of_a_file_sign_with_their_algorithms_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, KEYS.set().to_string()).unwrap();
    let door = Door::open(|config| config.key_sets.push(KeySource::File(path))).await;
    let check = async |header: Value, word: &str| {
        assert_eq!(door.word(&KEYS.token(header.clone(), json!({}))).await, word, "{header}");
    };
    check(json!({"alg": "EdDSA", "kid": "ed"}), "good").await;
    check(json!({"alg": "RS256", "kid": "rsa"}), "good").await;
    check(json!({"alg": "ES256", "kid": "ec"}), "good").await;
    // The only one for its algorithm need not be named.
    check(json!({"alg": "EdDSA"}), "good").await;
    check(json!({"alg": "EdDSA", "kid": "rsa"}), "algorithm").await;
    check(json!({"alg": "RS256", "kid": "ed"}), "algorithm").await;
    check(json!({"alg": "RS512", "kid": "rsa"}), "algorithm").await;
    check(json!({"alg": "RS256", "kid": "nobody"}), "unknown-key").await;
    for unfit in ["enc", "r512", "short"] {
        check(json!({"alg": "RS256", "kid": unfit}), "unknown-key").await;
    }
    // The public key as the secret of a symmetric algorithm: the classic mistake.
    let set = KEYS.set();
    let modulus = set["keys"][1]["n"].as_str().unwrap();
    for secret in [modulus.as_bytes(), &URL_SAFE_NO_PAD.decode(modulus).unwrap()] {
        for kid in [Some("rsa"), None] {
            let header = json!({"alg": "HS256", "kid": kid});
            let word = door.word(&hs256(secret, &header, &claims(json!({})))).await;
            assert_eq!(word, if kid.is_some() { "algorithm" } else { "signature" });
        }
    }
    let symmetric = b"a symmetric key of thirty-two bytes";
    let header = json!({"alg": "HS256", "kid": "oct"});
    assert_eq!(door.word(&hs256(symmetric, &header, &claims(json!({})))).await, "signature");
    let token = KEYS.token(json!({"alg": "EdDSA", "kid": "ed"}), json!({}));
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(door.word(&format!("{message}.{}", encode(&[0; 64]))).await, "signature");
}

#[tokio::test]
async fn issuer_and_audience_have_to_be_those_that_are_configured() {
    let door = Door::open(|config| {
        config.issuer = Some("https://id.example".to_owned());
        config.audience = Some("spawnery".to_owned());
    })
    .await;
    let check = async |issuer: Value, audience: Value, word: &str| {
        let token = ours(json!({"iss": issuer, "aud": audience}));
        assert_eq!(door.word(&token).await, word, "{issuer} {audience}");
    };
    let issuer = || json!("https://id.example");
    check(issuer(), json!("spawnery"), "good").await;
    check(issuer(), json!(["other", "spawnery"]), "good").await;
    check(issuer(), json!(["other"]), "audience").await;
    check(issuer(), Value::Null, "audience").await;
    check(json!("https://evil.example"), json!("spawnery"), "issuer").await;
    check(json!(["https://id.example"]), json!("spawnery"), "issuer").await;
    check(Value::Null, json!("spawnery"), "issuer").await;
    // What is made here says both.
    let (token, _) = door.token("ann").await;
    assert_eq!(door.word(&token).await, "good");
}

/// Serves a text at a URL of this machine, and counts how often it was asked for.
struct KeyServer {
    url: String,
    text: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(text: String) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let server = KeyServer { url, text: Arc::new(Mutex::new(text)), asked: Arc::default() };
        let (text, asked) = (server.text.clone(), server.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if socket.read(&mut request).await.is_err() {
                    continue;
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let text = text.lock().unwrap().clone();
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                // Whoever asked may have gone away, for example because it is too long.
                let _ = socket.write_all(head.as_bytes()).await;
                let _ = socket.write_all(text.as_bytes()).await;
            }
        });
        server
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_key_that_is_new_at_a_url_is_found_and_unknown_ones_cost_little() {
    let server = KeyServer::start(json!({"keys": [KEYS.set()["keys"][0]]}).to_string()).await;
    let source: KeySource = server.url.parse().unwrap();
    let door = Door::open(|config| {
        config.key_sets.push(source);
        config.unknown_key_pause = Duration::ZERO;
    })
    .await;
    let ed = KEYS.token(json!({"alg": "EdDSA", "kid": "ed"}), json!({}));
    let rsa = KEYS.token(json!({"alg": "RS256", "kid": "rsa"}), json!({}));
    assert_eq!(door.word(&ed).await, "good");
    assert_eq!(server.asked(), 1, "a key that is known asks nobody");
    assert_eq!(door.word(&rsa).await, "unknown-key");
    *server.text.lock().unwrap() = KEYS.set().to_string();
    assert_eq!(door.word(&rsa).await, "good");
    // What is no key set does not take the keys away.
    *server.text.lock().unwrap() = "sorry".to_owned();
    let other = KEYS.token(json!({"alg": "RS256", "kid": "nobody"}), json!({}));
    assert_eq!(door.word(&other).await, "unknown-key");
    assert_eq!(door.word(&rsa).await, "good");
}

#[tokio::test]
async fn a_server_of_keys_is_not_asked_more_often_than_is_configured() {
    let server = KeyServer::start(KEYS.set().to_string()).await;
    let source: KeySource = server.url.parse().unwrap();
    let door = Door::open(|config| {
        config.key_sets.push(source);
        config.unknown_key_pause = Duration::from_secs(3600);
    })
    .await;
    let unknown = KEYS.token(json!({"alg": "RS256", "kid": "nobody"}), json!({}));
    for _ in 0..20 {
        assert_eq!(door.word(&unknown).await, "unknown-key");
    }
    // Once at the start, and once for all that are unknown.
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_key_set_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let config = ControllerConfig::in_folder(&folder.path().join("data"));
    let controller = Controller::start(config).await.unwrap();
    let check = async |text: Option<String>, part: &str| {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let mut access = Config::of_admin(ADMIN);
        access.key_sets.push(KeySource::File(path.clone()));
        let error = Verifier::start(&controller, access).await.err().expect("it is refused");
        assert!(matches!(error, AccessError::KeySource(_)));
        let error = error.to_string();
        assert!(error.contains(part) && error.contains("jwks.json"), "{error}");
    };
    check(None, "No such file").await;
    check(Some("{}".to_owned()), "no key set").await;
    check(Some(json!({"keys": []}).to_string()), "no public key").await;
    check(Some(json!({"keys": vec![json!({}); 100]}).to_string()), "more than 64").await;
    check(Some(" ".repeat(300 << 10)), "more than").await;
    // A server that is not there must not keep ours from starting.
    let mut access = Config::of_admin(ADMIN);
    access.key_sets.push("http://127.0.0.1:9/jwks.json".parse().unwrap());
    let verifier = Verifier::start(&controller, access).await.unwrap();
    let token = KEYS.token(json!({"alg": "EdDSA", "kid": "ed"}), json!({}));
    assert_eq!(verifier.verify(&token).await.unwrap_err().word(), "unknown-key");
}

#[test]
fn keys_come_from_files_and_from_urls_that_nobody_can_change_on_the_way() {
    let check = |text: &str, good: bool| {
        assert_eq!(text.parse::<KeySource>().is_ok(), good, "{text}");
    };
    check("/etc/spawnery/jwks.json", true);
    check("jwks.json", true);
    check("https://id.example.org/jwks.json", true);
    check("http://127.0.0.1:8080/jwks.json", true);
    check("http://localhost/jwks.json", true);
    check("http://[::1]:8080/", true);
    check("http://id.example.org/jwks.json", false);
    check("http://127.0.0.1.evil.example/", false);
    check("https://user:password@id.example.org/", false);
    check("ftp://id.example.org/", false);
    check("", false);
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() {
    assert!(matches!(JwtSecret::new("short"), Err(AccessError::SecretTooShort)));
    assert!(!format!("{:?}", JwtSecret::new(SECRET).unwrap()).contains(SECRET));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    assert!(matches!(JwtSecret::read(&path), Err(AccessError::NoSecretFile(_))));
    let error = JwtSecret::read(&path).unwrap_err().to_string();
    assert!(error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_everywhere_and_also_after_a_restart() {
    let door = Door::open(|_| {}).await;
    let (token, id) = door.token("ann").await;
    let (other, _) = door.token("ann").await;
    let caller = door.verifier.verify(&token).await.unwrap();
    let watch = door.verifier.watch(&caller);
    let watched = tokio::spawn(watch);
    door.revoke(Revoked::Id(id)).await;
    assert_eq!(door.word(&token).await, "revoked");
    assert_eq!(door.word(&other).await, "good");
    let reason = tokio::time::timeout(DEADLINE, watched).await.expect("it ends").unwrap();
    assert_eq!(reason, Denied::Revoked);
    // A watch that begins too late ends at once.
    assert_eq!(door.verifier.watch(&caller).await, Denied::Revoked);
    door.controller.stop().await;
    let Door { verifier, controller, folder } = door;
    drop((verifier, controller));
    let config = ControllerConfig::in_folder(folder.path());
    let controller = Controller::start(config).await.unwrap();
    let mut access = Config::of_admin(ADMIN);
    access.secret = JwtSecret::new(SECRET).unwrap();
    let verifier = Verifier::start(&controller, access).await.unwrap();
    assert_eq!(verifier.verify(&token).await, Err(Denied::Revoked));
    assert!(verifier.verify(&other).await.is_ok());
}

#[tokio::test]
async fn revoking_a_subject_means_also_tokens_that_were_made_elsewhere() {
    let door = Door::open(|_| {}).await;
    let now = now_secs();
    let old = ours(json!({"iat": now - 5}));
    let undated = ours(json!({}));
    let other = ours(json!({"sub": "bob", "iat": now - 5}));
    for token in [&old, &undated, &other] {
        assert_eq!(door.word(token).await, "good");
    }
    door.revoke(Revoked::Subject("ann".to_owned())).await;
    assert_eq!(door.word(&old).await, "revoked");
    assert_eq!(door.word(&undated).await, "revoked");
    assert_eq!(door.word(&other).await, "good");
    assert_eq!(door.word(&ours(json!({"iat": now + 10}))).await, "good");
    let (later, _) = door.token("ann").await;
    assert_eq!(door.word(&later).await, "good");
    // The admin token is replaced in its file, not revoked.
    door.revoke(Revoked::Subject(Caller::ADMIN.to_owned())).await;
    assert_eq!(door.word(ADMIN).await, "good");
}

#[tokio::test]
async fn a_watch_ends_when_its_token_expires() {
    let door = Door::open(|_| {}).await;
    let mut caller = door.verifier.verify(&ours(json!({}))).await.unwrap();
    caller.expires_at = Some(spawnery_model::Timestamp(now_secs() * 1000 - 3_600_000));
    let ended = tokio::time::timeout(DEADLINE, door.verifier.watch(&caller)).await;
    assert_eq!(ended.expect("it ends"), Denied::Expired);
}
