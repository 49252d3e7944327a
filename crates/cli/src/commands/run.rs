//! `spawnery run`: one isolated command.

use super::Outcome;
use crate::attach::{Attached, Signals, is_input_wanted};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::local_content::LocalContent;
use crate::manifest_file::read_file;
use crate::place::Place;
use crate::serve::{NodeOptions, Private};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use spawnery_client::Client;
use spawnery_client::api::SessionRequest;
use spawnery_manifest::{Format, ManifestErrors};
use spawnery_model::limits::FILES_BYTES_MAX;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// How long a local server may take to accept a connection before it counts as gone.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// What an inline session is called while it is checked here.
const CHECKED_NAME: &str = "run";

/// Run one command, isolated: its output here, its exit code ours
///
/// Nothing of this machine but its programs is seen by the command, and nothing that it does
/// outlives it. Ctrl-C goes to the command; a second one ends it. With no server running, a
/// private one is started for as long as it takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Memory, such as 512M or 4G: reserved, and the most that it may use [env: SPAWNERY_MEMORY]
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// Processor share in cores, such as 2 or 0.5 [env: SPAWNERY_CPU]
    #[arg(long, value_name = "CORES")]
    cpu: Option<String>,
    /// The most processes and threads [env: SPAWNERY_PIDS]
    #[arg(long, value_name = "NUMBER")]
    pids: Option<String>,
    /// What it can reach: none but itself, the internet from an address of its own, or all that
    /// the host can [env: SPAWNERY_NETWORK]
    #[arg(long, value_name = "none|private|host")]
    network: Option<String>,
    /// The image whose files it finds, and whose command it runs unless one is given: of a
    /// registry, or the path of an OCI layout or an archive
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How it is isolated
    #[arg(long, value_name = "RUNTIME",
        value_parser = crate::args::word_of(&["process", "oci", "docker"]))]
    runtime: Option<String>,
    /// As whom it runs inside, such as 1000 or 1000:1000
    #[arg(long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A secret that it is given, as the file /run/secrets/NAME or as a variable
    #[arg(long, value_name = "NAME[=VARIABLE]")]
    secret: Vec<String>,
    /// A volume, and where it is seen instead of /srv/NAME
    #[arg(long, value_name = "NAME[:PATH]")]
    volume: Vec<String>,
    /// An environment variable; without a value, that of ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of this machine, and where the command finds its copy
    #[arg(short, long, value_name = "FILE:PATH")]
    file: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "PATH")]
    working_directory: Option<String>,
    /// End it after this time, such as 30s or 5m
    #[arg(short, long, value_name = "TIME")]
    timeout: Option<String>,
    /// Pass our standard input on, also from a terminal
    #[arg(short, long)]
    interactive: bool,
    /// The command and its arguments, after --
    #[arg(last = true, required_unless_present = "image", value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let has_stdin = is_input_wanted(self.interactive);
        let (session, content) = self.session(context, has_stdin)?;
        let memory = context.config.text("memory").map(str::to_owned);
        let wanted = Wanted { session, content, has_stdin, memory };
        match existing_server(context)? {
            Some(client) => crate::runtime::client(async {
                let ran = run_on(client, Signals::new()?, wanted).await;
                ran.map_err(ours)
            }),
            None => crate::runtime::server(async {
                let node = NodeOptions::of(&context.config)?;
                in_private(node, wanted).await.map_err(ours)
            }),
        }
    }

    /// The session's definition, checked, and what it takes from this machine.
    fn session(
        &self,
        context: &Context,
        has_stdin: bool,
    ) -> Result<(Value, LocalContent), CliError> {
        let mut session = Map::new();
        let mut set = |name: &str, value: Value| session.insert(name.to_owned(), value);
        if !self.command.is_empty() {
            set("run", json!(self.command));
        }
        set("stdin", json!(has_stdin));
        for name in ["memory", "cpu", "pids", "network"] {
            if let Some(text) = context.config.text(name) {
                let number = text.parse::<u32>().ok().filter(|_| name == "pids");
                set(name, number.map_or(json!(text), |number| json!(number)));
            }
        }
        if let Some(folder) = &self.working_directory {
            set("working_directory", json!(folder));
        }
        if let Some(time) = &self.timeout {
            set("duration", json!(time));
        }
        if !self.env.is_empty() {
            set("env", Value::Object(variables(&self.env)?));
        }
        if !self.file.is_empty() {
            set("files", Value::Object(files(&self.file)?));
        }
        self.surroundings(&mut session);
        checked(&Value::Object(session))
    }

    /// Adds what it finds around its process.
    fn surroundings(&self, session: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| session.insert(name.to_owned(), value);
        if let Some(image) = &self.image {
            set("environment", json!({ "base": { "image": image } }));
        }
        if let Some(runtime) = &self.runtime {
            set("runtime", json!(runtime));
        }
        if let Some(user) = &self.user {
            set("user", json!(user));
        }
        let pairs = |given: &[String], separator: char, field: &str| -> Value {
            let pair = |text: &String| match text.split_once(separator) {
                Some((name, second)) => json!({ "name": name, field: second }),
                None => json!({ "name": text }),
            };
            given.iter().map(pair).collect()
        };
        if !self.secret.is_empty() {
            set("secrets", pairs(&self.secret, '=', "variable"));
        }
        if !self.volume.is_empty() {
            set("volumes", pairs(&self.volume, ':', "path"));
        }
    }
}

