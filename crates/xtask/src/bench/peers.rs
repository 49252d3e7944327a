//! What a user would pick instead, run by hand as it were.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process;

/// The time from starting a command to the first byte of its output; then waits for its end.
///
/// # Errors
///
/// When it cannot be started, writes nothing, or fails.
pub fn first_byte(command: &mut Command) -> Result<Duration, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    let mut output = child.stdout.take().ok_or("a child has no output")?;
    let read = output.read_exact(&mut [0]);
    let time = start.elapsed();
    // To its end, so that it does not fail to write.
    let _ = output.read_to_end(&mut Vec::new());
    let status = child.wait().map_err(|error| error.to_string())?;
    if read.is_err() || !status.success() {
        return Err(format!("{name} ended with {status}"));
    }
    Ok(time)
}

/// The same many times, so many at once.
///
/// # Errors
///
/// When one of them fails.
pub fn at_once(
    callers: usize,
    rounds: usize,
    command: fn() -> Command,
) -> Result<Vec<Duration>, Failure> {
    let caller = || (0..rounds).map(|_| first_byte(&mut command())).collect();
    let results: Vec<Result<Vec<Duration>, Failure>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|it| it.join().expect("no caller panics")).collect()
    });
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    Ok(times)
}

/// An image that a Docker engine here has, and that can run `echo`.
///
/// # Errors
///
/// Why there is none. Nothing is fetched for a benchmark.
pub fn docker_image() -> Result<String, Failure> {
    let mut version = Command::new("docker");
    if !process::works(version.args(["version", "--format", "{{.Server.Version}}"])) {
        return Err("no Docker engine answers here".to_owned());
    }
    let mut images = Command::new("docker");
    let images = process::output(images.args(["images", "--format", "{{.Repository}}:{{.Tag}}"]))?;
    let known = ["busybox", "alpine", "debian", "ubuntu"];
    let image = images.lines().find(|image| known.iter().any(|name| image.starts_with(name)));
    image.map(str::to_owned).ok_or_else(|| {
        format!("the Docker engine has none of these images: {}; docker pull one", known.join(", "))
    })
}
