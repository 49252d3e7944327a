//! The options of single commands: their variables and keys follow from clap's description of the
//! command line, so that none can be forgotten.

use super::settings::{SETTINGS, parse_boolean};
use clap::builder::{Resettable, StyledStr};
use clap::{Arg, ArgAction, Command};

/// The option that names the configuration file, which therefore cannot be in it.
const FILE_OPTION: &str = "config";

/// Options whose values may be secret, and are not shown: those that give environment variables.
const SECRET_IDS: [&str; 1] = ["env"];

/// An option of one command.
#[derive(Debug, Clone)]
pub(crate) struct CommandOption {
    /// The words of its command, such as `session` and `exec`: its table in the file.
    pub(crate) command: Vec<String>,
    /// Its key in that table.
    pub(crate) key: String,
    /// Its name on the command line, without the dashes.
    pub(crate) long: String,
    /// Its environment variable.
    pub(crate) variable: String,
    /// How many values it takes.
    pub(crate) kind: Kind,
    /// Whether its value is never shown.
    pub(crate) is_secret: bool,
    arg: Arg,
}

/// How many values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None on the command line; elsewhere true or false.
    Switch,
    /// One.
    One,
    /// As many as there are.
    List,
}

impl CommandOption {
    fn of(path: &[String], arg: &Arg) -> Option<CommandOption> {
        let id = arg.get_id().as_str();
        let long = arg.get_long()?;
        let is_setting = SETTINGS.iter().any(|setting| setting.name == id);
        if arg.is_positional() || is_setting || (path.is_empty() && id == FILE_OPTION) {
            return None;
        }
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Set => Kind::One,
            ArgAction::Append => Kind::List,
            _ => return None,
        };
        let words: Vec<&str> = path.iter().map(String::as_str).chain([long]).collect();
        Some(CommandOption {
            command: path.to_vec(),
            key: long.replace('-', "_"),
            long: long.to_owned(),
            variable: format!("SPAWNERY_{}", words.join("_").replace('-', "_").to_uppercase()),
            kind,
            is_secret: SECRET_IDS.contains(&id),
            arg: arg.clone(),
        })
    }

    /// Its name in the file with that of its table, such as `logs.tail`.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.command.join("."), self.key)
    }

    /// Its id in what clap found.
    pub(crate) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// What it is when nobody says otherwise.
    pub(crate) fn default(&self) -> Option<String> {
        match self.kind {
            Kind::Switch => Some(false.to_string()),
            _ => Some(self.arg.get_default_values().first()?.to_string_lossy().into_owned()),
        }
    }

    /// What would be right, if `text` is not.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        if self.kind == Kind::Switch {
            return parse_boolean(text).map(drop);
        }
        if self.accepts(text) {
            return Ok(());
        }
        let words = self.arg.get_possible_values();
        if !words.is_empty() {
            let words: Vec<&str> = words.iter().map(|word| word.get_name()).collect();
            return Err(format!("one of {}", words.join(", ")));
        }
        let name = self.arg.get_value_names().and_then(|names| names.first());
        let what = name.map_or("a value".to_owned(), |name| name.to_string());
        Err(match self.accepts("1") && !self.accepts("x") {
            true => "a whole number such as 10".to_owned(),
            false => what,
        })
    }

    /// Whether clap takes `text` as its value.
    fn accepts(&self, text: &str) -> bool {
        let alone = Command::new("check").no_binary_name(true).arg(freed(self.arg.clone()));
        alone.try_get_matches_from([format!("--{}={text}", self.long)]).is_ok()
    }

    /// The arguments that give it these values.
    pub(crate) fn arguments(&self, items: &[String]) -> Vec<String> {
        items.iter().map(|item| format!("--{}={item}", self.long)).collect()
    }
}

/// The options of all commands below `root`, in the order of the help.
pub(crate) fn all(root: &Command) -> Vec<CommandOption> {
    let mut options = Vec::new();
    collect(&mut options, &mut Vec::new(), root);
    options
}

fn collect(options: &mut Vec<CommandOption>, path: &mut Vec<String>, command: &Command) {
    options.extend(command.get_arguments().filter_map(|arg| CommandOption::of(path, arg)));
    for below in command.get_subcommands() {
        path.push(below.get_name().to_owned());
        collect(options, path, below);
        path.pop();
    }
}

