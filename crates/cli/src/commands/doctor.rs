//! `spawnery doctor`: what can this machine enforce?

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::isolation;
use crate::place::Place;
use crate::progress::Progress;
use crate::table::{Cell, Table};
use owo_colors::Style;
use serde::Serialize;
use spawnery_sandbox::capabilities::{Check, Status};

/// Try what this machine can enforce, and say what would help
///
/// Starts a few sandboxes for a moment. Exits with code 1 if something is not enforced at all.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {}

#[derive(Debug, Serialize)]
struct Row<'a> {
    check: &'a str,
    status: &'static str,
    detail: &'a str,
    mend: Option<&'a str>,
}

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        // Without a data folder it is tried in a temporary one.
        let place = Place::new(context.config.data().unwrap_or_default());
        let checks = Progress::during_blocking("trying", || isolation::checks(&place))?;
        if context.output.is_json {
            let rows: Vec<Row<'_>> = checks.iter().map(row).collect();
            context.output.json(&rows)?;
        } else {
            context.output.table(&table(&checks), "")?;
            mends(context, &checks)?;
        }
        let is_whole = checks.iter().all(|check| check.status != Status::Unavailable);
        Ok(if is_whole { ExitCode::OK } else { ExitCode::FAILED })
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Enforced => "enforced",
        Status::Approximate => "weak",
        Status::Unavailable => "missing",
    }
}

fn row(check: &Check) -> Row<'_> {
    Row {
        check: check.name,
        status: word(check.status),
        detail: &check.detail,
        mend: check.mend.as_deref(),
    }
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new(&["CHECK", "STATUS", "DETAIL"]);
    for check in checks {
        let style = match check.status {
            Status::Enforced => Style::new().green(),
            Status::Approximate => Style::new().yellow(),
            Status::Unavailable => Style::new().red(),
        };
        table.row([
            check.name.into(),
            Cell::styled(word(check.status), style),
            check.detail.as_str().into(),
        ]);
    }
    table
}

/// Says what would help, the same only once.
fn mends(context: &Context, checks: &[Check]) -> Result<(), crate::error::CliError> {
    let mut mends: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks {
        let Some(mend) = check.mend.as_deref() else {
            continue;
        };
        match mends.iter_mut().find(|(known, _)| *known == mend) {
            Some((_, names)) => names.push(check.name),
            None => mends.push((mend, vec![check.name])),
        }
    }
    if !mends.is_empty() {
        context.output.line("\nWhat would help:")?;
    }
    for (mend, names) in mends {
        context.output.line(format!("  {}: {mend}", names.join(", ")))?;
    }
    Ok(())
}
