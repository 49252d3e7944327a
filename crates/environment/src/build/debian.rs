//! The steps of Debian's packages: a base made of them, and packages put onto a base.
//!
//! Versions are resolved and files fetched by `apt-get`, which checks the signatures: that of the
//! node for a base, that of the base for packages on it. All of it, and all scripts of packages,
//! run in the sandbox, as user 0 of its user namespace. The package files are kept by content, so
//! that building again needs no mirror.

use std::fs;
use std::path::{Path, PathBuf};

use spawnery_model::{ContentDigest, LockedPackage};
use spawnery_sandbox::spec::{SandboxSpec, UserSpec};

use super::capture::{capture, keep_output};
use super::failure::Failure;
use super::mirror::Mirror;
use super::sandboxed::{MOUNTS, Work, at, give, how_it_ended, mount, open_result, read_result};
use crate::layer::{Layer, LayerDraft};
use crate::recipe;

/// Most packages of one environment: what is more is a whole desktop.
const PACKAGES_MAX: usize = 5000;

/// Largest list of packages that a sandbox may hand over, in bytes.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Exit code of the scripts here if there is no `apt-get`.
const NO_APT: i32 = 97;

/// Exit code of the scripts here if some packages are not to be had; `$OUT/missing` names them.
const MISSING: i32 = 98;

/// Sets up `apt` as a function that leaves nothing outside of `/tmp`.
const APT: &str = r#"set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
command -v apt-get > /dev/null || exit 97
mkdir -p /tmp/apt/lists/partial "$OUT/archives/partial"
apt() {
    apt-get -qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2 \
        -o Dir::State::lists=/tmp/apt/lists -o Dir::Cache::archives="$OUT/archives" \
        -o Dir::Cache::pkgcache=/tmp/apt/packages.bin -o Dpkg::Use-Pty=0 \
        -o Dir::Cache::srcpkgcache=/tmp/apt/sources.bin \
        -o Dpkg::Options::=--force-confold -o APT::Install-Recommends=false \
        -o APT::Get::AllowUnauthenticated=false "$@"
}
"#;

/// As that, with the sources of a suite and none of the node's own packages.
const FOREIGN: &str = r#"
mkdir -p /tmp/apt/empty
: > /tmp/apt/status
printf '%s\n' "$SOURCES" > /tmp/apt/sources.list
foreign() {
    apt -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::Etc::SourceParts=/tmp/apt/empty \
        -o Dir::Etc::Trusted=/tmp/apt/none -o Dir::Etc::TrustedParts=/tmp/apt/empty \
        -o Dir::State::status=/tmp/apt/status -o Dir::State::extended_states=/tmp/apt/states \
        -o Dir::Etc::Parts=/tmp/apt/empty -o Dir::Etc::Preferences=/tmp/apt/none \
        -o Dir::Etc::PreferencesParts=/tmp/apt/empty "$@"
}
"#;

/// Writes a list of what was fetched: file, name, version and architecture.
const LIST: &str = r#"
cd "$OUT/archives"
: > "$OUT/list"
for file in *.deb; do
    [ -e "$file" ] || continue
    printf '%s ' "$file" >> "$OUT/list"
    dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' "$file" >> "$OUT/list"
done
"#;

/// Fetches exact versions, and names those that are not there.
const FETCH: &str = r#"
cd "$OUT/archives"
if ! $APT_FUNCTION download $PACKAGES; then
    : > "$OUT/missing"
    for package in $PACKAGES; do
        $APT_FUNCTION download "$package" || echo "$package" >> "$OUT/missing"
    done
    [ ! -s "$OUT/missing" ] || exit 98
fi
"#;

/// Unpacks packages without running anything of them, with `/bin` and the like in `/usr`.
const EXTRACT: &str = r#"set -eu
umask 022
cd "$ROOT"
for name in bin sbin lib lib64; do
    mkdir -p "usr/$name"
    ln -s "usr/$name" "$name"
