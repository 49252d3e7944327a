//! Durable commands in the controller, from many callers at once.

use std::time::{Duration, Instant};

use spawnery_cluster::{Command, Reply, SessionSource};
use spawnery_controller::{Config, Controller};
use spawnery_model::Name;

use super::cluster::workloads;
use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;

/// Callers at once, each of which waits for its answer before it asks again.
pub const CALLERS: usize = 64;

/// For how long they ask.
pub const TIME: Duration = Duration::from_secs(5);

/// Bytes of a record that is like those of a session, for the peer.
const RECORD_BYTES: usize = 200;

/// Each caller creates a session, then ends it, over and over. Each answer is durable.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let config = Config::in_folder(folder.path());
    let times = runtime.block_on(async {
        let controller = Controller::start(config).await.map_err(|error| error.to_string())?;
        let times = all_callers(&controller).await;
        controller.stop().await;
        times
    })?;
    let count = times.len();
    let what = "durable commands in the controller, 64 callers";
    let rate = Row::new(what, Figure::rate(count, TIME), Goal::AtLeast(5e4))
        .beside("SQLite, 64 rows a commit", sqlite(folder.path())?);
    let latency = Row::new("one such command", Figure::times(times), Goal::None);
    Ok(vec![rate, latency])
}

async fn all_callers(controller: &Controller) -> Result<Vec<Duration>, Failure> {
    let manifest = "sessions:\n  shell: {run: [sh], memory: 1M}\n";
    let command = Command::Apply { workloads: workloads(manifest)?, by: "bench".to_owned() };
    controller.submit(command, None).await.map_err(|error| error.to_string())?;
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(caller(controller.clone()))).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.map_err(|error| error.to_string())??);
    }
    Ok(times)
}

async fn caller(controller: Controller) -> Result<Vec<Duration>, Failure> {
    let shell = Name::new("shell").map_err(|error| error.to_string())?;
    let source = SessionSource::Template(shell);
    let create =
        Command::CreateSession { source, owner: "bench".to_owned(), terms: Box::default() };
    let mut times = Vec::new();
    let start = Instant::now();
    let mut next = create.clone();
    while start.elapsed() < TIME {
        let asked = Instant::now();
        let reply = controller.submit(next, None).await.map_err(|error| error.to_string())?;
        times.push(asked.elapsed());
        next = match reply {
            Reply::Session(instance) => Command::EndInstance { instance, by: "bench".to_owned() },
            _ => create.clone(),
        };
    }
    Ok(times)
}

/// The same disk by SQLite alone, as durable, with as many rows in each commit as there are
/// callers: what is left if deciding costs nothing.
fn sqlite(folder: &std::path::Path) -> Result<Figure, Failure> {
    let text = |error: rusqlite::Error| error.to_string();
    let db = rusqlite::Connection::open(folder.join("peer.db")).map_err(text)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE records (position INTEGER PRIMARY KEY, payload BLOB NOT NULL);",
    )
    .map_err(text)?;
    let payload = [7u8; RECORD_BYTES];
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < TIME / 2 {
        let transaction = db.unchecked_transaction().map_err(text)?;
        let insert = "INSERT INTO records (payload) VALUES (?1)";
        let mut insert = transaction.prepare_cached(insert).map_err(text)?;
        for _ in 0..CALLERS {
            insert.execute([&payload[..]]).map_err(text)?;
        }
        drop(insert);
        transaction.commit().map_err(text)?;
        count += CALLERS;
    }
    Ok(Figure::rate(count, start.elapsed()))
}
