//! What can be asked for one session, beside its template.

use crate::words::duration;
use spawnery_client::api::{LimitsView, SessionTermsRequest};
use spawnery_model::Name;
use std::time::Duration;

/// What is asked for one session, beside its template.
#[derive(Debug, clap::Args)]
pub(super) struct Terms {
    /// The key that names it: if there is a live session of this key, that is the answer
    #[arg(long, value_name = "KEY", value_parser = key, conflicts_with = "file")]
    key: Option<Name>,
    /// A tag; may be repeated. A session that is found by its key must have the same
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Somebody else who may use it: the subject of a token; may be repeated
    #[arg(long = "share", value_name = "SUBJECT")]
    shared_with: Vec<String>,
    /// Memory, such as 256M, instead of what the template says; the other limits likewise
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Cores, such as 0.5
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpu: Option<u32>,
    /// What its own files may hold
    #[arg(long, value_name = "SIZE", value_parser = size)]
    disk: Option<u64>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER")]
    pids: Option<u32>,
    /// Clients that are attached at once
    #[arg(long, value_name = "NUMBER")]
    clients: Option<u32>,
    /// What it may send and receive over its private network
    #[arg(long, value_name = "SIZE", value_parser = size)]
    transfer: Option<u64>,
    /// How long it lives
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How long nobody may use it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_timeout: Option<Duration>,
    /// Fail if there is no room right now, instead of waiting for it
    #[arg(long)]
    no_wait: bool,
    /// How long it may wait for room
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "no_wait")]
    queue_deadline: Option<Duration>,
}

impl Terms {
    pub(super) fn request(self) -> SessionTermsRequest {
        let ms = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        SessionTermsRequest {
            key: self.key,
            tags: self.tags.into_iter().collect(),
            shared_with: self.shared_with.into_iter().collect(),
            limits: LimitsView {
                memory_bytes: self.memory,
                cpu_millis: self.cpu,
                disk_bytes: self.disk,
                pids: self.pids,
                clients: self.clients,
                duration_ms: ms(self.duration),
                idle_timeout_ms: ms(self.idle_timeout),
                transfer_bytes: self.transfer,
            },
            at_once: self.no_wait,
            queue_deadline_ms: ms(self.queue_deadline),
        }
    }
}

fn key(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| format!("it is no key: {error}"))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (tag, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((tag.to_owned(), value.to_owned()))
}

fn size(text: &str) -> Result<u64, String> {
    let size = spawnery_manifest::parse_bytes(text);
    size.map(|size| size.0).map_err(|_| "give it as 256M or 4G".to_owned())
}

fn cores(text: &str) -> Result<u32, String> {
    let cores = spawnery_manifest::parse_cores(text);
    cores.map(|cores| cores.0).map_err(|_| "give it as 2 or 0.5".to_owned())
}
