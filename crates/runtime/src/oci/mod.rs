//! The OCI runtime: instances are containers of a command such as `runc`.

mod command;
pub(crate) mod config;

mod root;

use crate::runtimes::OciCommand;
use crate::shim::{AtStep, End, Failure, Passwd, Process, Work, follow, let_go_of_streams, user};
use command::Container;
use root::Places;
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec};
use spawnery_sandbox::tool::{Groups, Holder, OUT_OF_MEMORY_FILE, Reporter, StartedProcess};
use std::path::Path;

/// File on the tool's file system with the user's entry, for further processes.
const PASSWD_FILE: &str = "passwd";

/// Stands in for one process of an instance.
pub(crate) fn stand_in(work: Work, command: OciCommand, reporter: Reporter) -> End {
    match work.job.exec.clone() {
        None => main(&work, command, reporter),
        Some(exec) => further(&work, command, reporter, &exec),
    }
}

fn main(work: &Work, command: OciCommand, reporter: Reporter) -> End {
    let started = match start(work, command) {
        Ok(started) => started,
        Err(Failure { step, reason }) => {
            reporter.failed(&step, &reason);
            return End::Code(1);
        }
    };
    let groups = Groups::of(started.pid);
    reporter.started(StartedProcess::Here(started.pid));
    let end = follow(started.pid, &work.signals);
    if groups.oom_kills() > 0 {
        // Without space on disk the reason is less clear, nothing else.
        let _ = std::fs::write(work.job.dir().join(OUT_OF_MEMORY_FILE), b"");
    }
    if let Some(holder) = started.holder {
        let _ = holder.end();
    }
    // All of it has ended; what is left are control groups.
    let _ = started.container.delete();
    end
}

struct Running {
    container: Container,
    holder: Option<Holder>,
    pid: u32,
}

fn start(work: &Work, command: OciCommand) -> Result<Running, Failure> {
    refuse_what_is_not_there(&work.spec)?;
    // So that the container's process is ours to wait for when the command has ended.
    let me = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(me).at("adopt the container's process")?;
    let (places, inside) = root::make(work)?;
    let passwd = Passwd::find(&inside.read("/etc/passwd"), user(&work.spec).uid);
    std::fs::write(places.tool.join(PASSWD_FILE), format!("{}\n{}", passwd.name, passwd.home))
        .at("write down the user")?;
    let process = Process::new(&work.spec, None, &passwd);
    let holder = Holder::start().at("make the namespaces")?;
    let instance = &work.job.instance;
    let config = config::container(instance, &work.spec, &process, &places, Some(holder.pid))?;
    write(&places.tool.join("config.json"), &config)?;
    let container = Container::new(command, instance, &places);
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let started = container.create().and_then(|pid| container.start().map(|()| pid));
    match started.and_then(|pid| let_go_of_streams().map(|()| pid).map_err(|it| it.to_string())) {
        Ok(pid) => Ok(Running { container, holder: Some(holder), pid }),
        Err(reason) => {
            let _ = holder.end();
            let _ = container.delete();
            Err(Failure { step, reason })
        }
    }
}

fn further(work: &Work, command: OciCommand, reporter: Reporter, exec: &ExecSpec) -> End {
    match start_further(work, command, exec) {
        Ok(pid) => {
            reporter.started(StartedProcess::Here(pid));
            follow(pid, &work.signals)
        }
        Err(Failure { step, reason }) => {
            reporter.failed(&step, &reason);
            End::Code(1)
        }
    }
}

fn start_further(work: &Work, command: OciCommand, exec: &ExecSpec) -> Result<u32, Failure> {
    let me = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(me).at("adopt the container's process")?;
    let places = Places::find(work)?;
    let passwd = std::fs::read_to_string(places.tool.join(PASSWD_FILE)).at("find the user")?;
    let (name, home) = passwd.split_once('\n').unwrap_or((&passwd, "/"));
    let passwd = Passwd { name: name.to_owned(), home: home.to_owned() };
    let process = Process::new(&work.spec, Some(exec), &passwd);
    let number = work.job.process;
    let file = places.tool.join(format!("process-{number}.json"));
    write(&file, &config::process(&process))?;
    let container = Container::new(command, &work.job.instance, &places);
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let pid = container.exec(number, &file).at(&step)?;
    let _ = std::fs::remove_file(&file);
    let_go_of_streams().at(&step)?;
    Ok(pid)
}

/// Writes what may hold secrets, on a file system in memory that only root can enter.
fn write(path: &Path, value: &serde_json::Value) -> Result<(), Failure> {
    std::fs::write(path, value.to_string()).at("write the configuration of the container")
}

fn refuse_what_is_not_there(spec: &SandboxSpec) -> Result<(), Failure> {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("it needs an agent with root; use the process runtime instead")
    } else if spec.disk_bytes_max.is_some() {
        Some("it does not limit the disk; leave the limit out, or use the process runtime")
    } else if spec.keeps_layer == Some(true) {
        Some("it keeps no layer; builds use the process runtime")
    } else {
        None
    };
    missing.map_or(Ok(()), |reason| Err(Failure::new("use the oci runtime", reason)))
}
