//! How late jobs start when there are very many of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spawnery_cluster::Command;
use spawnery_controller::{Config, Controller, EventItem, EventStart};
use spawnery_model::Workload;

use super::cluster::workloads;
use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;

/// Jobs with a schedule of their own, spread over all seconds of an hour.
const JOBS: usize = 100_000;

const SECONDS_PER_HOUR: usize = 3600;

/// Jobs that are applied by one command.
const JOBS_PER_COMMAND: usize = 2_000;

/// For how long their starts are watched: some 800 of them.
const TIME: Duration = Duration::from_secs(30);

/// Applies the jobs and watches which run when.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let config = Config::in_folder(folder.path());
    let late = runtime.block_on(async {
        let controller = Controller::start(config).await.map_err(|error| error.to_string())?;
        apply(&controller).await?;
        let late = watch(&controller).await;
        controller.stop().await;
        late
    })?;
    let what = "job start after its time, 100,000 schedules";
    Ok(vec![Row::new(what, Figure::times(late), Goal::P99MsAtMost(20.0))])
}

async fn apply(controller: &Controller) -> Result<(), Failure> {
    for chunk in 0..JOBS / JOBS_PER_COMMAND {
        let first = chunk * JOBS_PER_COMMAND;
        let jobs: Result<Vec<Workload>, Failure> =
            (first..first + JOBS_PER_COMMAND).map(job).collect();
        let command = Command::Apply { workloads: jobs?, by: "bench".to_owned() };
        controller.submit(command, None).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A job whose name says in which second of an hour it starts.
fn job(number: usize) -> Result<Workload, Failure> {
    let second = number % SECONDS_PER_HOUR;
    let (minute, second_of_minute) = (second / 60, second % 60);
    let manifest = format!(
        "jobs:\n  job-{second}-{number}:\n    run: [\"true\"]\n    \
         schedule: \"{second_of_minute} {minute} * * * *\"\n    memory: 1M\n"
    );
    workloads(&manifest)?.pop().ok_or_else(|| "the manifest holds no job".to_owned())
}

/// How long after its second each job's run was created, durable and told.
async fn watch(controller: &Controller) -> Result<Vec<Duration>, Failure> {
    let mut events = controller.events(EventStart::Now);
    let mut late = Vec::new();
    let watched = tokio::time::timeout(TIME, async {
        while let Some(item) = events.next().await {
            match item {
                EventItem::Event(_, event) if event.kind == "run.created" => {
                    let name = event.workload.as_ref().map(|name| name.as_str());
                    late.push(lateness(name.unwrap_or_default())?);
                }
                EventItem::Event(..) => {}
                EventItem::Gap { .. } => return Err("events came too quickly".to_owned()),
            }
        }
        Err::<(), Failure>("the controller stopped".to_owned())
    });
    match watched.await {
        Ok(Err(reason)) => Err(reason),
        _ if late.is_empty() => Err("no job started".to_owned()),
        _ => Ok(late),
    }
}

/// How long it is since a job's second began.
fn lateness(name: &str) -> Result<Duration, Failure> {
    let second = name.split('-').nth(1).and_then(|it| it.parse::<u64>().ok());
    let second = second.ok_or_else(|| format!("{name:?} is no job of this benchmark"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hour = Duration::from_secs(SECONDS_PER_HOUR as u64);
    let in_hour = Duration::from_nanos((now.as_nanos() % hour.as_nanos()) as u64);
    // Around the full hour the second may belong to the hour before.
    let late = (in_hour + hour).saturating_sub(Duration::from_secs(second));
    let late = if late >= hour { late - hour } else { late };
    // Early would look like almost an hour late.
    if late > hour / 2 { Err(format!("{name} started early")) } else { Ok(late) }
}
