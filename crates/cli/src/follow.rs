//! Following the output of several instances at once, and what becomes of them.

use crate::error::CliError;
use crate::output::Output;
use owo_colors::{AnsiColors, Style};
use spawnery_client::api::{EventView, InstanceView, LogRecordView, RunView};
use spawnery_client::{Client, ClientError, LogItem, LogQuery};
use spawnery_model::{InstanceId, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of output that wait to be printed. When it is full, reading waits.
const PIECES_MAX: usize = 256;

/// How often a run is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(250);

/// The longest line that is kept until its end comes; a longer one is printed in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Something about an instance that is followed.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Which instance.
    pub(crate) instance: InstanceId,
    /// Its workload.
    pub(crate) workload: String,
    /// What came; an error ends the following of this instance.
    pub(crate) item: Result<LogItem, ClientError>,
}

/// Follows instances, each by a task of its own, and brings their output together.
pub(crate) struct Followers {
    client: Client,
    query: LogQuery,
    known: BTreeSet<InstanceId>,
    sender: mpsc::Sender<Piece>,
    receiver: mpsc::Receiver<Piece>,
    active: usize,
}

impl Followers {
    /// Follows nothing yet. Each instance is read as `query` says.
    pub(crate) fn new(client: Client, query: LogQuery) -> Followers {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        Followers { client, query, known: BTreeSet::new(), sender, receiver, active: 0 }
    }

    /// Follows an instance, unless it is followed already.
    pub(crate) fn add(&mut self, instance: InstanceId, workload: &str) {
        let query = self.query.clone();
        self.add_with(instance, workload, &query);
    }

    /// Follows the instance that an event is about, from its first output on. An instance that has
    /// no node yet has nothing to follow.
    pub(crate) fn add_new(&mut self, event: &EventView) {
        const BEGUN: [&str; 4] =
            ["instance.assigned", "instance.running", "instance.ready", "instance.ended"];
        if let (Some(instance), Some(workload)) = (event.instance, &event.workload)
            && BEGUN.contains(&event.kind.as_str())
        {
            let query = LogQuery { follow: true, ..LogQuery::default() };
            self.add_with(instance, workload.as_str(), &query);
        }
    }

    fn add_with(&mut self, instance: InstanceId, workload: &str, query: &LogQuery) {
        if !self.known.insert(instance) {
            return;
        }
        self.active += 1;
        let mut log = self.client.logs(instance, query);
        let (sender, workload) = (self.sender.clone(), workload.to_owned());
        tokio::spawn(async move {
            loop {
                let item = match log.next().await {
                    Ok(Some(item)) => Ok(item),
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let is_last = !matches!(item, Ok(LogItem::Output(_) | LogItem::Gap(_)));
                let workload = workload.clone();
                let piece = Piece { instance, workload, item };
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
    }

    /// Whether nothing is being followed.
    pub(crate) fn is_idle(&self) -> bool {
        self.active == 0
    }

    /// The next piece. Never, while nothing is followed. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Piece {
        // A sender is held here, so the channel does not close.
        let piece = self.receiver.recv().await;
        let piece = piece.expect("a sender is held by the receiver's owner");
        if !matches!(piece.item, Ok(LogItem::Output(_) | LogItem::Gap(_))) {
            self.active -= 1;
        }
        piece
    }
}

/// Prints output line by line, each with the name of its workload before it.
pub(crate) struct Prefixed {
    output: Output,
    width: usize,
    lines: BTreeMap<(InstanceId, bool), Vec<u8>>,
}

impl Prefixed {
    /// Names are padded to the longest of `names`.
    pub(crate) fn new<'a>(output: Output, names: impl IntoIterator<Item = &'a str>) -> Prefixed {
        Prefixed {
            output,
            width: names.into_iter().map(str::len).max().unwrap_or(0),
            lines: BTreeMap::new(),
        }
    }

    /// Prints a piece; lines that are not complete wait for their rest.
    pub(crate) fn print(&mut self, piece: Piece) -> Result<(), CliError> {
        let name = piece.workload;
        match piece.item {
            Ok(LogItem::Output(record)) => self.output(piece.instance, &name, record),
            Ok(LogItem::Gap(gap)) => {
                let count = gap.to - gap.from + 1;
                let text = format!("({count} pieces of output are gone: the log was full)");
                self.remark(&name, &text)
            }
            Ok(LogItem::Exited(exited)) => {
                self.flush(piece.instance, &name)?;
                let reason = exited.end.map(|end| end.reason);
                self.remark(&name, &format!("({})", reason.unwrap_or_else(|| "ended".to_owned())))
            }
            Ok(LogItem::End) => self.flush(piece.instance, &name),
            Err(error) => {
                self.flush(piece.instance, &name)?;
                self.remark(&name, &format!("(the log cannot be read: {error})"))
            }
        }
    }

    /// Prints a remark of ours about a workload.
    pub(crate) fn remark(&mut self, name: &str, text: &str) -> Result<(), CliError> {
        let text = self.output.paint(text, Style::new().dimmed());
        self.line(name, text.as_bytes())
    }

    fn output(
        &mut self,
        instance: InstanceId,
        name: &str,
        record: LogRecordView,
    ) -> Result<(), CliError> {
        let is_error = record.stream == spawnery_client::api::OutputStream::Stderr;
        let key = (instance, is_error);
        let mut line = self.lines.remove(&key).unwrap_or_default();
        for byte in record.into_bytes().unwrap_or_default() {
            if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                self.line(name, &line)?;
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
        if !line.is_empty() {
            self.lines.insert(key, line);
        }
        Ok(())
    }

    fn flush(&mut self, instance: InstanceId, name: &str) -> Result<(), CliError> {
        for is_error in [false, true] {
            if let Some(line) = self.lines.remove(&(instance, is_error)) {
                self.line(name, &line)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, name: &str, text: &[u8]) -> Result<(), CliError> {
        self.width = self.width.max(name.len());
        let prefix = format!("{name:<width$} |", width = self.width);
        let mut line = self.output.paint(&prefix, colour_of(name)).into_bytes();
        if !text.is_empty() {
            line.push(b' ');
            line.extend_from_slice(text);
        }
        line.push(b'\n');
        self.output.bytes(&line)
    }
}

/// The same name has the same colour each time.
fn colour_of(name: &str) -> Style {
    const COLOURS: [AnsiColors; 6] = [
        AnsiColors::Cyan,
        AnsiColors::Green,
        AnsiColors::Yellow,
        AnsiColors::Magenta,
        AnsiColors::Blue,
        AnsiColors::BrightCyan,
    ];
    let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
    Style::new().color(COLOURS[sum % COLOURS.len()])
}

/// Waits until a run has ended.
pub(crate) async fn wait_for_run(client: &Client, id: RunId) -> Result<RunView, CliError> {
    let mut progress = crate::progress::Progress::new();
    loop {
        let run = client.run(&id.to_string()).await?;
        if run.outcome.is_some() {
            return Ok(run);
        }
        progress.say(format!("{}: attempt {} is under way", run.job, run.attempts));
        tokio::time::sleep(LOOK).await;
    }
}

/// Those of `instances` that live or, if none does, the one that was created last.
pub(crate) fn current(mut instances: Vec<InstanceView>) -> Vec<InstanceView> {
    instances.sort_by_key(|instance| instance.created_at_ms);
    let last = instances.last().cloned();
    instances.retain(|instance| instance.end.is_none());
    if instances.is_empty() {
        instances.extend(last);
    }
    instances
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_colour() {
        let shown = |name: &str| colour_of(name).style("x").to_string();
        assert_eq!(shown("web"), shown("web"));
    }
}
