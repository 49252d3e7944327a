//! Servers and commands in folders of their own.

use serde_json::Value;
use spawnery_sandbox::client::Client as LauncherClient;
use spawnery_sandbox::protocol::Request;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far longer than anything takes on a slow and busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The binary.
pub const SPAWNERY: &str = env!("CARGO_BIN_EXE_spawnery");

/// Waits for a condition.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A home of its own: data, configuration and temporary files, gone when it is dropped.
pub struct Home {
    pub folder: TempDir,
}

impl Home {
    pub fn new() -> Home {
        let folder = TempDir::new().expect("a temporary folder");
        fs::create_dir(folder.path().join("tmp")).expect("a folder in it");
        Home { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a file and gives back its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a writable folder");
        path.display().to_string()
    }

    /// `spawnery` with these arguments, and nothing of the environment of the tests.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SPAWNERY);
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("TMPDIR", self.path("tmp"));
        command.env("SPAWNERY_DATA", self.data()).current_dir(self.folder.path());
        command
    }

    /// Runs it to its end.
    pub fn output(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("the binary runs"), arguments)
    }

    /// Runs it with this on its standard input.
    pub fn output_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("it reads its input");
        Ran::of(output, arguments)
    }

    /// What a command prints as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let ran = self.output(&arguments).expect(0);
        serde_json::from_str(&ran.stdout).expect("one JSON document")
    }

    /// The only live instance of a workload, once it is in a phase.
    #[track_caller]
    pub fn instance(&self, workload: &str, phase: &str) -> Value {
        wait_for(&format!("{workload} to be {phase}"), || {
            let found = self.json(&["instances", workload, "--phase", phase]);
            found.as_array().and_then(|found| found.first().cloned())
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What a failed test left running.
        for agent in ["data/agent", "agent/agent", "other/agent"] {
            let launcher = self.path(agent).join("launcher");
            end_launcher(&launcher);
        }
    }
}

/// Ends a launcher with all that it runs, and waits until it writes to its folder no more.
pub fn end_launcher(data: &Path) {
    let until = Instant::now() + DEADLINE;
    while let Ok(mut client) = LauncherClient::connect(data)
        && Instant::now() < until
    {
        // It ends when all has ended, which may be after its answer.
        let _ = client.request(Request::Shutdown { stop_all: true });
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    pub status: ExitStatus,
    pub bytes: Vec<u8>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output, arguments: &[&str]) -> Ran {
        Ran {
            command: arguments.join(" "),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks its exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.status.code(), Some(code), "{}: {self:#?}", self.command);
        self
    }

    /// Checks that it said this on standard error.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// Checks that it printed this.
    #[track_caller]
    pub fn prints(self, text: &str) -> Ran {
        assert!(self.stdout.contains(text), "{text:?} is not in {self:#?}");
        self
    }
}

/// A program that runs in the background, killed when it is dropped.
pub struct Background {
    pub child: Child,
    output: PathBuf,
}

impl Background {
    pub fn start(mut command: Command, output: PathBuf) -> Background {
        let file = File::create(&output).expect("a file for its output");
        let errors = file.try_clone().expect("a second handle");
        let child = command.stdout(file).stderr(errors).spawn().expect("the binary runs");
        Background { child, output }
    }

    /// One that writes elsewhere.
    pub fn of(child: Child, output: PathBuf) -> Background {
        Background { child, output }
    }

    /// What it has printed, on both of its streams.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) {
        wait_for(&format!("{text:?} in {}", self.output.display()), || {
            let printed = self.printed();
            if let Ok(Some(status)) = self.child.try_wait() {
                assert!(printed.contains(text), "it ended with {status}:\n{printed}");
            }
            printed.contains(text).then_some(())
        });
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id is not zero");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let output = self.output.clone();
        wait_for(&format!("the end of {}", output.display()), || {
            self.child.try_wait().expect("it is our child")
        })
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server, killed with all that it runs when it is dropped.
pub struct Server {
    pub process: Background,
    pub url: String,
    pub home: Home,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(Home::new(), &[])
    }

    pub fn start_with(home: Home, arguments: &[&str]) -> Server {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend_from_slice(arguments);
        let (process, url) = Server::launch(&home, &all);
        Server { process, url, home }
    }

    pub fn start_on(home: Home, address: &str) -> Server {
        let (process, url) = Server::launch(&home, &["--listen", address]);
        Server { process, url, home }
    }

    fn launch(home: &Home, arguments: &[&str]) -> (Background, String) {
        let mut all = vec!["server"];
        all.extend_from_slice(arguments);
        let mut process = Background::start(home.command(&all), home.path("server.log"));
        let file = home.data().join("server.json");
        let url = wait_for("the server", || {
            if let Ok(Some(status)) = process.child.try_wait() {
                panic!("the server ended with {status}:\n{}", process.printed());
            }
            let text = fs::read_to_string(&file).ok()?;
            let said: Value = serde_json::from_str(&text).ok()?;
            let is_ours = said["pid"].as_u64() == Some(process.child.id().into());
            is_ours.then(|| said["url"].as_str().expect("a URL").to_owned())
        });
        (process, url)
    }

    /// Starts another one where this one was, which has ended.
    pub fn restart(&mut self) {
        let (process, url) = Server::launch(&self.home, &["--listen", "127.0.0.1:0"]);
        self.process = process;
        self.url = url;
    }

    pub fn apply(&self, manifest: &str) {
        let path = self.home.write("manifest.yaml", manifest);
        self.home.output(&["apply", &path]).expect(0);
    }

    /// A request of a browser to a service, by its host name.
    pub fn fetch(&self, host: &str) -> String {
        let address = self.url.strip_prefix("http://").expect("plain HTTP");
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let port = address.rsplit(':').next().expect("a port");
        let request = format!("GET / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

/// Whether a process is there.
pub fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A service that counts, twenty times a second.
pub const COUNTER: &str = r#"
services:
  counter:
    run: 'i=0; while :; do i=$((i + 1)); echo "count $i"; sleep 0.05; done'
    memory: 32M
"#;
