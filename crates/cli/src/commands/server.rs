//! `spawnery server`: controller, API, gateway and the agent of this machine.

use super::Outcome;
use crate::args::ServerOptions;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::logging;
use crate::output::note;
use crate::serve::{Options, Server as RunningServer, StopSignals};
use std::net::SocketAddr;

/// Run a server: controller, API, gateway, and the agent of this machine
///
/// Its state is in its data folder. When it ends, what it runs goes on, and the next server finds
/// it again. It makes an admin token at its first start, in the file admin.token of the data
/// folder, where the other commands find it.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    #[command(flatten)]
    options: ServerOptions,
    /// Only the controller: this machine runs nothing [env: SPAWNERY_AGENT=false]
    #[arg(long = "no-agent", id = "agent")]
    agent: bool,
    /// Start although the journal lost something that it had acknowledged; it is lost for good
    #[arg(long)]
    accept_loss: bool,
}

impl Server {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        logging::start(&context.config, "info");
        let mut options = Options::of(&context.config)?;
        options.accept_loss = self.accept_loss;
        raise_open_files_max();
        crate::runtime::server(serve(options))
    }
}

/// Lets this process open as many files as it may: each connection through the gateway takes two,
/// and the usual limit is for programs that use `select(2)`.
fn raise_open_files_max() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without more there are fewer connections at once, and those above wait.
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

async fn serve(options: Options) -> Outcome {
    // From the first moment on: a stop must not come between the steps of a start.
    let mut signals = StopSignals::new()?;
    warn_if_open(options.listen);
    let mut server = RunningServer::start(options).await?;
    tracing::info!("serving at {}", server.file.url);
    if let Some(link) = &server.file.link {
        tracing::info!("taking in agents at {link}: `spawnery nodes invite` makes a token for one");
    }
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = server.failed() => Some(failure),
    };
    tracing::info!("stopping; what runs goes on, and the next start finds it");
    server.stop().await;
    match failure {
        Some(failure) => Err(CliError::from(failure)),
        None => Ok(ExitCode::OK),
    }
}

/// Says what it means to listen beyond this machine.
pub(crate) fn warn_if_open(address: SocketAddr) {
    if !address.ip().is_loopback() {
        note(format!(
            "warning: {address} can be reached by other machines, and the API is plain HTTP: \
             tokens and data can be read on the way; put a proxy with TLS before it"
        ));
    }
}
