//! The data folder of a server: what is where, and what a server leaves there for its clients.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use spawnery_client::Token;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a server says about itself in its data folder while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Where its API is reached from this machine.
    pub(crate) url: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Where it takes in agents of other machines, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
}

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    data: PathBuf,
}

impl Place {
    /// The data folder `data`, which need not exist.
    pub(crate) fn new(data: impl Into<PathBuf>) -> Place {
        Place { data: data.into() }
    }

    /// The folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The journal's folder.
    pub(crate) fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// The folder of the agent and its launcher.
    pub(crate) fn agent(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// The folder of the keys and certificates for agents of other machines.
    pub(crate) fn tls(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// Makes the folder, for its owner only, and gives back its absolute path.
    pub(crate) fn create(&self) -> Result<Place, CliError> {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.data);
        let absolute = made.and_then(|()| self.data.canonicalize());
        absolute.map(Place::new).map_err(|error| {
            let data = self.data.display();
            CliError::failed(format!("cannot use {data} as the data folder: {error}"))
                .hint("name another with --data or SPAWNERY_DATA")
        })
    }

    /// What the server says about itself, if one ran here. It may have died since.
    pub(crate) fn server(&self) -> Option<ServerFile> {
        let text = fs::read(self.server_path()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Says where the server is.
    pub(crate) fn write_server(&self, server: &ServerFile) -> Result<(), CliError> {
        let text = serde_json::to_string(server).map_err(CliError::failed)?;
        write_private(&self.server_path(), &format!("{text}\n"))
    }

    /// Forgets where the server was.
    pub(crate) fn remove_server(&self) {
        // If it stays, clients find nobody there, and say so.
        let _ = fs::remove_file(self.server_path());
    }

    /// The admin token that the server left, if it did.
    pub(crate) fn token(&self) -> Result<Option<Token>, CliError> {
        let path = self.token_path();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Token::new(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::failed(format!(
                "cannot read the token in {}: {error}",
                path.display()
            ))
            .hint("only its owner can: become that user, or set SPAWNERY_TOKEN")),
        }
    }

    /// Where the admin token is.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.data.join("admin.token")
    }

    fn server_path(&self) -> PathBuf {
        self.data.join("server.json")
    }
}

/// Writes a file that only its owner can read, as a whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), CliError> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(|error| {
        CliError::failed(format!("cannot write {}: {error}", path.display()))
            .hint("see whether the disk is full and who owns the folder")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_server_leaves_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("a/b")).create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(place.data()), 0o700);
        assert_eq!(place.server(), None);
        let server = ServerFile { url: "http://127.0.0.1:1".to_owned(), pid: 2, link: None };
        place.write_server(&server).unwrap();
        assert_eq!(mode(&place.server_path()), 0o600);
        assert_eq!(place.server(), Some(server));
        place.remove_server();
        assert_eq!(place.server(), None);
        assert!(place.token().unwrap().is_none());
    }
}
