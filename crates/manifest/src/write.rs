//! Writes a manifest as JSON that says everything and reads back to the same.

use crate::Manifest;
use crate::kinds::{EVERY_NODE, MISSED, OVERLAPS};
use crate::lifecycle::{POLICIES, signal_json};
use crate::process::NETWORKS;
use crate::quantity::{whole_bytes, whole_duration};
use crate::reader::word_of;
use crate::source::FileSource;
use crate::write_environment::{recipe, surroundings_fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use spawnery_model::{
    Access, DurationMs, File, Kind, Name, Process, Readiness, Replicas, SessionSettings, Workload,
};

impl Manifest {
    /// Writes the manifest as JSON, with every default spelled out.
    ///
    /// [`parse`](crate::parse) reads the same workloads from it, whatever format they came from,
    /// as long as it is no larger than a manifest may be (binary files grow by a third). Sources
    /// that were not read stay sources, which a server does not take: read them first, by
    /// [`with_files`](Manifest::with_files).
    pub fn to_json(&self) -> String {
        let mut services = Map::new();
        let mut jobs = Map::new();
        let mut sessions = Map::new();
        for workload in &self.workloads {
            let sources = self.sources.iter();
            let sources = sources.filter(|source| source.workload == workload.name);
            let section = match workload.kind {
                Kind::Service(_) => &mut services,
                Kind::Job(_) => &mut jobs,
                Kind::Session(_) => &mut sessions,
            };
            let mut fields = workload_fields(workload, sources);
            if let Some(around) = &workload.surroundings {
                let network = workload.process.network;
                surroundings_fields(around, network, &self.environments, &mut fields);
            }
            section.insert(workload.name.to_string(), Value::Object(fields));
        }
        let named = self.environments.iter().filter_map(|environment| {
            Some((environment.name.as_ref()?.to_string(), recipe(environment)))
        });
        let sections = [
            ("environments", named.collect()),
            ("services", services),
            ("jobs", jobs),
            ("sessions", sessions),
        ];
        let sections = sections.into_iter().filter(|(_, section)| !section.is_empty());
        let sections = sections.map(|(name, section)| (name.to_owned(), Value::Object(section)));
        Value::Object(sections.collect()).to_string()
    }

    /// Writes the recipe of one of the manifest's environments as JSON, as
    /// [`recipes`](Manifest::recipes) names it.
    pub fn recipe_json(&self, name: &Name) -> Option<String> {
        let recipes = self.recipes();
        Some(recipe(recipes.get(name)?).to_string())
    }
}

fn workload_fields<'s>(
    workload: &Workload,
    sources: impl Iterator<Item = &'s FileSource>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    match &workload.kind {
        Kind::Service(service) => set(
            "replicas",
            match service.replicas {
                Replicas::Count(count) => json!(count),
                Replicas::EveryNode => json!(EVERY_NODE),
            },
        ),
        Kind::Job(job) => {
            if let Some(schedule) = &job.schedule {
                let schedule = json!({ "cron": schedule.cron, "time_zone": schedule.time_zone });
                set("schedule", schedule);
            }
            set("overlap", json!(word_of(OVERLAPS, &job.overlap)));
            set("missed", json!(word_of(MISSED, &job.missed)));
            set("start_deadline", json!(whole_duration(job.start_deadline)));
            set("attempts", json!(job.attempts_max));
            if let Some(timeout) = job.timeout {
                set("timeout", json!(whole_duration(timeout)));
            }
        }
        Kind::Session(session) => {
            for (name, value) in session_fields(session) {
                set(name, value);
            }
        }
    }
    let restart = &workload.restart;
    set(
        "restart",
        json!({
            "policy": word_of(POLICIES, &restart.policy),
            "delay": whole_duration(restart.delay),
            "delay_max": whole_duration(restart.delay_max),
            "reset_after": whole_duration(restart.reset_after),
        }),
    );
    if let Some(most) = restart.restarts_max {
        fields["restart"]["max"] = json!(most);
    }
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set(
        "stop",
        json!({
            "signal": signal_json(workload.stop.signal),
            "grace": whole_duration(workload.stop.grace),
        }),
    );
    let constraints = workload.constraints.iter().map(ToString::to_string);
    set("constraints", json!(constraints.collect::<Vec<_>>()));
    set("labels", json!(workload.labels));
    let files = workload.process.files.iter().map(file);
    let files: Map<String, Value> = files.chain(sources.map(source)).collect();
    set("files", Value::Object(files));
    process_fields(&workload.process, &mut fields);
    fields
}

