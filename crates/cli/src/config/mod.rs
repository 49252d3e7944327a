//! The configuration: options beat the environment beats the file beats the defaults.

mod command_line;
mod file;
mod front;
mod options;
mod place;
mod settings;

pub(crate) use command_line::{Choice, ParseError, parse};
pub(crate) use front::Front;
pub(crate) use settings::{
    BUILD_NETWORKS, COLORS, LOG_LEVELS, PROOFS, RUNTIMES, SETTINGS, Setting, parse_address,
};

use crate::error::CliError;
use clap::ArgMatches;
use clap::parser::ValueSource;
use command_line::Added;
use file::Entry;
use settings::{parse_boolean, parse_label, setting};
use spawnery_agent::{BuildSettings, CapacityGiven, Runtimes};
use spawnery_api::SessionDefaults;
use spawnery_controller::access::{Config as AccessConfig, JwtSecret, KeySource};
use spawnery_model::limits::ENVIRONMENTS_BYTES_DEFAULT;
use spawnery_model::{Allowances, Name, RuntimeKind};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the server listens when nobody says otherwise: this machine only.
const LISTEN_DEFAULT: &str = "127.0.0.1:9000";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// This option.
    Flag(String),
    /// This environment variable.
    Environment(String),
    /// This file, at this line.
    File(PathBuf, usize),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => f.write_str(flag),
            Source::Environment(variable) => f.write_str(variable),
            Source::File(path, _) => write!(f, "{}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

impl Source {
    /// The source with what it says there about `name`: an option and a variable say what they are.
    fn with_name(&self, name: &str) -> String {
        match self {
            Source::Flag(_) | Source::Environment(_) => self.to_string(),
            Source::File(path, line) => format!("{}:{line}: {name}", path.display()),
            Source::Default => format!("default: {name}"),
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

impl Value {
    fn new(items: Vec<String>, source: Source) -> Value {
        Value { items, source }
    }
}

/// Where values are looked for, in the order of precedence.
pub(crate) struct Sources<'a> {
    /// What the options say about a setting; empty if they say nothing.
    pub(crate) flags: &'a dyn Fn(&Setting) -> Vec<String>,
    /// What an environment variable holds.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The file and what it says.
    pub(crate) file: Option<(PathBuf, Vec<Entry>)>,
    /// Whether the user is root.
    pub(crate) is_root: bool,
    /// What the machine is called.
    pub(crate) host_name: String,
}

/// The value of each setting that has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    values: BTreeMap<&'static str, Value>,
    /// The options of single commands.
    choices: Vec<Choice>,
    /// What the environment and the file added to the command line.
    added: Vec<Added>,
}

impl Config {
    /// The configuration of this process: its options, environment and file.
    fn load(
        matches: &ArgMatches,
        file: Option<(PathBuf, String)>,
        entries: Vec<Entry>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, CliError> {
        let host_name = rustix::system::uname();
        let host_name = host_name.nodename().to_string_lossy().into_owned();
        Config::resolve(Sources {
            flags: &|setting| flags(matches, setting),
            environment,
            file: file.map(|(path, _)| (path, entries)),
            is_root: rustix::process::geteuid().is_root(),
            host_name,
        })
    }

    /// Finds and checks the value of each setting.
    pub(crate) fn resolve(sources: Sources<'_>) -> Result<Config, CliError> {
        let mut values = defaults(&sources);
        if let Some((path, entries)) = &sources.file {
            for entry in entries {
                if let Some(setting) = setting(&entry.name) {
                    let source = Source::File(path.clone(), entry.line);
                    values.insert(setting.name, Value::new(entry.items.clone(), source));
                }
            }
        }
        for setting in SETTINGS {
            let variable = (sources.environment)(setting.variable);
            if let Some(text) = variable.filter(|text| !text.is_empty()) {
                let items = split(&text, setting.is_list);
                let source = Source::Environment(setting.variable.to_owned());
                values.insert(setting.name, Value::new(items, source));
            }
            let items = (sources.flags)(setting);
            if let (false, Some(flag)) = (items.is_empty(), setting.flag) {
                let source = Source::Flag(flag.to_owned());
                values.insert(setting.name, Value::new(items, source));
            }
        }
        for (name, value) in &values {
            check(name, value)?;
        }
        Ok(Config { values, ..Config::default() })
    }

    /// The options of single commands, with what they are set to.
    pub(crate) fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// An error about an option, with the place that its value is from if that is not the command
    /// line.
    pub(crate) fn explain(&self, error: CliError) -> CliError {
        self.added.iter().fold(error, |error, added| added.explain(error))
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

    /// Whose tokens the server takes, with its secrets in `data`.
    pub(crate) fn access(&self, data: &Path) -> Result<AccessConfig, CliError> {
        let secret = match (self.text("jwt_secret"), self.text("jwt_secret_file")) {
            (Some(secret), _) => Some(JwtSecret::new(secret)),
            (None, Some(file)) => Some(JwtSecret::read(Path::new(file))),
            (None, None) => None,
        };
        let access = secret.transpose().and_then(|secret| AccessConfig::open(data, secret));
        let mut access = access.map_err(CliError::failed)?;
        let sources = self.value("jwks").map(|value| value.items.as_slice()).unwrap_or_default();
        for text in sources {
            let source = text.parse::<KeySource>();
            access.key_sets.push(source.map_err(|expected| wrong("jwks", text, &expected))?);
        }
        access.issuer = self.text("jwt_issuer").map(str::to_owned);
        access.audience = self.text("jwt_audience").map(str::to_owned);
        Ok(access)
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

impl Config {
    /// What the node lets instances use of it.
    pub(crate) fn allowances(&self) -> Allowances {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        Allowances {
            host_network: self.is_on("allow_host_network"),
            devices: items("allow_devices"),
            mounts: items("allow_mounts"),
            ..Allowances::default()
        }
    }

    /// How the node builds environments.
    pub(crate) fn build(&self) -> BuildSettings {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        let text = |name| self.text(name).map(str::to_owned);
        let mut build = BuildSettings {
            debian_mirror: text("debian_mirror"),
            python_index: text("python_index"),
            uv: text("uv").map(PathBuf::from),
            registries_plain_http: items("http_registries"),
            git_folders: items("git_folders").into_iter().map(PathBuf::from).collect(),
            ..BuildSettings::default()
        };
        if self.text("build_network") == Some("host") {
            build.network = spawnery_agent::BuildNetwork::Host;
        }
        build
    }

    /// What instances on the node may reserve together, where that is not what the machine has.
    pub(crate) fn capacity(&self) -> CapacityGiven {
        let memory = self.text("memory_total");
        let cpu = self.text("cpu_total");
        CapacityGiven {
            memory: memory.and_then(|text| spawnery_manifest::parse_bytes(text).ok()),
            cpu: cpu.and_then(|text| spawnery_manifest::parse_cores(text).ok()),
        }
    }

    /// What sessions are like whose template does not say otherwise.
    pub(crate) fn session_defaults(&self) -> SessionDefaults {
        let time = |name| spawnery_manifest::parse_duration(self.text(name)?).ok();
        SessionDefaults {
            before_duration: time("duration_warning"),
            before_idle: time("idle_warning"),
            stale_period: time("stale_period"),
            runtime: match self.text("default_runtime") {
                Some("oci") => RuntimeKind::Oci,
                Some("docker") => RuntimeKind::Docker,
                _ => RuntimeKind::Process,
            },
        }
    }

    /// What the node's environments may take on disk.
    pub(crate) fn environments_bytes_max(&self) -> u64 {
        let size = self.text("environments_size");
        let size = size.and_then(|text| spawnery_manifest::parse_bytes(text).ok());
        size.unwrap_or(ENVIRONMENTS_BYTES_DEFAULT).0
    }

    /// Where the node's runtimes beside the process runtime are.
    pub(crate) fn runtimes(&self) -> Runtimes {
        let mut runtimes = Runtimes::default();
        let command = self.text("oci_runtime").unwrap_or_default();
        let mut words = command.split_whitespace().map(str::to_owned);
        if let Some(program) = words.next() {
            let name = program.rsplit('/').next().unwrap_or_default();
            runtimes.oci.shares_kernel = !OWN_KERNEL.iter().any(|start| name.starts_with(start));
            runtimes.oci.program = program;
            runtimes.oci.arguments = words.collect();
        }
        if let Some(socket) = self.text("docker_socket") {
            runtimes.docker.socket = socket.to_owned();
        }
        runtimes
    }
}

/// How the names of OCI runtimes start that run a kernel of their own (gVisor, Kata Containers).
const OWN_KERNEL: [&str; 2] = ["runsc", "kata"];

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
        let wrong =
            |expected: String| unfit(&value.source, name, item, setting.is_secret, &expected);
        (setting.check)(item).map_err(wrong)?;
    }
    Ok(())
}

/// The error that a value does not fit, without the value if that is secret.
fn unfit(source: &Source, name: &str, item: &str, is_secret: bool, expected: &str) -> CliError {
    let found = match is_secret {
        true => "its value".to_owned(),
        false => format!("`{item}`"),
    };
    let place = source.with_name(name);
    CliError::usage(format!("{place}: {found} does not fit; expected {expected}"))
}

/// The items of a variable: those of a list are separated by commas.
fn split(text: &str, is_list: bool) -> Vec<String> {
    match is_list {
        true => text.split(',').map(|item| item.trim().to_owned()).collect(),
        false => vec![text.to_owned()],
    }
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
            values.iter().map(|value| (value != "true").to_string()).collect()
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
        let path = PathBuf::from("c.toml");
        let entries = file::read(given.file, &[]).map_err(|error| error.shown(&path))?;
        Config::resolve(Sources {
            flags: &|setting| all(given.flags, setting.name),
            environment: &|name| all(given.environment, name).pop(),
            file: Some((path, entries)),
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
        check(&|_| {}, "127.0.0.1:1", Source::Flag("--listen".to_owned()));
        let variable = Source::Environment("SPAWNERY_LISTEN".to_owned());
        check(&|given| given.flags = &[], "127.0.0.1:2", variable);
        let file = Source::File(PathBuf::from("c.toml"), 1);
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
        let given = Given { flags: &[], environment: &[], file: "access_token = \"\"" };
        let error = resolve(&given).unwrap_err();
        assert!(error.message.contains("token: its value does not fit"));
    }
}
