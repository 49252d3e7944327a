//! The command line together with what the environment and the file say about its options.
//!
//! It is read twice: first without what arguments ask of each other, to see which command is meant
//! and what is given; then as it is, with what the environment and the file add to it.

use super::options::{self, CommandOption, Kind};
use super::settings::parse_boolean;
use super::{Config, Source, Value, place};
use crate::error::CliError;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::ffi::OsString;

/// Why the command line cannot be followed.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// Clap says so, or shows the help that is asked for.
    Clap(clap::Error),
    /// The configuration is wrong.
    Config(CliError),
}

impl From<clap::Error> for ParseError {
    fn from(error: clap::Error) -> ParseError {
        ParseError::Clap(error)
    }
}

impl From<CliError> for ParseError {
    fn from(error: CliError) -> ParseError {
        ParseError::Config(error)
    }
}

/// An option of a command, and what it is set to.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// The option.
    pub(crate) option: CommandOption,
    /// What it is set to, if it is.
    pub(crate) value: Option<Value>,
}

/// What an option was set to by something else than the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// The option as errors begin with it, such as `--timeout:`.
    flag: String,
    /// Where its value is from instead.
    place: String,
}

/// Reads the command line `arguments` of `root`, the environment and the file.
pub(crate) fn parse(
    root: Command,
    arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(ArgMatches, Config), ParseError> {
    let known = options::all(&root);
    let strict = options::with_undoable_switches(options::described(root.clone()));
    let first = options::without_demands(root.clone());
    let Ok(given) = first.try_get_matches_from(&arguments) else {
        let matches = parse_strictly(root, strict, arguments)?;
        return Ok((matches.clone(), Config::load(&matches, None, Vec::new(), environment)?));
    };
    let file = place::read(super::flag_values(&given, "config").pop(), environment)?;
    let entries = match &file {
        Some((path, text)) => super::file::read(text, &known).map_err(|error| error.shown(path))?,
        None => Vec::new(),
    };
    let layers = Layers { environment, file: file.as_ref(), entries: &entries };
    let mut choices = Vec::new();
    for option in known {
        let value = layers.value(&option)?;
        choices.push(Choice { option, value });
    }
    let added = added(&strict, &given, &choices)?;
    let arguments = with_added(arguments, &added);
    let matches = parse_strictly(root, strict, arguments)?;
    let places = added.iter().map(|choice| choice.as_added()).collect();
    note_flags(&mut choices, &given);
    let mut config = Config::load(&matches, file, entries, environment)?;
    config.choices = choices;
    config.added = places;
    Ok((matches, config))
}

/// Reads the command line as it is. Its help is that of the switches as they are usually given.
fn parse_strictly(
    root: Command,
    strict: Command,
    arguments: Vec<OsString>,
) -> Result<ArgMatches, clap::Error> {
    let is_help = |error: &clap::Error| {
        let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        error.kind() == ErrorKind::DisplayHelp || error.kind() == help
    };
    match strict.try_get_matches_from(&arguments) {
        Err(error) if is_help(&error) => {
            let shown = options::described(root).try_get_matches_from(&arguments);
            Err(shown.err().filter(is_help).unwrap_or(error))
        }
        other => other,
    }
}

struct Layers<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: Option<&'a (std::path::PathBuf, String)>,
    entries: &'a [super::file::Entry],
}

