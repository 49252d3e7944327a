//! From the model to what the launcher takes, and back.

use crate::prepared::{Prepared, Warm};
use crate::process::index::Main;
use crate::runtime::ProcessState;
use minicbor::{Decode, Encode};
use spawnery_model::{
    Exit, Id, InstanceId, LimitReached, Network, Notice, Process, RuntimeKind, StartOrder,
    Timestamp, quantity::DurationMs,
};
use spawnery_node::{Found, Noted};
use spawnery_sandbox::limits::{POOLED_MAX, POOLS_MAX};
use spawnery_sandbox::protocol::{InstanceInfo, InstanceState, ProcessDescription, WarmSpec};
use spawnery_sandbox::spec::{self, EgressRule, EgressSpec, FileSpec, LeaseSpec, SandboxSpec};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is said of an instance whose launcher ended before it.
const LAUNCHER_DIED: &str = "its launcher died";

/// The sandbox for an instance.
pub(super) fn sandbox(
    instance: InstanceId,
    order: &StartOrder,
    prepared: &Prepared,
) -> SandboxSpec {
    let process = &order.process;
    let mut spec = SandboxSpec::new(process.run.iter().cloned());
    spec.env = environment(instance, order);
    spec.working_directory.clone_from(&process.working_directory);
    spec.hostname = order.workload.to_string();
    spec.memory_bytes = Some(process.memory.0);
    spec.cpu_millis_max = process.cpu_max.map(|cpu| cpu.0);
    spec.pids_max = Some(process.pids_max);
    spec.network = match process.network {
        Network::None => spec::Network::None,
        Network::Host => spec::Network::Host,
        Network::Private => spec::Network::Private,
    };
    spec.files = process.files.iter().map(file).collect();
    spec.stdin_pipe = process.stdin == Some(true);
    spec.tag = tag(order);
    spec.disk_bytes_max = process.disk_max.map(|disk| disk.0);
    surround(&mut spec, order, prepared);
    spec
}

/// What the instance finds around its process.
fn surround(spec: &mut SandboxSpec, order: &StartOrder, prepared: &Prepared) {
    let given = |list: bool| list.then_some(());
    spec.root.clone_from(&prepared.root);
    spec.user.clone_from(&prepared.user);
    spec.mounts = given(!prepared.mounts.is_empty()).map(|()| prepared.mounts.clone());
    let (files, env) = (&prepared.secret_files, &prepared.secret_env);
    spec.secret_files = given(!files.is_empty()).map(|()| files.clone());
    spec.secret_env = given(!env.is_empty()).map(|()| env.clone());
    let Some(surroundings) = &order.surroundings else {
        return;
    };
    let devices = &surroundings.devices;
    spec.devices = given(!devices.is_empty()).map(|()| devices.clone());
    if order.process.network == Network::Private {
        spec.egress = Some(egress(&surroundings.egress));
    }
}

/// The sandboxes that the launcher is to keep ready: as many as it takes. Other runtimes have
/// none.
pub(super) fn pools(pools: &[Warm]) -> Vec<WarmSpec> {
    let mut left = POOLED_MAX;
    let sandboxed = pools.iter().filter(|warm| {
        let kind = warm.order.surroundings.as_ref().map(|it| it.runtime);
        kind.unwrap_or_default() == RuntimeKind::Process
    });
    let pool = |warm: &Warm| {
        let count = warm.count.min(left);
        left -= count;
        // Nothing that is set up ahead depends on who it is for.
        let nobody = InstanceId(Id::from_bits(0));
        let spec = Box::new(sandbox(nobody, &warm.order, &warm.prepared));
        (count > 0).then_some(WarmSpec { spec, count })
    };
    sandboxed.filter_map(pool).take(POOLS_MAX).collect()
}

fn egress(egress: &spawnery_model::Egress) -> EgressSpec {
    let rule = |rule: &spawnery_model::EgressRule| EgressRule {
        allow: rule.allow,
        block: rule.block.clone(),
        ports: rule.ports,
    };
    EgressSpec {
        rules: egress.rules.iter().map(rule).collect(),
        names: egress.names.clone(),
        deny_by_default: egress.deny_by_default,
        transfer_bytes_max: egress.transfer_max.map(|bytes| bytes.0),
    }
}

fn file(file: &spawnery_model::File) -> FileSpec {
    FileSpec { path: file.path.clone(), mode: file.mode, bytes: file.content.clone() }
}

