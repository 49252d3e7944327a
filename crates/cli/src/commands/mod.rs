//! The commands, one file each.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod environment;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod instances;
pub(crate) mod jobs;
pub(crate) mod journal;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod session;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod volume;

use crate::args::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::runtime::client;

/// What a command comes to: the code to exit with, or why it stopped.
pub(crate) type Outcome = Result<ExitCode, CliError>;

/// Does what a command says.
pub(crate) fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Up(command) => command.run(context),
        Command::Server(command) => command.run(context),
        Command::Agent(command) => command.run(context),
        Command::Apply(command) => client(command.run(context)),
        Command::Check(command) => command.run(context),
        Command::Diff(command) => client(command.run(context)),
        Command::Remove(command) => client(command.run(context)),
        Command::Run(command) => command.run(context),
        Command::Session(command) => client(command.run(context)),
        Command::Services(command) => client(command.run(context)),
        Command::Jobs(command) => client(command.run(context)),
        Command::Instances(command) => client(command.run(context)),
        Command::Environment(command) => client(command.run(context)),
        Command::Secret(command) => client(command.run(context)),
        Command::Token(command) => client(command.run(context)),
        Command::Volume(command) => client(command.run(context)),
        Command::Nodes(command) => client(command.run(context)),
        Command::Logs(command) => client(command.run(context)),
        Command::Events(command) => client(command.run(context)),
        Command::History(command) => client(command.run(context)),
        Command::Drain(command) => client(command.run(context)),
        Command::Doctor(command) => command.run(context),
        Command::Journal(command) => command.run(context),
        Command::Config(command) => command.run(context),
        Command::Completions(command) => command.run(context),
        Command::Schema(command) => command.run(context),
    }
}
