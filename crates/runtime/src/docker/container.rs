//! The container of an instance: what the engine is told.

use super::sweep::{LOCK_FILE, LOCK_LABEL};
use super::{Job, archive, image};
use crate::oci::config::{CPU_PERIOD_USEC, CPU_QUOTA_USEC_MIN, ROOT_CAPABILITIES, seccomp};
use crate::shim::{AtStep, Failure, Process, main_account, user};
use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountBindOptions, MountType, ResourcesUlimits,
};
use bollard::query_parameters::{
    AttachContainerOptions, ContainerArchiveInfoOptions, CreateContainerOptions,
    UploadToContainerOptions,
};
use spawnery_sandbox::accounts;
use spawnery_sandbox::limits::{OOM_SCORE_ADJ, OPEN_FILES_HARD, OPEN_FILES_SOFT};
use spawnery_sandbox::spec::{ExecSpec, MountSpec, Network, SandboxSpec};
use spawnery_sandbox::tool::hidden_of_proc;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Folder in memory in which secrets are handed to the engine.
const MEMORY: &str = "/dev/shm";

/// What the engine hides of `/sys` when it is not told what to hide: firmware, and how much power
/// is used, which tells what others compute.
const HIDDEN_OF_SYS: &[&str] = &["/sys/firmware", "/sys/devices/virtual/powercap"];

/// The name of an instance's container, which differs between data folders.
pub(super) fn name(job: &Job) -> Result<String, Failure> {
    let data = std::env::current_dir().at("find the data folder")?;
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    Ok(format!("spawnery-{:016x}-{}", hasher.finish(), job.instance))
}

/// The main process, or a further one.
pub(super) fn process(spec: &SandboxSpec, exec: Option<&ExecSpec>) -> Result<Process, Failure> {
    let passwd = image::text(spec, "/etc/passwd")?;
    let account = match exec.and_then(|exec| exec.user.as_deref()) {
        None => main_account(spec, &passwd),
        Some(written) => accounts::resolve(written, &passwd, &image::text(spec, "/etc/group")?)
            .at(&format!("find the user {written}"))?,
    };
    Ok(Process::new(spec, exec, &account))
}

/// Makes the container and gives its id.
pub(super) async fn create(
    docker: &Docker,
    job: &Job,
    spec: &SandboxSpec,
    image: &str,
) -> Result<String, Failure> {
    let process = process(spec, None)?;
    let lock = std::env::current_dir().at("find the data folder")?.join(job.dir()).join(LOCK_FILE);
    let labels = HashMap::from([(LOCK_LABEL.to_owned(), lock.display().to_string())]);
    let secrets = give_secrets(job, spec).at("write the secrets")?;
    let body = ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        user: Some(format!("{}:{}", process.user.uid, process.user.gid)),
        attach_stdin: Some(spec.stdin_pipe),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(spec.stdin_pipe),
        stdin_once: Some(spec.stdin_pipe),
        env: Some(process.env),
        cmd: Some(process.argv),
        image: Some(image.to_owned()),
        working_dir: Some(process.working_directory),
        labels: Some(labels),
        host_config: Some(host_config(spec, secrets)),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions { name: Some(name(job)?), ..Default::default() };
    let created = docker.create_container(Some(options), body).await;
    Ok(created.at("make the container")?.id)
}

fn host_config(spec: &SandboxSpec, secrets: Option<PathBuf>) -> HostConfig {
    let user = user(spec);
    let quota = spec.cpu_millis_max.map(|millis| {
        i64::try_from((u64::from(millis) * CPU_PERIOD_USEC / 1000).max(CPU_QUOTA_USEC_MIN))
            .unwrap_or(i64::MAX)
    });
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let capabilities = if user.uid == 0 { ROOT_CAPABILITIES } else { &[] };
    let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
    let tmp = format!("rw,nosuid,nodev,exec,mode=1777,size={}", spec.tmp_bytes_max);
    let (masked, read_only) = hidden_of_proc();
    let of_sys = HIDDEN_OF_SYS.iter().map(|path| (*path).to_owned());
    HostConfig {
        masked_paths: Some(masked.into_iter().chain(of_sys).collect()),
        readonly_paths: Some(read_only),
        memory: spec.memory_bytes.map(bytes),
        memory_swap: spec.memory_bytes.map(bytes),
        cpu_period: quota.map(|_| i64::try_from(CPU_PERIOD_USEC).unwrap_or(i64::MAX)),
        cpu_quota: quota,
        // One more for the engine's own first process.
        pids_limit: spec.pids_max.map(|max| i64::from(max) + 1),
        // So that signals do to the program what they do elsewhere.
        init: Some(true),
        network_mode: Some(if spec.network == Network::Host { "host" } else { "none" }.to_owned()),
        mounts: Some(mounts(spec, secrets)),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), tmp)])),
        shm_size: Some(bytes(spec.tmp_bytes_max)),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities.iter().map(|name| (*name).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", seccomp())]),
        group_add: Some(groups),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".to_owned()),
        oom_score_adj: Some(i64::from(OOM_SCORE_ADJ)),
        ulimits: Some(limits()),
        devices: Some(spec.devices.iter().flatten().map(|path| device(path)).collect()),
        ..HostConfig::default()
    }
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.to_owned()),
        path_in_container: Some(path.to_owned()),
        cgroup_permissions: Some("rw".to_owned()),
    }
}

