//! What is done inside an instance.

use crate::handle::Controller;
use crate::links::StreamError;
use spawnery_agent::link::{Stream, read_frame, write_frame};
use spawnery_model::InstanceId;
use spawnery_wire::link::{
    InputFrame, ProcessEntry, ProcessList, SocketEntry, SocketList, StreamReply, StreamRequest,
};
use tokio::io::{ReadHalf, WriteHalf};

/// The way to the file server of an instance.
pub type FileStream = Stream;

impl Controller {
    /// The processes that an instance has and had.
    pub async fn processes(&self, instance: InstanceId) -> Result<Vec<ProcessEntry>, StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        let list: ProcessList = self.ask(node, StreamRequest::Processes { instance }).await?;
        Ok(list.processes)
    }

    /// The TCP ports on which something in an instance listens.
    pub async fn sockets(&self, instance: InstanceId) -> Result<Vec<SocketEntry>, StreamError> {
        let node = self.node_of(instance).await?.ok_or(StreamError::NotPlaced { instance })?;
        let list: SocketList = self.ask(node, StreamRequest::Sockets { instance }).await?;
        Ok(list.sockets)
    }

    /// A stream for one request for files of an instance, in the terms of the launcher
    /// (`spawnery_sandbox::files`).
    pub async fn files(&self, instance: InstanceId) -> Result<FileStream, StreamError> {
        let (_, stream) = self.open(instance, StreamRequest::Files { instance }).await?;
        Ok(stream)
    }

    /// Steers a process for as long as the stream is open.
    pub async fn input(
        &self,
        instance: InstanceId,
        process: u32,
    ) -> Result<InputStream, StreamError> {
        let (_, stream) = self.open(instance, StreamRequest::Input { instance, process }).await?;
        let (reading, writing) = tokio::io::split(stream);
        Ok(InputStream { reading, writing })
    }
}

/// What steers a process.
#[derive(Debug)]
pub struct InputStream {
    reading: ReadHalf<Stream>,
    writing: WriteHalf<Stream>,
}

impl InputStream {
    /// One half takes what is to be done, in its order; the other tells, by its end, why nothing
    /// more is taken.
    pub fn split(self) -> (InputSender, InputRefusal) {
        (InputSender(self.writing), InputRefusal(self.reading))
    }
}

/// Takes what is to be done.
#[derive(Debug)]
pub struct InputSender(WriteHalf<Stream>);

impl InputSender {
    /// Passes one thing on; waits while the process does not take it.
    pub async fn send(&mut self, frame: &InputFrame) -> Result<(), StreamError> {
        Ok(write_frame(&mut self.0, frame).await?)
    }
}

/// Tells why nothing more is taken.
#[derive(Debug)]
pub struct InputRefusal(ReadHalf<Stream>);

impl InputRefusal {
    /// Waits for the reason.
    pub async fn reason(mut self) -> String {
        match read_frame::<StreamReply, _>(&mut self.0).await {
            Ok(StreamReply::Refused { reason, .. }) => reason,
            _ => "the node cannot be reached".to_owned(),
        }
    }
}
