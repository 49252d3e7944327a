//! A server for one command, in a folder that goes away with it.

use super::stale::{Owner, PREFIX, sweep};
use super::{NodeOptions, Options, Server, end};
use crate::config::Front;
use crate::error::CliError;
use crate::place::Place;
use spawnery_api::SessionDefaults;
use spawnery_client::Client;
use spawnery_controller::access::{self, JwtSecret};
use spawnery_model::Allowances;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A server for one command. End it by [`stop`](Private::stop).
pub(crate) struct Private {
    server: Server,
    folder: TempDir,
    owner: Owner,
    /// Cleans up after others, which were killed.
    sweeper: JoinHandle<()>,
}

impl Private {
    /// Starts a server that nobody else is told of.
    pub(crate) async fn start(node: NodeOptions) -> Result<Private, CliError> {
        let owner_only = Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(PREFIX).permissions(owner_only).tempdir();
        let folder = folder.map_err(|error| {
            CliError::failed(format!("cannot make a temporary folder: {error}"))
                .hint("name another place with TMPDIR")
        })?;
        let owner = Owner::of(folder.path()).map_err(|error| {
            CliError::failed(format!("cannot use {}: {error}", folder.path().display()))
                .hint("name another place with TMPDIR")
        })?;
        // Whoever starts it for one command says in that command what may be reached.
        let allowances = Allowances { host_network: true, ..node.allowances };
        let node = NodeOptions { labels: BTreeMap::new(), allowances, ..node };
        let place = Place::new(folder.path()).create()?;
        let access = access::Config::open(place.data(), Some(JwtSecret::generate()));
        let options = Options {
            access: access.map_err(CliError::failed)?,
            place,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            // One command needs no more.
            front: Front {
                settings: spawnery_gateway::Settings { threads: Some(1), ..Default::default() },
                ..Front::default()
            },
            link_listen: None,
            node: Some(node),
            session_defaults: SessionDefaults::default(),
            accept_loss: false,
        };
        match Server::start(options).await {
            Ok(server) => {
                let sweeper = tokio::task::spawn_blocking(|| sweep(&std::env::temp_dir()));
                Ok(Private { server, folder, owner, sweeper })
            }
            Err(error) => {
                remove(&folder.keep());
                Err(error)
            }
        }
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        self.server.client()
    }

    /// Ends all that runs, the server and its launcher, and removes its folder.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        let ended = end::kill_all(self.server).await;
        remove(&self.folder.keep());
        drop(self.owner);
        // It ends by itself; if it failed, the next one tries again.
        let _ = self.sweeper.await;
        ended
    }
}

/// Removes a folder, also where what ran in it left folders that nobody may enter.
pub(super) fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    open_folders(path);
    if let Err(error) = fs::remove_dir_all(path) {
        crate::output::note(format!("warning: {} stays behind: {error}", path.display()));
    }
}

fn open_folders(path: &Path) {
    // What cannot be opened is told by the removal.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