impl Layers<'_> {
    /// What the environment says about an option, or else the file, or else nobody; checked.
    fn value(&self, option: &CommandOption) -> Result<Option<Value>, CliError> {
        let default = option.default().map(|text| Value::new(vec![text], Source::Default));
        let Some(mut value) = self.environment(option).or_else(|| self.in_file(option)) else {
            return Ok(default);
        };
        for item in &mut value.items {
            let wrong = |expected: String| {
                let name = option.name();
                super::unfit(&value.source, &name, item, option.is_secret, &expected)
            };
            option.check(item).map_err(wrong)?;
            if option.kind == Kind::Switch {
                *item = (parse_boolean(item) == Ok(true)).to_string();
            }
        }
        Ok(Some(value))
    }

    fn environment(&self, option: &CommandOption) -> Option<Value> {
        let text = (self.environment)(&option.variable).filter(|text| !text.is_empty())?;
        let source = Source::Environment(option.variable.clone());
        Some(Value::new(super::split(&text, option.kind == Kind::List), source))
    }

    fn in_file(&self, option: &CommandOption) -> Option<Value> {
        let (path, _) = self.file?;
        let name = option.name();
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(Value::new(entry.items.clone(), Source::File(path.clone(), entry.line)))
    }
}

impl Choice {
    fn strength(&self) -> u8 {
        match self.value.as_ref().map(|value| &value.source) {
            Some(Source::Environment(_)) if !self.is_off() => 2,
            Some(Source::File(..)) if !self.is_off() => 1,
            _ => 0,
        }
    }

    fn is_off(&self) -> bool {
        let items = self.value.as_ref().map(|value| value.items.as_slice()).unwrap_or_default();
        items.is_empty() || (self.option.kind == Kind::Switch && items == ["false"])
    }

    fn place(&self) -> String {
        let source = self.value.as_ref().map_or(&Source::Default, |value| &value.source);
        source.with_name(&self.option.name())
    }

    fn as_added(&self) -> Added {
        Added { flag: format!("--{}:", self.option.long), place: self.place() }
    }
}

impl Added {
    /// The error with the place that the value is from, if it is about this option.
    pub(crate) fn explain(&self, mut error: CliError) -> CliError {
        if let Some(rest) = error.message.strip_prefix(&self.flag) {
            error.message = format!("{}:{rest}", self.place);
        }
        error
    }
}

/// The choices that go to the command line: those of its command that are not given there, and
/// that exclude nothing that is given there or by a stronger source.
fn added(
    strict: &Command,
    given: &ArgMatches,
    choices: &[Choice],
) -> Result<Vec<Choice>, CliError> {
    let (path, command, given) = last(strict, given);
    let ours: Vec<&Choice> = choices
        .iter()
        .filter(|choice| choice.option.command == path && choice.strength() > 0)
        .filter(|choice| !is_given(given, choice.option.id()))
        .collect();
    let mut added = Vec::new();
    for choice in &ours {
        let excluded = excluded_by(command, choice.option.id());
        if excluded.iter().any(|id| is_given(given, id)) {
            continue;
        }
        let rivals = ours.iter().filter(|other| excluded.contains(&other.option.id().to_owned()));
        let mut rivals = rivals.filter(|other| other.strength() >= choice.strength()).peekable();
        if let Some(rival) = rivals.clone().find(|rival| rival.strength() == choice.strength()) {
            let (one, other) = (choice.place(), rival.place());
            let message = format!("{one}: it cannot be set together with {other}");
            return Err(CliError::usage(message).hint("remove one of them"));
        }
        if rivals.peek().is_none() {
            added.push((*choice).clone());
        }
    }
    Ok(added)
}

/// The command that is meant: its words, its description and what is given to it.
fn last<'a>(
    command: &'a Command,
    given: &'a ArgMatches,
) -> (Vec<String>, &'a Command, &'a ArgMatches) {
    let (mut path, mut command, mut given) = (Vec::new(), command, given);
    while let Some((word, below)) = given.subcommand()
        && let Some(found) = command.find_subcommand(word)
    {
        path.push(word.to_owned());
        (command, given) = (found, below);
    }
    (path, command, given)
}

fn is_given(given: &ArgMatches, id: &str) -> bool {
    let is_known = given.try_contains_id(id).is_ok();
    is_known && given.value_source(id) == Some(ValueSource::CommandLine)
}

