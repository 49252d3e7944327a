//! What an OCI runtime is told of a container (OCI runtime specification, config.md).

use super::root::Places;
use crate::shim::{AtStep, Failure, Process};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use spawnery_sandbox::limits::{
    HOST_ID_BASE, HOST_ID_COUNT, OOM_SCORE_ADJ, OPEN_FILES_HARD, OPEN_FILES_SOFT,
};
use spawnery_sandbox::spec::SandboxSpec;
use spawnery_sandbox::tool::{allowed_system_calls, hidden_of_proc};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What user 0 of a container may do in its own user namespace: what package managers and the
/// usual images need to change owners and to become other users.
pub(crate) const ROOT_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The period by which processor time is limited, in microseconds; what the kernel has by default.
pub(crate) const CPU_PERIOD_USEC: u64 = 100_000;
/// The kernel accepts no less (`min_cfs_quota_period`).
pub(crate) const CPU_QUOTA_USEC_MIN: u64 = 1_000;

/// The configuration of a container. `holder` is a process whose user and PID namespaces it joins;
/// without, it has new ones.
pub(super) fn container(
    instance: &str,
    spec: &SandboxSpec,
    process: &Process,
    places: &Places,
    holder: Option<u32>,
) -> Result<Value, Failure> {
    let ids = json!([{"containerID": 0, "hostID": HOST_ID_BASE, "size": HOST_ID_COUNT}]);
    let (masked, read_only) = hidden_of_proc();
    let devices = devices(spec.devices.as_deref().unwrap_or_default())?;
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": self::process(process),
        "root": {"path": places.root, "readonly": false},
        "hostname": spec.hostname,
        "mounts": mounts(spec.tmp_bytes_max),
        "linux": {
            "uidMappings": ids,
            "gidMappings": ids,
            "namespaces": namespaces(holder),
            "cgroupsPath": group(instance)?,
            "resources": resources(spec, &devices),
            "devices": devices,
            "maskedPaths": masked,
            "readonlyPaths": read_only,
            "seccomp": seccomp(),
        },
    }))
}

/// The name of the control groups, below those that the launcher made for the tool. In hierarchies
/// of version 1 in which it made none, all launchers' containers are side by side, hence the data
/// folder in the name.
fn group(instance: &str) -> Result<String, Failure> {
    let data = std::env::current_dir().at("find the data folder")?;
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    Ok(format!("spawnery-{:016x}-{instance}", hasher.finish()))
}

/// One process of a container, also a further one.
pub(super) fn process(process: &Process) -> Value {
    let user = &process.user;
    let capabilities = if user.uid == 0 { ROOT_CAPABILITIES } else { &[] };
    // Where this process may not raise its own limit, no more than that.
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(OPEN_FILES_HARD);
    json!({
        "terminal": false,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": process.argv,
        "env": process.env,
        "cwd": process.working_directory,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": files, "soft": OPEN_FILES_SOFT.min(files)},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        ],
        "noNewPrivileges": true,
        "oomScoreAdj": OOM_SCORE_ADJ,
    })
}

/// Not that of the network: the tool is in the one that the launcher made.
fn namespaces(holder: Option<u32>) -> Value {
    let new = |kind: &str| json!({"type": kind});
    let mut all: Vec<Value> = ["mount", "ipc", "uts", "cgroup"].map(new).into();
    for (kind, file) in [("user", "user"), ("pid", "pid")] {
        all.push(match holder {
            Some(pid) => json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
            None => new(kind),
        });
    }
    all.into()
}

fn mounts(tmp_bytes_max: u64) -> Value {
    let size = format!("size={tmp_bytes_max}");
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "noexec", "mode=755", "size=64k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "nodev", "mode=1777", size]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "nodev", "mode=1777", size]},
    ])
}

/// Device nodes of the host.
fn devices(paths: &[String]) -> Result<Vec<Value>, Failure> {
    paths.iter().map(|path| device(path)).collect()
}

fn device(path: &str) -> Result<Value, Failure> {
    let step = format!("look at the device {path}");
    let metadata = std::fs::metadata(path).at(&step)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(Failure::new(step, "it is no device")),
    };
    let number = metadata.rdev();
    Ok(json!({
        "type": kind,
        "path": path,
        "major": rustix::fs::major(number),
        "minor": rustix::fs::minor(number),
    }))
}

