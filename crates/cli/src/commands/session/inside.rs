//! `spawnery session exec`, `shell`, `attach`, `processes` and `ports`: working inside a session.

use super::files;
use crate::attach::{Attached, Signals, is_input_wanted};
use crate::commands::Outcome;
use crate::commands::run::{ours, variables};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;
use crate::terminal::{self, Terminal};
use crate::words::age;
use spawnery_client::Client;
use spawnery_client::api::{ExecReply, ExecRequest, InstanceProcessView, OpenPortView};

/// What a shell is, if nobody says: the best that there is.
const SHELL: &str = "for shell in bash zsh ash sh; do \
    command -v $shell > /dev/null 2>&1 && exec $shell; done; exec /bin/sh";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Inside {
    /// Run a further command in a session: its output here, its exit code ours
    Exec(Exec),
    /// Open a shell in a session, on a terminal
    Shell(Shell),
    /// Attach to a process of a session: its output from the beginning, and a way to type
    Attach(Attach),
    /// List the processes of a session: its main one, and those that were started in it
    Processes {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
    },
    /// Copy files and folders into a session or out of it, with their permissions
    Cp {
        /// A path here or SESSION:/PATH; - for standard input
        #[arg(value_name = "SOURCE")]
        source: String,
        /// A path here or SESSION:/PATH; - for standard output
        #[arg(value_name = "DESTINATION")]
        destination: String,
    },
    /// List a folder of a session
    Ls {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
        /// An absolute path in it
        #[arg(value_name = "PATH", default_value = "/")]
        path: String,
    },
    /// List the TCP ports on which something in a session listens
    Ports {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The session's id, or its first four characters or more
    #[arg(value_name = "SESSION")]
    session: String,
    #[command(flatten)]
    how: How,
    /// Pass our standard input on, also from a terminal
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal, which is ours while we are attached; detach with Ctrl-P Ctrl-Q
    #[arg(short, long)]
    terminal: bool,
    /// Start it, print its number and leave it
    #[arg(short, long, conflicts_with_all = ["interactive", "terminal"])]
    detach: bool,
    /// End it, with all that it has started, after that time, such as 30s: then exit with 124
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shell {
    /// The session's id, or its first four characters or more
    #[arg(value_name = "SESSION")]
    session: String,
    #[command(flatten)]
    how: How,
    /// Another program than the best shell that there is, with its arguments, after --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How a process is started.
#[derive(Debug, clap::Args)]
struct How {
    /// An environment variable; without a value, that of ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "PATH")]
    working_directory: Option<String>,
    /// As whom it runs, by name or number; as the session's own user, if left out
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    /// The session's id, or its first four characters or more
    #[arg(value_name = "SESSION")]
    session: String,
    /// The process, by its number: 0 is the main one
    #[arg(value_name = "PROCESS")]
    process: u32,
    /// Only output from this sequence number on, as a detached command says it
    #[arg(long, value_name = "SEQUENCE", default_value_t = 1)]
    from: u64,
}

impl Inside {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Inside::Exec(exec) => exec.run(context).await,
            Inside::Shell(shell) => shell.run(context).await,
            Inside::Attach(attach) => attach.run(context).await.map_err(ours),
            Inside::Processes { session } => {
                let mut found = context.client()?.processes(&session).await?;
                found.sort_by_key(|process| process.process);
                context.output.data(&found, || process_table(&found), "It has no processes.")?;
                Ok(ExitCode::OK)
            }
            Inside::Cp { source, destination } => files::copy(context, &source, &destination).await,
            Inside::Ls { session, path } => files::list(context, &session, &path).await,
            Inside::Ports { session } => {
                let found = context.client()?.ports(&session).await?;
                let none = "Nothing in it listens on a TCP port.";
                context.output.data(&found, || port_table(&found), none)?;
                Ok(ExitCode::OK)
            }
        }
    }
}

impl How {
    fn request(self, command: Vec<String>) -> Result<ExecRequest, CliError> {
        let mut request = ExecRequest {
            run: command,
            working_directory: self.working_directory,
            user: self.user,
            ..ExecRequest::default()
        };
        for (name, value) in variables(&self.env)? {
            let value = value.as_str().unwrap_or_default().to_owned();
            request.env.insert(name, value);
        }
        Ok(request)
    }
}

impl Exec {
    async fn run(self, context: &Context) -> Outcome {
        let mut request = self.how.request(self.command)?;
        if let Some(timeout) = &self.timeout {
            let parsed = spawnery_manifest::parse_duration(timeout);
            let wrong = |error| CliError::usage(format!("--timeout: {error}"));
            request.timeout_ms = Some(parsed.map_err(wrong)?.0);
        }
        if self.terminal {
            return on_terminal(context, &self.session, request).await.map_err(ours);
        }
        if self.detach {
            let client = context.client()?;
            let started =
                client.exec(&self.session, &request).await.map_err(|it| ours(it.into()))?;
            context.output.said(&started, &started.process.to_string())?;
            return Ok(ExitCode::OK);
        }
        request.stdin = is_input_wanted(self.interactive);
        follow(context, &self.session, request).await.map_err(ours)
    }
}

/// Starts a process; why it could not be is never taken for its own exit code.
async fn start(
    client: &Client,
    instance: &str,
    request: &ExecRequest,
) -> Result<ExecReply, CliError> {
    let started = client.exec(instance, request).await;
    started.map_err(|error| CliError::from(error).with_code(ExitCode::NOT_RUN))
}

/// Runs a process on pipes to its end.
async fn follow(context: &Context, session: &str, request: ExecRequest) -> Outcome {
    let client = context.client()?;
    let instance = client.instance(session).await?;
    let has_stdin = request.stdin;
    let id = instance.id.to_string();
    let signals = Signals::new()?;
    let process = start(&client, &id, &request).await?.process;
    let attached = Attached { client, instance: instance.id, process, has_stdin, memory: None };
    attached.follow(signals).await
}

impl Shell {
    async fn run(self, context: &Context) -> Outcome {
        let command = match self.command.is_empty() {
            true => ["sh", "-c", SHELL].map(str::to_owned).to_vec(),
            false => self.command,
        };
        let request = self.how.request(command)?;
        on_terminal(context, &self.session, request).await.map_err(ours)
    }
}

/// Runs a process on a terminal until it ends or the user detaches.
async fn on_terminal(context: &Context, session: &str, mut request: ExecRequest) -> Outcome {
    let terminal = Terminal::open()?;
    let client = context.client()?;
    let instance = client.instance(session).await?;
    request.terminal = Some(terminal.size()?);
    if let Ok(kind) = std::env::var("TERM") {
        request.env.entry("TERM".to_owned()).or_insert(kind);
    }
    let process = start(&client, &instance.id.to_string(), &request).await?.process;
    let attached =
        Attached { client, instance: instance.id, process, has_stdin: true, memory: None };
    terminal::serve(&attached, Some(terminal), 1).await
}

impl Attach {
    async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let instance = client.instance(&self.session).await?;
        let processes = client.processes(&instance.id.to_string()).await?;
        let found = processes.into_iter().find(|found| found.process == self.process);
        let has_terminal = found.is_some_and(|found| found.terminal && found.exit.is_none());
        let terminal = match has_terminal && terminal::is_there() {
            true => Some(Terminal::open()?),
            false => None,
        };
        let process = self.process;
        let has_stdin = is_input_wanted(false);
        let attached = Attached { client, instance: instance.id, process, has_stdin, memory: None };
        terminal::serve(&attached, terminal, self.from).await
    }
}

