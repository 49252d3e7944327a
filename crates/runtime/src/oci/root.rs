//! The root of a container: the layers under a private one, as the sandbox of the process runtime
//! has it. It is mounted in a mount namespace that only the instance's tool shares.

use crate::shim::inside::{Inside, place_of, through};
use crate::shim::{AtStep, Failure, Work, user};
use rustix::mount::{MountFlags, mount, mount_remount};
use spawnery_sandbox::limits::HOST_ID_BASE;
use spawnery_sandbox::spec::{FileSpec, MountSpec, Network, RootSpec, SandboxSpec, SecretFile};
use spawnery_sandbox::tool::{PRIVATE_RESOLV_CONF, bind, shared_folders};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

/// Folders over which a file system in memory can be mounted, because nothing needs them: the first
/// that no mount of the instance comes from. The data folder will not do, because the root of the
/// container's user namespace may not pass through it.
const PLACES: &[&str] = &["/mnt", "/media", "/opt", "/srv"];

/// Bytes in memory for what the tool itself writes: configuration, state and logs.
const TOOL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes in memory for secrets: what a cluster keeps of them for one instance is far less.
const SECRETS_BYTES_MAX: u64 = 1024 * 1024;

/// File in the instance's folder that names the place, for further processes.
const PLACE_FILE: &str = "place";

/// Where everything of a container is.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The root.
    pub(super) root: PathBuf,
    /// Configuration and state, for root only.
    pub(super) tool: PathBuf,
}

impl Places {
    fn at(place: &Path) -> Self {
        Self { root: place.join("root"), tool: place.join("tool") }
    }

    /// Those that the main process's tool has made.
    pub(super) fn find(work: &Work) -> Result<Self, Failure> {
        let place = std::fs::read_to_string(work.job.dir().join(PLACE_FILE));
        Ok(Self::at(Path::new(&place.at("find the container")?)))
    }
}

/// Makes the root and gives its places.
pub(super) fn make(work: &Work) -> Result<(Places, Inside), Failure> {
    let place = choose(&work.spec).at("find a place for the root")?;
    let mode = format!("mode=0755,size={TOOL_BYTES_MAX}");
    mount_tmpfs(&place, &mode).at("mount the place of the root")?;
    let dir = work.job.dir();
    std::fs::write(dir.join(PLACE_FILE), place.as_os_str().as_encoded_bytes())
        .at("write down the place of the root")?;
    let places = Places::at(&place);
    std::fs::create_dir(&places.root).at("make the root")?;
    std::fs::DirBuilder::new().mode(0o700).create(&places.tool).at("make the tool's folder")?;

    let user = user(&work.spec);
    let owner = (on_host(user.uid)?, on_host(user.gid)?);
    mount_root(&work.spec, &dir.join("layer"), &places.root, owner)?;
    let inside = Inside::open(&places.root, owner).at("enter the root")?;
    if work.spec.root.as_ref().is_none_or(|root| root.host) {
        mount_host(&work.spec, &dir.join("layer"), &inside, owner)?;
    }
    write_files(&work.spec, &inside)?;
    for mount in work.spec.mounts.iter().flatten() {
        bind_mount(mount, &inside).at(&format!("mount {}", mount.target))?;
    }
    give_secrets(work.spec.secret_files.as_deref().unwrap_or_default(), &inside, owner)
        .at("write the secrets")?;
    Ok((places, inside))
}

/// An id of the container's, as the host has it.
pub(super) fn on_host(id: u32) -> Result<u32, Failure> {
    if id < spawnery_sandbox::limits::HOST_ID_COUNT {
        return Ok(HOST_ID_BASE + id);
    }
    Err(Failure::new("choose the user", format!("the id {id} is above 65535")))
}

fn choose(spec: &SandboxSpec) -> io::Result<PathBuf> {
    let mounts = spec.mounts.iter().flatten().map(|mount| mount.source.as_str());
    let layers = spec.root.iter().flat_map(|root| root.layers.iter().map(String::as_str));
    let used: Vec<PathBuf> = mounts.chain(layers).map(PathBuf::from).collect();
    let data = std::env::current_dir()?;
    let free = PLACES.iter().map(PathBuf::from).find(|place| {
        place.is_dir() && !data.starts_with(place) && !used.iter().any(|it| it.starts_with(place))
    });
    free.ok_or_else(|| io::Error::other(format!("all of {} are in use", PLACES.join(", "))))
}

fn mount_tmpfs(target: &Path, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", target, "tmpfs", flags, options.as_c_str())?)
}