fn resources(spec: &SandboxSpec, devices: &[Value]) -> Value {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for device in devices {
        let (kind, major, minor) = (&device["type"], &device["major"], &device["minor"]);
        rules.push(json!({
            "allow": true, "type": kind, "major": major, "minor": minor, "access": "rw",
        }));
    }
    let mut resources = json!({"devices": rules});
    if let Some(bytes) = spec.memory_bytes {
        resources["memory"] = json!({"limit": bytes});
        // Memory and swap together: no more than memory alone, where the kernel counts swap.
        if swap_is_counted() {
            resources["memory"]["swap"] = json!(bytes);
        }
    }
    if let Some(max) = spec.pids_max {
        resources["pids"] = json!({"limit": max});
    }
    if let Some(millis) = spec.cpu_millis_max {
        let quota = (u64::from(millis) * CPU_PERIOD_USEC / 1000).max(CPU_QUOTA_USEC_MIN);
        resources["cpu"] = json!({"quota": quota, "period": CPU_PERIOD_USEC});
    }
    resources
}

fn swap_is_counted() -> bool {
    let version_1 = std::path::Path::new("/sys/fs/cgroup/memory");
    !version_1.exists() || version_1.join("memory.memsw.limit_in_bytes").exists()
}

/// The list of the process runtime. It cannot look at the arguments of `ioctl` as that one does,
/// because rules are joined by "or"; what is refused there concerns terminals, and a container gets
/// none from outside.
pub(crate) fn seccomp() -> Value {
    const ENOSYS: u32 = 38;
    /// The CLONE_NEW flags: of mounts, control groups, host name, IPC, users, processes, network.
    const NAMESPACES: u64 = 0x7e02_0000;
    let equal =
        |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let allow = |names: Value, args: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args});
    let mut rules = vec![
        allow(allowed_system_calls().chain(["ioctl"]).collect(), json!([])),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}),
        allow(
            json!(["clone"]),
            json!([{"index": 0, "value": NAMESPACES, "valueTwo": 0,
                    "op": "SCMP_CMP_MASKED_EQ"}]),
        ),
    ];
    // AF_UNIX, AF_INET, AF_INET6, and NETLINK_ROUTE of AF_NETLINK.
    for family in [1, 2, 10] {
        rules.push(allow(json!(["socket"]), json!([equal(0, family)])));
    }
    rules.push(allow(json!(["socket"]), json!([equal(0, 16), equal(2, 0)])));
    // Linux with its version numbers, and the query.
    for persona in [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow(json!(["personality"]), json!([equal(0, persona)])));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_sandbox::spec::UserSpec;

    fn config(spec: &SandboxSpec, uid: u32) -> Value {
        let process = Process {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            working_directory: "/".to_owned(),
            user: UserSpec { uid, gid: uid, groups: Vec::new() },
        };
        let places = Places { root: "/mnt/root".into(), tool: "/mnt/tool".into() };
        container("a", spec, &process, &places, Some(7)).expect("a configuration")
    }

    #[test]
    fn limits_become_resources() {
        let mut spec = SandboxSpec::new(["true"]);
        spec.memory_bytes = Some(1 << 20);
        spec.pids_max = Some(5);
        spec.cpu_millis_max = Some(1);
        let resources = &config(&spec, 1000)["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 1 << 20);
        assert_eq!(resources["pids"]["limit"], 5);
        assert_eq!(resources["cpu"]["quota"], CPU_QUOTA_USEC_MIN);
    }

    #[test]
    fn only_user_zero_has_capabilities_and_nobody_gains_any() {
        for (uid, count) in [(0, ROOT_CAPABILITIES.len()), (1000, 0)] {
            let process = &config(&SandboxSpec::new(["true"]), uid)["process"];
            let bounding = process["capabilities"]["bounding"].as_array().expect("a list");
            assert_eq!((bounding.len(), &process["noNewPrivileges"]), (count, &json!(true)));
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let mut spec = SandboxSpec::new(["true"]);
        for (path, works) in [("/dev/null", true), ("/etc/passwd", false), ("/dev/no", false)] {
            spec.devices = Some(vec![path.to_owned()]);
            assert_eq!(devices(spec.devices.as_deref().unwrap_or_default()).is_ok(), works);
        }
    }
}
