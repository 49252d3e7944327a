//! Files of instances.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use crate::sse::Parser;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Bytes, Frame, Incoming};
use spawnery_wire::api::{
    FileChangeRequest, FileEntryView, FileEventView, Problem, file_event, stream_event,
};
use std::io;

/// The content of a file, or an archive, as it comes.
pub struct FileContent {
    /// The permissions of a file, in octal; none of an archive.
    pub mode: Option<String>,
    /// How many bytes come, if the server says so.
    pub length: Option<u64>,
    client: Client,
    body: Incoming,
}

impl FileContent {
    /// The pieces. An error means that not all of it has come.
    pub fn into_pieces(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + Unpin {
        let client = self.client;
        let pieces = self.body.into_data_stream();
        pieces.map(move |piece| piece.map_err(|error| client.broken(&error)))
    }
}

/// What happens to a file or in a folder.
#[derive(Debug)]
pub struct FileWatch {
    client: Client,
    body: Incoming,
    parser: Parser,
}

impl FileWatch {
    /// The next thing that happens; none when what is watched is gone.
    pub async fn next(&mut self) -> Result<Option<FileEventView>, ClientError> {
        loop {
            while let Some(message) = self.parser.next() {
                let read = |error| self.client.protocol(error);
                match message.event.as_str() {
                    file_event::FILE => {
                        return serde_json::from_str(&message.data).map(Some).map_err(read);
                    }
                    file_event::END => return Ok(None),
                    stream_event::PROBLEM => {
                        let problem: Problem = serde_json::from_str(&message.data).map_err(read)?;
                        return Err(ClientError::Problem(Box::new(problem)));
                    }
                    _ => {}
                }
            }
            let Some(frame) = self.body.frame().await else {
                let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(self.client.broken(&ended));
            };
            let frame = frame.map_err(|error| self.client.broken(&error))?;
            if let Some(bytes) = frame.data_ref() {
                let pushed = self.parser.push(bytes);
                pushed.map_err(|error| self.client.protocol(error))?;
            }
        }
    }
}

fn target(instance: &str, rest: &str, path: &str) -> Target {
    let target = Target::new("/v1/instances").segment(instance);
    Target::new(&format!("{}{rest}", target.as_str())).query("path", Some(path))
}

impl Client {
    /// What is at a path of an instance, without following it if it is a link.
    pub async fn file_info(
        &self,
        instance: &str,
        path: &str,
    ) -> Result<FileEntryView, ClientError> {
        self.get(&target(instance, "/files/info", path)).await
    }

    /// Reads a file of an instance from an offset on.
    pub async fn read_file(
        &self,
        instance: &str,
        path: &str,
        offset: u64,
    ) -> Result<FileContent, ClientError> {
        self.fetch(&target(instance, "/files", path), (offset > 0).then_some(offset)).await
    }

    /// Writes a file of an instance: replaces it, or writes a part of it from an offset on. `mode` is
    /// in octal; without, it stays.
    pub async fn write_file(
        &self,
        instance: &str,
        path: &str,
        offset: Option<u64>,
        mode: Option<&str>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<FileEntryView, ClientError> {
        let target = target(instance, "/files", path).query("offset", offset).query("mode", mode);
        let body = StreamBody::new(content.map(|piece| piece.map(Frame::data)));
        self.send_stream(Method::PUT, &target, body.boxed_unsync()).await
    }

    /// Removes a file of an instance, or a folder, `recursive` with all that is in it.
    pub async fn remove_file(
        &self,
        instance: &str,
        path: &str,
        recursive: bool,
    ) -> Result<(), ClientError> {
        let target = target(instance, "/files", path).query("recursive", Some(recursive));
        self.call(Method::DELETE, &target).await
    }

    /// Moves a file or a folder of an instance, or changes its permissions.
    pub async fn change_file(
        &self,
        instance: &str,
        path: &str,
        change: &FileChangeRequest,
    ) -> Result<FileEntryView, ClientError> {
        self.send(Method::POST, &target(instance, "/files/info", path), change).await
    }

    /// What is in a folder of an instance, by name.
    pub async fn list_folder(
        &self,
        instance: &str,
        path: &str,
    ) -> Result<Vec<FileEntryView>, ClientError> {
        self.list(&target(instance, "/folders", path)).await
    }

    /// Makes a folder of an instance, with those above it.
    pub async fn make_folder(
        &self,
        instance: &str,
        path: &str,
        mode: Option<&str>,
    ) -> Result<FileEntryView, ClientError> {
        let target = target(instance, "/folders", path).query("mode", mode);
        self.send(Method::PUT, &target, &()).await
    }

    /// A folder of an instance, or a file, as a tar archive.
    pub async fn pack_folder(
        &self,
        instance: &str,
        path: &str,
    ) -> Result<FileContent, ClientError> {
        self.fetch(&target(instance, "/folders/archive", path), None).await
    }

    /// Unpacks a tar archive into a folder of an instance.
    pub async fn unpack_folder(
        &self,
        instance: &str,
        path: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<FileEntryView, ClientError> {
        let target = target(instance, "/folders/archive", path);
        let body = StreamBody::new(archive.map(|piece| piece.map(Frame::data)));
        self.send_stream(Method::PUT, &target, body.boxed_unsync()).await
    }

    /// Watches a file of an instance, or a folder, `recursive` with all folders below.
    pub async fn watch_files(
        &self,
        instance: &str,
        path: &str,
        recursive: bool,
    ) -> Result<FileWatch, ClientError> {
        let target = target(instance, "/files/watch", path).query("recursive", Some(recursive));
        let body = self.open(&target, None).await?;
        Ok(FileWatch { client: self.clone(), body, parser: Parser::default() })
    }

    async fn fetch(
        &self,
        target: &Target,
        offset: Option<u64>,
    ) -> Result<FileContent, ClientError> {
        let response = self.open_part(target, offset).await?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let mode = header("spawnery-mode").map(str::to_owned);
        let length = header("content-length").and_then(|text| text.parse().ok());
        Ok(FileContent { mode, length, client: self.clone(), body: response.into_body() })
    }
}
