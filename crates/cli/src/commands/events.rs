//! `spawnery events`: what happens.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::note;
use crate::words::time;
use owo_colors::Style;
use spawnery_client::api::EventView;
use spawnery_client::{EventItem, EventStream};
use std::time::Duration;

/// How long the past may take to come before it is taken for complete.
const QUIET: Duration = Duration::from_millis(300);

/// Stands for the oldest event that is remembered.
const OLDEST: &str = "oldest";

/// Show what happened lately and, with -f, what happens
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin after this event; without, with the oldest that is remembered
    #[arg(long, value_name = "ID", default_value = OLDEST)]
    after: String,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        if !is_position(&self.after) {
            let message = format!("--after: `{}` is not the id of an event", self.after);
            return Err(CliError::usage(message).hint("give one that was shown, such as 17.0"));
        }
        let mut events = context.client()?.events(Some(&self.after));
        events.connect().await?;
        while let Some(item) = self.next(&mut events).await? {
            match item {
                EventItem::Event(event) if context.output.is_json => {
                    context.output.json_line(&event)?;
                }
                EventItem::Event(event) => context.output.line(line(context, &event))?,
                EventItem::Gap(gap) => {
                    let (after, oldest) = (gap.after, gap.oldest);
                    note(format!("(what happened between {after} and {oldest} is no longer told)"));
                }
            }
        }
        Ok(ExitCode::OK)
    }

    /// The next event; without -f none once the past is told.
    async fn next(&self, events: &mut EventStream) -> Result<Option<EventItem>, CliError> {
        if self.follow {
            return Ok(Some(events.next().await?));
        }
        match tokio::time::timeout(QUIET, events.next()).await {
            Ok(item) => Ok(Some(item?)),
            Err(_) => Ok(None),
        }
    }
}

/// Whether the server takes `text` as the event to begin after.
fn is_position(text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    let parts = text.split_once('.');
    text == OLDEST || parts.is_some_and(|(one, other)| is_number(one) && is_number(other))
}

fn line(context: &Context, event: &EventView) -> String {
    let output = &context.output;
    let at = output.paint(&time(event.at_ms), Style::new().dimmed());
    let kind = output.paint(&format!("{:<20}", event.kind), Style::new().cyan());
    let about = event.workload.as_ref().map(ToString::to_string);
    let instance = event.instance.map(|instance| instance.short());
    let about = [about, instance].into_iter().flatten().collect::<Vec<_>>().join(" ");
    match about.is_empty() {
        true => format!("{at}  {kind}  {}", event.message),
        false => format!("{at}  {kind}  {about}: {}", event.message),
    }
}
