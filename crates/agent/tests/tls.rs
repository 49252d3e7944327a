//! Joining a controller on another machine: whom the agent trusts.

mod support;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spawnery_agent::link::{Session, Stream, read_frame, write_frame};
use spawnery_agent::tls::SERVER_NAME;
use spawnery_agent::{Agent, JoinToken, StartError, Tls, TlsError};
use spawnery_wire::link::{Identity, Up, Welcome};
use std::sync::Arc;
use support::{CREDENTIAL, Data, SECRET, greet, known_identity, node, soon};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A server's certificate and its key.
    fn vouch_for(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }

    fn token(&self) -> JoinToken {
        JoinToken::new(SECRET, &self.certificate)
    }
}

/// A server that presents `chain`.
struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Server {
    async fn new(
        (leaf, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
        authority: &Authority,
    ) -> Server {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = vec![leaf, authority.certificate.clone()];
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that fits");
        Server {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    async fn of(authority: &Authority) -> Server {
        Server::new(authority.vouch_for(SERVER_NAME), authority).await
    }

    fn address(&self) -> String {
        format!("https://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// The next connection, if the agent goes on after the handshake.
    async fn accept(&self) -> (mpsc::Receiver<Stream>, Identity, Stream, Session) {
        loop {
            let (socket, _) = soon("a connection", self.listener.accept()).await.expect("accepted");
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return greet(stream).await;
            }
        }
    }

    async fn welcome(&self, credential: Option<String>) -> (Identity, Stream, Session) {
        let (_, identity, mut stream, session) = self.accept().await;
        let welcome = Welcome::Accepted { node: node(), credential };
        write_frame(&mut stream, &welcome).await.expect("sent");
        (identity, stream, session)
    }
}

async fn start(
    data: &Data,
    server: &Server,
    token: Option<&JoinToken>,
) -> Result<Agent, StartError> {
    let tls = Tls::new(&server.address(), data.path(), token).expect("a connector");
    let secret = token.map(|token| token.secret.clone());
    Agent::start(data.config(), Arc::new(tls), secret).await
}

#[tokio::test]
async fn a_machine_joins_by_a_token_and_comes_back_by_what_it_kept() {
    let data = Data::new();
    let authority = Authority::new();
    let server = Server::of(&authority).await;
    let token = authority.token();
    let join = async { server.welcome(Some(CREDENTIAL.to_owned())).await.0 };
    let (agent, identity) = tokio::join!(start(&data, &server, Some(&token)), join);
    let agent = agent.expect("it joins");
    assert!(matches!(identity, Identity::Joining { token, .. } if token == SECRET));
    let (identity, mut stream, _session) = server.welcome(None).await;
    assert!(identity == known_identity());
    let Up::Report(report) = soon("a report", read_frame(&mut stream)).await.expect("a report");
    assert_eq!(report.node, node());
    agent.stop().await;

    // The same authority vouches for a new key at another address; no token is needed.
    let server = Server::of(&authority).await;
    let agent = start(&data, &server, None).await.expect("it has joined");
    assert!(server.welcome(None).await.0 == known_identity());
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_the_token_does_not_vouch_for_gets_no_secret() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let check = async |server: Server, why: &str| {
        let data = Data::new();
        let token = right.token();
        let error = tokio::select! {
            started = start(&data, &server, Some(&token)) => started.err(),
            _ = server.accept() => panic!("{why}: the agent introduces itself"),
        };
        assert!(matches!(error, Some(StartError::Unreachable { .. })), "{why}: {error:?}");
        assert!(!data.path().join("node.json").exists(), "{why}");
    };
    check(Server::of(&wrong).await, "another authority").await;
    let stolen = Server::new(wrong.vouch_for(SERVER_NAME), &right).await;
    check(stolen, "the right authority beside a certificate that it did not sign").await;
    let other_name = Server::new(right.vouch_for("elsewhere"), &right).await;
    check(other_name, "a certificate for another name").await;
}

#[tokio::test]
async fn a_node_does_not_follow_a_controller_with_another_authority() {
    let data = Data::new();
    let authority = Authority::new();
    let server = Server::of(&authority).await;
    let token = authority.token();
    let join = server.welcome(Some(CREDENTIAL.to_owned()));
    let (agent, _) = tokio::join!(start(&data, &server, Some(&token)), join);
    agent.expect("it joins").stop().await;

    let impostor = Authority::new();
    let server = Server::of(&impostor).await;
    let agent = start(&data, &server, Some(&impostor.token())).await.expect("it has joined");
    for _ in 0..2 {
        let (socket, _) = soon("a try", server.listener.accept()).await.expect("accepted");
        assert!(server.acceptor.accept(socket).await.is_err(), "the agent goes on");
    }
    agent.stop().await;
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    let data = Data::new();
    let check = |address: &str, token: Option<&JoinToken>, expected: &str| {
        let error = Tls::new(address, data.path(), token).err().expect("an error").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let token = Authority::new().token();
    check("https://host:1", None, "--token");
    check("host", Some(&token), "https://HOST:PORT");
    std::fs::write(
        data.path().join("node.json"),
        r#"{"node": "0000000000000001", "credential": "x"}"#,
    )
    .expect("written");
    let error = Tls::new("host:1", data.path(), Some(&token)).err();
    assert!(matches!(error, Some(TlsError::JoinedLocally)));
}
