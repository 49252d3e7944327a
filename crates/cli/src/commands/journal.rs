//! `spawnery journal`: look at the journal of a server, also while it runs.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::place::Place;
use crate::progress::Progress;
use crate::words::bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use spawnery_cluster::Record;
use spawnery_journal::{Entry, OpenError, SqliteReader};

/// Look at the journal in the data folder, also while its server runs
#[derive(Debug, clap::Args)]
pub(crate) struct Journal {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JournalCommand {
    /// Read and check everything; exits with code 1 if something is lost or damaged
    Verify,
    /// Show its size and extent
    Stat,
    /// Print its entries as JSON lines; the payloads are CBOR in base 64 and may hold secrets
    Export {
        /// Begin with this position
        #[arg(long, value_name = "POSITION", default_value = "1")]
        from: u64,
    },
}

impl Journal {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let place = Place::new(context.config.data()?);
        let reader = SqliteReader::open(&place.journal()).map_err(opened)?;
        match self.command {
            JournalCommand::Verify => verify(context, reader),
            JournalCommand::Stat => stat(context, &reader),
            JournalCommand::Export { from } => export(context, &reader, from),
        }
    }
}

fn opened(error: OpenError) -> CliError {
    let hint = match error {
        OpenError::Missing { .. } => "say where the data folder is with --data",
        _ => "the folder must be readable and writable for you, and on a local disk",
    };
    CliError::failed(error).hint(hint)
}

#[derive(Debug, Serialize)]
struct Verified {
    is_sound: bool,
    first_position: u64,
    last_position: u64,
    entries: u64,
    snapshots: Vec<u64>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

fn verify(context: &Context, reader: SqliteReader) -> Outcome {
    let found = Progress::during_blocking("checking every entry", move || reader.verify());
    let found = found.map_err(CliError::failed)?;
    let verified = Verified {
        is_sound: found.is_sound(),
        first_position: found.first_position,
        last_position: found.last_position,
        entries: found.entries_count,
        snapshots: found.snapshots.iter().map(|snapshot| snapshot.position).collect(),
        problems: found.problems.iter().map(ToString::to_string).collect(),
        warnings: found.warnings.iter().map(ToString::to_string).collect(),
    };
    if context.output.is_json {
        context.output.json(&verified)?;
    } else {
        for problem in &verified.problems {
            context.output.line(format!("problem: {problem}"))?;
        }
        for warning in &verified.warnings {
            context.output.line(format!("warning: {warning}"))?;
        }
        let entries = match verified.entries {
            1 => "1 sound entry".to_owned(),
            number => format!("{number} sound entries"),
        };
        let (first, last) = (verified.first_position, verified.last_position);
        context.output.line(format!("{entries}, positions {first} to {last}"))?;
    }
    match verified.is_sound {
        true => Ok(ExitCode::OK),
        false => Err(CliError::failed("the journal is damaged").hint(
            "restore the data folder from a backup; `spawnery server --accept-loss` goes on with \
             what is sound, and the rest is lost for good",
        )),
    }
}

#[derive(Debug, Serialize)]
struct Extent {
    first_position: u64,
    last_position: u64,
    entries: u64,
    acknowledged: Option<u64>,
    database_bytes: u64,
    log_bytes: u64,
    snapshots: Vec<SnapshotExtent>,
}

#[derive(Debug, Serialize)]
struct SnapshotExtent {
    position: u64,
    bytes: u64,
}

fn stat(context: &Context, reader: &SqliteReader) -> Outcome {
    let found = reader.stat().map_err(CliError::failed)?;
    let snapshots = found
        .snapshots
        .iter()
        .map(|snapshot| SnapshotExtent { position: snapshot.position, bytes: snapshot.size_bytes });
    let extent = Extent {
        first_position: found.first_position,
        last_position: found.last_position,
        entries: found.entries_count,
        acknowledged: found.acknowledged,
        database_bytes: found.database_size_bytes,
        log_bytes: found.wal_size_bytes,
        snapshots: snapshots.collect(),
    };
    let output = &context.output;
    if output.is_json {
        output.json(&extent)?;
        return Ok(ExitCode::OK);
    }
    let (first, last) = (extent.first_position, extent.last_position);
    output.line(format!("entries       {} (positions {first} to {last})", extent.entries))?;
    output.line(format!("database      {}", bytes(extent.database_bytes)))?;
    output.line(format!("log           {}", bytes(extent.log_bytes)))?;
    for snapshot in &extent.snapshots {
        let (position, size) = (snapshot.position, bytes(snapshot.bytes));
        output.line(format!("snapshot      at position {position}, {size}"))?;
    }
    Ok(ExitCode::OK)
}

#[derive(Debug, Serialize)]
struct Exported {
    position: u64,
    at_ms: Option<u64>,
    change: Option<String>,
    payload_base64: String,
}

fn export(context: &Context, reader: &SqliteReader, from: u64) -> Outcome {
    for entry in reader.entries(from) {
        let entry = entry.map_err(|error| {
            CliError::failed(error).hint("`spawnery journal verify` says what is wrong")
        })?;
        context.output.json_line(&exported(&entry))?;
    }
    Ok(ExitCode::OK)
}

fn exported(entry: &Entry) -> Exported {
    // An entry of a later version is exported too.
    let record = minicbor::decode::<Record>(&entry.payload).ok();
    Exported {
        position: entry.position,
        at_ms: record.as_ref().map(|record| record.at.0),
        change: record.as_ref().map(|record| variant(&format!("{:?}", record.change))),
        payload_base64: STANDARD.encode(&entry.payload),
    }
}

/// The name of an enum's variant, from what `Debug` makes of it, without its fields: they may be
/// secrets.
fn variant(debug: &str) -> String {
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_change_is_shown() {
        assert_eq!(variant("WorkloadsApplied { env: \"s3cret\" }"), "WorkloadsApplied");
        assert_eq!(variant("Unit"), "Unit");
    }
}
