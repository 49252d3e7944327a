//! The configuration: options beat the environment beats the file beats the defaults.

mod file;
mod place;
mod settings;

pub(crate) use settings::{COLORS, LOG_LEVELS, SETTINGS, Setting, parse_address};

use crate::error::CliError;
use clap::ArgMatches;
use clap::parser::ValueSource;
use settings::{parse_boolean, parse_label, setting};
use spawnery_model::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the server listens when nobody says otherwise: this machine only.
const LISTEN_DEFAULT: &str = "127.0.0.1:9000";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// This option.
    Flag(&'static str),
    /// This environment variable.
    Environment(&'static str),
    /// This file.
    File(PathBuf),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => f.write_str(flag),
            Source::Environment(variable) => f.write_str(variable),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    /// One text, or those of a list.
    pub(crate) items: Vec<String>,
    /// Who said so.
    pub(crate) source: Source,
}

/// Where values are looked for, in the order of precedence.
pub(crate) struct Sources<'a> {
    /// What the options say about a setting; empty if they say nothing.
    pub(crate) flags: &'a dyn Fn(&Setting) -> Vec<String>,
    /// What an environment variable holds.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The file and its text.
    pub(crate) file: Option<(PathBuf, String)>,
    /// Whether the user is root.
    pub(crate) is_root: bool,
    /// What the machine is called.
    pub(crate) host_name: String,
}

/// The value of each setting that has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    values: BTreeMap<&'static str, Value>,
}

impl Config {
    /// The configuration of this process: its options, environment and file.
    pub(crate) fn load(matches: &ArgMatches) -> Result<Config, CliError> {
        let environment = |name: &str| std::env::var(name).ok();
        let given = flag_values(matches, "config").pop();
        let file = place::read(given, &environment)?;
        let host_name = rustix::system::uname();
        let host_name = host_name.nodename().to_string_lossy().into_owned();
        Config::resolve(Sources {
            flags: &|setting| flags(matches, setting),
            environment: &environment,
            file,
            is_root: rustix::process::geteuid().is_root(),
            host_name,
        })
    }

    /// Finds and checks the value of each setting.
    pub(crate) fn resolve(sources: Sources<'_>) -> Result<Config, CliError> {
        let mut values = defaults(&sources);
        if let Some((path, text)) = &sources.file {
            let read = file::read(text).map_err(|error| error.shown(path))?;
            for (name, items) in read {
                let source = Source::File(path.clone());
                values.insert(name, Value { items, source });
            }
        }
        for setting in SETTINGS {
            let variable = (sources.environment)(setting.variable);
            if let Some(text) = variable.filter(|text| !text.is_empty()) {
                let items = match setting.is_list {
                    true => text.split(',').map(|item| item.trim().to_owned()).collect(),
                    false => vec![text],
                };
                let source = Source::Environment(setting.variable);
                values.insert(setting.name, Value { items, source });
            }
            let items = (sources.flags)(setting);
            if let (false, Some(flag)) = (items.is_empty(), setting.flag) {
                let source = Source::Flag(flag);
                values.insert(setting.name, Value { items, source });
            }
        }
        for (name, value) in &values {
            check(name, value)?;
        }
        Ok(Config { values })
    }

    /// What a setting is set to, if it is.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The text of a setting that is not a list.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let items = &self.value(name)?.items;
        items.first().map(String::as_str)
    }

    /// Whether a setting says yes.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| parse_boolean(text) == Ok(true))
    }

    /// The folder of the server's state.
    pub(crate) fn data(&self) -> Result<PathBuf, CliError> {
        self.text("data").map(PathBuf::from).ok_or_else(|| {
            CliError::usage("it is not known where to keep data: there is no HOME")
                .hint("say where with --data or SPAWNERY_DATA")
        })
    }

    /// Where the server listens.
    pub(crate) fn listen(&self) -> Result<SocketAddr, CliError> {
        let text = self.text("listen").unwrap_or(LISTEN_DEFAULT);
        parse_address(text).map_err(|expected| wrong("listen", text, &expected))
    }

    /// Where the server waits for agents of other machines, if it does.
    pub(crate) fn link_listen(&self) -> Result<Option<SocketAddr>, CliError> {
        let Some(text) = self.text("link_listen") else {
            return Ok(None);
        };
        let address = parse_address(text);
        let address = address.map_err(|expected| wrong("link_listen", text, &expected))?;
        Ok(Some(address))
    }

    /// What the node is called.
    pub(crate) fn name(&self) -> Result<Name, CliError> {
        let text = self.text("name").unwrap_or("local");
        Name::new(text).map_err(|error| wrong("name", text, &error.to_string()))
    }

    /// The labels of the node.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let items = self.value("labels").map(|value| value.items.as_slice());
        let labels = items.unwrap_or_default().iter();
        labels.filter_map(|label| parse_label(label).ok()).collect()
    }
}

