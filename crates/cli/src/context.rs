//! What every command has: the configuration, the output, and the way to the server.

use crate::config::Config;
use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;
use spawnery_client::{Client, Token};

/// What every command has.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration.
    pub(crate) config: Config,
    /// Where and how to print.
    pub(crate) output: Output,
}

impl Context {
    /// A context with the output that the configuration asks for.
    pub(crate) fn new(config: Config) -> Context {
        let color = config.text("color").unwrap_or("auto");
        let output = Output::new(config.is_on("json"), color);
        Context { config, output }
    }

    /// A client of the server that is meant: the one that is configured, or the local one.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let local = match self.config.data() {
            Ok(data) => Place::new(data),
            Err(error) if self.config.text("url").is_none() => return Err(error),
            Err(_) => return Ok(Client::new(self.url().unwrap_or_default(), self.token())?),
        };
        let server = local.server();
        let url = match (self.url(), &server) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(server)) => server.url.clone(),
            (None, None) => {
                let message = format!("no server runs with its data in {}", local.data().display());
                return Err(CliError::no_server(message).hint(
                    "start one with `spawnery server`, or say where it is with --url or --data",
                ));
            }
        };
        // The local server's token is for nobody else's eyes.
        let is_local = server.is_some_and(|server| server.url == url);
        let token = match (self.token(), is_local) {
            (Some(token), _) => Some(token),
            (None, true) => local.token()?,
            (None, false) => None,
        };
        Ok(Client::new(&url, token)?)
    }

    /// The address of the server, if it is configured.
    pub(crate) fn url(&self) -> Option<&str> {
        self.config.text("url")
    }

    fn token(&self) -> Option<Token> {
        self.config.text("access_token").map(Token::new)
    }
}
