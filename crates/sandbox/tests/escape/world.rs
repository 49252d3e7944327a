//! The host that attempts aim at: one that the test made, in namespaces of its own.
//!
//! It has its own mounts, processes, network, host name and message objects; there are hosts in a
//! network beyond it, and nothing leads to a real one. It ends with this, and everything in it.
//! All of it is inside the outer limits of `outer.rs`: its files, and every process in it.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::outer::{Outer, TIME_MAX};
use crate::support::{DEADLINE, PLAIN_USER, open_to_others};

const SCRIPT: &str = include_str!("world.py");

pub struct World {
    dir: tempfile::TempDir,
    /// `unshare`, whose only child is the host's first process.
    unshare: Child,
    /// To it and from it.
    lines: RefCell<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    host: u32,
    before: Vec<String>,
    /// After all that is inside it.
    outer: Outer,
}

impl World {
    pub fn new() -> Self {
        let outer = Outer::new();
        let dir = tempfile::tempdir_in(outer.disk()).expect("a temporary folder");
        open_to_others(dir.path());
        fill(dir.path());
        let script = dir.path().join("world.py");
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork"])
            .args(["--kill-child", "--mount-proc", "--", "/usr/bin/python3"])
            .arg(&script)
            .arg("host")
            .arg(dir.path())
            .arg(PLAIN_USER.to_string())
            .arg(TIME_MAX.as_secs().to_string())
            .arg(outer.group("world"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        let stdin = unshare.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(unshare.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).expect("read");
        assert!(line == "ready\n", "the world says {line:?}");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let children = fs::read_to_string(children).expect("read");
        let host = children.trim().parse().expect("one child");
        let lines = RefCell::new(Some((stdin, stdout)));
        let mut world = Self { dir, unshare, lines, host, before: Vec::new(), outer };
        world.before = world.state();
        world
    }

    /// The folder that is the host's own, and which no sandbox may see.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub fn canary(&self) -> PathBuf {
        self.folder().join("canary")
    }

    /// The first process of the host.
    pub fn host(&self) -> u32 {
        self.host
    }

    /// A new folder on the world's disk, for what belongs to a launcher.
    pub fn folder_beside(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.outer.disk()).expect("a temporary folder")
    }

    /// The limits around all of this.
    pub fn outer(&self) -> &Outer {
        &self.outer
    }

    /// Words before a command that is to run on this host.
    pub fn enter(&self) -> Vec<String> {
        self.enter_with(&["--mount", "--uts", "--ipc", "--net", "--pid"])
    }

    /// The same with only some of the host's namespaces, and in a group of its own.
    pub fn enter_with(&self, namespaces: &[&str]) -> Vec<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (host, script) = (self.host.to_string(), self.folder().join("world.py"));
        let group = self.outer.group(&format!("in-{count}"));
        let mut words = vec!["nsenter"];
        words.extend(namespaces);
        words.extend(["--target", &host, "--"]);
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend(Outer::limits_of_each());
        words.push("/usr/bin/python3".to_owned());
        words.push(script.to_string_lossy().into_owned());
        words.extend(["run".to_owned(), group]);
        words
    }

    /// Makes a socket `near`, behind which a process of the world forwards to `far`.
    pub fn forward(&self, near: &Path, far: &Path) {
        let mut lines = self.lines.borrow_mut();
        let (stdin, stdout) = lines.as_mut().expect("not dropped");
        writeln!(stdin, "{} {}", near.display(), far.display()).expect("written");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("read");
        assert_eq!(line, "serving\n");
    }

    /// What is not as it was.
    pub fn changes(&self) -> Vec<String> {
        let now = self.state();
        let gone = self.before.iter().filter(|it| !now.contains(it)).map(|it| format!("no: {it}"));
        let new = now.iter().filter(|it| !self.before.contains(it)).map(|it| format!("now: {it}"));
        gone.chain(new).collect()
    }

    /// Waits until no process of an attempt is left; what is left after that is returned.
    pub fn leftovers(&self, within: Duration) -> Vec<String> {
        let until = Instant::now() + within;
        loop {
            let mut left = self.command_lines();
            left.retain(|it| it.contains(crate::attempts::PROGRAM));
            if left.is_empty() || Instant::now() > until {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that an attempt could have changed, a line each.
    fn state(&self) -> Vec<String> {
        let mut state = Vec::new();
        describe(self.folder(), &mut state);
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        for name in ["core_pattern", "modprobe", "hostname", "ostype"] {
            state.push(format!("{name} {}", text(&format!("/proc/sys/kernel/{name}"))));
        }
        for name in ["escape-was-here", "python3", "id"] {
            let file = fs::symlink_metadata(format!("/usr/bin/{name}"));
            state.push(format!(
                "{name} {:?}",
                file.map(|it| (it.len(), it.mode(), it.mtime())).ok()
            ));
        }
        let sleepers = self.command_lines().iter().filter(|it| it.contains("86399")).count();
        state.push(format!("{sleepers} sleepers"));
        let host = self.host.to_string();
        let names = ["--uts", "--ipc", "--net", "--target", &host, "--"];
        let script = "hostname=$(uname -n); echo $hostname; cat /proc/sysvipc/shm \
            /proc/sys/net/ipv4/ip_forward | tr -s ' ' | cut -d' ' -f2,3,5-; ls -l /sys/class/net";
        let output = Command::new("nsenter").args(names).args(["sh", "-c", script]).output();
        let output = output.expect("nsenter runs");
        state.push(String::from_utf8_lossy(&output.stdout).into_owned());
        state
    }

    /// Of all processes of the world, as the world sees them.
    fn command_lines(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/root/proc", self.host)).expect("listed");
        let lines = entries.flatten().filter_map(|it| fs::read(it.path().join("cmdline")).ok());
        lines.map(|it| String::from_utf8_lossy(&it).replace('\0', " ")).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lines.take();
        let until = Instant::now() + DEADLINE;
        while matches!(self.unshare.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The files of the host, some of which sandboxes get as volumes.
fn fill(dir: &Path) {
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    let file = |name: &str, text: &str, mode| {
        let path = dir.join(name);
        fs::write(&path, text).expect("written");
        set(&path, mode);
        path
    };
    file("world.py", SCRIPT, 0o755);
    file("canary", "canary of the host\n", 0o666);
    for folder in ["volume", "frozen", "open"] {
        fs::create_dir(dir.join(folder)).expect("made");
        set(&dir.join(folder), 0o777);
    }
    file("frozen/file", "frozen\n", 0o666);
    file("open/canary", "canary\n", 0o666);
    symlink(dir.join("canary"), dir.join("volume/link")).expect("linked");
    symlink("../".repeat(30), dir.join("volume/up")).expect("linked");
    let owned = file("volume/of-user-1000", "private\n", 0o600);
    chown(owned, Some(1000), Some(1000)).expect("given");
    fs::copy("/usr/bin/id", dir.join("volume/id-of-root")).expect("copied");
    set(&dir.join("volume/id-of-root"), 0o6755);
    let zero = dir.join("volume/zero");
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
    let device = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(rustix::fs::CWD, &zero, kind, mode, device).expect("made");
    set(&zero, 0o666);
}

/// A line for each file below: name, kind and mode, owner, content.
fn describe(dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("looked at");
        let text = if metadata.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        lines.push(format!(
            "{} {:o} {} {} {:x}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            text.len(),
            text.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        ));
        if metadata.is_dir() {
            describe(&path, lines);
        }
    }
}