fn defaults(sources: &Sources<'_>) -> BTreeMap<&'static str, Value> {
    let data = place::data_default(sources.is_root, sources.environment);
    let data = data.map(|path| path.display().to_string());
    let defaults = [
        ("data", data),
        ("listen", Some(LISTEN_DEFAULT.to_owned())),
        ("agent", Some("true".to_owned())),
        ("name", Some(place::name_default(&sources.host_name))),
        ("log_level", Some("info".to_owned())),
        ("json", Some("false".to_owned())),
        ("color", Some("auto".to_owned())),
    ];
    let value = |text| Value { items: vec![text], source: Source::Default };
    let given = defaults.into_iter();
    given.filter_map(|(name, text)| Some((name, value(text?)))).collect()
}

fn check(name: &str, value: &Value) -> Result<(), CliError> {
    let Some(setting) = setting(name) else {
        return Ok(());
    };
    for item in &value.items {
        if let Err(expected) = (setting.check)(item) {
            let found = match setting.is_secret {
                true => "its value".to_owned(),
                false => format!("`{item}`"),
            };
            let place = &value.source;
            let what = match place {
                // The option says what it is.
                Source::Flag(_) => String::new(),
                _ => format!(" {name}:"),
            };
            let message = format!("{place}:{what} {found} does not fit; expected {expected}");
            return Err(CliError::usage(message));
        }
    }
    Ok(())
}

fn wrong(name: &str, text: &str, expected: &str) -> CliError {
    CliError::usage(format!("{name}: `{text}` does not fit; expected {expected}"))
}

/// What the options of the command that was given say about a setting.
fn flags(matches: &ArgMatches, setting: &Setting) -> Vec<String> {
    let values = flag_values(matches, setting.name);
    // The one option that says no.
    match setting.flag {
        Some(flag) if flag.starts_with("--no-") => {
            let is_given = values.iter().any(|value| value == "true");
            if is_given { vec!["false".to_owned()] } else { Vec::new() }
        }
        _ => values,
    }
}

/// The values of the option `id`, where it was given on the command line, at any level.
fn flag_values(matches: &ArgMatches, id: &str) -> Vec<String> {
    let below = matches.subcommand().map(|(_, below)| flag_values(below, id));
    if let Some(values) = below.filter(|values| !values.is_empty()) {
        return values;
    }
    let is_known = matches.try_contains_id(id).is_ok();
    if !is_known || matches.value_source(id) != Some(ValueSource::CommandLine) {
        return Vec::new();
    }
    if let Ok(Some(is_given)) = matches.try_get_one::<bool>(id) {
        return vec![is_given.to_string()];
    }
    match matches.try_get_many::<String>(id) {
        Ok(Some(values)) => values.cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given {
        flags: &'static [(&'static str, &'static str)],
        environment: &'static [(&'static str, &'static str)],
        file: &'static str,
    }

    fn resolve(given: &Given) -> Result<Config, CliError> {
        let all = |pairs: &[(&str, &str)], name: &str| -> Vec<String> {
            let found = pairs.iter().filter(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned()).collect()
        };
        Config::resolve(Sources {
            flags: &|setting| all(given.flags, setting.name),
            environment: &|name| all(given.environment, name).pop(),
            file: Some((PathBuf::from("c.toml"), given.file.to_owned())),
            is_root: false,
            host_name: "Host_1.example".to_owned(),
        })
    }

    #[test]
    fn options_beat_the_environment_beats_the_file_beats_the_defaults() {
        let mut given = Given {
            flags: &[("listen", "127.0.0.1:1")],
            environment: &[("SPAWNERY_LISTEN", "127.0.0.1:2"), ("HOME", "/home/a")],
            file: "listen = \"127.0.0.1:3\"",
        };
        let mut check = |step: &dyn Fn(&mut Given), text: &str, source: Source| {
            step(&mut given);
            let config = resolve(&given).unwrap();
            let value = config.value("listen").unwrap();
            assert_eq!((value.items[0].as_str(), &value.source), (text, &source));
        };
        check(&|_| {}, "127.0.0.1:1", Source::Flag("--listen"));
        let variable = Source::Environment("SPAWNERY_LISTEN");
        check(&|given| given.flags = &[], "127.0.0.1:2", variable);
        let file = Source::File(PathBuf::from("c.toml"));
        check(&|given| given.environment = &[], "127.0.0.1:3", file);
        check(&|given| given.file = "", LISTEN_DEFAULT, Source::Default);
    }

    #[test]
    fn the_defaults_follow_the_user_and_the_machine() {
        let given = Given { flags: &[], environment: &[("HOME", "/home/a")], file: "" };
        let config = resolve(&given).unwrap();
        assert_eq!(config.text("data"), Some("/home/a/.local/share/spawnery"));
        assert_eq!(config.text("name"), Some("host-1"));
    }

    #[test]
    fn labels_add_up_within_one_source() {
        let given = Given {
            flags: &[("labels", "a=1"), ("labels", "b=2")],
            environment: &[("SPAWNERY_LABELS", "c=3, d=4")],
            file: "",
        };
        let labels = resolve(&given).unwrap().labels();
        assert_eq!(labels.into_keys().collect::<Vec<_>>(), ["a", "b"]);
        let labels = resolve(&Given { flags: &[], ..given }).unwrap().labels();
        assert_eq!(labels.into_keys().collect::<Vec<_>>(), ["c", "d"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |given: Given, parts: &[&str]| {
            let error = resolve(&given).unwrap_err();
            let text = error.lines().join("\n");
            for part in parts {
                assert!(text.contains(part), "{part:?} is not in {text:?}");
            }
        };
        let none = || Given { flags: &[], environment: &[], file: "" };
        check(
            Given { environment: &[("SPAWNERY_LISTEN", "nowhere")], ..none() },
            &["SPAWNERY_LISTEN", "`nowhere`", "127.0.0.1:9000"],
        );
        check(
            Given { flags: &[("labels", "zone")], ..none() },
            &["--label", "`zone`", "KEY=VALUE"],
        );
        check(
            Given { file: "lisen = \"a\"", ..none() },
            &["c.toml:1:1", "`lisen`", "did you mean `listen`"],
        );
        check(Given { file: "\ndata = 3", ..none() }, &["c.toml:2:8", "data", "a text"]);
        check(Given { file: "a = ", ..none() }, &["c.toml:1:"]);
    }

    #[test]
    fn a_secret_is_not_in_an_error() {
        let given = Given { flags: &[], environment: &[], file: "token = \"\"" };
        let error = resolve(&given).unwrap_err();
        assert!(error.message.contains("token: its value does not fit"));
    }
}