/// An error of Spawnery's own: the command is not to blame for it.
pub(crate) fn ours(error: CliError) -> CliError {
    let is_ours = [ExitCode::FAILED, ExitCode::NO_SERVER, ExitCode::REFUSED].contains(&error.code);
    match is_ours {
        true => error.with_code(ExitCode::NOT_RUN),
        false => error,
    }
}

/// What is to be run.
struct Wanted {
    session: Value,
    content: LocalContent,
    has_stdin: bool,
    /// Its memory limit, for the reason when it is reached.
    memory: Option<String>,
}

async fn run_on(client: Client, signals: Signals, wanted: Wanted) -> Outcome {
    let Wanted { session, content, has_stdin, memory } = wanted;
    content.send(&client).await?;
    let request = SessionRequest { session: Some(session), ..SessionRequest::default() };
    let created = client.create_session(&request).await?;
    let attached = Attached { client, instance: created.id, process: 0, has_stdin, memory };
    attached.follow(signals).await
}

async fn in_private(node: NodeOptions, wanted: Wanted) -> Outcome {
    let signals = Signals::new()?;
    let server = Private::start(node).await?;
    let outcome = match server.client() {
        Ok(client) => run_on(client, signals, wanted).await,
        Err(error) => Err(error),
    };
    server.stop().await?;
    outcome
}

/// The server that is configured, or the local one if it is there.
fn existing_server(context: &Context) -> Result<Option<Client>, CliError> {
    if context.url().is_none() {
        let Ok(data) = context.config.data() else {
            return Ok(None);
        };
        let Some(server) = Place::new(data).server() else {
            return Ok(None);
        };
        // What a server that was killed left behind names nobody.
        let address = server.url.strip_prefix("http://").and_then(|rest| rest.parse().ok());
        let is_there = address
            .is_some_and(|address| TcpStream::connect_timeout(&address, ALIVE_WITHIN).is_ok());
        if !is_there {
            return Ok(None);
        }
    }
    context.client().map(Some)
}

/// The variables that are given as `NAME=VALUE`, or as `NAME` for the value of ours.
pub(crate) fn variables(given: &[String]) -> Result<Map<String, Value>, CliError> {
    let mut variables = Map::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(text) {
                Ok(value) => (text.as_str(), value),
                Err(_) => {
                    let message = format!("--env: there is no variable `{text}` here");
                    return Err(CliError::usage(message).hint("give it a value: NAME=VALUE"));
                }
            },
        };
        variables.insert(name.to_owned(), json!(value));
    }
    Ok(variables)
}

fn files(given: &[String]) -> Result<Map<String, Value>, CliError> {
    let mut files = Map::new();
    for text in given {
        let Some((from, to)) = text.rsplit_once(':') else {
            let message = format!("--file: `{text}` does not say where the copy goes");
            return Err(CliError::usage(message).hint("give it as FILE:PATH"));
        };
        let read = read_file(Path::new(from), FILES_BYTES_MAX)
            .map_err(|error| CliError::usage(format!("--file: cannot read {from}: {error}")));
        let (content, mode) = read?;
        let content = STANDARD.encode(content);
        let file = json!({ "content_base64": content, "mode": format!("{mode:04o}") });
        files.insert(to.to_owned(), file);
    }
    Ok(files)
}

/// Checks the definition as part of a manifest, so that what is wrong is named by its option, and
/// gives it back with the digests of what it takes from this machine.
fn checked(session: &Value) -> Result<(Value, LocalContent), CliError> {
    let text = json!({ "sessions": { CHECKED_NAME: session } }).to_string();
    let mut content = LocalContent::default();
    let parsed = spawnery_manifest::parse(&text, Format::Json);
    let read = parsed
        .and_then(|parsed| parsed.with_trees(|local| content.read(Path::new(""), local)))
        .map_err(|errors| shown(&errors))?;
    let json = serde_json::from_str::<Value>(&read.to_json()).map_err(CliError::failed)?;
    Ok((json["sessions"][CHECKED_NAME].clone(), content))
}

/// The first of the errors, about an option instead of a field.
fn shown(errors: &ManifestErrors) -> CliError {
    let Some(error) = errors.errors().first() else {
        return CliError::usage("the command cannot be understood");
    };
    let prefix = format!("sessions.{CHECKED_NAME}.");
    let field = error.field.strip_prefix(&prefix).unwrap_or(&error.field);
    let option = match field.split(['.', '[']).next().unwrap_or(field) {
        "files" => "--file".to_owned(),
        "duration" => "--timeout".to_owned(),
        "run" => "the command".to_owned(),
        "environment" => "--image".to_owned(),
        "secrets" => "--secret".to_owned(),
        "volumes" => "--volume".to_owned(),
        other => format!("--{}", other.replace('_', "-")),
    };
    let shown = CliError::usage(format!("{option}: {}; expected {}", error.found, error.expected));
    match &error.hint {
        Some(hint) => shown.hint(hint.as_str()),
        None => shown,
    }
}
