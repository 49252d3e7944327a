//! `spawnery jobs`: what runs to an end.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::follow::wait_for_run;
use crate::table::{Cell, Table};
use crate::words::{age, until};
use owo_colors::Style;
use spawnery_client::api::{JobView, RunView};

/// List jobs, run one now, or list their runs
#[derive(Debug, clap::Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// Run a job now
    Run {
        /// The job
        #[arg(value_name = "NAME")]
        name: String,
        /// Wait until the run has ended, and exit with code 1 if it failed
        #[arg(short, long)]
        wait: bool,
    },
    /// List the runs that are remembered
    Runs {
        /// Only those of this job
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

impl Jobs {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            None => list(context).await,
            Some(JobsCommand::Run { name, wait }) => run(context, &name, wait).await,
            Some(JobsCommand::Runs { name }) => runs(context, name.as_deref()).await,
        }
    }
}

async fn list(context: &Context) -> Outcome {
    let jobs = context.client()?.jobs().await?;
    let none = "There are no jobs: declare some with `spawnery apply FILE`.";
    context.output.data(&jobs, || table(&jobs), none)?;
    Ok(ExitCode::OK)
}

/// Jobs as a table.
pub(crate) fn table(jobs: &[JobView]) -> Table {
    let mut table = Table::new(&["JOB", "SCHEDULE", "NEXT", "ACTIVE", "LAST"]);
    for job in jobs {
        let schedule = job.schedule.as_ref().map(|schedule| schedule.cron.clone());
        let next = job.next_at_ms.map(|at_ms| format!("in {}", until(at_ms)));
        let last = job.last.as_ref().map(outcome).unwrap_or_default();
        table.row([
            job.name.as_str().into(),
            schedule.unwrap_or_else(|| "on demand".to_owned()).into(),
            next.unwrap_or_default().into(),
            job.active.len().to_string().into(),
            last,
        ]);
    }
    table
}

async fn run(context: &Context, name: &str, is_waiting: bool) -> Outcome {
    let client = context.client()?;
    let created = client.run_job(name).await?;
    if !is_waiting {
        context.output.said(&created, &created.id.to_string())?;
        return Ok(ExitCode::OK);
    }
    let run = wait_for_run(&client, created.id).await?;
    if context.output.is_json {
        context.output.json(&run)?;
    }
    match run.outcome {
        Some(outcome) if !outcome.succeeded => {
            let hint = format!("see its output with `spawnery logs {name}`");
            let message = format!("the run {} of {name} failed: {}", run.id, outcome.reason);
            Err(CliError::failed(message).hint(hint))
        }
        _ => Ok(ExitCode::OK),
    }
}

async fn runs(context: &Context, name: Option<&str>) -> Outcome {
    let runs = context.client()?.runs(name).await?;
    let table = || {
        let mut table = Table::new(&["RUN", "JOB", "AGE", "ATTEMPTS", "OUTCOME"]);
        for run in &runs {
            table.row([
                run.id.short().into(),
                run.job.as_str().into(),
                age(run.created_at_ms).into(),
                run.attempts.to_string().into(),
                outcome(run),
            ]);
        }
        table
    };
    context.output.data(&runs, table, "There are no runs.")?;
    Ok(ExitCode::OK)
}

fn outcome(run: &RunView) -> Cell {
    match &run.outcome {
        Some(outcome) => {
            let style = match outcome.succeeded {
                true => Style::new().green(),
                false => Style::new().red(),
            };
            let text = format!("{} ({} ago)", outcome.reason, age(outcome.at_ms));
            Cell::styled(text, style)
        }
        None => Cell::from("under way"),
    }
}
