//! Durable commands through the HTTP API, from many callers at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::controller::{CALLERS, TIME};
use super::figure::Figure;
use super::http::Connection;
use super::options::Options;
use super::row::{Goal, Row};
use super::server::{self, Server};
use crate::Failure;

/// The template of the sessions.
const MANIFEST: &str = r#"{"sessions": {"shell": {"run": ["sh"], "memory": "1M"}}}"#;

/// Each caller creates sessions, one after the other. No node is there to start them, so only the
/// commands are measured.
pub fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let server = Arc::new(Server::start(&server::binary(options)?, &["--no-agent"])?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let times = runtime.block_on(all_callers(&server))?;
    let what = "durable commands through the HTTP API, 64 callers";
    Ok(vec![
        Row::new(what, Figure::rate(times.len(), TIME), Goal::AtLeast(2e4)),
        Row::new("one such request", Figure::times(times), Goal::None),
    ])
}

async fn all_callers(server: &Arc<Server>) -> Result<Vec<Duration>, Failure> {
    let mut connection = Connection::open(server).await?;
    connection.send("PUT", "/v1/manifest", MANIFEST).await?;
    connection.rest().await?;
    let tasks = tokio::task::LocalSet::new();
    let callers: Vec<_> = (0..CALLERS).map(|_| tasks.spawn_local(caller(server.clone()))).collect();
    tasks.await;
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.map_err(|error| error.to_string())??);
    }
    Ok(times)
}

async fn caller(server: Arc<Server>) -> Result<Vec<Duration>, Failure> {
    let mut connection = Connection::open(&server).await?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < TIME {
        let asked = Instant::now();
        connection.send("POST", "/v1/sessions", r#"{"template": "shell"}"#).await?;
        connection.rest().await?;
        times.push(asked.elapsed());
    }
    Ok(times)
}