/// The arguments that cannot be given together with the argument `id`.
fn excluded_by(command: &Command, id: &str) -> Vec<String> {
    let conflicts = |arg: &Arg| -> Vec<String> {
        let conflicts = command.get_arg_conflicts_with(arg);
        conflicts.iter().map(|arg| arg.get_id().to_string()).collect()
    };
    let mut excluded = Vec::new();
    for arg in command.get_arguments() {
        match arg.get_id() == id {
            true => excluded.extend(conflicts(arg)),
            false if conflicts(arg).iter().any(|other| other == id) => {
                excluded.push(arg.get_id().to_string());
            }
            false => {}
        }
    }
    excluded
}

/// The command line with the arguments of the choices, before `--` if there is one.
fn with_added(mut arguments: Vec<OsString>, added: &[Choice]) -> Vec<OsString> {
    let end = arguments.iter().position(|argument| argument == "--");
    let end = end.unwrap_or(arguments.len());
    let more = added.iter().flat_map(|choice| {
        let items = choice.value.as_ref().map(|value| value.items.as_slice());
        choice.option.arguments(items.unwrap_or_default())
    });
    let more: Vec<OsString> = more.map(OsString::from).collect();
    arguments.splice(end..end, more);
    arguments
}

/// Notes which options the command line gives.
fn note_flags(choices: &mut [Choice], given: &ArgMatches) {
    let mut path = Vec::new();
    let mut given = given;
    while let Some((word, below)) = given.subcommand() {
        path.push(word.to_owned());
        given = below;
    }
    for Choice { option, value } in choices {
        if option.command == path && is_given(given, option.id()) {
            let items = given.get_raw(option.id()).into_iter().flatten();
            let items = items.map(|item| item.to_string_lossy().into_owned()).collect();
            *value = Some(Value::new(items, Source::Flag(format!("--{}", option.long))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;
    use std::io::Write;

    /// What the command line, the environment and the file come to.
    fn parsed(
        line: &str,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<(ArgMatches, Config), ParseError> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let path = config.path().display().to_string();
        let variable = |name: &str| match name {
            "SPAWNERY_CONFIG" => Some(path.clone()),
            _ => {
                let found = environment.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        let arguments = line.split(' ').map(OsString::from).collect();
        parse(Cli::command(), arguments, &variable)
    }

    fn tail(line: &str, environment: &[(&str, &str)], file: &str) -> Option<u64> {
        let (matches, _) = parsed(line, environment, file).unwrap();
        let (_, logs) = matches.subcommand().unwrap();
        logs.get_one::<u64>("tail").copied()
    }

    #[test]
    fn an_option_beats_the_environment_beats_the_file() {
        let file = "[logs]\ntail = 3";
        let variable = [("SPAWNERY_LOGS_TAIL", "2")];
        assert_eq!(tail("spawnery logs web --tail 1", &variable, file), Some(1));
        assert_eq!(tail("spawnery logs web", &variable, file), Some(2));
        assert_eq!(tail("spawnery logs web", &[], file), Some(3));
        assert_eq!(tail("spawnery logs web", &[], ""), None);
        // Empty is as if it were not there.
        assert_eq!(tail("spawnery logs web", &[("SPAWNERY_LOGS_TAIL", "")], file), Some(3));
    }

    #[test]
    fn what_excludes_something_stronger_yields() {
        let file = "[logs]\ntail = 3";
        assert_eq!(tail("spawnery logs web --since 1m", &[], file), None);
        assert_eq!(tail("spawnery logs web", &[("SPAWNERY_LOGS_SINCE", "1m")], file), None);
        let both = "[logs]\ntail = 3\nsince = \"1m\"";
        let error = parsed("spawnery logs web", &[], both).unwrap_err();
        let ParseError::Config(error) = error else { panic!("{error:?}") };
        assert!(error.message.contains(":2: logs.tail"), "{}", error.message);
        // A name on the line excludes the manifest that is meant otherwise.
        let variable = [("SPAWNERY_REMOVE_FILE", "m.yaml")];
        let (matches, _) = parsed("spawnery remove web", &variable, "").unwrap();
        assert!(!is_given(matches.subcommand().unwrap().1, "file"));
        let (matches, _) = parsed("spawnery remove", &variable, "").unwrap();
        assert!(is_given(matches.subcommand().unwrap().1, "file"));
    }

    #[test]
    fn a_switch_can_be_undone() {
        let check = |line: &str, environment: &[(&str, &str)], file: &str, expected: bool| {
            let (matches, _) = parsed(line, environment, file).unwrap();
            let all = matches.subcommand().unwrap().1.get_one::<bool>("all").copied();
            assert_eq!(all, Some(expected), "{line}");
        };
        let file = "[instances]\nall = true";
        check("spawnery instances", &[], file, true);
        check("spawnery instances --all=false", &[], file, false);
        check("spawnery instances", &[("SPAWNERY_INSTANCES_ALL", "0")], file, false);
        check("spawnery instances", &[("SPAWNERY_INSTANCES_ALL", "1")], "", true);
        check("spawnery instances -a web", &[], "", true);
        check("spawnery instances", &[], "", false);
    }

    #[test]
    fn lists_go_before_the_command_that_is_run() {
        let check = |environment: &[(&str, &str)], file: &str, expected: &[&str]| {
            let line = "spawnery session exec abcd -- env --all";
            let (matches, _) = parsed(line, environment, file).unwrap();
            let exec = matches.subcommand().unwrap().1.subcommand().unwrap().1;
            let env: Vec<&String> = exec.get_many("env").into_iter().flatten().collect();
            assert_eq!(env, expected);
            let command: Vec<&String> = exec.get_many("command").unwrap().collect();
            assert_eq!(command, ["env", "--all"]);
        };
        check(&[], "[session.exec]\nenv = [\"A=1\", \"B=2\"]", &["A=1", "B=2"]);
        check(&[], "[session.exec.env]\nA = 1", &["A=1"]);
        check(&[("SPAWNERY_SESSION_EXEC_ENV", "A=1, B=2")], "", &["A=1", "B=2"]);
        check(&[("SPAWNERY_RUN_ENV", "A=1")], "", &[]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |environment: &[(&str, &str)], file: &str, parts: &[&str]| {
            let error = parsed("spawnery config", environment, file).unwrap_err();
            let ParseError::Config(error) = error else { panic!("{error:?}") };
            let text = error.lines().join("\n");
            for part in parts {
                assert!(text.contains(part), "{part:?} is not in {text:?}");
            }
        };
        let variable = [("SPAWNERY_LOGS_TAIL", "many")];
        check(&variable, "", &["SPAWNERY_LOGS_TAIL", "`many`", "a whole number"]);
        check(&[], "[logs]\n\ntail = \"many\"", &[":3: logs.tail: `many`", "a whole number"]);
        check(&[], "[logs]\ntail = true", &[":2:8", "logs.tail", "a number"]);
        check(&[], "[logs]\nfollow = \"x\"", &[":2:10", "true or false"]);
        check(&[], "[logs]\ntial = 1", &[":2:1", "`tial`", "did you mean `tail`?"]);
        check(&[], "[log]\ntail = 1", &["`log`", "did you mean `logs`?"]);
        check(&[], "[session.exce]\nenv = []", &["`exce`", "did you mean `exec`?"]);
        check(&[], "[run]\nmemory = \"1G\"", &["`memory` is a setting of its own", "above"]);
        check(&[], "tail = 1", &["`tail`", "below [logs]"]);
        check(&[], "logs = 1", &[":1:8", "a table"]);
        check(&[], "config = \"a\"", &["--config"]);
        check(&[], "[run]\nenv = \"A=1\"", &["run.env", "a list"]);
    }
}
