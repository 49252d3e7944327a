//! Instances whose tool isolates by itself (`SandboxSpec::unisolated`).

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::core::Launcher;
use super::sandbox::{
    Phase, Sandbox, SecretEnv, SpawnError, Workshop, at, kill, kill_and_reap, make_dirs,
};
use super::store::SPARES_DIR;
use crate::cgroup::Group;
use crate::init::control::{self, Container, ToInit};
use crate::init::{self, Plan};
use crate::kind::Kind;
use crate::limits::{GROUPS_MAX, LOG_BYTES_MAX_DEFAULT, TOOL_END_MS_MAX, TOOL_START_MS_MAX};
use crate::log::LogWriter;
use crate::spec::UserSpec;
use crate::sys::{self, Cloned};
use crate::tool::{KILL, OUT_OF_MEMORY_FILE, SUSPEND};

/// What is particular to the instance of a tool.
#[derive(Debug, Default)]
pub(crate) struct ToolState {
    /// Whether it was asked to end what it has elsewhere.
    asked_to_end: bool,
}

impl Workshop {
    /// Makes the folder `dir` and starts an init for a tool in it.
    pub(crate) fn spawn_tool(
        &self,
        number: u64,
        dir: &Path,
        kind: Kind,
    ) -> Result<Sandbox, SpawnError> {
        at("make the folder of the instance", make_dirs(dir, &self.rootfs))?;
        let mut log = LogWriter::new(dir.join("log/0"), LOG_BYTES_MAX_DEFAULT);
        at("make the log", log.prepare())?;
        let group = self.cgroups.create(&format!("{}-{number}", self.run_name));
        let group = at("make the control group", group)?;
        let started = self.start_tool_init(dir, &kind, &group);
        let (init_pid, init, control) = started.inspect_err(|_| group.remove())?;
        Ok(Sandbox {
            dir: dir.to_owned(),
            instance: None,
            kind,
            init_pid,
            init,
            control,
            group: Some(group),
            phase: Phase::SettingUp(None),
            starter: None,
            failure: None,
            tag: Vec::new(),
            started_ms: 0,
            processes: BTreeMap::new(),
            dials: BTreeMap::new(),
            kill_at: Some(Instant::now() + Duration::from_millis(TOOL_START_MS_MAX)),
            watched_memory_bytes: None,
            project: None,
            watched_disk_bytes: None,
            secret_env: SecretEnv::default(),
            over_memory: false,
            // What it has elsewhere is not known here.
            ends_first: true,
            tokens: [0; 2],
            maker: None,
            main_log: Some(log),
            network: None,
            limit: None,
            tool: Some(ToolState::default()),
        })
    }

    fn start_tool_init(
        &self,
        dir: &Path,
        kind: &Kind,
        group: &Group,
    ) -> Result<(u32, OwnedFd, OwnedFd), SpawnError> {
        let family = AddressFamily::UNIX;
        let pair = socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = at("make a socket pair", pair)?;
        let join_files = at("open the control group", group.join_files(true))?;
        // Without root a user namespace gives the right to make the others.
        let user = if self.rootfs.rootful { 0 } else { libc::CLONE_NEWUSER };
        let cloned = sys::clone_process(user | libc::CLONE_NEWPID, None);
        match at("make the namespaces", cloned)? {
            Cloned::Child => init::run(Plan {
                rootfs: &self.rootfs,
                filter: &self.filter,
                layer_dir: dir.join("layer"),
                join_files,
                kind,
                isolated: false,
                devices: Vec::new(),
                disk: None,
                control: theirs,
            }),
            Cloned::Parent { pid, pidfd } => {
                let ready = self.map_own_ids(pid).and_then(|()| {
                    rustix::io::ioctl_fionbio(&ours, true)?;
                    control::send(&ours, &ToInit::Mapped, &[])
                });
                if let Err(error) = ready {
                    let _ = kill_and_reap(&pidfd);
                    return Err(SpawnError { step: "map the user ids", error });
                }
                Ok((pid, pidfd, ours))
            }
        }
    }

