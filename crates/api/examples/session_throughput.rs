//! Measures how many sessions a second can be created through the API: 64 callers on loopback, the
//! embedded journal, everything in this process.
//!
//! `cargo run --release -p spawnery-api --example session_throughput [FOLDER]`

#![expect(clippy::print_stdout, reason = "it is an example that prints figures")]

use spawnery_api::{Config, router};
use spawnery_controller::Controller;
use spawnery_controller::access::{Config as AccessConfig, Verifier};
use spawnery_gateway::{Domains, Door, Gateway, Settings};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CALLERS: usize = 64;
const DURATION: Duration = Duration::from_secs(4);
const TOKEN: &str = "spawnery_measure";
const TEMPLATE: &str = r#"{"sessions": {"shell": {"run": ["bash"]}}}"#;
const BODIES: [(&str, &str); 2] = [
    ("from a template", r#"{"template":"shell"}"#),
    ("with a definition", r#"{"session":{"run":["echo","hi"],"memory":"64M"}}"#),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (name, body) in BODIES {
        let folder = tempfile::tempdir_in(&parent)?;
        let config = spawnery_controller::Config::in_folder(folder.path());
        let controller = Controller::start(config).await?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let verifier = Verifier::start(&controller, AccessConfig::of_admin(TOKEN)).await.unwrap();
        let router = router(controller.clone(), verifier, Config::default());
        let front = Gateway::new(controller.clone(), None, Domains::default());
        let (doors, settings) = (vec![Door::plain(listener)], Settings::default());
        let server = tokio::spawn(front.serve(doors, router, settings, std::future::pending()));
        let mut first = TcpStream::connect(address).await?;
        call(&mut first, &request("PUT", "/v1/manifest", TEMPLATE)).await?;

        let until = Instant::now() + DURATION;
        let callers = (0..CALLERS).map(|_| tokio::spawn(caller(address, body, until)));
        let mut latencies = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            latencies.extend(caller.await??);
        }
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        println!(
            "POST /v1/sessions {name}, {CALLERS} callers: {:.0}/s, p50 {:?}, p99 {:?}",
            latencies.len() as f64 / DURATION.as_secs_f64(),
            at(50),
            at(99),
        );
        server.abort();
        controller.stop().await;
    }
    Ok(())
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn caller(
    address: std::net::SocketAddr,
    body: &str,
    until: Instant,
) -> std::io::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let request = request("POST", "/v1/sessions", body);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        call(&mut socket, &request).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// Sends a request and reads its answer, which is small and comes in one piece.
async fn call(socket: &mut TcpStream, request: &str) -> std::io::Result<()> {
    socket.write_all(request.as_bytes()).await?;
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer).await?;
    match answer[..length].starts_with(b"HTTP/1.1 20") {
        true => Ok(()),
        false => {
            Err(std::io::Error::other(String::from_utf8_lossy(&answer[..length]).into_owned()))
        }
    }
}
