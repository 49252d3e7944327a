//! Further processes of a container.

use super::relay::{Relay, SignalStream};
use super::{Job, NotStarted, container};
use crate::shim::{AtStep, End, Failure, end_of_code};
use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use rustix::fs::FileType;
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec};
use spawnery_sandbox::tool::{KILL, Reporter, Signals, StartedProcess};
use std::time::Duration;

/// Time between two looks at a process that is starting or ending.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Stands in for a further process. Signals reach it from the launcher itself.
pub(super) async fn further(
    docker: &Docker,
    job: &Job,
    spec: &SandboxSpec,
    exec: &ExecSpec,
    signals: Signals,
    reporter: Reporter,
) -> Result<End, NotStarted> {
    let started = start(docker, job, spec, exec).await;
    let (id, relay, pid) = match started {
        Ok(started) => started,
        Err(failure) => return Err((failure, reporter)),
    };
    reporter.started(StartedProcess::OfHost(pid));
    let mut ended = Box::pin(async {
        relay.run().await;
        loop {
            match docker.inspect_exec(&id).await {
                Ok(found) if found.running == Some(true) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(found) => return end_of_code(found.exit_code.unwrap_or(137)),
                // Its container is gone.
                Err(_) => return End::Signal(9),
            }
        }
    });
    let mut signals = SignalStream::new(signals);
    loop {
        tokio::select! {
            end = &mut ended => return Ok(end),
            // The launcher is gone; the process ends with its container.
            signal = signals.next() => if signal == KILL { return Ok(End::Signal(9)) },
        }
    }
}

async fn start(
    docker: &Docker,
    job: &Job,
    spec: &SandboxSpec,
    exec: &ExecSpec,
) -> Result<(String, Relay, u32), Failure> {
    let name = container::name(job)?;
    let process = container::process(spec, Some(exec))?;
    container::find_program(docker, &name, &process).await?;
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let stdin = has_input();
    let config = ExecConfig {
        attach_stdin: Some(stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(process.env),
        cmd: Some(process.argv),
        user: Some(format!("{}:{}", process.user.uid, process.user.gid)),
        working_dir: Some(process.working_directory),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(&name, config).await.at(&step)?.id;
    let options = StartExecOptions { output_capacity: Some(64 * 1024), ..Default::default() };
    let started = docker.start_exec(&id, Some(options)).await.at(&step)?;
    let StartExecResults::Attached { output, input } = started else {
        return Err(Failure::new(step, "the engine gives no streams"));
    };
    let relay = Relay::new(output, stdin.then_some(input));
    let pid = wait_for_start(docker, &id).await.map_err(|reason| Failure::new(&step, reason))?;
    Ok((id, relay, pid))
}

/// Whether this process's standard input is a pipe of the launcher's.
fn has_input() -> bool {
    let status = rustix::fs::fstat(rustix::stdio::stdin());
    status.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Fifo)
}

/// The process id on the host, once the process runs.
async fn wait_for_start(docker: &Docker, id: &str) -> Result<u32, String> {
    loop {
        let found: ExecInspectResponse =
            docker.inspect_exec(id).await.map_err(|error| error.to_string())?;
        let pid = found.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        match (pid, found.exit_code) {
            (1.., _) => return Ok(pid),
            (0, Some(code)) if found.running != Some(true) => {
                return Err(format!("the engine could not start it (code {code})"));
            }
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