    /// The launcher's own ids, so that a tool can use what its user may use.
    fn map_own_ids(&self, pid: u32) -> std::io::Result<()> {
        if self.rootfs.rootful {
            return Ok(());
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {uid} 1\n"))?;
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {gid} 1\n"))
    }
}

/// Ends all of a sandbox: at once, or, if a tool has something to end elsewhere, after it had the
/// time for it.
pub(crate) fn end(sandbox: &mut Sandbox) {
    let runs = sandbox.processes.get(&0).is_some_and(|main| main.pid.is_some());
    let Some(tool) = sandbox.tool.as_mut().filter(|tool| runs && !tool.asked_to_end) else {
        let _ = kill(&sandbox.init);
        sandbox.kill_at = None;
        return;
    };
    tool.asked_to_end = true;
    let signal = ToInit::Signal { process: 0, signal: KILL };
    if control::send(&sandbox.control, &signal, &[]).is_ok() {
        sandbox.kill_at = Some(Instant::now() + Duration::from_millis(TOOL_END_MS_MAX));
    } else {
        let _ = kill(&sandbox.init);
        sandbox.kill_at = None;
    }
}

/// The signal that is sent in the place of `signal`.
pub(crate) fn substitute(sandbox: &Sandbox, signal: i32) -> i32 {
    match signal {
        libc::SIGKILL if sandbox.tool.is_some() => KILL,
        libc::SIGSTOP if sandbox.tool.is_some() => SUSPEND,
        signal => signal,
    }
}

/// Opens a process that is no descendant of ours.
pub(crate) fn open(pid: u32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// The container in which the process `pid` runs, with its namespaces of users, if it has one of its
/// own, and of mounts. The error is the reason why nothing can be done in it from here.
pub(crate) fn container(pid: u32) -> Result<(Container, Vec<OwnedFd>), String> {
    let unreachable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "files in a container need an agent with root".to_owned()
        }
        _ => format!("its container cannot be entered: {error}"),
    };
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}"));
    let its = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let open = |kind: &str| fs::File::open(format!("/proc/{pid}/ns/{kind}")).map(OwnedFd::from);
    let mut namespaces = Vec::new();
    if own("user").map_err(unreachable)? != its("user").map_err(unreachable)? {
        namespaces.push(open("user").map_err(unreachable)?);
    }
    namespaces.push(open("mnt").map_err(unreachable)?);
    let root = fs::metadata(format!("/proc/{pid}/root/")).map_err(unreachable)?;
    let ours = fs::metadata("/").map_err(unreachable)?;
    let identity = |it: &fs::Metadata| (it.dev(), it.ino());
    if identity(&root) == identity(&ours) {
        let reason = "its runtime keeps its files where they cannot be reached from outside; use a \
                      command in it";
        return Err(reason.to_owned());
    }
    let user = user_of(pid).map_err(unreachable)?;
    Ok((Container { user, root: identity(&root) }, namespaces))
}

/// As whom a process runs, as it sees itself.
fn user_of(pid: u32) -> std::io::Result<UserSpec> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let (status, uids, gids) = (read("status")?, read("uid_map")?, read("gid_map")?);
    let ids = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let missing = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    // Real, effective, saved, of files: proc_pid_status(5).
    let uid = ids("Uid:").get(1).and_then(|id| inside(*id, &uids)).ok_or_else(missing)?;
    let gid = ids("Gid:").get(1).and_then(|id| inside(*id, &gids)).ok_or_else(missing)?;
    let groups = ids("Groups:").into_iter().filter_map(|id| inside(id, &gids));
    Ok(UserSpec { uid, gid, groups: groups.take(GROUPS_MAX).collect() })
}

/// What an id of ours is inside, by a map of ids (`user_namespaces(7)`).
fn inside(id: u32, map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside) = (fields.next()?.ok()?, fields.next()?.ok()?);
        let count = fields.next()?.ok()?;
        let offset = id.checked_sub(outside)?;
        (offset < count).then(|| inside.checked_add(offset)).flatten()
    })
}

/// Whether the tool of a sandbox says that memory was used up.
pub(crate) fn is_out_of_memory(sandbox: &Sandbox) -> bool {
    sandbox.tool.is_some() && sandbox.dir.join(OUT_OF_MEMORY_FILE).exists()
}

impl Launcher {
    /// Makes the surroundings of a tool and returns their number.
    pub(super) fn spawn_tool(&mut self, kind: Kind) -> Result<u64, SpawnError> {
        let number = self.token();
        let dir = Path::new(SPARES_DIR).join(number.to_string());
        let sandbox = self.workshop.spawn_tool(number, &dir, kind)?;
        self.watch_sandbox(number, sandbox)
    }

    /// The main process is another program's child: lets the init see what network it has, so
    /// that ports are found there.
    pub(super) fn join_network_of(&mut self, number: u64, pid: u32) {
        let Some(sandbox) = self.sandboxes.get(&number) else {
            return;
        };
        if let Ok(network) = fs::File::open(format!("/proc/{pid}/ns/net")) {
            let _ = control::send(&sandbox.control, &ToInit::JoinNetwork, &[network.as_fd()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_by_their_map() {
        let map = "         0 1879048192      65536\n 70000 5 1\n";
        let check = |id, expected| assert_eq!(inside(id, map), expected, "{id}");
        check(1_879_048_192, Some(0));
        check(1_879_049_192, Some(1000));
        check(5, Some(70_000));
        check(6, None);
        assert_eq!(inside(7, "0 0 4294967295"), Some(7));
        assert_eq!(inside(7, "rubbish"), None);
    }
}