/// The variables of the manifest, and those that say who the instance is where it does not.
pub(super) fn environment(instance: InstanceId, order: &StartOrder) -> Vec<(String, String)> {
    let Process { env, ports, .. } = &order.process;
    let port = ports.first().map(|port| ("PORT", port.port.to_string()));
    let added = [
        ("SPAWNERY_INSTANCE", instance.to_string()),
        ("SPAWNERY_WORKLOAD", order.workload.to_string()),
        ("SPAWNERY_EPOCH", order.epoch.to_string()),
    ];
    let session = order.session.as_ref();
    let key = session.and_then(|it| it.key.as_ref()).map(|key| ("SPAWNERY_KEY", key.to_string()));
    let added = added.into_iter().chain(port).chain(key);
    let added = added.filter(|(name, _)| !env.contains_key(*name));
    let added = added.map(|(name, value)| (name.to_owned(), value));
    let given = env.iter().map(|(name, value)| (name.clone(), value.clone()));
    added.chain(given).collect()
}

/// What the launcher keeps for the next agent. Without the files, which are of no use after the
/// start and may be large.
fn tag(order: &StartOrder) -> Vec<u8> {
    let mut order = order.clone();
    order.process.files.clear();
    minicbor::to_vec(&order).expect("writing to memory does not fail")
}

/// The order that an instance was started with, if this runtime started it.
pub(super) fn order(info: &InstanceInfo) -> Option<(InstanceId, StartOrder)> {
    let instance = info.instance.parse().ok()?;
    Some((instance, minicbor::decode(&info.tag).ok()?))
}

/// What the agent is told of an instance that the launcher has.
pub(super) fn found(info: &InstanceInfo) -> Option<Found> {
    let (instance, order) = order(info)?;
    let pid = match info.state {
        // 0: it is still being started.
        InstanceState::Running { pid, .. } if pid != 0 => Some(pid),
        _ => None,
    };
    let noted = info.note.as_deref().map(noted).unwrap_or_default();
    Some(Found { instance, order: Box::new(order), pid, exit: state_exit(&info.state), noted })
}

/// When the launcher ends an instance by itself, if it does.
pub(super) fn lease(order: &StartOrder, heard_ms: u64) -> Option<LeaseSpec> {
    let lasts = order.session.as_ref()?.lease?;
    Some(LeaseSpec {
        lasts_ms: lasts.0,
        heard_ms,
        stop_signal: order.stop.signal,
        grace_ms: order.stop.grace.0,
    })
}

/// What is remembered of an instance, as the launcher keeps it.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Note {
    #[n(0)]
    ready: bool,
    #[n(1)]
    notices: Vec<Notice>,
}

pub(super) fn note(noted: &Noted) -> Vec<u8> {
    let note = Note { ready: noted.ready, notices: noted.notices.clone() };
    minicbor::to_vec(note).expect("writing to memory does not fail")
}

/// What was remembered; nothing, if another version of this program wrote it in another way.
fn noted(note: &[u8]) -> Noted {
    let note = minicbor::decode(note).map(|Note { ready, notices }| Noted { ready, notices });
    note.unwrap_or_default()
}

/// How an instance ended, if it did.
pub(super) fn state_exit(state: &InstanceState) -> Option<Exit> {
    match state {
        InstanceState::Running { .. } => None,
        InstanceState::Ended { exit } => Some(self::exit(exit)),
        InstanceState::Lost => Some(lost()),
        InstanceState::Failed { step, reason } => {
            Some(Exit { failure: Some(start_failure(step, reason)), at: now(), ..Exit::default() })
        }
    }
}

/// How a process ended.
pub(super) fn exit(exit: &spec::Exit) -> Exit {
    Exit {
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.oom,
        failure: None,
        at: Timestamp(exit.at_ms),
        last_output: String::from_utf8_lossy(&exit.last_output).into_owned(),
        lost: false,
        limit: exit.limit.map(|limit| match limit {
            spec::LimitReached::Disk => LimitReached::Disk,
            spec::LimitReached::Transfer => LimitReached::Transfer,
            spec::LimitReached::KeyLease => LimitReached::KeyLease,
            spec::LimitReached::Time => LimitReached::Time,
        }),
    }
}

/// One process, of which the launcher does not know everything if it is the main one.
pub(super) fn process_state(found: ProcessDescription, main: &Main) -> ProcessState {
    let is_main = found.process == 0;
    let told = found.exit.as_ref().map(exit);
    ProcessState {
        process: found.process,
        run: if is_main { main.run.clone() } else { found.argv },
        terminal: found.terminal,
        started_at: Timestamp(found.started_ms),
        // What ended with its launcher, or without a word, ended as the main process did.
        exit: told.or_else(|| main.exit.clone()),
    }
}

/// The end of an instance whose launcher died.
pub(super) fn lost() -> Exit {
    Exit { failure: Some(LAUNCHER_DIED.to_owned()), at: now(), lost: true, ..Exit::default() }
}

/// Why a start failed, in one sentence.
pub(super) fn start_failure(step: &str, reason: &str) -> String {
    format!("{step}: {reason}")
}

