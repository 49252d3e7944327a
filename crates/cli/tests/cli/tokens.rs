//! Tokens of users: what they allow, and what revoking them does.

use crate::support::{Background, Home, Ran, Server, wait_for};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const MANIFEST: &str = r#"
sessions:
  clock:
    run: 'while :; do echo tick; sleep 0.05; done'
    memory: 32M
  other:
    run: 'sleep 60'
    memory: 32M
"#;

/// A server with [`MANIFEST`], on which this machine runs what is asked for.
fn server(arguments: &[&str], home: Home) -> Server {
    let server = Server::start_with(home, arguments);
    server.apply(MANIFEST);
    server
}

/// The command with a token of its own.
fn command_as(home: &Home, token: &str, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.env("SPAWNERY_TOKEN", token);
    command
}

fn run_as(home: &Home, token: &str, arguments: &[&str]) -> Ran {
    let output = command_as(home, token, arguments).output().expect("the binary runs");
    Ran {
        command: arguments.join(" "),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn created(home: &Home, arguments: &[&str]) -> (String, String) {
    let all: Vec<&str> = ["token", "create"].iter().chain(arguments).copied().collect();
    let made = home.json(&all);
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

#[test]
fn a_token_is_used_revoked_and_what_is_open_in_its_name_ends() {
    let server = server(&[], Home::new());
    let home = &server.home;
    let (ann, id) = created(home, &["--subject", "ann", "--template", "clock"]);
    let (bob, _) = created(home, &["--subject", "bob"]);
    let session = run_as(home, &ann, &["session", "create", "clock"]).expect(0).stdout;
    let session = session.trim();
    run_as(home, &ann, &["session", "create", "other"]).expect(4).says("not for the template");
    run_as(home, &ann, &["services"]).expect(4).says("role").says("spawnery token show");
    run_as(home, &ann, &["session", "list"]).expect(0).prints(&session[..4]);
    run_as(home, &ann, &["token", "show"]).expect(0).prints("ann").prints("clock");
    let hidden = run_as(home, &bob, &["session", "end", session]).expect(1);
    hidden.says("there is no instance");
    let follow = command_as(home, &ann, &["logs", session, "--follow"]);
    let mut follow = Background::start(follow, home.path("follow.log"));
    follow.wait_for_line("tick");
    let revoked = home.output(&["token", "revoke", &id[..6], "--end-sessions"]).expect(0);
    revoked.prints("ending 1 session");
    assert_eq!(follow.wait().code(), Some(4), "{}", follow.printed());
    assert!(follow.printed().contains("the token was revoked"), "{}", follow.printed());
    run_as(home, &ann, &["session", "list"]).expect(4).says("the token was revoked");
    run_as(home, &bob, &["session", "list"]).expect(0);
    let ended = wait_for("the session to end", || {
        let all = home.json(&["session", "list", "--all"]);
        let found = all.as_array()?.iter().find(|found| found["id"] == session)?.clone();
        (found["phase"] == "ended").then_some(found)
    });
    assert_eq!(ended["end"]["reason"], "its owner's token was revoked by admin", "{ended}");
    let listed = home.output(&["token", "list"]).expect(0).prints("revoked").prints("bob");
    for secret in [&ann, &bob] {
        assert!(!listed.stdout.contains(secret.as_str()));
        assert!(!server.process.printed().contains(secret.as_str()));
    }
}

#[test]
fn revocations_and_the_secret_survive_a_restart() {
    let mut server = server(&[], Home::new());
    let (ann, id) = created(&server.home, &["--subject", "ann", "--role", "viewer"]);
    let (bob, _) = created(&server.home, &["--subject", "bob", "--role", "viewer"]);
    server.home.output(&["token", "revoke", &id]).expect(0);
    let path = server.home.data().join("jwt.secret");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&path).unwrap();
    assert!(!server.process.printed().contains(secret.trim()));
    server.process.kill();
    server.restart();
    run_as(&server.home, &ann, &["services"]).expect(4).says("the token was revoked");
    run_as(&server.home, &bob, &["services"]).expect(0);
    server.home.output(&["token", "revoke", "--subject", "bob"]).expect(0);
    run_as(&server.home, &bob, &["services"]).expect(4).says("the token was revoked");
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn token_of(key: &Ed25519KeyPair, claims: &Value) -> String {
    let header = json!({"alg": "EdDSA", "kid": "one"}).to_string();
    let message = format!("{}.{}", encode(header), encode(claims.to_string()));
    let signature = encode(key.sign(message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

#[test]
fn a_token_of_somebody_else_is_taken_by_its_key_and_its_audience() {
    let key = Ed25519KeyPair::generate().unwrap();
    let x = encode(key.public_key().as_ref());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]});
    let home = Home::new();
    let path = home.write("jwks.json", &set.to_string());
    let server = server(&["--jwks", &path, "--jwt-audience", "spawnery"], home);
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |audience: &str| {
        json!({"sub": "eve@example.org", "roles": ["viewer"], "exp": now_secs + 600,
            "aud": audience})
    };
    let home = &server.home;
    run_as(home, &token_of(&key, &claims("spawnery")), &["services"]).expect(0);
    let other = token_of(&key, &claims("somebody-else"));
    run_as(home, &other, &["services"]).expect(4).says("not for this server");
    let stranger = Ed25519KeyPair::generate().unwrap();
    let forged = token_of(&stranger, &claims("spawnery"));
    run_as(home, &forged, &["services"]).expect(4).says("signature");
    let (own, _) = created(home, &["--subject", "ann", "--role", "viewer"]);
    run_as(home, &own, &["services"]).expect(0);
    home.output(&["token", "revoke", "--subject", "eve@example.org"]).expect(0);
    let revoked = run_as(home, &token_of(&key, &claims("spawnery")), &["services"]);
    revoked.expect(4).says("revoked");
}

#[test]
fn what_a_server_cannot_use_for_tokens_is_named() {
    let home = Home::new();
    let check = |arguments: &[&str], code: i32, text: &str| {
        let all: Vec<&str> = ["server", "--listen", "127.0.0.1:0", "--no-agent"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let ran = home.output(&all).expect(code).says(text);
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    };
    check(&["--jwt-secret", "hunter2"], 1, "32 bytes");
    check(&["--jwks", "http://id.example.org/keys"], 2, "https");
    check(&["--jwks", "no-such-file.json"], 1, "no-such-file.json");
    let exposed = home.write("secret", &"x".repeat(40));
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    check(&["--jwt-secret-file", &exposed], 1, "chmod 600");
    home.output(&["token", "create", "--subject", "ann", "--expires", "soon"]).expect(2);
}
