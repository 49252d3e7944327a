//! How quickly a controller is back after a restart.

use std::time::Instant;

use spawnery_cluster::{Command, Reply, SessionSource};
use spawnery_controller::{Config, Controller};
use spawnery_journal::{SqliteJournal, SqliteOptions};
use spawnery_model::Name;

use super::cluster::{Cluster, workloads};
use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;

/// Records to replay: more than a controller ever has after its newest snapshot.
const RECORDS: usize = 500_000;

/// Sessions that are created and then ended together.
const BATCH: usize = 1_000;

/// Writes a journal of sessions that came and went, then starts a controller on it.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let records = write(folder.path())?;
    let config =
        Config { journal_dir: folder.path().to_owned(), ..Config::in_folder(folder.path()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let start = Instant::now();
    let controller = runtime.block_on(Controller::start(config)).map_err(|it| it.to_string())?;
    let time = start.elapsed();
    runtime.block_on(controller.stop());
    let what = "replay after a restart, records, without a snapshot";
    Ok(vec![Row::new(what, Figure::rate(records, time), Goal::AtLeast(5e5))])
}

fn write(folder: &std::path::Path) -> Result<usize, Failure> {
    let journal = SqliteJournal::open(folder, &SqliteOptions::default());
    let mut cluster = Cluster::new(Some(journal.map_err(|error| error.to_string())?))?;
    cluster.join(1)?;
    let manifest = "sessions:\n  shell: {run: [sh], memory: 1M, cpu: 0.001}\n";
    cluster.command(Command::Apply { workloads: workloads(manifest)?, by: "bench".to_owned() })?;
    let shell = Name::new("shell").map_err(|error| error.to_string())?;
    let create = Command::CreateSession {
        source: SessionSource::Template(shell),
        owner: "bench".to_owned(),
        terms: Box::default(),
    };
    while cluster.records() < RECORDS {
        let replies = cluster.commands(vec![create.clone(); BATCH])?;
        let ends = replies.into_iter().filter_map(|reply| match reply {
            Reply::Session(instance) => {
                Some(Command::EndInstance { instance, by: "bench".to_owned() })
            }
            _ => None,
        });
        cluster.commands(ends.collect::<Vec<_>>())?;
    }
    Ok(cluster.records())
}