done
for file in "$DEBS"/*.deb; do
    dpkg-deb --fsys-tarfile "$file" | tar --extract --preserve-permissions --same-owner \
        --keep-directory-symlink --file -
done
mkdir -p var/lib/dpkg
touch var/lib/dpkg/status var/lib/dpkg/available
"#;

/// What scripts of packages are run with: no service is started.
const QUIET: &str = r#"set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
policy=/usr/sbin/policy-rc.d
mine=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    mine=yes
fi
"#;

/// Removes what is only there because of how packages were installed, and times in it.
const TIDY: &str = r#"
[ -z "$mine" ] || rm -f "$policy"
rm -f /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/log/bootstrap.log \
    /var/cache/ldconfig/aux-cache /var/cache/apt/*.bin /var/cache/debconf/*-old \
    /var/lib/dpkg/*-old /etc/*- /var/lib/apt/extended_states.*
"#;

const CONFIGURE: &str = r#"
dpkg --force-unsafe-io --force-depends --force-confold --install "$DEBS"/*.deb
printf '%s\n' "$SOURCES" > /etc/apt/sources.list
if [ -n "$KEYRING" ]; then
    mkdir -p /etc/apt/keyrings
    cat "$KEYRING" > /etc/apt/keyrings/mirror.gpg
fi
"#;

const INSTALL: &str = r#"
mkdir -p /tmp/apt/lists/partial /tmp/apt/archives/partial /tmp/apt/empty
apt-get -qq -o APT::Sandbox::User=root -o Dir::State::lists=/tmp/apt/lists \
    -o Dir::Cache::archives=/tmp/apt/archives -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o Dir::Etc::SourceList=/dev/null \
    -o Dir::Etc::SourceParts=/tmp/apt/empty -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io --yes --no-install-recommends --allow-downgrades \
    install "$DEBS"/*.deb
"#;

/// Packages that a base is made of, as apt's patterns: what Debian calls essential, what it
/// requires of each system, and apt itself.
const BASE_PACKAGES: &str = "?essential ?priority(required) apt";

/// Where packages are resolved and fetched.
#[derive(Clone, Copy)]
enum Where<'a> {
    /// By the node's apt-get, for a base of this suite.
    Node(&'a Mirror),
    /// By the apt-get of the layers below.
    Below,
}

/// Finds out which packages a base of a suite is made of, and fetches them.
pub(super) fn resolve_base(work: &Work<'_>, suite: &str) -> Result<Vec<LockedPackage>, Failure> {
    let mirror = Mirror::of(work.settings, suite)?;
    resolve_in(work, Where::Node(&mirror), BASE_PACKAGES)
}

/// Finds out which packages are needed for some, over the layers below, and fetches them.
pub(super) fn resolve(work: &Work<'_>, packages: &[String]) -> Result<Vec<LockedPackage>, Failure> {
    refuse_host(work)?;
    resolve_in(work, Where::Below, &packages.join(" "))
}

fn refuse_host(work: &Work<'_>) -> Result<(), Failure> {
    if !work.host {
        return Ok(());
    }
    Err(Failure::new(
        "Debian packages cannot be put onto the view of the host, whose own packages are not the \
         same everywhere: use `base: {debian: bookworm}`, or an image of Debian or Ubuntu",
    ))
}

fn resolve_in(
    work: &Work<'_>,
    place: Where<'_>,
    packages: &str,
) -> Result<Vec<LockedPackage>, Failure> {
    let (_scratch, shared) = work.scratch(0)?;
    let function = place.function();
    let script = format!(
        "{APT}{}{function} update\n{function} --yes --download-only install $PACKAGES\n{LIST}",
        place.setup()
    );
    let mut spec = place.spec(work, &script, &shared)?;
    spec.env.push(("PACKAGES".to_owned(), packages.to_owned()));
    run_apt(work, spec, &shared)?;
    let mut locked = keep_fetched(work, &shared)?;
    locked.sort();
    Ok(locked)
}

impl Where<'_> {
    fn function(self) -> &'static str {
        if matches!(self, Where::Node(_)) { "foreign" } else { "apt" }
    }

    fn setup(self) -> &'static str {
        if matches!(self, Where::Node(_)) { FOREIGN } else { "" }
    }

    /// A sandbox with apt-get and the network.
    fn spec(self, work: &Work<'_>, script: &str, shared: &Path) -> Result<SandboxSpec, Failure> {
        let argv = ["/bin/sh", "-c", script];
        let mut spec = match self {
            Where::Below => work.spec(argv),
            Where::Node(mirror) => {
                let mut spec = work.host_spec(argv);
                spec.env.push(("SOURCES".to_owned(), mirror.sources(&mirror.keyring_inside())));
                mount(&mut spec, &mirror.keyring, &mirror.keyring_inside(), true);
                spec
            }
        };
        spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
        spec.network = match self {
            Where::Node(_) => work.settings.fetch_network,
            Where::Below => work.fetch_network(),
        };
        let out = format!("{MOUNTS}/out");
        mount(&mut spec, shared, &out, false);
        spec.env.push(("OUT".to_owned(), out));
        Ok(spec)
    }
}

/// Runs a script with apt-get, and says what is not to be had.
fn run_apt(work: &Work<'_>, spec: SandboxSpec, shared: &Path) -> Result<(), Failure> {
    let ended = work.run(spec)?;
    let Some(how) = how_it_ended(&ended) else { return Ok(()) };
    match ended.exit.code {
        Some(NO_APT) => Err(Failure::new(
            "there is no `apt-get`: packages of Debian need a base of Debian or Ubuntu, and a \
             base of Debian's packages needs a node of these; else use an image",
        )),
        Some(MISSING) => {
            let missing = read_result(shared, "missing", LIST_BYTES_MAX)?;
            let names = String::from_utf8_lossy(&missing);
            let names: Vec<&str> = names.split_whitespace().take(20).collect();
            Err(work.failed(format!(
                "not on the mirror any more, and not kept on this node: {}; lock again by \
                 `spawnery environment lock`",
                names.join(", ")
            )))
        }
        _ => Err(work.failed(format!("apt-get {how}"))),
    }
}

/// Puts the fetched package files into the content, and gives what they are.
fn keep_fetched(work: &Work<'_>, shared: &Path) -> Result<Vec<LockedPackage>, Failure> {
    let list = read_result(shared, "list", LIST_BYTES_MAX)?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let mut packages = Vec::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [file, name, version, architecture] = words[..] else {
            return Err(Failure::new(format!("the list of packages has the line `{line}`")));
        };
        let usable = recipe::is_package_name(name)
            && recipe::is_package_version(version)
            && recipe::is_package_name(architecture)
            && !file.contains('/');
        if !usable || packages.len() >= PACKAGES_MAX {
            return Err(Failure::new(format!("the package `{line}` cannot be used")));
        }
        let mut from = open_result(shared, &format!("archives/{file}"))?;
        let digest = work.store.content().put(None, &mut from).map_err(Failure::of)?;
        packages.push(LockedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sha256: digest.to_string(),
        });
    }
    Ok(packages)
}

/// Fetches those of the locked packages that are not kept, and checks them.
fn fetch(work: &Work<'_>, place: Where<'_>, packages: &[LockedPackage]) -> Result<(), Failure> {
    let missing: Vec<&LockedPackage> = packages
        .iter()
        .filter(|package| digest(package).map_or(true, |it| !work.store.content().has(&it)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (_scratch, shared) = work.scratch(0)?;
    let function = place.function();
    let script = format!("{APT}{}{function} update\n{FETCH}{LIST}", place.setup());
    let mut spec = place.spec(work, &script.replace("$APT_FUNCTION", function), &shared)?;
    let names: Vec<String> = missing.iter().map(|it| exact_name(it)).collect();
    spec.env.push(("PACKAGES".to_owned(), names.join(" ")));
    run_apt(work, spec, &shared)?;
    let fetched = keep_fetched(work, &shared)?;
    for package in missing {
        if fetched.contains(package) {
            continue;
        }
        let name = exact_name(package);
        return Err(Failure::new(match fetched.iter().find(|it| it.name == package.name) {
            Some(other) => format!(
                "the mirror gives a {name} with the SHA-256 {}, but the lock says {}: lock again",
                other.sha256, package.sha256
            ),
            None => format!("the mirror did not give {name}: lock again"),
        }));
    }
    Ok(())
}

fn digest(package: &LockedPackage) -> Result<ContentDigest, Failure> {
    ContentDigest::try_from(package.sha256.clone()).map_err(Failure::of)
}

/// As `apt-get download` takes it.
fn exact_name(package: &LockedPackage) -> String {
    let LockedPackage { name, version, architecture, .. } = package;
    match architecture.as_str() {
        "all" => format!("{name}={version}"),
        _ => format!("{name}:{architecture}={version}"),
    }
}

/// A folder with the files of packages, for mounting.
fn folder_of(
    work: &Work<'_>,
    shared: &Path,
    packages: &[LockedPackage],
) -> Result<PathBuf, Failure> {
    let folder = shared.join("packages");
    fs::create_dir(&folder).map_err(|error| at("make", &folder, &error))?;
    for package in packages {
        let path = folder.join(format!("{}_{}.deb", package.name, package.architecture));
        let mut from = work.store.content().get(&digest(package)?).map_err(Failure::of)?;
        let copied = fs::File::create(&path).and_then(|mut to| std::io::copy(&mut from, &mut to));
        copied.map_err(|error| at("copy", &path, &error))?;
        give(&path, 0)?;
    }
    give(&folder, 0)?;
    Ok(folder)
}

/// Makes the lowest layer of a base: all its packages, unpacked.
pub(super) fn extract(
    work: &Work<'_>,
    draft: LayerDraft,
    suite: &str,
    packages: &[LockedPackage],
) -> Result<Layer, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            "a base of Debian's packages has files of many users, which needs a node that runs as \
             root: use an image",
        ));
    }
    let mirror = Mirror::of(work.settings, suite)?;
    fetch(work, Where::Node(&mirror), packages)?;
    let (_scratch, shared) = work.scratch(0)?;
    let folder = folder_of(work, &shared, packages)?;
    let mut spec = work.host_spec(["/bin/sh", "-c", EXTRACT]);
    spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
    add_folder(&mut spec, &folder);
    let root = format!("{MOUNTS}/root");
    mount(&mut spec, &draft.root(), &root, false);
    spec.env.push(("ROOT".to_owned(), root));
    drop(work.run_well(spec, "unpacking the packages")?);
    super::capture::set_all_times(&draft.root())?;
    keep_output(&draft, &work.output.finish())?;
    draft.commit().map_err(Failure::of)
}

/// Makes the second layer of a base: the scripts of its packages are run.
pub(super) fn configure(
    work: &Work<'_>,
    draft: LayerDraft,
    suite: &str,
    packages: &[LockedPackage],
) -> Result<Layer, Failure> {
    let mirror = Mirror::of(work.settings, suite)?;
    let keyring = if mirror.keyring_is_debians() { "" } else { "/etc/apt/keyrings/mirror.gpg" };
    run_packages(work, draft, CONFIGURE, packages, &|spec| {
        spec.env.push(("SOURCES".to_owned(), mirror.sources(keyring)));
        let inside = mirror.keyring_inside();
        mount(spec, &mirror.keyring, &inside, true);
        let inside = if keyring.is_empty() { String::new() } else { inside };
        spec.env.push(("KEYRING".to_owned(), inside));
    })
}

/// Makes a layer of packages, over those below.
pub(super) fn install(
    work: &Work<'_>,
    draft: LayerDraft,
    packages: &[LockedPackage],
) -> Result<Layer, Failure> {
    refuse_host(work)?;
    fetch(work, Where::Below, packages)?;
    run_packages(work, draft, INSTALL, packages, &|_| {})
}

fn run_packages(
    work: &Work<'_>,
    draft: LayerDraft,
    script: &str,
    packages: &[LockedPackage],
    prepare: &dyn Fn(&mut SandboxSpec),
) -> Result<Layer, Failure> {
    let (_scratch, shared) = work.scratch(0)?;
    let folder = folder_of(work, &shared, packages)?;
    let script = format!("{QUIET}{script}{TIDY}");
    let mut spec = work.spec(["/bin/sh", "-c", &script]);
    spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
    add_folder(&mut spec, &folder);
    prepare(&mut spec);
    let ended = work.run_well(spec, "installing the packages")?;
    let kept = ended.layer.clone().ok_or_else(|| Failure::new("the sandbox kept no layer"))?;
    capture(draft, &kept, &[], &work.output.finish())
}

fn add_folder(spec: &mut SandboxSpec, folder: &Path) {
    let inside = format!("{MOUNTS}/packages");
    mount(spec, folder, &inside, true);
    spec.env.push(("DEBS".to_owned(), inside));
}
