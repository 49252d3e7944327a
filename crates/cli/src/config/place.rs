//! Where the configuration file and the data folder are.

use crate::error::CliError;
use std::io;
use std::path::{Path, PathBuf};

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The configuration file of the machine.
const SYSTEM_FILE: &str = "/etc/spawnery/config.toml";

/// Reads the configuration file: the one that was `given`, or the first of the usual ones.
pub(crate) fn read(
    given: Option<String>,
    environment: Environment<'_>,
) -> Result<Option<(PathBuf, String)>, CliError> {
    let given = given.or_else(|| environment("SPAWNERY_CONFIG").filter(|path| !path.is_empty()));
    if let Some(path) = given {
        let path = PathBuf::from(path);
        return match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) => Err(unreadable(&path, &error)),
        };
    }
    for path in usual(environment) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::NotFound || kind == io::ErrorKind::NotADirectory
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    let path = path.display();
    CliError::usage(format!("cannot read the configuration file {path}: {error}"))
        .hint("name another with --config, or mend its permissions")
}

/// The usual places of the configuration file.
pub(crate) fn usual(environment: Environment<'_>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(folder) = folder(environment, "XDG_CONFIG_HOME", ".config") {
        places.push(folder.join("spawnery/config.toml"));
    }
    places.push(PathBuf::from(SYSTEM_FILE));
    places
}

/// The data folder when nobody says otherwise; none if there is no home.
pub(crate) fn data_default(is_root: bool, environment: Environment<'_>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/spawnery"));
    }
    let folder = folder(environment, "XDG_DATA_HOME", ".local/share")?;
    Some(folder.join("spawnery"))
}

/// A folder of the XDG Base Directory Specification: relative paths in it do not count.
fn folder(environment: Environment<'_>, variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| environment(name).filter(|path| path.starts_with('/'));
    match absolute(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(PathBuf::from(absolute("HOME")?).join(below_home)),
    }
}

/// A node's name made of the machine's: its first label, with what a name cannot have left out.
pub(crate) fn name_default(host_name: &str) -> String {
    let label = host_name.split('.').next().unwrap_or_default();
    let name: String = label
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    match name.trim_matches('-') {
        "" => "local".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_as_its_machine() {
        let check = |host: &str, name: &str| assert_eq!(name_default(host), name);
        check("web1.example.org", "web1");
        check("My_Host", "my-host");
        check("", "local");
        check("---", "local");
    }

    #[test]
    fn folders_follow_the_xdg_rules() {
        let check = |pairs: &[(&str, &str)], is_root: bool, expected: Option<&str>| {
            let environment = |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = data_default(is_root, &environment);
            assert_eq!(found, expected.map(PathBuf::from));
        };
        let home = ("HOME", "/home/a");
        check(&[home], false, Some("/home/a/.local/share/spawnery"));
        check(&[home, ("XDG_DATA_HOME", "/d")], false, Some("/d/spawnery"));
        let relative = ("XDG_DATA_HOME", "d");
        check(&[home, relative], false, Some("/home/a/.local/share/spawnery"));
        check(&[home], true, Some("/var/lib/spawnery"));
        check(&[], false, None);
    }
}
