//! `cargo xtask fuzz`: the property tests, over and over, with many more cases each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::{self, cargo};
use crate::workspace;

/// Cases of each property in one round: sixteen times what a test run makes, and yet a round ends
/// in minutes, so that the time that was asked for is about kept.
const CASES: &str = "4096";

/// What was asked for.
pub struct Options {
    time: Duration,
}

impl Options {
    /// # Errors
    ///
    /// On an option that does not exist or has a wrong value.
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Options, Failure> {
        let mut options = Options { time: Duration::from_secs(60) };
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("seconds") => {
                    options.time = Duration::from_secs(crate::number(&mut arguments)?);
                }
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(options)
    }
}

/// Runs rounds until the time is over; each draws new cases.
///
/// # Errors
///
/// When a property does not hold: proptest has then printed the smallest case it found, and
/// written it down beside the test, to be committed with the mend.
pub fn run(options: &Options) -> Result<(), Failure> {
    let root = workspace::root();
    let targets = targets(&workspace::files(&root)?, |path| {
        std::fs::read_to_string(root.join(path)).is_ok_and(|text| text.contains("proptest! {"))
    });
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < options.time {
        for (member, target) in &targets {
            println!("── {member}: {target}");
            let mut test = cargo(&["test", "--quiet", "--locked"]);
            test.arg(format!("--package=spawnery-{member}")).arg(target);
            process::run(test.env("PROPTEST_CASES", CASES))?;
        }
        rounds += 1;
    }
    println!("{rounds} rounds of {CASES} cases for each property, and each held");
    Ok(())
}

/// The targets with properties: the crate, and the option by which cargo tests only this target.
fn targets(files: &[PathBuf], has_property: impl Fn(&Path) -> bool) -> BTreeSet<(String, String)> {
    let with_property = files
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "rs") && has_property(path));
    with_property.filter_map(|path| target(path)).collect()
}

fn target(path: &Path) -> Option<(String, String)> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let option = match parts.as_slice() {
        // The programs have no property, and no library either.
        ["crates", "cli" | "xtask", ..] => return None,
        ["crates", _, "src", ..] => "--lib".to_owned(),
        ["crates", _, "tests", name, ..] => {
            format!("--test={}", name.strip_suffix(".rs").unwrap_or(name))
        }
        _ => return None,
    };
    Some((parts[1].to_owned(), option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_with_properties_are_run() {
        let files = [
            "README.md",
            "crates/cli/src/main.rs",
            "crates/model/src/a/b.rs",
            "crates/model/src/c.rs",
            "crates/model/tests/d.rs",
            "crates/model/tests/e/f.rs",
            "crates/model/tests/none.rs",
        ];
        let found = targets(&files.map(PathBuf::from), |path| !path.ends_with("none.rs"));
        let found: Vec<&str> = found.iter().map(|(_, option)| option.as_str()).collect();
        assert_eq!(found, ["--lib", "--test=d", "--test=e"]);
    }
}
