//! `spawnery completions`: for the user's shell.

use super::Outcome;
use crate::args::Cli;
use crate::context::Context;
use crate::exit::ExitCode;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completions for a shell
///
/// For bash: spawnery completions bash > ~/.local/share/bash-completion/completions/spawnery
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "spawnery", &mut script);
        context.output.bytes(&script)?;
        Ok(ExitCode::OK)
    }
}
