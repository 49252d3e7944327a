//! The lowest layer of every sandbox's root: a folder in the data folder, made once.
//!
//! Fail closed: it holds what is listed here and nothing else.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::launcher::store;
use crate::protections::Protections;
use crate::rootfs::{PrepareError, failed, host_user, make_dir};

/// Folder in the data folder with the lowest layer of all sandboxes' roots.
pub(crate) const BASE_DIR: &str = "base";
/// File in the data folder that tells what the base was made from.
const FINGERPRINT_FILE: &str = "base.fingerprint";

/// To be raised with every change of what this module makes.
const LAYOUT_VERSION: u32 = 1;

/// Files and folders of the host's `/etc` that programs need and that hold no secrets. Only
/// what everybody may read is copied.
const ETC_ALLOWED: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "bindresvport.blacklist",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "magic.mime",
    "mailcap",
    "mime.types",
    "networks",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "profile",
    "protocols",
    "rpc",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// Folders of the host's `/etc` whose names begin so: languages with a version in the name.
const ETC_ALLOWED_PREFIXES: &[&str] = &["java-", "python", "lsb-release"];

/// Top folders of the host that hold programs and libraries: read-only views of these, or
/// the same symbolic links, appear in each sandbox.
const SYSTEM_DIRS: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Empty folders of the root, with their permission bits.
const EMPTY_DIRS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
    ("work", 0o755),
];

const PASSWD: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

/// Makes the base folder, unless an earlier launcher made the same since the machine was
/// booted. Returns the top folders of the host that are real ones.
pub(crate) fn prepare(
    rootful: bool,
    protections: Protections,
) -> Result<Vec<&'static str>, PrepareError> {
    let base = Path::new(BASE_DIR);
    let names = allowed_names();
    let owner = host_user(rootful, protections);
    let wanted = fingerprint(&names, owner).to_string();
    if base.is_dir() && fs::read_to_string(FINGERPRINT_FILE).is_ok_and(|made| made == wanted) {
        return Ok(system_dirs()
            .filter(|(_, link)| link.is_none())
            .map(|(name, _)| name)
            .collect());
    }
    match fs::remove_file(FINGERPRINT_FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the old fingerprint", error));
        }
        _ => {}
    }
    store::remove(base).map_err(|error| failed("remove the old base folder", error))?;
    let real = make(base, &names, owner)?;
    fs::write(FINGERPRINT_FILE, wanted)
        .map_err(|error| failed(format!("write {FINGERPRINT_FILE}"), error))?;
    Ok(real)
}

/// What the base depends on: everything that is copied, by name, size, mode and times, and
/// the owner and the boot, because after a power failure a file may be shorter than it was.
fn fingerprint(names: &[String], owner: Option<u32>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    (LAYOUT_VERSION, boot, owner).hash(&mut hasher);
    system_dirs().for_each(|dir| dir.hash(&mut hasher));
    names.iter().for_each(|name| hash_tree(&Path::new("/etc").join(name), &mut hasher));
    hasher.finish()
}

fn hash_tree(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    path.hash(hasher);
    (metadata.mode(), metadata.size(), metadata.ino()).hash(hasher);
    (metadata.ctime(), metadata.ctime_nsec()).hash(hasher);
    if metadata.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort_unstable();
        paths.iter().for_each(|path| hash_tree(path, hasher));
    }
}

fn make(
    base: &Path,
    names: &[String],
    owner: Option<u32>,
) -> Result<Vec<&'static str>, PrepareError> {
    let at = |path: &Path| format!("make {}", path.display());
    make_dir(base, 0o755, owner).map_err(|error| failed(at(base), error))?;
    for (name, mode) in EMPTY_DIRS {
        let dir = base.join(name);
        make_dir(&dir, *mode, owner).map_err(|error| failed(at(&dir), error))?;
    }
    let real = make_system_dirs(base, owner).map_err(|error| failed(at(base), error))?;
    let etc = base.join("etc");
    copy_etc(&etc, names, owner);
    let files = [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("nsswitch.conf", NSSWITCH),
        ("resolv.conf", ""),
        ("machine-id", ""),
        // Not hostname and hosts, which each instance has of its own.
    ];
    for (name, text) in files {
        let path = etc.join(name);
        write_file(&path, text, owner).map_err(|error| failed(at(&path), error))?;
    }
    let mtab = etc.join("mtab");
    symlink("/proc/self/mounts", &mtab).map_err(|error| failed(at(&mtab), error))?;
    Ok(real)
}

/// The host's top folders with programs and libraries, and where they point if they are
/// symbolic links, such as `/bin` to `usr/bin`.
fn system_dirs() -> impl Iterator<Item = (&'static str, Option<PathBuf>)> {
    SYSTEM_DIRS.iter().filter_map(|name| {
        let host = Path::new("/").join(name);
        let metadata = fs::symlink_metadata(&host).ok()?;
        if metadata.is_symlink() {
            return Some((*name, Some(fs::read_link(&host).ok()?)));
        }
        metadata.is_dir().then_some((*name, None))
    })
}

/// The same symbolic links, and mount points for real folders, which are returned.
fn make_system_dirs(base: &Path, owner: Option<u32>) -> io::Result<Vec<&'static str>> {
    let mut real = Vec::new();
    for (name, link) in system_dirs() {
        if let Some(target) = link {
            symlink(target, base.join(name))?;
        } else {
            make_dir(&base.join(name), 0o755, owner)?;
            real.push(name);
        }
    }
    Ok(real)
}

/// Names in `/etc` that may be copied.
fn allowed_names() -> Vec<String> {
    let entries = fs::read_dir("/etc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let listed = |name: &String| ETC_ALLOWED_PREFIXES.iter().any(|it| name.starts_with(it));
    let mut prefixed: Vec<String> = names.filter(listed).collect();
    prefixed.sort_unstable();
    ETC_ALLOWED.iter().map(|name| (*name).to_owned()).chain(prefixed).collect()
}

/// Copies what is allowed; what cannot be copied is left out.
fn copy_etc(etc: &Path, names: &[String], owner: Option<u32>) {
    for name in names {
        let (from, to) = (Path::new("/etc").join(name), etc.join(name));
        if fs::symlink_metadata(&from).is_ok() {
            let _ = make_parents(etc, name, owner).and_then(|()| copy_tree(&from, &to, owner));
        }
    }
}

/// Makes the folders between `etc` and the last part of `name`.
fn make_parents(etc: &Path, name: &str, owner: Option<u32>) -> io::Result<()> {
    for (end, _) in name.match_indices('/') {
        let dir = etc.join(&name[..end]);
        if !dir.exists() {
            make_dir(&dir, 0o755, owner)?;
        }
    }
    Ok(())
}

/// Copies files, folders and symbolic links that everybody may read, and nothing else.
fn copy_tree(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return std::os::unix::fs::lchown(to, owner, owner);
    }
    if metadata.mode() & 0o004 == 0 {
        return Ok(());
    }
    if metadata.is_file() {
        fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o755 | 0o200))?;
        return chown(to, owner, owner);
    }
    if metadata.is_dir() && metadata.mode() & 0o001 != 0 {
        make_dir(to, 0o755, owner)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let _ = copy_tree(&entry.path(), &to.join(entry.file_name()), owner);
        }
    }
    Ok(())
}

fn write_file(path: &Path, text: &str, owner: Option<u32>) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    chown(path, owner, owner)
}
