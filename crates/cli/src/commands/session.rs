//! `spawnery session`: made on demand, for somebody.

mod files;
mod inside;
mod show;
mod terms;

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::manifest_file::ManifestFile;
use crate::words::{duration, until};
use inside::Inside;
use serde_json::Value;
use show::{facts, table};
use spawnery_client::InstanceQuery;
use spawnery_client::api::SessionRequest;
use spawnery_manifest::Manifest;
use spawnery_model::Name;
use std::path::PathBuf;
use std::time::Duration;
use terms::Terms;

/// Create sessions, use them and end them
#[derive(Debug, clap::Args)]
pub(crate) struct Session {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SessionCommand {
    /// Create a session from a template, and print its id
    Create {
        /// The template: a session of an applied manifest
        #[arg(value_name = "TEMPLATE", required_unless_present = "file")]
        template: Option<String>,
        /// Make it from the only session of this manifest instead, which need not be applied
        #[arg(short, long, value_name = "FILE", conflicts_with = "template")]
        file: Option<PathBuf>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Show a session: its key, its limits, and when it ends
    Show {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
    },
    /// Say that a session is used, so that it is not ended for being idle
    KeepAlive {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
    },
    /// Let a session live longer, within what its template and its owner's token allow
    Extend {
        /// The session's id, or its first four characters or more
        #[arg(value_name = "SESSION")]
        session: String,
        /// By how long
        #[arg(long, value_name = "TIME", value_parser = duration)]
        by: Duration,
    },
    /// List sessions
    List {
        /// Those that have ended too
        #[arg(short, long)]
        all: bool,
    },
    #[command(flatten)]
    Inside(Inside),
    /// End sessions
    End {
        /// Their ids, or the first four characters or more
        #[arg(value_name = "SESSION", required = true)]
        sessions: Vec<String>,
    },
}

impl Session {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            SessionCommand::Create { template, file, terms } => {
                create(context, template, file, terms).await
            }
            SessionCommand::Show { session } => show(context, &session).await,
            SessionCommand::KeepAlive { session } => {
                context.client()?.keep_session_alive(&session).await?;
                let text = format!("{session} is used: its idle time begins anew");
                context.output.said(&serde_json::json!({ "kept_alive": session }), &text)?;
                Ok(ExitCode::OK)
            }
            SessionCommand::Extend { session, by } => {
                let extended = context.client()?.extend_session(&session, by).await?;
                let text = format!("{session} ends in {}", until(extended.ends_at_ms));
                context.output.said(&extended, &text)?;
                Ok(ExitCode::OK)
            }
            SessionCommand::List { all } => list(context, all).await,
            SessionCommand::End { sessions } => end(context, &sessions).await,
            SessionCommand::Inside(command) => command.run(context).await,
        }
    }
}

async fn create(
    context: &Context,
    template: Option<String>,
    file: Option<PathBuf>,
    terms: Terms,
) -> Outcome {
    let client = context.client()?;
    let mut request = match (template, file) {
        (_, Some(path)) => {
            let file = ManifestFile::read(&path)?;
            file.send(&client).await?;
            inline(&file)?
        }
        (template, None) => {
            let text = template.unwrap_or_default();
            let name = Name::new(text.as_str());
            let name = name.map_err(|error| {
                CliError::usage(format!("`{text}` is not the name of a template: {error}"))
            })?;
            SessionRequest { template: Some(name), ..SessionRequest::default() }
        }
    };
    request.terms = terms.request();
    let created = client.create_session(&request).await?;
    context.output.said(&created, &created.id.to_string())?;
    Ok(ExitCode::OK)
}

/// The request for a session with the only definition of a manifest.
fn inline(file: &ManifestFile) -> Result<SessionRequest, CliError> {
    let unreadable = |error| CliError::failed(format!("the manifest cannot be sent: {error}"));
    // The names of environments are known in the manifest only.
    let alone = Manifest { environments: Vec::new(), ..file.manifest.clone() };
    let json: Value = serde_json::from_str(&alone.to_json()).map_err(unreadable)?;
    let sessions = json.get("sessions").and_then(Value::as_object);
    let mut sessions = sessions.into_iter().flatten();
    match (sessions.next(), sessions.next()) {
        (Some((name, session)), None) => Ok(SessionRequest {
            session: Some(session.clone()),
            name: Name::new(name.as_str()).ok(),
            ..SessionRequest::default()
        }),
        _ => {
            let path = file.path.display();
            let message = format!("{path} has not exactly one session");
            Err(CliError::usage(message).hint("apply it, and name one of its sessions"))
        }
    }
}

async fn list(context: &Context, all: bool) -> Outcome {
    let query = InstanceQuery {
        kind: Some("session".to_owned()),
        state: (!all).then(|| "live".to_owned()),
        ..InstanceQuery::default()
    };
    let mut sessions = context.client()?.instances(&query).await?;
    sessions.sort_by_key(|session| session.created_at_ms);
    let none = "There are no sessions: create one with `spawnery session create TEMPLATE`.";
    context.output.data(&sessions, || table(&sessions), none)?;
    Ok(ExitCode::OK)
}

async fn show(context: &Context, session: &str) -> Outcome {
    let found = context.client()?.instance(session).await?;
    context.output.data(&found, || facts(&found), "")?;
    Ok(ExitCode::OK)
}

async fn end(context: &Context, sessions: &[String]) -> Outcome {
    let client = context.client()?;
    for session in sessions {
        client.end_session(session).await?;
    }
    let lines = sessions.iter().map(|session| format!("ending {session}"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    context.output.said(&serde_json::json!({ "ending": sessions }), &lines)?;
    Ok(ExitCode::OK)
}
