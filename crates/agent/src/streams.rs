//! What the controller asks for on streams of its own.

mod input;
mod keeping;
mod logs;
mod stdin;

use crate::link::{LinkError, Stream, read_frame, write_frame};
use crate::prepare::Preparer;
use logs::LogRequest;
use spawnery_model::InstanceId;
use spawnery_runtime::{
    DialError, ExecOrder, ListeningSocket, OperationError, ProcessState, Runtime, WindowSize,
};
use spawnery_wire::api::TerminalSize;
use spawnery_wire::link::{
    ActivityReport, ProcessEntry, ProcessList, RefusalKind, SocketEntry, SocketList, StreamReply,
    StreamRequest, UsageReport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// How long a stream's request may take to arrive: it is sent when the stream is opened.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// Bytes on their way in each direction of a connection to a port.
const DIAL_BUFFER_BYTES: usize = 8 * 1024;

/// Bytes on their way in each direction of a request for files: what a disk gives in one go.
const FILES_BUFFER_BYTES: usize = 64 * 1024;

/// Reads of logs at once. Each blocks on the disk in a thread of its own.
const LOG_READS_AT_ONCE_MAX: usize = 4;

/// Serves streams.
#[derive(Clone)]
pub(crate) struct Streams {
    runtime: Arc<dyn Runtime>,
    /// Told whenever the runtime has heard of a new instance.
    begun: watch::Receiver<()>,
    log_reads: Arc<Semaphore>,
    preparer: Preparer,
}

impl Streams {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        begun: watch::Receiver<()>,
        preparer: Preparer,
    ) -> Streams {
        let log_reads = Arc::new(Semaphore::new(LOG_READS_AT_ONCE_MAX));
        Streams { runtime, begun, log_reads, preparer }
    }

    /// Serves one stream to its end. When the stream itself fails, the controller has gone, and
    /// nobody needs to be told.
    pub(crate) async fn serve(self, mut stream: Stream) {
        let request = tokio::time::timeout(REQUEST_WITHIN, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else {
            return;
        };
        // These end their stream themselves, to say that it is whole.
        let request = match request {
            StreamRequest::Layer { key } => return drop(self.layer(key, stream).await),
            StreamRequest::Export { digest, oci } => {
                return drop(self.export(digest, oci, stream).await);
            }
            request => request,
        };
        if let Err(error) = self.answer(request, &mut stream).await {
            tracing::debug!(%error, "a stream of the controller ended early");
            return;
        }
        // The other side may have closed it first.
        let _ = stream.shutdown().await;
    }

    async fn answer(self, request: StreamRequest, stream: &mut Stream) -> Result<(), LinkError> {
        match request {
            StreamRequest::Logs { instance, process, start, follow } => {
                logs::serve(self, LogRequest { instance, process, start, follow }, stream).await
            }
            StreamRequest::Exec {
                instance,
                run,
                env,
                working_directory,
                stdin,
                user,
                terminal,
                timeout,
            } => {
                let terminal = terminal.map(window_size);
                let order =
                    ExecOrder { run, env, working_directory, stdin, user, terminal, timeout };
                let reply = match self.runtime.exec(instance, order).await {
                    Ok(process) => StreamReply::Started { process },
                    Err(error) => refused(&error),
                };
                write_frame(stream, &reply).await
            }
            StreamRequest::Signal { instance, process, signal } => {
                let reply = match self.runtime.signal(instance, process, signal).await {
                    Ok(()) => StreamReply::Accepted,
                    Err(error) => refused(&error),
                };
                write_frame(stream, &reply).await
            }
            StreamRequest::Stdin { instance, process } => {
                stdin::serve(&*self.runtime, instance, process, stream).await
            }
            StreamRequest::Input { instance, process } => {
                input::serve(&*self.runtime, instance, process, stream).await
            }
            StreamRequest::Processes { instance } => self.processes(instance, stream).await,
            StreamRequest::Files { instance } => self.files(instance, stream).await,
            StreamRequest::Sockets { instance } => self.sockets(instance, stream).await,
            StreamRequest::Usage { instance } => self.usage(instance, stream).await,
            StreamRequest::Activity { instance } => self.activity(instance, stream).await,
            StreamRequest::Dial { instance, port } => self.dial(instance, port, stream).await,
            StreamRequest::Build { recipe, secrets, resolve } => {
                self.build(*recipe, secrets, resolve, stream).await
            }
            StreamRequest::Environments => self.environments(stream).await,
            StreamRequest::Prune { bytes_max } => self.prune(bytes_max, stream).await,
            StreamRequest::Made { wanted } => self.made(&wanted, stream).await,
            StreamRequest::Volumes => self.volumes(stream).await,
            StreamRequest::RemoveVolume { name } => self.remove_volume(name, stream).await,
            StreamRequest::Layer { .. } | StreamRequest::Export { .. } => {
                unreachable!("these end their stream themselves")
            }
        }
    }

    async fn usage(self, instance: InstanceId, stream: &mut Stream) -> Result<(), LinkError> {
        let usage = match self.runtime.usage(instance).await {
            Ok(usage) => usage,
            Err(error) => return write_frame(stream, &refused(&error)).await,
        };
        write_frame(stream, &StreamReply::Accepted).await?;
        let report = UsageReport {
            memory_bytes: usage.memory_bytes,
            cpu_us: usage.cpu_us,
            pids: usage.pids,
            network_bytes_in: usage.network_bytes_in,
            network_bytes_out: usage.network_bytes_out,
        };
        write_frame(stream, &report).await
    }

    async fn activity(self, instance: InstanceId, stream: &mut Stream) -> Result<(), LinkError> {
        match self.runtime.execs_running(instance) {
            Ok(execs_running) => {
                write_frame(stream, &StreamReply::Accepted).await?;
                write_frame(stream, &ActivityReport { execs_running }).await
            }
            Err(error) => write_frame(stream, &refused(&error)).await,
        }
    }

    async fn processes(self, instance: InstanceId, stream: &mut Stream) -> Result<(), LinkError> {
        let found = match self.runtime.processes(instance).await {
            Ok(found) => found,
            Err(error) => return write_frame(stream, &refused(&error)).await,
        };
        write_frame(stream, &StreamReply::Accepted).await?;
        let entry = |found: ProcessState| ProcessEntry {
            process: found.process,
            run: found.run,
            terminal: found.terminal,
            started_at: found.started_at,
            exit: found.exit,
        };
        let processes = found.into_iter().map(entry).collect();
        write_frame(stream, &ProcessList { processes }).await
    }

    async fn files(self, instance: InstanceId, stream: &mut Stream) -> Result<(), LinkError> {
        let mut socket = match self.runtime.files(instance).await {
            Ok(socket) => socket,
            Err(error) => return write_frame(stream, &refused(&error)).await,
        };
        write_frame(stream, &StreamReply::Accepted).await?;
        let size = FILES_BUFFER_BYTES;
        tokio::io::copy_bidirectional_with_sizes(stream, &mut socket, size, size).await?;
        Ok(())
    }

    async fn sockets(self, instance: InstanceId, stream: &mut Stream) -> Result<(), LinkError> {
        let found = match self.runtime.sockets(instance).await {
            Ok(found) => found,
            Err(error) => return write_frame(stream, &refused(&error)).await,
        };
        write_frame(stream, &StreamReply::Accepted).await?;
        let entry = |found: ListeningSocket| SocketEntry {
            port: found.port,
            loopback_only: found.loopback_only,
        };
        let sockets = found.into_iter().map(entry).collect();
        write_frame(stream, &SocketList { sockets }).await
    }

    async fn dial(
        self,
        instance: InstanceId,
        port: u16,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        let socket = match self.runtime.dial(instance, port).await {
            Ok(socket) => socket,
            Err(DialError::Operation(error)) => return write_frame(stream, &refused(&error)).await,
            Err(error) => {
                let (kind, reason) = (RefusalKind::Failed, error.to_string());
                return write_frame(stream, &StreamReply::Refused { kind, reason }).await;
            }
        };
        write_frame(stream, &StreamReply::Accepted).await?;
        Ok(copy_both_ways(stream, socket).await?)
    }
}

/// Copies until both ends have said all; the end of one is passed on to the other.
async fn copy_both_ways(stream: &mut Stream, mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let size = DIAL_BUFFER_BYTES;
    tokio::io::copy_bidirectional_with_sizes(stream, &mut socket, size, size).await?;
    Ok(())
}

fn window_size(size: TerminalSize) -> WindowSize {
    WindowSize { columns: size.columns, rows: size.rows }
}

fn refused(error: &OperationError) -> StreamReply {
    let kind = match error {
        OperationError::Unknown => RefusalKind::Unknown,
        OperationError::NotRunning => RefusalKind::NotRunning,
        OperationError::Failed { .. } | OperationError::Unavailable { .. } => RefusalKind::Failed,
    };
    StreamReply::Refused { kind, reason: error.to_string() }
}