/// The command line, with the variable of each option in its help.
pub(crate) fn described(root: Command) -> Command {
    let options = all(&root);
    each(root, &|path, arg| {
        let is_it = |option: &&CommandOption| {
            option.command == path && Some(option.long.as_str()) == arg.get_long()
        };
        match options.iter().find(is_it) {
            Some(option) => {
                let help = arg.get_help().map(StyledStr::to_string).unwrap_or_default();
                arg.help(format!("{help} [env: {}]", option.variable))
            }
            None => arg,
        }
    })
}

/// The command line on which each switch may also be undone, as `--follow=false`: what the
/// environment or the file says has to yield to an option.
pub(crate) fn with_undoable_switches(root: Command) -> Command {
    each(root, &|_, arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("true|false")
            .value_parser(clap::value_parser!(bool))
            .default_missing_value("true")
            .default_value("false"),
        _ => arg,
    })
}

/// The command line without what its arguments ask of each other: so it can be seen which of them
/// are given before the rest is added.
pub(crate) fn without_demands(root: Command) -> Command {
    each(with_undoable_switches(root), &|_, arg| freed(arg))
}

fn freed(arg: Arg) -> Arg {
    let arg = arg.required(false).conflicts_with(Resettable::Reset);
    arg.required_unless_present(Resettable::Reset)
}

/// Changes each argument of each command.
fn each(root: Command, change: &dyn Fn(&[String], Arg) -> Arg) -> Command {
    each_below(&[], root, change)
}

fn each_below(
    path: &[String],
    command: Command,
    change: &dyn Fn(&[String], Arg) -> Arg,
) -> Command {
    let command = command.mut_args(|arg| change(path, arg));
    command.mut_subcommands(|below| {
        let path: Vec<String> = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
        each_below(&path, below, change)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    #[test]
    fn each_option_has_one_variable_and_one_key() {
        let options = all(&Cli::command());
        let mut variables: BTreeSet<String> =
            SETTINGS.iter().map(|setting| setting.variable.to_owned()).collect();
        variables.insert("SPAWNERY_CONFIG".to_owned());
        let mut names: BTreeSet<String> = BTreeSet::new();
        for option in &options {
            assert!(variables.insert(option.variable.clone()), "{}", option.variable);
            assert!(names.insert(option.name()), "{}", option.name());
            let table = &option.command[0];
            let is_setting = SETTINGS.iter().any(|setting| setting.name == table);
            assert!(!is_setting, "[{table}] would be a setting too");
        }
        for variable in ["RUN_ENV", "SESSION_EXEC_ENV", "JOBS_RUN_WAIT", "SERVER_ACCEPT_LOSS"] {
            assert!(variables.contains(&format!("SPAWNERY_{variable}")), "{variable}");
        }
        assert!(!variables.contains("SPAWNERY_RUN_MEMORY"), "that is SPAWNERY_MEMORY");
    }

    #[test]
    fn no_option_of_any_command_is_left_out() {
        fn check(path: &[String], command: &Command) {
            let is_leaf = command.get_subcommands().next().is_none();
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let id = arg.get_id().as_str();
                let is_setting = SETTINGS.iter().any(|setting| setting.name == id);
                let is_known = is_setting || id == FILE_OPTION;
                let found = CommandOption::of(path, arg);
                assert!(is_known || found.is_some(), "{path:?} --{id}");
                // What is added is added to the last command of a line.
                assert!(found.is_none() || is_leaf, "{path:?} has commands and --{id}");
            }
            for below in command.get_subcommands() {
                check(&[path, &[below.get_name().to_owned()]].concat(), below);
            }
        }
        check(&[], &Cli::command());
    }

    #[test]
    fn the_changed_command_lines_are_sound() {
        described(Cli::command()).debug_assert();
        with_undoable_switches(Cli::command()).debug_assert();
        without_demands(Cli::command()).debug_assert();
    }

    #[test]
    fn what_would_be_right_is_said() {
        let options = all(&Cli::command());
        let check = |name: &str, text: &str, expected: Result<(), &str>| {
            let option = options.iter().find(|option| option.name() == name).expect("the option");
            assert_eq!(option.check(text), expected.map_err(str::to_owned), "{name}");
        };
        check("logs.tail", "50", Ok(()));
        check("logs.tail", "many", Err("a whole number such as 10"));
        check("logs.follow", "1", Ok(()));
        check("logs.follow", "perhaps", Err("true or false"));
        check("run.env", "A=1", Ok(()));
        let options = &options;
        let phase = options.iter().find(|option| option.name() == "instances.phase").unwrap();
        assert!(phase.check("asleep").unwrap_err().contains("running"));
    }
}
