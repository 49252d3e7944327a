//! `spawnery doctor`: what can this machine enforce?

mod tools;

use self::tools::Tool;
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
/// Starts a few sandboxes for a moment, and looks for the tools that environments and other
/// runtimes need. Exits with code 1 if something is not enforced at all.
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
        let tools = tools::found(&context.config);
        if context.output.is_json {
            let rows = checks.iter().map(row).chain(tools.iter().map(tool_row));
            let rows: Vec<Row<'_>> = rows.collect();
            context.output.json(&rows)?;
        } else {
            context.output.table(&table(&checks), "")?;
            context.output.line("")?;
            context.output.table(&tool_table(&tools), "")?;
            mends(context, &checks, &tools)?;
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

fn tool_row(tool: &Tool) -> Row<'_> {
    Row {
        check: tool.name,
        status: tool_word(tool),
        detail: &tool.detail,
        mend: (!tool.is_there).then_some(tool.mend),
    }
}

fn tool_word(tool: &Tool) -> &'static str {
    if tool.is_there { "found" } else { "absent" }
}

/// What environments and other runtimes need. Nothing of it is missing as long as nobody asks.
fn tool_table(tools: &[Tool]) -> Table {
    let mut table = Table::new(&["TOOL", "STATUS", "DETAIL"]);
    for tool in tools {
        let style = if tool.is_there { Style::new().green() } else { Style::new().dimmed() };
        let word = Cell::styled(tool_word(tool), style);
        table.row([tool.name.into(), word, tool.detail.as_str().into()]);
    }
    table
}

/// Says what would help, the same only once.
fn mends(
    context: &Context,
    checks: &[Check],
    tools: &[Tool],
) -> Result<(), crate::error::CliError> {
    let mut mends: Vec<(&str, Vec<&str>)> = Vec::new();
    let of_checks = checks.iter().filter_map(|check| Some((check.name, check.mend.as_deref()?)));
    let of_tools = tools.iter().filter(|tool| !tool.is_there).map(|tool| (tool.name, tool.mend));
    for (name, mend) in of_checks.chain(of_tools) {
        match mends.iter_mut().find(|(known, _)| *known == mend) {
            Some((_, names)) => names.push(name),
            None => mends.push((mend, vec![name])),
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
