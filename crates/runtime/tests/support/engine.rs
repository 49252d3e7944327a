//! A Docker engine of the test's own.

// Not every test program uses all of it.
#![allow(dead_code)]

use rustix::process::{Pid, Signal, kill_process};
use spawnery_runtime::{DockerEngine, Runtimes};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time that an engine gets to start or to end on a busy machine.
const ENGINE_WITHIN: Duration = Duration::from_secs(60);

/// A Docker engine with nothing in it, that touches neither the host's network nor its images.
pub struct Engine {
    daemon: Child,
    dir: TempDir,
}

impl Engine {
    pub fn start() -> Engine {
        Engine::start_in(tempfile::tempdir().expect("a temporary folder"), &[], &[])
    }

    /// With its data in this folder, after these words of a command, and with further options.
    pub fn start_in(dir: TempDir, before: &[String], options: &[String]) -> Engine {
        let place = dir.path().to_owned();
        let path = |name: &str| place.join(name).display().to_string();
        let log = std::fs::File::create(path("log")).expect("a log");
        // From Debian's package, whatever else is in the PATH.
        let words: Vec<&str> =
            before.iter().map(String::as_str).chain(["/usr/sbin/dockerd"]).collect();
        let daemon = Command::new(words[0])
            .args(&words[1..])
            .args(options)
            .args(["--data-root", &path("data"), "--exec-root", &path("run")])
            .args(["--pidfile", &path("pid"), "--host", &format!("unix://{}", path("sock"))])
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--ip-masq=false", "--bridge=none", "--storage-driver=vfs"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dockerd of Debian's package docker.io");
        let engine = Engine { daemon, dir };
        let until = Instant::now() + ENGINE_WITHIN;
        while UnixStream::connect(engine.socket()).is_err() {
            let log = || std::fs::read_to_string(path("log")).unwrap_or_default();
            assert!(Instant::now() < until, "the engine does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        engine
    }

    pub fn socket(&self) -> String {
        self.dir.path().join("sock").display().to_string()
    }

    pub fn runtimes(&self) -> Runtimes {
        let docker = DockerEngine { socket: self.socket() };
        Runtimes { docker, ..Runtimes::default() }
    }
}

impl Drop for Engine {
    /// Ends it in order, so that its own children end and nothing stays mounted.
    fn drop(&mut self) {
        let pid = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + ENGINE_WITHIN;
        while !matches!(self.daemon.try_wait(), Ok(Some(_)) | Err(_)) {
            if Instant::now() > until {
                let _ = self.daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
