//! `spawnery session cp` and `ls`: files of a session.

use crate::commands::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;
use crate::words::{bytes, time};
use futures::{Stream, StreamExt, TryStreamExt};
use spawnery_client::api::FileEntryView;
use spawnery_client::{Client, ErrorKind};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// Pieces of an archive that wait to be sent; then packing waits.
const PIECES_MAX: usize = 16;

/// Bytes of one piece of an archive.
const PIECE_BYTES: usize = 64 * 1024;

/// Where something is that is copied.
enum Place {
    /// In a session, under an absolute path.
    Inside { session: String, path: String },
    /// Here.
    Here(PathBuf),
    /// Standard input or output.
    Stream,
}

impl Place {
    fn of(text: &str) -> Place {
        if text == "-" {
            return Place::Stream;
        }
        match text.split_once(':') {
            Some((session, path)) if path.starts_with('/') && !session.contains('/') => {
                Place::Inside { session: session.to_owned(), path: path.to_owned() }
            }
            _ => Place::Here(text.into()),
        }
    }
}

/// Copies from one place to another, one of which is in a session.
pub(super) async fn copy(context: &Context, source: &str, destination: &str) -> Outcome {
    let client = context.client()?;
    match (Place::of(source), Place::of(destination)) {
        (Place::Inside { session, path }, Place::Stream) => {
            let content = client.read_file(&session, &path, 0).await?;
            let mut pieces = content.into_pieces();
            while let Some(piece) = pieces.next().await {
                context.output.bytes(&piece?)?;
            }
            return Ok(ExitCode::OK);
        }
        (Place::Inside { session, path }, Place::Here(here)) => {
            fetch(&client, &session, &path, here).await?;
        }
        (Place::Stream, Place::Inside { session, path }) => {
            let content = ReaderStream::new(tokio::io::stdin());
            client.write_file(&session, &path, None, None, content).await?;
        }
        (Place::Here(here), Place::Inside { session, path }) => {
            send(&client, here, &session, path).await?;
        }
        _ => {
            let message = "one of the two is in a session, as SESSION:/PATH, and only one";
            return Err(CliError::usage(message));
        }
    }
    let data = serde_json::json!({ "source": source, "destination": destination });
    context.output.said(&data, &format!("copied {source} to {destination}"))?;
    Ok(ExitCode::OK)
}

/// The last name of a path inside.
fn last_name(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())
}

/// The same path below a folder, if that is there.
fn below(here: PathBuf, name: Option<&str>) -> PathBuf {
    match name {
        Some(name) if here.is_dir() => here.join(name),
        _ => here,
    }
}

async fn fetch(client: &Client, session: &str, path: &str, here: PathBuf) -> Result<(), CliError> {
    let found = client.file_info(session, path).await?;
    let here = below(here, last_name(path));
    match found.kind.as_str() {
        "folder" => return fetch_folder(client, session, path, here).await,
        "special" => {
            let message = format!("{path} is a pipe, a socket or a device");
            return Err(CliError::failed(message));
        }
        _ => {}
    }
    let content = match client.read_file(session, path, 0).await {
        Ok(content) => content,
        // A link that leads to a folder.
        Err(error) if found.kind == "link" && error.kind() == ErrorKind::Conflict => {
            return fetch_folder(client, session, path, here).await;
        }
        Err(error) => return Err(error.into()),
    };
    let failed = |error: io::Error| failed("write", &here, &error);
    let folder = here.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A file is there whole or not at all.
    let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
    let mut file = file.map_err(failed)?;
    let mode = content.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let mut pieces = content.into_pieces();
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece?).map_err(failed)?;
    }
    let mode = fs::Permissions::from_mode(mode.unwrap_or(0o644) & 0o777);
    file.as_file().set_permissions(mode).map_err(failed)?;
    file.persist(&here).map_err(|error| failed(error.error))?;
    Ok(())
}

async fn fetch_folder(
    client: &Client,
    session: &str,
    path: &str,
    here: PathBuf,
) -> Result<(), CliError> {
    let pieces = client.pack_folder(session, path).await?.into_pieces();
    let reader = SyncIoBridge::new(StreamReader::new(pieces.map_err(io::Error::other)));
    let to = here.clone();
    let unpacked = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&to)?;
        let mut archive = tar::Archive::new(reader);
        archive.set_preserve_permissions(true);
        archive.set_preserve_mtime(true);
        // It may come from anybody: nothing of it comes to lie outside of the folder.
        archive.unpack(&to)
    });
    let unpacked = unpacked.await.map_err(CliError::failed)?;
    unpacked.map_err(|error| failed("write", &here, &error))
}

