//! Whether the outer limits hold what no sandbox holds back: bombs on the bare host of the world.

use std::process::Command;

use crate::outer::{
    ADDRESSES_BYTES_MAX, DISK_BYTES_MAX, FILE_BYTES_MAX, MEMORY_BYTES_MAX, OPEN_FILES_MAX,
    PROCESSES_MAX,
};
use crate::support::{PLAIN_USER, is_root, skip};
use crate::world::World;

/// Each program tries to take twice what it may, and writes how much it got.
#[test]
fn what_no_sandbox_holds_back_is_held_by_the_outer_limits() {
    if !is_root() {
        return skip("only root makes a host for bombs to go off on");
    }
    let world = World::new();
    check(&world, FORK, PROCESSES_MAX);
    // Without a group, each process has a limit of its own.
    let has_groups = world.outer().has_groups();
    let memory = if has_groups { MEMORY_BYTES_MAX } else { ADDRESSES_BYTES_MAX };
    check(&world, ALLOCATE, memory >> 20);
    check(&world, ONE_FILE, FILE_BYTES_MAX >> 20);
    check(&world, OPEN, OPEN_FILES_MAX);
    // Last, because nothing can be written afterwards.
    check(&world, FILL, DISK_BYTES_MAX >> 20);
    assert_eq!(fs_state(&world), "full");
}

/// Runs a program as a user without rights, and compares the last number that it wrote.
fn check(world: &World, program: &str, max: u64) {
    let mut words = world.enter();
    let user = PLAIN_USER.to_string();
    words.extend(
        ["/usr/bin/setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"].map(Into::into),
    );
    words.extend(["/usr/bin/python3", "-c", program].map(Into::into));
    words.push(world.folder().join("volume").to_string_lossy().into_owned());
    words.push((max * 2).to_string());
    let output = Command::new(&words[0]).args(&words[1..]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let last: Option<u64> = text.lines().last().and_then(|line| line.parse().ok());
    let last = last.unwrap_or_else(|| panic!("{program}: {:?} {error}", output.status));
    assert!(last > 0 && last <= max, "{last} instead of at most {max}: {program}");
}

/// Whether anything more can be written to the world's disk.
fn fs_state(world: &World) -> &'static str {
    let path = world.folder().join("more");
    match std::fs::write(path, vec![7; 1 << 20]) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => "full",
        _ => "there is space",
    }
}

const FORK: &str = "
import os, signal, sys
children = []
try:
    while len(children) < int(sys.argv[2]):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError:
    pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(len(children))
";

const ALLOCATE: &str = "
import sys
pieces = []
try:
    while len(pieces) < int(sys.argv[2]):
        pieces.append(b'x' * (1 << 20))
        print(len(pieces), flush=True)
except MemoryError:
    pass
";

const ONE_FILE: &str = "
import os, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1] + '/large'
count = 0
try:
    with open(path, 'wb', 0) as file:
        while count < int(sys.argv[2]):
            count += file.write(bytes(1 << 20)) >> 20
except OSError:
    pass
os.unlink(path)
print(count)
";

const OPEN: &str = "
import os, sys
files = []
try:
    while len(files) < int(sys.argv[2]):
        files.append(os.open('/dev/null', os.O_RDONLY))
except OSError:
    pass
print(len(files))
";

const FILL: &str = "
import sys
count = 0
try:
    while count < int(sys.argv[2]):
        with open(f'{sys.argv[1]}/{count}', 'wb', 0) as file:
            file.write(bytes(1 << 20))
        count += 1
except OSError:
    pass
print(count)
";