fn limits() -> Vec<ResourcesUlimits> {
    use rustix::process::{Resource, getrlimit};
    // Where this machine allows less, no more than that.
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(OPEN_FILES_HARD);
    let limit = |name: &str, soft: u64, hard: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: i64::try_from(soft).ok(),
        hard: i64::try_from(hard).ok(),
    };
    vec![limit("nofile", OPEN_FILES_SOFT.min(hard), hard), limit("core", 0, 0)]
}

fn mounts(spec: &SandboxSpec, secrets: Option<PathBuf>) -> Vec<Mount> {
    let bind = |source: &str, target: &str, read_only: bool, recursive: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: (!recursive)
            .then(|| MountBindOptions { non_recursive: Some(true), ..Default::default() }),
        ..Mount::default()
    };
    let mut mounts = Vec::new();
    if spec.root.as_ref().is_none_or(|root| root.host) {
        for name in ["usr", "bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
            let host = format!("/{name}");
            if std::fs::symlink_metadata(&host).is_ok_and(|it| it.is_dir()) {
                mounts.push(bind(&host, &host, true, true));
            }
        }
    }
    for MountSpec { source, target, read_only } in spec.mounts.iter().flatten() {
        mounts.push(bind(source, target, *read_only, false));
    }
    if let Some(secrets) = secrets {
        mounts.push(bind(&secrets.display().to_string(), "/run/secrets", true, false));
    }
    mounts
}

/// The folder of an instance's secrets, in memory; the engine mounts what is in it.
fn secrets_dir(job: &Job) -> Option<PathBuf> {
    name(job).ok().map(|name| Path::new(MEMORY).join(name))
}

/// Writes secrets where the engine finds them, and no other user.
fn give_secrets(job: &Job, spec: &SandboxSpec) -> std::io::Result<Option<PathBuf>> {
    use std::io::Write;
    let secrets = spec.secret_files.as_deref().unwrap_or_default();
    let Some(outer) = secrets_dir(job).filter(|_| !secrets.is_empty()) else {
        return Ok(None);
    };
    let user = user(spec);
    let inner = outer.join("secrets");
    std::fs::DirBuilder::new().mode(0o700).create(&outer)?;
    std::fs::DirBuilder::new().mode(0o700).create(&inner)?;
    for secret in secrets {
        let path = inner.join(&secret.name);
        let mut file =
            std::fs::File::options().write(true).create_new(true).mode(0o400).open(&path)?;
        file.write_all(&secret.bytes)?;
        chown(&path, Some(user.uid), Some(user.gid))?;
    }
    chown(&inner, Some(user.uid), Some(user.gid))?;
    Ok(Some(inner))
}

/// Removes the secrets from memory.
pub(super) fn remove_secrets(job: &Job) {
    if let Some(dir) = secrets_dir(job) {
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// The files of the instance, as an archive of its root.
pub(super) fn files(spec: &SandboxSpec) -> Result<Option<Vec<u8>>, Failure> {
    if spec.files.is_empty() {
        return Ok(None);
    }
    if let Some(file) = spec.files.iter().find(|file| file.path.starts_with("/tmp/")) {
        let step = format!("write {}", file.path);
        return Err(Failure::new(step, "/tmp is made when the container starts; choose /var/tmp"));
    }
    let user = user(spec);
    archive::of_files(&spec.files, (user.uid, user.gid)).at("pack the files").map(Some)
}

/// Puts an archive into the container's root.
pub(super) async fn upload(
    docker: &Docker,
    name: &str,
    archive: Option<Vec<u8>>,
) -> Result<(), Error> {
    let Some(archive) = archive else {
        return Ok(());
    };
    let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
    docker.upload_to_container(name, Some(options), bollard::body_full(archive.into())).await
}

/// The streams of the main process.
pub(super) async fn attach(
    docker: &Docker,
    name: &str,
    stdin: bool,
) -> Result<AttachContainerResults, Error> {
    let options = AttachContainerOptions {
        stream: true,
        stdin,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    docker.attach_container(name, Some(options)).await
}

/// Looks whether the program is there, because the engine's first process would only say so in the
/// output, after the start.
pub(super) async fn find_program(
    docker: &Docker,
    name: &str,
    process: &Process,
) -> Result<(), Failure> {
    let program = process.argv.first().map_or("", String::as_str);
    let candidates: Vec<String> = if program.starts_with('/') {
        vec![program.to_owned()]
    } else if program.contains('/') {
        vec![format!("{}/{program}", process.working_directory)]
    } else {
        let path = process.env.iter().find_map(|it| it.strip_prefix("PATH=")).unwrap_or_default();
        path.split(':')
            .filter(|dir| !dir.is_empty())
            .map(|dir| format!("{dir}/{program}"))
            .collect()
    };
    for path in candidates {
        let options = Some(ContainerArchiveInfoOptions { path });
        match docker.get_container_archive_info(name, options).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            // It is there, or the start will tell.
            _ => return Ok(()),
        }
    }
    let place = if program.contains('/') { "not found" } else { "not found in PATH" };
    Err(Failure::new(format!("run `{program}`"), format!("cannot run `{program}`: {place}")))
}
