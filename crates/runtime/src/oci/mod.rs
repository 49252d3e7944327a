//! The OCI runtime: instances are containers of a command such as `runc`.

mod command;
pub(crate) mod config;

mod root;

use crate::runtimes::OciCommand;
use crate::shim::inside::Inside;
use crate::shim::{
    AtStep, End, Failure, Process, Work, end_of_code, follow, let_go_of_streams, main_account, user,
};
use command::{Container, Foreground};
use root::Places;
use spawnery_sandbox::accounts::{self, Account};
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec};
use spawnery_sandbox::tool::{
    Groups, Holder, OUT_OF_MEMORY_FILE, Reporter, StartedProcess, send_signal,
};
use std::path::Path;

/// File on the tool's file system with the user's entry, for further processes.
const ACCOUNT_FILE: &str = "account";

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
    let end = started.follow(work);
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
    /// The command, if it stays.
    foreground: Option<Foreground>,
    pid: u32,
}

impl Running {
    fn follow(&self, work: &Work) -> End {
        let Some(foreground) = &self.foreground else {
            return follow(self.pid, &work.signals, |signal| _ = send_signal(self.pid, signal));
        };
        // A command that were killed itself would leave its container.
        let kill = |signal| self.container.kill(signal);
        foreground.end.unwrap_or_else(|| follow_command(foreground, work, kill))
    }
}

/// A command in the foreground ends as its process, but for the way in which it tells a signal.
fn follow_command(foreground: &Foreground, work: &Work, send: impl Fn(i32)) -> End {
    match follow(foreground.command(), &work.signals, send) {
        End::Code(code) => end_of_code(code.into()),
        end => end,
    }
}

fn start(work: &Work, command: OciCommand) -> Result<Running, Failure> {
    refuse_what_is_not_there(&work.spec)?;
    // So that the container's process is ours to wait for when the command has ended.
    let me = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(me).at("adopt the container's process")?;
    let (places, inside) = root::make(work)?;
    let account = main_account(&work.spec, &inside.read("/etc/passwd"));
    std::fs::write(places.tool.join(ACCOUNT_FILE), format!("{}\n{}", account.name, account.home))
        .at("write down the user")?;
    let process = Process::new(&work.spec, None, &account);
    let shares = command.shares_kernel;
    let holder = shares.then(Holder::start).transpose().at("make the namespaces")?;
    let instance = &work.job.instance;
    let config = config::container(
        instance,
        &work.spec,
        &process,
        &places,
        holder.as_ref().map(|it| it.pid),
    )?;
    write(&places.tool.join("config.json"), &config)?;
    let container = Container::new(command, instance, &places);
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let started = if shares {
        container.create().and_then(|pid| container.start().map(|()| (None, pid)))
    } else {
        container.run().map(|run| {
            let pid = run.pid.unwrap_or_else(|| run.command());
            (Some(run), pid)
        })
    };
    match started.and_then(|it| let_go_of_streams().map(|()| it).map_err(|it| it.to_string())) {
        Ok((foreground, pid)) => Ok(Running { container, holder, foreground, pid }),
        Err(reason) => {
            let _ = holder.map(|holder| holder.end());
            let _ = container.delete();
            Err(Failure { step, reason })
        }
    }
}

fn further(work: &Work, command: OciCommand, reporter: Reporter, exec: &ExecSpec) -> End {
    match start_further(work, command, exec) {
        Ok((None, pid)) => {
            reporter.started(StartedProcess::Here(pid));
            follow(pid, &work.signals, |signal| _ = send_signal(pid, signal))
        }
        Ok((Some(run), pid)) => {
            reporter.started(StartedProcess::Here(pid));
            // The command passes them on.
            let send = |signal| _ = send_signal(run.command(), signal);
            run.end.unwrap_or_else(|| follow_command(&run, work, send))
        }
        Err(Failure { step, reason }) => {
            reporter.failed(&step, &reason);
            End::Code(1)
        }
    }
}

/// Gives the command, if it stays, and the process.
fn start_further(
    work: &Work,
    command: OciCommand,
    exec: &ExecSpec,
) -> Result<(Option<Foreground>, u32), Failure> {
    let me = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(me).at("adopt the container's process")?;
    let places = Places::find(work)?;
    let account = match &exec.user {
        None => first_account(work, &places)?,
        Some(written) => {
            let inside = Inside::open(&places.root, (0, 0)).at("enter the root")?;
            accounts::resolve(written, &inside.read("/etc/passwd"), &inside.read("/etc/group"))
                .at(&format!("find the user {written}"))?
        }
    };
    let process = Process::new(&work.spec, Some(exec), &account);
    let (number, shares) = (work.job.process, command.shares_kernel);
    let file = places.tool.join(format!("process-{number}.json"));
    write(&file, &config::process(&process))?;
    let container = Container::new(command, &work.job.instance, &places);
    let step = format!("run `{}`", process.argv.first().map_or("", String::as_str));
    let started = if shares {
        (None, container.exec(number, &file).at(&step)?)
    } else {
        let run = container.run_further(number, &file).at(&step)?;
        let pid = run.command();
        (Some(run), pid)
    };
    let _ = std::fs::remove_file(&file);
    let_go_of_streams().at(&step)?;
    Ok(started)
}

/// The user of the main process.
fn first_account(work: &Work, places: &Places) -> Result<Account, Failure> {
    let written = std::fs::read_to_string(places.tool.join(ACCOUNT_FILE)).at("find the user")?;
    let (name, home) = written.split_once('\n').unwrap_or((&written, "/"));
    Ok(Account { user: user(&work.spec), name: name.to_owned(), home: home.to_owned() })
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
