//! The docker runtime: instances are containers of an engine with the API of Docker.

mod archive;
mod container;
mod exec;
mod image;
mod relay;
mod sweep;

use crate::runtimes::DockerEngine;
use crate::shim::{AtStep, End, Failure, Work, end_of_code, meant};
use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use relay::{Relay, SignalStream};
use spawnery_sandbox::spec::{Network, SandboxSpec};
use spawnery_sandbox::tool::{OUT_OF_MEMORY_FILE, Reporter, Signals, StartedProcess};

pub(crate) use sweep::sweep;

/// Seconds that the engine gets for one answer: about what the launcher gives to a whole start.
const ANSWER_SECS_MAX: u64 = 50;

/// Stands in for one process of an instance.
pub(crate) fn stand_in(work: Work, engine: DockerEngine, reporter: Reporter) -> End {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(work, &engine, reporter)),
        Err(error) => {
            reporter.failed("begin", &error.to_string());
            End::Code(1)
        }
    }
}

/// Connects to an engine, in the version of the API that both know.
pub(crate) async fn connect(engine: &DockerEngine) -> Result<Docker, bollard::errors::Error> {
    let docker = Docker::connect_with_unix(&engine.socket, ANSWER_SECS_MAX, API_DEFAULT_VERSION)?;
    docker.negotiate_version().await
}

async fn serve(work: Work, engine: &DockerEngine, reporter: Reporter) -> End {
    let Work { job, spec, signals } = work;
    let result = match connect(engine).await.at(&format!("reach the engine at {}", engine.socket)) {
        Ok(docker) => match &job.exec {
            None => main(&docker, &job, &spec, signals, reporter).await,
            Some(exec) => exec::further(&docker, &job, &spec, exec, signals, reporter).await,
        },
        Err(failure) => Err((failure, reporter)),
    };
    result.unwrap_or_else(|(Failure { step, reason }, reporter)| {
        reporter.failed(&step, &reason);
        End::Code(1)
    })
}

type Job = spawnery_sandbox::tool::Job;
/// What cannot be started, with the one to tell.
type NotStarted = (Failure, Reporter);

async fn main(
    docker: &Docker,
    job: &Job,
    spec: &SandboxSpec,
    signals: Signals,
    reporter: Reporter,
) -> Result<End, NotStarted> {
    let name = match prepare(docker, job, spec).await {
        Ok(name) => name,
        Err(failure) => return Err((failure, reporter)),
    };
    let end = match start(docker, &name, spec).await {
        Ok(running) => {
            reporter.started(StartedProcess::OfHost(running.pid));
            Ok(follow(docker, &name, running, job, signals).await)
        }
        Err(failure) => Err((failure, reporter)),
    };
    let remove = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    // What stays is removed by the next sweep.
    let _ = docker.remove_container(&name, Some(remove)).await;
    container::remove_secrets(job);
    end
}

/// Everything up to a container that can be started. Gives its id.
async fn prepare(docker: &Docker, job: &Job, spec: &SandboxSpec) -> Result<String, Failure> {
    refuse_what_is_not_there(spec)?;
    sweep::hold(job).at("lock the folder of the instance")?;
    sweep(docker).await;
    let image = image::provide(docker, spec).await?;
    container::create(docker, job, spec, &image).await
}

struct Running {
    relay: Relay,
    /// Its process id on the host.
    pid: u32,
}

async fn start(docker: &Docker, name: &str, spec: &SandboxSpec) -> Result<Running, Failure> {
    let process = container::process(spec, None)?;
    container::find_program(docker, name, &process).await?;
    let files = container::files(spec)?;
    container::upload(docker, name, files).await.at("write the files of the instance")?;
    let attached = container::attach(docker, name, spec.stdin_pipe).await;
    let attached = attached.at("attach to the container")?;
    let relay = Relay::new(attached.output, spec.stdin_pipe.then_some(attached.input));
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let options = None::<bollard::query_parameters::StartContainerOptions>;
    docker.start_container(name, options).await.map_err(|error| Failure::new(&step, error))?;
    let state = docker.inspect_container(name, None).await.at(&step)?.state.unwrap_or_default();
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    Ok(Running { relay, pid })
}

/// Passes output, input and signals on until the container has ended.
async fn follow(docker: &Docker, name: &str, running: Running, job: &Job, signals: Signals) -> End {
    let condition = "not-running".to_owned();
    let mut waiting =
        Box::pin(docker.wait_container(name, Some(WaitContainerOptions { condition })));
    let ended = async move { while let Some(Ok(_)) = waiting.next().await {} };
    let mut both = Box::pin(async { tokio::join!(running.relay.run(), ended) });
    let mut signals = SignalStream::new(signals);
    loop {
        tokio::select! {
            _ = &mut both => break,
            signal = signals.next() => {
                if let Some(signal) = meant(signal) {
                    let signal = signal.to_string();
                    // One that has ended just now takes no signals any more.
                    let _ = docker.kill_container(name, Some(KillContainerOptions { signal })).await;
                }
            }
        }
    }
    let state = match docker.inspect_container(name, None).await {
        Ok(found) => found.state.unwrap_or_default(),
        Err(_) => return End::Signal(9),
    };
    if state.oom_killed == Some(true) {
        // Without space on disk the reason is less clear, nothing else.
        let _ = std::fs::write(job.dir().join(OUT_OF_MEMORY_FILE), b"");
    }
    end_of_code(state.exit_code.unwrap_or(0))
}

fn refuse_what_is_not_there(spec: &SandboxSpec) -> Result<(), Failure> {
    let root = rustix::process::geteuid().is_root();
    let secrets = spec.secret_files.iter().flatten().next().is_some();
    let reason = if spec.secret_env.iter().flatten().next().is_some() {
        "the engine would write variables to its disk; give the secret as a file"
    } else if secrets && !root {
        "secrets as files need an agent with root"
    } else if spec.root.is_some() && !root {
        "an environment needs an agent with root"
    } else if spec.network == Network::Private {
        "it has no private network; use `none` or `host`, or another runtime"
    } else if spec.disk_bytes_max.is_some() {
        "it does not limit the disk; leave the limit out, or use the process runtime"
    } else if spec.keeps_layer == Some(true) {
        "it keeps no layer; builds use the process runtime"
    } else {
        return Ok(());
    };
    Err(Failure::new("use the docker runtime", reason))
}