/// The time of an end that nobody saw: when it was noticed.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp(0).plus(DurationMs(u64::try_from(ms).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::{Bytes, CpuMillis, Id, Name, Port, SessionOrder, Stop, WarningCause};
    use std::collections::BTreeMap;

    fn order_with(env: &[(&str, &str)], port: Option<u16>) -> StartOrder {
        let name = Name::new("web").expect("a name");
        let env = env.iter();
        let ports = port.map(|port| Port { name: name.clone(), port });
        StartOrder {
            workload: name.clone(),
            epoch: 3,
            process: Process {
                run: vec!["true".to_owned()],
                env: env.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                memory: Bytes::mib(64),
                cpu_reserved: CpuMillis(100),
                cpu_max: Some(CpuMillis(500)),
                disk_max: None,
                pids_max: 10,
                ports: ports.into_iter().collect(),
                working_directory: None,
                network: Network::None,
                files: vec![spawnery_model::File {
                    path: "/etc/motd".to_owned(),
                    mode: 0o644,
                    content: b"hello".to_vec(),
                }],
                stdin: None,
                ready: None,
            },
            stop: Stop { signal: 15, grace: DurationMs(1000) },
            surroundings: None,
            session: None,
        }
    }

    fn instance() -> InstanceId {
        InstanceId(Id::from_bits(7))
    }

    #[test]
    fn an_instance_is_told_who_it_is_unless_its_manifest_says_otherwise() {
        let check = |env: &[(&str, &str)], port, name: &str, value: Option<&str>| {
            let order = order_with(env, port);
            let variables = environment(instance(), &order);
            let unique: BTreeMap<_, _> = variables.iter().cloned().collect();
            assert_eq!(unique.len(), variables.len(), "{name}");
            assert_eq!(unique.get(name).map(String::as_str), value, "{name}");
        };
        check(&[], None, "SPAWNERY_INSTANCE", Some("0000000000000007"));
        check(&[], None, "SPAWNERY_WORKLOAD", Some("web"));
        check(&[], None, "SPAWNERY_EPOCH", Some("3"));
        check(&[], None, "PORT", None);
        check(&[], Some(8080), "PORT", Some("8080"));
        check(&[("PORT", "9")], Some(8080), "PORT", Some("9"));
        check(&[("SPAWNERY_EPOCH", "x")], None, "SPAWNERY_EPOCH", Some("x"));
        check(&[("A", "b")], None, "A", Some("b"));
        check(&[], None, "SPAWNERY_KEY", None);
    }

    #[test]
    fn a_session_with_a_key_is_told_which_and_ends_without_renewals() {
        let mut order = order_with(&[], None);
        assert_eq!(lease(&order, 7), None);
        order.session = Some(Box::new(SessionOrder {
            key: Some(Name::new("alice").expect("a name")),
            lease: Some(DurationMs(20_000)),
            notices: Vec::new(),
        }));
        let variables = environment(instance(), &order);
        assert!(variables.contains(&("SPAWNERY_KEY".to_owned(), "alice".to_owned())));
        let expected = LeaseSpec { lasts_ms: 20_000, heard_ms: 7, stop_signal: 15, grace_ms: 1000 };
        assert_eq!(lease(&order, 7), Some(expected));
    }

    #[test]
    fn a_new_agent_finds_the_order_again_but_for_its_files() {
        let order = order_with(&[("A", "b")], Some(80));
        let spec = sandbox(instance(), &order, &Prepared::default());
        assert_eq!(spec.files.len(), 1);
        let notice = Notice {
            cause: WarningCause::Idle,
            ends_at: Timestamp(5),
            signal: Some(10),
            file: None,
        };
        let noted = Noted { ready: true, notices: vec![notice] };
        assert_eq!(spec.check(), Ok(()));
        let info = InstanceInfo {
            instance: instance().to_string(),
            tag: spec.tag,
            started_ms: 0,
            state: InstanceState::Running { init_pid: 4, pid: 5 },
            processes: Vec::new(),
            note: Some(note(&noted)),
        };
        let found = found(&info).expect("it has a tag");
        assert_eq!(found.noted, noted);
        let mut expected = order;
        expected.process.files.clear();
        assert_eq!((found.instance, found.pid, found.exit), (instance(), Some(5), None));
        assert_eq!(*found.order, expected);
    }

    #[test]
    fn what_the_launcher_cannot_follow_to_its_end_is_lost() {
        let exit = state_exit(&InstanceState::Lost).expect("an end");
        assert!(exit.lost && exit.failure.is_some());
        let failed =
            InstanceState::Failed { step: "run x".to_owned(), reason: "not found".to_owned() };
        let exit = state_exit(&failed).expect("an end");
        assert_eq!((exit.lost, exit.failure.as_deref()), (false, Some("run x: not found")));
    }
}
