//! From the call that creates a session to the first byte of its output.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::figure::Figure;
use super::http::Connection;
use super::options::Options;
use super::peers;
use super::row::{Goal, Row};
use super::server::{self, Server};
use crate::Failure;

/// What each session runs, and the peers too.
pub const RUN: [&str; 2] = ["echo", "hi"];

/// Sessions one after the other.
const COUNT_ALONE: usize = 200;

/// Sessions that are not counted, before the others: caches are warm for both sides.
const COUNT_WARM_UP: usize = 20;

/// Sessions at once, and how often each is repeated.
const AT_ONCE: usize = 50;
const ROUNDS: usize = 8;

/// Pause before a session of the warm pool, and before a burst.
const PAUSE_WARM: Duration = Duration::from_millis(30);
const PAUSE_BURST: Duration = Duration::from_millis(2_000);

/// How long a session may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Containers: they take long, and a few say enough.
const COUNT_DOCKER: usize = 20;

/// Measures sessions beside `bwrap` and Docker.
pub fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let server = Arc::new(Server::start(&server::binary(options)?, &[])?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (alone, bwrap) = runtime.block_on(alone(&server))?;
    let alone = Figure::times(alone);
    let at_once = Figure::times(runtime.block_on(at_once(&server))?);
    let warm = Figure::times(runtime.block_on(warm(&server))?);
    let bursts = Figure::times(runtime.block_on(bursts(&server))?);
    let bwrap_at_once = Figure::times(peers::at_once(AT_ONCE, ROUNDS, bwrap_command)?);
    let what = "session, create to first byte, one at a time";
    let goal = Goal::OfPeerAtMost(2.0);
    let rows = vec![
        Row::new(what, alone.clone(), goal).beside("bwrap", Figure::times(bwrap)),
        Row::new("the same, 50 at once", at_once, Goal::P99MsAtMost(25.0))
            .beside("bwrap", bwrap_at_once),
        Row::new("session from a warm pool, create to first byte", warm, Goal::MsAtMost(2.0)),
        Row::new("50 sessions at once, after a pause", bursts, Goal::P99MsAtMost(25.0)),
        docker(alone)?,
    ];
    Ok(rows)
}

/// Ours and `bwrap` in turn, so that what else the machine does falls on both.
async fn alone(server: &Server) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
    let mut connection = Connection::open(server).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..COUNT_WARM_UP + COUNT_ALONE {
        let our = session(&mut connection).await?;
        let their = peers::first_byte(&mut bwrap_command())?;
        if number >= COUNT_WARM_UP {
            ours.push(our);
            theirs.push(their);
        }
    }
    Ok((ours, theirs))
}

/// Sessions with pauses, in which what is kept ready is filled up.
async fn warm(server: &Server) -> Result<Vec<Duration>, Failure> {
    let mut connection = Connection::open(server).await?;
    let mut times = Vec::new();
    for number in 0..COUNT_WARM_UP + COUNT_ALONE {
        tokio::time::sleep(PAUSE_WARM).await;
        let time = session(&mut connection).await?;
        if number >= COUNT_WARM_UP {
            times.push(time);
        }
    }
    Ok(times)
}

/// So many sessions at once, then a pause: what a burst of requests finds. The first round is not
/// counted: the launcher learns from its misses how many sandboxes are wanted.
async fn bursts(server: &Arc<Server>) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        let tasks = tokio::task::LocalSet::new();
        let callers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let server = server.clone();
                tasks.spawn_local(async move {
                    let mut connection = Connection::open(&server).await?;
                    tokio::time::sleep(PAUSE_BURST).await;
                    session(&mut connection).await
                })
            })
            .collect();
        tasks.await;
        for caller in callers {
            let time = caller.await.map_err(|error| error.to_string())??;
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times)
}

async fn at_once(server: &Arc<Server>) -> Result<Vec<Duration>, Failure> {
    let tasks = tokio::task::LocalSet::new();
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let server = server.clone();
            tasks.spawn_local(async move {
                let mut connection = Connection::open(&server).await?;
                let mut times = Vec::new();
                for _ in 0..ROUNDS {
                    times.push(session(&mut connection).await?);
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    tasks.await;
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.map_err(|error| error.to_string())??);
    }
    Ok(times)
}

/// The time from the create call to the first byte; then waits for the end of the output.
///
/// # Errors
///
/// When it fails, or does not come to its end: a hang is to be seen as one, with where it was.
async fn session(connection: &mut Connection) -> Result<Duration, Failure> {
    let mut step = "its creation is not answered".to_owned();
    let running = tokio::time::timeout(PATIENCE, follow(connection, &mut step)).await;
    running.unwrap_or_else(|_| Err(format!("a session hangs: {step} within {PATIENCE:?}")))
}

/// Creates one and follows it; `step` says what is being waited for.
async fn follow(connection: &mut Connection, step: &mut String) -> Result<Duration, Failure> {
    let body =
        format!(r#"{{"session": {{"run": ["{}", "{}"], "memory": "16M"}}}}"#, RUN[0], RUN[1]);
    let start = Instant::now();
    connection.send("POST", "/v1/sessions", &body).await?;
    let reply: Value = serde_json::from_slice(&connection.rest().await?)
        .map_err(|error| format!("a session's answer cannot be read: {error}"))?;
    let id = reply["id"].as_str().ok_or("a session has no id")?;
    *step = format!("the log of {id} does not begin");
    connection.send("GET", &format!("/v1/sessions/{id}/logs?follow=true"), "").await?;
    let mut output = Vec::new();
    let mut first = None;
    while let Some(part) = connection.part().await? {
        output.extend(part);
        *step = format!("the log of {id} does not end: {}", String::from_utf8_lossy(&output));
        if first.is_none() && output.windows(2).any(|window| window == b"hi") {
            first = Some(start.elapsed());
        }
    }
    first.ok_or_else(|| format!("no output: {}", String::from_utf8_lossy(&output)))
}

/// `bwrap` with a root that can run the command.
fn bwrap_command() -> Command {
    let mut command = Command::new("bwrap");
    command.args([
        "--unshare-all",
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]);
    command.args(["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]);
    command.args(["--symlink", "usr/lib64", "/lib64", "--tmpfs", "/tmp", "--"]).args(RUN);
    command
}

fn docker(ours: Figure) -> Result<Row, Failure> {
    let what = "session, create to first byte, beside docker run";
    let image = match peers::docker_image() {
        Ok(image) => image,
        Err(reason) => return Ok(Row::new(what, ours, Goal::OfPeerAtMost(0.05)).note(reason)),
    };
    let mut times = Vec::new();
    for _ in 0..COUNT_DOCKER {
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--network=none", &image]).args(RUN);
        times.push(peers::first_byte(command.stderr(Stdio::null()))?);
    }
    let row = Row::new(what, ours, Goal::OfPeerAtMost(0.05));
    Ok(row.beside(format!("docker run {image}"), Figure::times(times)))
}
