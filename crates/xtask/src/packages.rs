//! What the tests need besides cargo, by the names of Debian's packages.

use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::process;

/// A package of Debian, and the file by which it is known to be there.
///
/// The file counts, not a name on the `PATH`: a sandbox shows an instance the system's folders
/// and nothing else, so a `python3` in somebody's home is of no use to it.
pub struct Package {
    /// Its name for `apt-get install`.
    pub name: &'static str,
    /// A file that it brings.
    pub file: &'static str,
    /// What needs it.
    pub reason: &'static str,
}

/// What `cargo xtask test` needs. CONTRIBUTING.md shows this table.
pub const FOR_TESTS: &[Package] = &[
    Package {
        name: "python3",
        file: "/usr/bin/python3",
        reason: "instances that take memory, listen on ports and ignore signals",
    },
    Package {
        name: "python3-venv",
        file: "/usr/share/doc/python3-venv/copyright",
        reason: "uv, which is installed from PyPI into the build folder",
    },
    Package { name: "git", file: "/usr/bin/git", reason: "sources of environments, and a server" },
    Package { name: "procps", file: "/usr/bin/ps", reason: "what processes an instance can see" },
    Package { name: "curl", file: "/usr/bin/curl", reason: "the commands of the README" },
    Package {
        name: "iproute2",
        file: "/usr/sbin/ip",
        reason: "networks of test hosts, for instances with a private network",
    },
    Package {
        name: "util-linux",
        file: "/usr/bin/setpriv",
        reason: "running the tests of the rootless sandbox without root",
    },
    Package {
        name: "busybox-static",
        file: "/usr/bin/busybox",
        reason: "the programs of the smallest root that is not the host's",
    },
    Package {
        name: "e2fsprogs",
        file: "/sbin/mkfs.ext4",
        reason: "private layers in images of a limited size",
    },
    Package { name: "runc", file: "/usr/sbin/runc", reason: "the oci runtime" },
    Package {
        name: "docker-registry",
        file: "/usr/bin/docker-registry",
        reason: "pulling images from a real registry",
    },
    Package {
        name: "skopeo",
        file: "/usr/bin/skopeo",
        reason: "pushing images to that registry, and reading those that we write",
    },
    Package {
        name: "pebble",
        file: "/usr/bin/pebble",
        reason: "certificates from a real certificate authority",
    },
    Package {
        name: "python3-websockets",
        file: "/usr/lib/python3/dist-packages/websockets/__init__.py",
        reason: "WebSockets of a library that others use, through the gateway and without it",
    },
    Package { name: "docker.io", file: "/usr/sbin/dockerd", reason: "the docker runtime" },
];

/// What `cargo xtask bench` needs.
#[cfg(feature = "bench")]
pub const FOR_BENCHMARKS: &[Package] = &[
    Package {
        name: "bubblewrap",
        file: "/usr/bin/bwrap",
        reason: "the peer of the process runtime",
    },
    Package { name: "haproxy", file: "/usr/sbin/haproxy", reason: "the peer of the gateway" },
    Package { name: "nginx-light", file: "/usr/sbin/nginx", reason: "the peer of the gateway" },
    Package { name: "wrk", file: "/usr/bin/wrk", reason: "load for the gateway" },
    Package { name: "nghttp2-client", file: "/usr/bin/h2load", reason: "steady load for it" },
    Package { name: "skopeo", file: "/usr/bin/skopeo", reason: "the peer of fetching an image" },
    Package { name: "umoci", file: "/usr/bin/umoci", reason: "the peer of unpacking an image" },
];

/// Installs those of the packages that are not there.
///
/// # Errors
///
/// When something is missing and this user may not install, or `apt-get` fails. The message
/// holds the command that a person would run.
pub fn install(packages: &[Package]) -> Result<(), Failure> {
    let missing: Vec<&Package> =
        packages.iter().filter(|package| !Path::new(package.file).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("   {} is missing: needed for {}", package.name, package.reason);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install {}", names.join(" "));
    let Some(prefix) = privileges() else {
        return Err(format!(
            "this user may not install packages. As root: {by_hand} (on another system, the \
             packages with {})",
            missing.iter().map(|package| package.file).collect::<Vec<_>>().join(", ")
        ));
    };
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!("there is no apt-get here; install by hand what has these: {by_hand}"));
    }
    process::run(&mut apt_get(prefix, &["update", "--quiet"]))?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(names);
    process::run(&mut apt_get(prefix, &arguments))
}

/// What to put before a command to run it as root: nothing, `sudo`, or `None` if there is no way.
fn privileges() -> Option<&'static [&'static str]> {
    let id = process::output(Command::new("id").arg("-u")).ok()?;
    if id.trim() == "0" {
        return Some(&[]);
    }
    process::works(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> Command {
    let mut words = prefix.to_vec();
    // Not every sudo passes the environment on, so `env` sets it.
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(arguments);
    command
}