async fn send(client: &Client, here: PathBuf, session: &str, path: String) -> Result<(), CliError> {
    let metadata = fs::metadata(&here).map_err(|error| failed("read", &here, &error))?;
    let path = match client.file_info(session, &path).await {
        Ok(found) if found.kind == "folder" => below_inside(&path, &here),
        Ok(_) => path,
        Err(error) if error.kind() == ErrorKind::NotFound && path.ends_with('/') => {
            below_inside(&path, &here)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => path,
        Err(error) => return Err(error.into()),
    };
    if metadata.is_dir() {
        client.unpack_folder(session, &path, packed(here)).await?;
        return Ok(());
    }
    let file = tokio::fs::File::open(&here).await;
    let file = file.map_err(|error| failed("read", &here, &error))?;
    let mode = format!("{:o}", metadata.permissions().mode() & 0o777);
    let content = ReaderStream::with_capacity(file, PIECE_BYTES);
    client.write_file(session, &path, None, Some(&mode), content).await?;
    Ok(())
}

/// The path inside of what is copied into a folder.
fn below_inside(folder: &str, here: &Path) -> String {
    // Of `.` and `..` too.
    let name = here.canonicalize().ok().and_then(|it| Some(it.file_name()?.to_owned()));
    let name = name.or_else(|| here.file_name().map(ToOwned::to_owned)).unwrap_or_default();
    format!("{}/{}", folder.trim_end_matches('/'), name.to_string_lossy())
}

/// A folder of ours as an archive, which is made while it is sent.
fn packed(here: PathBuf) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(Pieces { sender: sender.clone(), bytes: Vec::new() });
        builder.follow_symlinks(false);
        let written = builder.append_dir_all(".", &here).and_then(|()| builder.into_inner());
        if let Err(error) = written.and_then(|mut pieces| pieces.flush()) {
            let named = io::Error::new(error.kind(), format!("{}: {error}", here.display()));
            // An archive that breaks off is thrown away.
            let _ = sender.blocking_send(Err(named));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    })
}

/// Sends what is written, piece by piece.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    bytes: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = self.sender.blocking_send(Ok(bytes.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("cannot {what} {}: {error}", path.display()))
}

/// Lists a folder.
pub(super) async fn list(context: &Context, session: &str, path: &str) -> Outcome {
    let client = context.client()?;
    let found = match client.file_info(session, path).await? {
        file if file.kind == "file" || file.kind == "special" => vec![file],
        _ => client.list_folder(session, path).await?,
    };
    context.output.data(&found, || table(&found), "It is empty.")?;
    Ok(ExitCode::OK)
}

/// Files as a table.
fn table(files: &[FileEntryView]) -> Table {
    let mut table = Table::new(&["MODE", "OWNER", "SIZE", "CHANGED", "NAME"]);
    for file in files {
        let size = match file.kind.as_str() {
            "file" => bytes(file.size_bytes),
            kind => kind.to_owned(),
        };
        let name = match &file.target {
            Some(target) => format!("{} -> {target}", file.name),
            None if file.kind == "folder" => format!("{}/", file.name),
            None => file.name.clone(),
        };
        table.row([
            file.mode.clone().into(),
            format!("{}:{}", file.uid, file.gid).into(),
            size.into(),
            time(file.modified_at_ms).into(),
            name.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_session_is_told_by_its_path() {
        let shown = |text: &str| match Place::of(text) {
            Place::Inside { session, path } => format!("{path} in {session}"),
            Place::Here(path) => path.display().to_string(),
            Place::Stream => "stream".to_owned(),
        };
        assert_eq!(shown("abcd:/tmp/x"), "/tmp/x in abcd");
        assert_eq!(shown("abcd:/"), "/ in abcd");
        assert_eq!(shown("./a:/b"), "./a:/b");
        assert_eq!(shown("abcd:x"), "abcd:x");
        assert_eq!(shown("-"), "stream");
    }

    #[test]
    fn the_last_name_of_a_path_is_found() {
        assert_eq!(last_name("/a/b"), Some("b"));
        assert_eq!(last_name("/a/b/"), Some("b"));
        assert_eq!(last_name("/"), None);
    }
}