/// Mounts `/`.
fn mount_root(
    spec: &SandboxSpec,
    layer: &Path,
    target: &Path,
    owner: (u32, u32),
) -> Result<(), Failure> {
    let mut lower = Vec::new();
    for folder in spec.root.iter().flat_map(|root| &root.layers) {
        let root = Path::new(folder).join("root");
        lower.push(place_of(&root).at(&format!("open the layer {folder}"))?);
    }
    let over_host = spec.root.as_ref().is_none_or(|root| root.host);
    if over_host {
        lower.push(place_of(&shared_folders().0).at("open the base")?);
    }
    let top = if over_host { owner } else { (HOST_ID_BASE, HOST_ID_BASE) };
    overlay(&lower, layer, "", target, top).at("mount the root")
}

/// Mounts an overlay with the private folders `PREFIXupper` and `PREFIXwork` of `layer`.
fn overlay(
    lower: &[OwnedFd],
    layer: &Path,
    prefix: &str,
    target: &Path,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let (upper, work) = (layer.join(format!("{prefix}upper")), layer.join(format!("{prefix}work")));
    for dir in [&upper, &work] {
        std::fs::create_dir(dir)?;
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    chown(&upper, Some(uid), Some(gid))?;
    let lower: Vec<String> = lower.iter().map(|it| through(it).display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("overlay", target, "overlay", flags, options.as_c_str())?)
}

/// Mounts the host's folders of programs and libraries.
fn mount_host(
    spec: &SandboxSpec,
    layer: &Path,
    inside: &Inside,
    owner: (u32, u32),
) -> Result<(), Failure> {
    let place = inside.folder("/usr").at("open /usr")?;
    let writable = usr_layers(spec.root.as_ref())
        .and_then(|lower| overlay(&lower, layer, "usr-", &through(&place), owner));
    if writable.is_err() {
        bind(Path::new("/usr"), &through(&place), true, true).at("bind /usr")?;
    }
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
        let host = Path::new("/").join(name);
        if std::fs::symlink_metadata(&host).is_ok_and(|it| it.is_dir()) {
            let step = format!("bind {}", host.display());
            let place = inside.folder(&format!("/{name}")).at(&step)?;
            bind(&host, &through(&place), true, true).at(&step)?;
        }
    }
    Ok(())
}

/// What is under the private layer of `/usr`.
fn usr_layers(root: Option<&RootSpec>) -> io::Result<Vec<OwnedFd>> {
    let usr = shared_folders().1.ok_or(io::ErrorKind::NotFound)?;
    let layers = root.iter().flat_map(|root| &root.layers);
    let layers = layers.map(|layer| Path::new(layer).join("usr")).filter(|usr| usr.is_dir());
    layers.chain([usr]).map(|path| place_of(&path)).collect()
}

fn write_files(spec: &SandboxSpec, inside: &Inside) -> Result<(), Failure> {
    let host = &spec.hostname;
    let hosts = format!("127.0.0.1 localhost {host}\n::1 localhost ip6-localhost ip6-loopback\n");
    let mut own = vec![
        ("/etc/hostname", format!("{host}\n").into_bytes()),
        ("/etc/hosts", hosts.into_bytes()),
    ];
    if spec.network == Network::Host {
        for path in ["/etc/resolv.conf", "/etc/hosts"] {
            own.extend(std::fs::read(path).map(|bytes| (path, bytes)));
        }
    }
    if spec.network == Network::Private {
        own.push(("/etc/resolv.conf", PRIVATE_RESOLV_CONF.as_bytes().to_vec()));
    }
    for (path, bytes) in own {
        inside.write(path, 0o644, &bytes).at(&format!("write {path}"))?;
    }
    for FileSpec { path, mode, bytes } in &spec.files {
        inside.write(path, *mode, bytes).at(&format!("write {path}"))?;
    }
    Ok(())
}

fn bind_mount(mount: &MountSpec, inside: &Inside) -> io::Result<()> {
    let source = Path::new(&mount.source);
    let place = inside.mount_point(&mount.target, source)?;
    bind(source, &through(&place), false, mount.read_only)
}

/// Puts secrets into files in memory.
fn give_secrets(files: &[SecretFile], inside: &Inside, owner: (u32, u32)) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let place = inside.folder("/run/secrets")?;
    mount_tmpfs(&through(&place), &format!("mode=0700,size={SECRETS_BYTES_MAX}"))?;
    // What is mounted is found by a new look at the path.
    let place = inside.folder("/run/secrets")?;
    let secrets = Inside::open(&through(&place), owner)?;
    for file in files {
        secrets.write(&format!("/{}", file.name), 0o400, &file.bytes)?;
    }
    chown(through(&place), Some(owner.0), Some(owner.1))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount_remount(through(&place), flags, c"")?;
    Ok(())
}
