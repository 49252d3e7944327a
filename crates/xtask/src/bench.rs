//! `cargo xtask bench`: the numbers to hold, each beside what a user would pick instead, measured
//! in the same run on the same machine.
//!
//! Ratios, not seconds, are compared with the goals wherever there is a peer: a slow machine is
//! slow for both.

mod cluster;
mod controller;
mod environments;
mod figure;
mod gateway;
mod http;
mod images;
mod memory;
mod options;
mod peers;
mod placement;
mod python;
mod recovery;
mod requests;
mod row;
mod schedules;
mod server;
mod sessions;
mod simulation;

pub use options::Options;

use crate::Failure;
use crate::packages;
use row::Row;

/// A group of rows that are measured together.
struct Section {
    /// What `--only` takes.
    name: &'static str,
    /// Measures it.
    measure: fn(&Options) -> Result<Vec<Row>, Failure>,
}

/// All sections. The memory of this process comes first: later ones leave free memory behind,
/// which would hide what is used.
const SECTIONS: [Section; 13] = [
    Section { name: "controller-memory", measure: memory::controller },
    Section { name: "sessions", measure: sessions::measure },
    Section { name: "node-memory", measure: memory::node },
    Section { name: "requests", measure: requests::measure },
    Section { name: "gateway", measure: gateway::measure },
    Section { name: "placement", measure: placement::measure },
    Section { name: "commands", measure: controller::measure },
    Section { name: "replay", measure: recovery::measure },
    Section { name: "environment-start", measure: environments::measure },
    Section { name: "environment-python", measure: python::measure },
    Section { name: "schedules", measure: schedules::measure },
    Section { name: "images", measure: images::measure },
    Section { name: "simulator", measure: simulation::measure },
];

/// Measures, and prints the table.
///
/// # Errors
///
/// When something cannot be measured, with what to do about it. A goal that is not held is no
/// error: it depends on the machine, and the table says it.
pub fn run(options: &Options) -> Result<(), Failure> {
    packages::install(packages::FOR_BENCHMARKS)?;
    let mut rows = Vec::new();
    for section in SECTIONS.iter().filter(|it| options.wants(it.name)) {
        eprintln!("measuring {} …", section.name);
        rows.extend(
            (section.measure)(options).map_err(|reason| format!("{}: {reason}", section.name))?,
        );
    }
    let text = if options.json { row::json(&rows) } else { row::table(&rows) };
    println!("{text}");
    Ok(())
}

/// The names of all sections, for messages.
fn names() -> String {
    SECTIONS.map(|section| section.name).join(", ")
}