/// Processes as a table.
fn process_table(processes: &[InstanceProcessView]) -> Table {
    let mut table = Table::new(&["PROCESS", "STATE", "STARTED", "COMMAND"]);
    for process in processes {
        table.row([
            process.process.to_string().into(),
            state(process).into(),
            age(process.started_at_ms).into(),
            process.run.join(" ").into(),
        ]);
    }
    table
}

fn state(process: &InstanceProcessView) -> String {
    let Some(exit) = &process.exit else {
        let on = if process.terminal { " on a terminal" } else { "" };
        return format!("{}{on}", process.state);
    };
    match (exit.timed_out, exit.exit_code, exit.signal) {
        (true, ..) => "ended by its timeout".to_owned(),
        (false, Some(code), _) => format!("exited {code}"),
        (false, None, Some(signal)) => format!("ended by signal {signal}"),
        (false, None, None) => process.state.clone(),
    }
}

/// Ports as a table.
fn port_table(ports: &[OpenPortView]) -> Table {
    let mut table = Table::new(&["PORT", "NAME", "LISTENS ON", "URL"]);
    for port in ports {
        let on = if port.loopback_only { "loopback" } else { "all" };
        table.row([
            port.port.to_string().into(),
            port.name.clone().unwrap_or_default().into(),
            on.into(),
            port.url.clone().unwrap_or_default().into(),
        ]);
    }
    table
}
