//! Starts over an environment, beside starts over the view of the host, asked of a launcher.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::limits::HOST_ID_BASE;
use spawnery_sandbox::protocol::{Event, Reply, Request, WarmSpec};
use spawnery_sandbox::spec::{RootSpec, SandboxSpec};

use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use super::server;
use super::sessions::RUN;
use crate::Failure;

/// Starts of each kind, in turn.
const COUNT: usize = 150;

/// Starts that are not counted, before the others.
const COUNT_WARM_UP: usize = 10;

/// The environment: so many folders with so many files of so many bytes, 1 GiB in all.
const FOLDERS: usize = 64;
const FILES: usize = 64;
const FILE_BYTES: usize = 256 * 1024;

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures starts over an environment of 1 GiB, without and with prepared sandboxes.
///
/// # Errors
///
/// When the environment cannot be made, or something does not start.
pub fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let program = server::binary(options)?;
    let folder = tempfile::Builder::new().prefix("spawnery-bench-").tempdir().map_err(text)?;
    let layer = folder.path().join("layer");
    make_layer(&layer).map_err(|error| format!("cannot make an environment: {error}"))?;
    let layers = vec![layer.to_string_lossy().into_owned()];
    let root = Some(RootSpec { layers, host: true });
    let mut launcher = Launcher::start(&program, &folder.path().join("cold"), 0)?;
    let cold = launcher.in_turn([root.clone(), None], Duration::ZERO)?;
    drop(launcher);
    let mut launcher = Launcher::start(&program, &folder.path().join("warm"), 2)?;
    launcher.warm(root.clone())?;
    let warm = launcher.in_turn([root, None], Duration::from_millis(30))?;
    let row = |what: &str, [ours, host]: [Vec<Duration>; 2]| {
        Row::new(what, Figure::times(ours), Goal::OfPeerAtMost(1.3))
            .beside("over the host's view", Figure::times(host))
    };
    Ok(vec![
        row("start over an environment of 1 GiB, to the first byte", cold),
        row("the same from warm pools", warm),
    ])
}

fn text(error: impl ToString) -> Failure {
    error.to_string()
}

/// Real files, so that the environment is as large as it says.
fn make_layer(layer: &Path) -> std::io::Result<()> {
    let opt = layer.join("root/opt");
    fs::create_dir_all(&opt)?;
    let bytes = vec![b'x'; FILE_BYTES];
    for folder in 0..FOLDERS {
        let folder = opt.join(format!("folder-{folder}"));
        fs::create_dir(&folder)?;
        for file in 0..FILES {
            fs::write(folder.join(format!("file-{file}")), &bytes)?;
        }
    }
    // A launcher that is root gives sandboxes ids of their own.
    if Command::new("id").arg("-u").output()?.stdout == b"0\n" {
        own(layer, HOST_ID_BASE)?;
    }
    Ok(())
}

fn own(path: &Path, owner: u32) -> std::io::Result<()> {
    lchown(path, Some(owner), Some(owner))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// A launcher of its own.
struct Launcher {
    child: Child,
    client: Client,
    count: usize,
}

impl Launcher {
    fn start(program: &Path, data: &Path, spares: u32) -> Result<Launcher, Failure> {
        let mut command = Command::new(program);
        command.arg("launcher").arg("--data").arg(data).args(["--spares", &spares.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(text)?;
        let start = Instant::now();
        loop {
            match Client::connect(data) {
                Ok(client) => return Ok(Launcher { child, client, count: 0 }),
                Err(error) if start.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the launcher does not answer: {error}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Keeps two ready, and waits until they are.
    fn warm(&mut self, root: Option<RootSpec>) -> Result<(), Failure> {
        let spec = Box::new(SandboxSpec { root, ..SandboxSpec::new(RUN) });
        self.client.warm(vec![WarmSpec { spec, count: 2 }]).map_err(text)?;
        let start = Instant::now();
        loop {
            match self.client.request(Request::Pools).map_err(text)? {
                Reply::Pools { pools } if pools.iter().all(|it| it.ready >= it.wanted) => {
                    return Ok(());
                }
                other if start.elapsed() > PATIENCE => {
                    return Err(format!("the pools do not fill: {other:?}"));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Starts over both roots in turn, so that what else the machine does falls on both.
    fn in_turn(
        &mut self,
        roots: [Option<RootSpec>; 2],
        pause: Duration,
    ) -> Result<[Vec<Duration>; 2], Failure> {
        let mut times = [Vec::new(), Vec::new()];
        for number in 0..COUNT_WARM_UP + COUNT {
            for (root, times) in roots.iter().zip(&mut times) {
                std::thread::sleep(pause);
                let time = self.one(root.clone())?;
                if number >= COUNT_WARM_UP {
                    times.push(time);
                }
            }
        }
        Ok(times)
    }

    /// From the request to the first output; then waits for the end, and forgets it.
    fn one(&mut self, root: Option<RootSpec>) -> Result<Duration, Failure> {
        self.count += 1;
        let instance = format!("bench-{}", self.count);
        let spec = Box::new(SandboxSpec { root, ..SandboxSpec::new(RUN) });
        let start = Instant::now();
        match self.client.request(Request::Start { instance: instance.clone(), spec }) {
            Ok(Reply::Started { .. }) => {}
            other => return Err(format!("{instance} does not start: {other:?}")),
        }
        let mut first = None;
        while let Event::Output { .. } = self.client.next_event(PATIENCE).map_err(text)? {
            first.get_or_insert_with(|| start.elapsed());
        }
        self.client.request(Request::Forget { instance }).map_err(text)?;
        first.ok_or_else(|| "an instance wrote nothing".to_owned())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.client.request(Request::Shutdown { stop_all: true });
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
