//! `spawnery agent`: this machine as a node of a server elsewhere.

use super::Outcome;
use crate::args::NodeOptions;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::logging;
use crate::place::Place;
use crate::serve::{NodeOptions as Node, StopSignals, agent_config};
use spawnery_agent::{Agent as RunningAgent, JoinToken, StartError, Tls};
use std::sync::Arc;

/// Make this machine a node of a server elsewhere
///
/// `spawnery nodes invite` on the server prints the whole command. The token is needed once; from
/// then on this machine has a secret of its own in its data folder. When the agent ends, what it
/// runs goes on, and the next agent finds it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Agent {
    /// Where the server takes in agents, as HOST:PORT [env: SPAWNERY_JOIN]
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// The token of `spawnery nodes invite`; it can be used once [env: SPAWNERY_JOIN_TOKEN]
    #[arg(long = "token", id = "join_token", value_name = "TOKEN")]
    join_token: Option<String>,
    #[command(flatten)]
    node: NodeOptions,
}

impl Agent {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        logging::start(&context.config, "info");
        crate::runtime::client(serve(context))
    }
}

async fn serve(context: &Context) -> Outcome {
    let mut signals = StopSignals::new()?;
    let config = &context.config;
    let Some(join) = config.text("join") else {
        let message = "it is not said which server to join";
        return Err(CliError::usage(message).hint("give --join HOST:PORT, or set SPAWNERY_JOIN"));
    };
    let token = config.text("join_token").map(str::parse::<JoinToken>).transpose();
    let token = token.map_err(|error| {
        CliError::usage(error).hint("`spawnery nodes invite` on the server makes one")
    })?;
    let data_dir = Place::new(config.data()?).create()?.agent();
    let connector = Tls::new(join, &data_dir, token.as_ref()).map_err(|error| {
        CliError::usage(error).hint("`spawnery nodes invite` on the server prints the command")
    })?;
    let node = Node::of(config)?;
    let options = agent_config(data_dir, node)?;
    let secret = token.map(|token| token.secret);
    let started = RunningAgent::start(options, Arc::new(connector), secret).await;
    let mut agent = started.map_err(folded)?;
    tracing::info!("node {} of the server at {join}", agent.node_id());
    tokio::select! {
        () = signals.next() => {}
        error = agent.ended() => return Err(CliError::failed(error)),
    }
    tracing::info!("stopping; what runs goes on, and the next start finds it");
    agent.stop().await;
    Ok(ExitCode::OK)
}

fn folded(error: StartError) -> CliError {
    let folded = CliError::failed(&error);
    match error {
        StartError::Unreachable { .. } => folded
            .with_code(ExitCode::NO_SERVER)
            .hint("see that the server runs with --link-listen and that the address is right"),
        StartError::Refused { .. } => folded
            .with_code(ExitCode::REFUSED)
            .hint("make a new token with `spawnery nodes invite` on the server"),
        StartError::NotJoined => folded
            .with_code(ExitCode::USAGE)
            .hint("`spawnery nodes invite` on the server prints the command"),
        _ => folded.hint("`spawnery doctor` says what this machine lacks"),
    }
}
