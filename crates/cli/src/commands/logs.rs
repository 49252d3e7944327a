//! `spawnery logs`: what instances print.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::follow::{Followers, Piece, Prefixed, current};
use crate::output::note;
use crate::words::since;
use serde::Serialize;
use spawnery_client::api::{InstanceView, OutputStream};
use spawnery_client::{
    Client, ErrorKind, EventItem, EventStream, InstanceQuery, LogItem, LogQuery,
};
use spawnery_model::InstanceId;
use std::io::Write;

/// Show the output of a workload's instances, or of one instance
///
/// Of a workload, the instances that live are shown or, if none does, the last one that ended.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// A workload's name, or an instance's id or the beginning of it
    #[arg(value_name = "WORKLOAD|INSTANCE")]
    subject: String,
    /// Go on as output comes; of a workload, with the instances to come too
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since then, such as 10m or 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last so many lines of each instance
    #[arg(long, value_name = "LINES", conflicts_with = "since")]
    tail: Option<u64>,
    /// A further process of the instance, by its number
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    process: u32,
}

/// What was asked for.
struct Subject {
    instances: Vec<InstanceView>,
    /// The workload, if that is what was asked for.
    workload: Option<String>,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let query = LogQuery {
            process: self.process,
            follow: self.follow,
            tail: self.tail,
            since_ms: self.since.as_deref().map(since).transpose()?,
        };
        let mut events = client.events(None);
        if self.follow {
            // Before looking, so that no instance slips through.
            events.connect().await?;
        }
        let subject = self.subject(&client).await?;
        let mut followers = Followers::new(client.clone(), query);
        for instance in &subject.instances {
            followers.add(instance.id, instance.workload.as_str());
        }
        let is_alone = subject.instances.len() <= 1 && !(self.follow && subject.workload.is_some());
        let mut printer = match (context.output.is_json, is_alone) {
            (true, _) => Printer::Json,
            (false, true) => Printer::Plain,
            (false, false) => {
                let names = subject.instances.iter().map(|found| found.workload.as_str());
                Printer::Prefixed(Prefixed::new(context.output, names))
            }
        };
        let workload = subject.workload.filter(|_| self.follow);
        while workload.is_some() || !followers.is_idle() {
            tokio::select! {
                piece = followers.next() => printer.print(context, piece)?,
                event = next_event(&mut events, workload.as_deref()) => {
                    if let Some(event) = event? {
                        followers.add_new(&event);
                    }
                }
            }
        }
        Ok(ExitCode::OK)
    }

    async fn subject(&self, client: &Client) -> Result<Subject, CliError> {
        let subject = &self.subject;
        let query = InstanceQuery { workload: Some(subject.clone()), ..InstanceQuery::default() };
        let of_workload = match client.instances(&query).await {
            Ok(found) => current(found),
            Err(error) if error.kind() == ErrorKind::BadInput => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if !of_workload.is_empty() {
            let workload = Some(subject.clone());
            return Ok(Subject { instances: of_workload, workload });
        }
        match client.instance(subject).await {
            Ok(instance) => Ok(Subject { instances: vec![instance], workload: None }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::BadInput) => {
                let message = format!(
                    "no workload has had an instance, and no instance is called, `{subject}`"
                );
                let hint = "`spawnery instances --all` lists what there is";
                Err(CliError::failed(message).hint(hint))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The next event about `workload`; never, if there is none to wait for.
async fn next_event(
    events: &mut EventStream,
    workload: Option<&str>,
) -> Result<Option<spawnery_client::api::EventView>, CliError> {
    let Some(workload) = workload else {
        return std::future::pending().await;
    };
    match events.next().await? {
        EventItem::Event(event) => {
            let is_about = event.workload.as_ref().is_some_and(|name| name.as_str() == workload);
            Ok(is_about.then_some(event))
        }
        EventItem::Gap(_) => Ok(None),
    }
}

enum Printer {
    /// The bytes, to where the process wrote them.
    Plain,
    /// Lines with the workload's name before them.
    Prefixed(Prefixed),
    /// JSON lines.
    Json,
}

#[derive(Serialize)]
struct JsonPiece<'a, T: Serialize> {
    instance: InstanceId,
    workload: &'a str,
    event: &'static str,
    data: T,
}

impl Printer {
    fn print(&mut self, context: &Context, piece: Piece) -> Result<(), CliError> {
        match self {
            Printer::Prefixed(prefixed) => prefixed.print(piece),
            Printer::Plain => plain(piece),
            Printer::Json => json(context, piece),
        }
    }
}

fn plain(piece: Piece) -> Result<(), CliError> {
    match piece.item? {
        LogItem::Output(record) => {
            let stream = record.stream;
            write(stream, &record.into_bytes().unwrap_or_default())?;
        }
        LogItem::Gap(gap) => {
            let count = gap.to - gap.from + 1;
            note(format!("({count} pieces of output are gone: the log was full)"));
        }
        LogItem::Exited(_) | LogItem::End => {}
    }
    Ok(())
}

/// Writes output to where it was written.
pub(crate) fn write(stream: OutputStream, bytes: &[u8]) -> Result<(), CliError> {
    match stream {
        OutputStream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            Ok(out.flush()?)
        }
        OutputStream::Stderr => Ok(std::io::stderr().lock().write_all(bytes)?),
    }
}

fn json(context: &Context, piece: Piece) -> Result<(), CliError> {
    let (instance, workload) = (piece.instance, piece.workload.as_str());
    let output = &context.output;
    match piece.item? {
        LogItem::Output(data) => {
            output.json_line(&JsonPiece { instance, workload, event: "output", data })
        }
        LogItem::Gap(data) => {
            output.json_line(&JsonPiece { instance, workload, event: "gap", data })
        }
        LogItem::Exited(data) => {
            output.json_line(&JsonPiece { instance, workload, event: "exited", data })
        }
        LogItem::End => Ok(()),
    }
}
