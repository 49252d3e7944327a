//! What was asked for.

use std::path::PathBuf;

use super::names;
use crate::Failure;

/// What was asked for.
pub struct Options {
    only: Vec<String>,
    /// The `spawnery` to measure; without, it is built.
    pub binary: Option<PathBuf>,
    /// Whether to print for programs.
    pub json: bool,
}

impl Options {
    /// # Errors
    ///
    /// On an option that does not exist, or a section that does not.
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Options, Failure> {
        let mut options = Options { only: Vec::new(), binary: None, json: false };
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("json") => options.json = true,
                lexopt::Arg::Long("binary") => {
                    let value = arguments.value().map_err(|error| error.to_string())?;
                    options.binary = Some(PathBuf::from(value));
                }
                lexopt::Arg::Long("only") => {
                    let value = arguments.value().map_err(|error| error.to_string())?;
                    let name = value.to_string_lossy().into_owned();
                    if !super::SECTIONS.iter().any(|section| section.name == name) {
                        return Err(format!(
                            "there is no section {name:?}; there are: {}",
                            names()
                        ));
                    }
                    options.only.push(name);
                }
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(options)
    }

    /// Whether a section is to be measured.
    pub fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == section)
    }
}
