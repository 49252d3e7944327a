//! Instances on disk. Every path is relative to the data folder or below a given one.
//!
//! | path | what |
//! |---|---|
//! | `instances/ID/meta` | written before the start |
//! | `instances/ID/failed` | the start failed |
//! | `instances/ID/process-N` | what is known of the further process N, written before its start |
//! | `instances/ID/exit-N` | process N ended |
//! | `instances/ID/log/N/` | output of process N |
//! | `instances/ID/layer/` | private writable layers |
//! | `spares/N/` | the same for a prepared sandbox, renamed when an instance takes it |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use super::core::now_ms;
use crate::limits::{PROCESS_WORDS_BYTES_MAX, PROCESSES_LISTED_MAX};
use crate::protocol::{InstanceInfo, InstanceState, ProcessDescription, ProcessInfo};
use crate::spec::{ExecSpec, Exit, is_instance_id};

/// Folder of all instances.
pub(crate) const INSTANCES_DIR: &str = "instances";
/// Folder of prepared sandboxes.
pub(crate) const SPARES_DIR: &str = "spares";

/// Folder with the log of a process; read it with [`crate::log::LogReader`].
pub fn log_dir(data: &Path, instance: &str, process: u32) -> PathBuf {
    data.join(INSTANCES_DIR).join(instance).join("log").join(process.to_string())
}

/// What is known of an instance before it starts.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Meta {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) tag: Vec<u8>,
    #[n(1)]
    pub(crate) started_ms: u64,
}

/// Why a start failed.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Failure {
    #[n(0)]
    pub(crate) step: String,
    #[n(1)]
    pub(crate) reason: String,
}

/// What is known of a further process before it starts.
#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ProcessMeta {
    #[n(0)]
    argv: Vec<String>,
    #[n(1)]
    started_ms: u64,
    #[n(2)]
    terminal: bool,
}

impl ProcessMeta {
    /// What is kept of a process that is about to be started.
    pub(crate) fn new(spec: &ExecSpec) -> Self {
        let (mut argv, mut left) = (Vec::new(), PROCESS_WORDS_BYTES_MAX);
        for word in &spec.argv {
            let Some(rest) = left.checked_sub(word.len() + 1) else {
                argv.push("…".to_owned());
                break;
            };
            left = rest;
            argv.push(word.clone());
        }
        Self { argv, started_ms: now_ms(), terminal: spec.terminal.is_some() }
    }
}

/// Folder of an instance.
pub(crate) fn instance_dir(instance: &str) -> PathBuf {
    Path::new(INSTANCES_DIR).join(instance)
}

/// Whether the id was ever used.
pub(crate) fn exists(instance: &str) -> bool {
    fs::symlink_metadata(instance_dir(instance)).is_ok()
}

/// Writes what is known before the start.
pub(crate) fn save_meta(dir: &Path, meta: &Meta) -> io::Result<()> {
    fs::write(dir.join("meta"), encode(meta))
}

/// Writes how a process ended, so that a reader sees all of it or nothing.
pub(crate) fn save_exit(dir: &Path, process: u32, exit: &Exit) -> io::Result<()> {
    save(dir, &format!("exit-{process}"), &encode(exit))
}

/// Writes what is known of a further process before its start.
pub(crate) fn save_process(dir: &Path, process: u32, meta: &ProcessMeta) -> io::Result<()> {
    fs::write(dir.join(format!("process-{process}")), encode(meta))
}

/// Removes what is known of a further process that was not started.
pub(crate) fn remove_process(dir: &Path, process: u32) {
    let _ = fs::remove_file(dir.join(format!("process-{process}")));
    let _ = fs::remove_dir_all(dir.join("log").join(process.to_string()));
}

/// The latest processes of an instance, with all that is known of them.
pub(crate) fn describe_processes(instance: &str) -> Vec<ProcessDescription> {
    let dir = instance_dir(instance);
    let numbers = process_numbers(&dir);
    let first = numbers.len().saturating_sub(PROCESSES_LISTED_MAX);
    let describe = |process: &u32| {
        let meta: Option<ProcessMeta> = match process {
            0 => None,
            process => load(&dir.join(format!("process-{process}"))),
        };
        let meta = meta.unwrap_or_else(|| ProcessMeta {
            started_ms: load::<Meta>(&dir.join("meta")).map_or(0, |meta| meta.started_ms),
            ..ProcessMeta::default()
        });
        let ProcessMeta { argv, started_ms, terminal } = meta;
        let exit = load(&dir.join(format!("exit-{process}")));
        ProcessDescription { process: *process, argv, started_ms, terminal, exit }
    };
    numbers.get(first..).unwrap_or_default().iter().map(describe).collect()
}

/// Writes why the start failed.
pub(crate) fn save_failure(dir: &Path, failure: &Failure) -> io::Result<()> {
    save(dir, "failed", &encode(failure))
}

fn save(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, dir.join(name))
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to a Vec cannot fail")
}

fn load<T: for<'b> Decode<'b, ()>>(path: &Path) -> Option<T> {
    minicbor::decode(&fs::read(path).ok()?).ok()
}

/// Ids of all instances, in their order.
pub(crate) fn instances() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(INSTANCES_DIR)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_instance_id(name)));
    }
    names.sort_unstable();
    Ok(names)
}

/// What the disk says of an instance that does not run now.
pub(crate) fn info(instance: &str) -> InstanceInfo {
    let dir = instance_dir(instance);
    let meta: Option<Meta> = load(&dir.join("meta"));
    let processes = processes(&dir);
    let main = processes.iter().find(|it| it.process == 0).and_then(|it| it.exit.clone());
    let state = match (main, load::<Failure>(&dir.join("failed"))) {
        (Some(exit), _) => InstanceState::Ended { exit },
        (None, Some(Failure { step, reason })) => InstanceState::Failed { step, reason },
        (None, None) => InstanceState::Lost,
    };
    let (tag, started_ms) = meta.map_or((Vec::new(), 0), |meta| (meta.tag, meta.started_ms));
    InstanceInfo { instance: instance.to_owned(), tag, started_ms, state, processes, note: None }
}

/// All processes that an instance ever had.
fn processes(dir: &Path) -> Vec<ProcessInfo> {
    let exit = |process: u32| load(&dir.join(format!("exit-{process}")));
    let numbers = process_numbers(dir).into_iter();
    numbers.map(|process| ProcessInfo { process, exit: exit(process) }).collect()
}

fn process_numbers(dir: &Path) -> Vec<u32> {
    let mut numbers: Vec<u32> = fs::read_dir(dir.join("log"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Removes all of a folder, also what a workload has made unreadable for everybody else.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir);
            fs::remove_dir_all(dir)
        }
        result => result,
    }
}

/// Gives the owner back access to each folder. Overlays leave a work folder of mode 0.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
