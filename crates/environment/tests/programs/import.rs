//! Imports an OCI image layout into a store, as a process that a test can run as another user or
//! kill. Arguments: the store's folder, the layout's folder. It writes the chain ids.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use spawnery_environment::Store;
use spawnery_environment::archive::UnpackLimits;
use spawnery_environment::oci::{self, FolderFiles};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, layout] = arguments.as_slice() else {
        return answer(&mut io::stderr(), "arguments: STORE LAYOUT", ExitCode::FAILURE);
    };
    match import(Path::new(store), Path::new(layout)) {
        Ok(layers) => answer(&mut io::stdout(), &layers, ExitCode::SUCCESS),
        Err(error) => answer(&mut io::stderr(), &error.to_string(), ExitCode::FAILURE),
    }
}

/// Writes to whoever started it.
fn answer(to: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match writeln!(to, "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn import(store: &Path, layout: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let store = Store::open(store, u64::MAX)?;
    let files = FolderFiles::new(layout)?;
    let image = oci::import(&store, &files, None, UnpackLimits::default())?;
    let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
    Ok(layers.join("\n"))
}