fn session_fields(session: &SessionSettings) -> Vec<(&'static str, Value)> {
    let time = |time: Option<DurationMs>| time.map(|time| json!(whole_duration(time)));
    let warnings = session.warnings.as_ref().map(|warnings| {
        let fields = [
            ("duration", time(warnings.before_duration)),
            ("idle", time(warnings.before_idle)),
            ("signal", warnings.signal.map(signal_json)),
            ("file", warnings.file.as_ref().map(|file| json!(file))),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(fields.collect())
    });
    let access = session.access.as_deref().map(|access| match access {
        Access::Public => json!("public"),
        Access::Token => json!("token"),
        Access::Forward { url } => json!({ "forward": url }),
    });
    let fields = [
        ("duration", time(session.duration_max)),
        ("duration_limit", time(session.duration_limit)),
        ("idle_timeout", time(session.idle_timeout)),
        ("idle_timeout_limit", time(session.idle_timeout_limit)),
        ("clients", session.clients_max.map(|most| json!(most))),
        ("client_grace", time(session.client_grace)),
        ("warnings", warnings),
        ("access", access),
        ("port", session.port.as_ref().map(|port| json!(port.as_str()))),
        ("queue_deadline", time(session.queue_deadline)),
        ("stale_period", time(session.stale_period)),
        ("key_lease", time(session.key_lease)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn readiness(ready: &Readiness) -> Value {
    match ready {
        Readiness::Port { port } => json!({ "port": port.as_str() }),
        Readiness::Http { path, port: None } => json!({ "http": path }),
        Readiness::Http { path, port: Some(port) } => {
            json!({ "http": path, "port": port.as_str() })
        }
        Readiness::Output { text } => json!({ "output": text }),
    }
}

fn process_fields(process: &Process, fields: &mut Map<String, Value>) {
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    if !process.run.is_empty() {
        set("run", json!(process.run));
    }
    set("env", json!(process.env));
    set("memory", json!(whole_bytes(process.memory)));
    let mut cpu = json!({ "reserved": process.cpu_reserved.to_string() });
    if let Some(max) = process.cpu_max {
        cpu["max"] = json!(max.to_string());
    }
    set("cpu", cpu);
    if let Some(disk) = process.disk_max {
        set("disk", json!(whole_bytes(disk)));
    }
    set("pids", json!(process.pids_max));
    let ports = process.ports.iter();
    let ports = ports.map(|port| json!({ "name": port.name.as_str(), "port": port.port }));
    set("ports", json!(ports.collect::<Vec<_>>()));
    set("network", json!(word_of(NETWORKS, &process.network)));
    if let Some(folder) = &process.working_directory {
        set("working_directory", json!(folder));
    }
    if let Some(ready) = &process.ready {
        set("ready", readiness(ready));
    }
    if let Some(stdin) = process.stdin {
        set("stdin", json!(stdin));
    }
}

fn file(file: &File) -> (String, Value) {
    let mode = octal(file.mode);
    let value = match std::str::from_utf8(&file.content) {
        Ok(text) => json!({ "content": text, "mode": mode }),
        Err(_) => json!({ "content_base64": STANDARD.encode(&file.content), "mode": mode }),
    };
    (file.path.clone(), value)
}

fn source(source: &FileSource) -> (String, Value) {
    let mut value = json!({ "source": source.source });
    if let Some(mode) = source.mode {
        value["mode"] = json!(octal(mode));
    }
    (source.path.clone(), value)
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}
