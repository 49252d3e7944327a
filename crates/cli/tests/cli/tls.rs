//! TLS at the front door: certificates of files and of a certificate authority.

use crate::support::{Background, DEADLINE, Home, Server, wait_for};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A certificate for names, written to `NAME.pem` and `NAME.key`.
fn certificate(home: &Home, name: &str, names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = made.signing_key.serialize_pem();
    (home.write(&format!("{name}.pem"), &made.cert.pem()), home.write(&format!("{name}.key"), &key))
}

/// What `curl` says, if it succeeds.
fn curl(arguments: &[&str]) -> Option<String> {
    let limit = DEADLINE.as_secs().to_string();
    let fixed = ["--silent", "--show-error", "--max-time", &limit, "--noproxy", "*"];
    let output = Command::new("curl").args(fixed).args(arguments).output().expect("curl runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number after a text in the log of a server.
fn port_after(server: &Server, text: &str) -> String {
    wait_for(text, || {
        let printed = server.process.printed();
        let rest = printed.split(text).nth(1)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty() && digits.len() < rest.len()).then_some(digits)
    })
}

#[test]
fn certificates_are_chosen_by_name_and_read_again_when_they_change() {
    let home = Home::new();
    let (first, first_key) = certificate(&home, "first", &["first.localhost"]);
    let (second, second_key) = certificate(&home, "second", &["second.localhost"]);
    let arguments = [
        "--tls-listen",
        "127.0.0.1:0",
        "--redirect-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &first,
        "--tls-key",
        &first_key,
        "--tls-cert",
        &second,
        "--tls-key",
        &second_key,
    ];
    let server = Server::start_with(home, &arguments);
    let port = port_after(&server, "speaking TLS on port ");
    // Neither is a service: that the gateway says so is enough.
    let ask = |root: &str, name: &str| {
        let url = format!("https://{name}.localhost:{port}/");
        curl(&[
            "--cacert",
            root,
            "--write-out",
            "%{http_code} HTTP/%{http_version}",
            "--output",
            "/dev/null",
            &url,
        ])
    };
    assert_eq!(ask(&first, "first").as_deref(), Some("404 HTTP/2"));
    assert_eq!(ask(&second, "second").as_deref(), Some("404 HTTP/2"));
    assert_eq!(ask(&first, "second"), None);
    let url = format!("https://first.localhost:{port}/");
    let old = curl(&[
        "--http1.1",
        "--cacert",
        &first,
        "--write-out",
        "%{http_version}",
        "--output",
        "/dev/null",
        &url,
    ]);
    assert_eq!(old.as_deref(), Some("1.1"));

    let plain = port_after(&server, "sending others there from port ");
    let url = format!("http://first.localhost:{plain}/a?b");
    let place =
        curl(&["--write-out", "%{http_code} %{redirect_url}", "--output", "/dev/null", &url]);
    assert_eq!(place, Some(format!("308 https://first.localhost:{port}/a?b")));

    let (other, other_key) = certificate(&server.home, "other", &["first.localhost"]);
    std::fs::rename(&other_key, &first_key).expect("a rename");
    std::fs::copy(&other, &first).expect("a copy");
    wait_for("the new certificate", || ask(&other, "first"));
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it is bound").port()
}

/// A certificate authority with the DNS that it asks.
struct Pebble {
    directory: String,
    root_url: String,
    own_root: String,
    dns_management: u16,
    tls_port: u16,
    http_port: u16,
    _processes: [Background; 2],
}

impl Pebble {
    fn start(home: &Home) -> Pebble {
        let (own_root, own_key) = certificate(home, "pebble", &["localhost"]);
        let [port, management, dns, dns_management, tls_port, http_port] =
            [(); 6].map(|()| free_port());
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": own_root, "privateKey": own_key,
            "httpPort": http_port, "tlsPort": tls_port, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let config = home.write("pebble.json", &config.to_string());
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args([
            "-defaultIPv6",
            "",
            "-defaultIPv4",
            "127.0.0.1",
            "-http01",
            "",
            "-https01",
            "",
        ]);
        resolver.args(["-tlsalpn01", "", "-dns01", &format!("127.0.0.1:{dns}")]);
        resolver.args(["-management", &format!("127.0.0.1:{dns_management}")]).stdin(Stdio::null());
        let mut authority = Command::new("pebble");
        authority.args(["-config", &config, "-dnsserver", &format!("127.0.0.1:{dns}")]);
        authority.env("PEBBLE_VA_NOSLEEP", "1").stdin(Stdio::null());
        let processes = [
            Background::start(resolver, home.path("resolver.log")),
            Background::start(authority, home.path("pebble.log")),
        ];
        let directory = format!("https://localhost:{port}/dir");
        wait_for("the certificate authority", || curl(&["--cacert", &own_root, &directory]));
        let root_url = format!("https://localhost:{management}/roots/0");
        Pebble {
            directory,
            root_url,
            own_root,
            dns_management,
            tls_port,
            http_port,
            _processes: processes,
        }
    }
}

#[test]
fn certificates_are_had_from_a_certificate_authority_by_each_proof() {
    for (proof, names) in
        [("http", &["a.test"][..]), ("tls", &["b.test"]), ("dns", &["*.c.test", "c.test"])]
    {
        let home = Home::new();
        let pebble = Pebble::start(&home);
        let management = pebble.dns_management;
        let hook = format!(
            "#!/bin/sh\ncase $1 in set) what=set-txt;; *) what=clear-txt;; esac\n\
             exec curl --fail --silent --noproxy '*' --data \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" \
             http://127.0.0.1:{management}/$what\n"
        );
        let hook = home.write("hook.sh", &hook);
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("our own file");
        let (tls, plain) =
            (format!("127.0.0.1:{}", pebble.tls_port), format!("127.0.0.1:{}", pebble.http_port));
        let mut arguments = vec![
            "--tls-listen",
            &tls,
            "--redirect-listen",
            &plain,
            "--acme-proof",
            proof,
            "--acme-hook",
            &hook,
            "--acme-directory",
            &pebble.directory,
            "--acme-root",
            &pebble.own_root,
            "--acme-contact",
            "mailto:admin@c.test",
        ];
        names.iter().for_each(|name| arguments.extend(["--acme", name]));
        let server = Server::start_with(home, &arguments);
        let root = curl(&["--cacert", &pebble.own_root, &pebble.root_url]).expect("its root");
        let root = server.home.write("root.pem", &root);
        for name in names {
            let name = name.replace('*', "any");
            let resolve = format!("{name}:{}:127.0.0.1", pebble.tls_port);
            let url = format!("https://{name}:{}/healthz", pebble.tls_port);
            wait_for(&format!("a certificate by {proof}: {}", server.process.printed()), || {
                curl(&["--cacert", &root, "--resolve", &resolve, &url])
            });
        }
        let kept = std::fs::read_dir(server.home.data().join("acme")).expect("the folder");
        for file in kept {
            let mode = file.expect("an entry").metadata().expect("its mode").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
