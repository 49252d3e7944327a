//! `spawnery history`: what has ended, also long ago.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::Table;
use crate::words::age;
use spawnery_client::api::PastInstanceView;

/// List what has ended, the latest end first, also what no other list shows any more
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Only instances of this workload
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Only sessions of this owner
    #[arg(long, value_name = "SUBJECT")]
    owner: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
}

impl History {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let (workload, owner) = (self.workload.as_deref(), self.owner.as_deref());
        let rows = client.history(workload, owner, self.lines).await?;
        context.output.data(&rows, || table(&rows), "Nothing has ended yet.")?;
        Ok(ExitCode::OK)
    }
}

fn table(rows: &[PastInstanceView]) -> Table {
    let mut table = Table::new(&["INSTANCE", "WORKLOAD", "OWNER", "NODE", "ENDED", "REASON"]);
    for row in rows {
        let short: String = row.id.chars().take(8).collect();
        table.row([
            short.into(),
            row.workload.as_str().into(),
            row.owner.clone().unwrap_or_default().into(),
            row.node.clone().unwrap_or_default().into(),
            age(row.ended_at_ms).into(),
            row.reason.as_str().into(),
        ]);
    }
    table
}
