//! The output of a process, on a stream.

use crate::link::{LinkError, Stream, read_frame, write_frame};
use crate::streams::{Streams, refused};
use spawnery_model::InstanceId;
use spawnery_runtime::{
    LOG_RECORD_BYTES_MAX, Log, LogError, LogFiles, LogPage, LogRecord, OperationError,
};
use spawnery_wire::frame;
use spawnery_wire::link::{LogFrame, LogStart, RefusalKind, StreamReply};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bytes of output read and sent at once: two full pipes.
const PAGE_BYTES_MAX: usize = 128 * 1024;

/// How long an instance that nobody has heard of may take to come to be: the request for its log
/// can overtake the order that starts it.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(1);

/// Which output is wanted.
pub(super) struct LogRequest {
    pub(super) instance: InstanceId,
    pub(super) process: u32,
    pub(super) start: LogStart,
    pub(super) follow: bool,
}

/// Sends what there is and, if asked, what comes, until the process has ended.
pub(super) async fn serve(
    mut streams: Streams,
    request: LogRequest,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    let log = match find(&mut streams, &request).await {
        Ok(log) => log,
        Err(error) => return write_frame(stream, &refused(&error)).await,
    };
    let mut source = Source { log, streams, next: 1 };
    // Before the first look at the files: what comes after it is news.
    let progress = source.log.progress();
    let first = match source.first_page(request.start).await {
        Ok(first) => first,
        Err(error) => {
            let (kind, reason) = (RefusalKind::Failed, error.to_string());
            return write_frame(stream, &StreamReply::Refused { kind, reason }).await;
        }
    };
    let is_whole = reaches_the_end(&first);
    send_page(stream, first, frame::encode(&StreamReply::Accepted)).await?;
    source.run(progress.exit, is_whole, request.follow, stream).await
}

async fn find(streams: &mut Streams, request: &LogRequest) -> Result<Log, OperationError> {
    let until = tokio::time::Instant::now() + UNKNOWN_WAIT_MAX;
    loop {
        streams.begun.borrow_and_update();
        let log = streams.runtime.log(request.instance, request.process);
        if !matches!(log, Err(OperationError::Unknown)) || request.process != 0 {
            return log;
        }
        match tokio::time::timeout_at(until, streams.begun.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return log,
        }
    }
}

/// Where the output comes from.
struct Source {
    log: Log,
    streams: Streams,
    /// The sequence number to go on with.
    next: u64,
}

impl Source {
    async fn run(
        mut self,
        mut exit: Option<spawnery_model::Exit>,
        mut is_whole: bool,
        follow: bool,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        loop {
            while !is_whole {
                let page = self.next_page().await?;
                is_whole = reaches_the_end(&page);
                if !page.records.is_empty() {
                    send_page(stream, page, Vec::new()).await?;
                }
            }
            // All that was there when `exit` was looked at has been sent.
            if let Some(exit) = exit {
                return write_frame(stream, &LogFrame::Exited { exit }).await;
            }
            if !follow {
                return write_frame(stream, &LogFrame::End).await;
            }
            tokio::select! {
                changed = self.log.changed() => if !changed {
                    return Ok(());
                },
                // The controller says nothing on this stream; when it closes it, it has had
                // enough.
                _ = read_frame::<LogFrame, _>(stream) => return Ok(()),
            }
            exit = self.log.progress().exit;
            is_whole = false;
        }
    }

    async fn first_page(&mut self, start: LogStart) -> Result<LogPage, LogError> {
        let page = match start {
            LogStart::Sequence(sequence) => {
                self.read(move |files| files.read_from(sequence.max(1), PAGE_BYTES_MAX)).await?
            }
            LogStart::Tail(lines) => self.read(move |files| tail(&files, lines)).await?,
            LogStart::Since(time_ms) => {
                self.read(move |files| files.since(time_ms, PAGE_BYTES_MAX)).await?
            }
        };
        self.next = page.next_seq;
        Ok(page)
    }

    async fn next_page(&mut self) -> Result<LogPage, LinkError> {
        let next = self.next;
        let page = self.read(move |files| files.read_from(next, PAGE_BYTES_MAX)).await;
        let page = page.map_err(std::io::Error::other)?;
        self.next = page.next_seq;
        Ok(page)
    }

    /// Reads in a thread that may wait for the disk. What is short was written a moment ago, or is
    /// read at once: to wake a thread for it, and to be woken by it, takes longer.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(LogFiles) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        if self.log.files.is_short() {
            return read(self.log.files.clone());
        }
        let _permit = self.streams.log_reads.acquire().await;
        let files = self.log.files.clone();
        let done = tokio::task::spawn_blocking(move || read(files)).await;
        done.unwrap_or_else(|error| {
            Err(LogError::Io {
                dir: std::path::PathBuf::new(),
                error: std::io::Error::other(error),
            })
        })
    }
}

/// The last `lines` lines, as a page.
fn tail(files: &LogFiles, lines: u64) -> Result<LogPage, LogError> {
    // Looked at first: what is written between the two looks must not be missed.
    let next = files.next_sequence()?;
    let records = files.tail_lines(usize::try_from(lines).unwrap_or(usize::MAX))?;
    let next_seq = records.last().map_or(next, |record| record.seq + 1);
    Ok(LogPage { records, gaps: Vec::new(), next_seq })
}

/// Whether a page holds all that there was when it was read: one more record would have found its
/// place in it.
fn reaches_the_end(page: &LogPage) -> bool {
    let bytes: usize = page.records.iter().map(|record| record.bytes.len()).sum();
    bytes + LOG_RECORD_BYTES_MAX <= PAGE_BYTES_MAX
}

/// Sends a page, each gap before the record that follows it. `frames` go before it.
async fn send_page(
    stream: &mut (impl AsyncWrite + Unpin),
    page: LogPage,
    mut frames: Vec<u8>,
) -> Result<(), LinkError> {
    let mut gaps = page.gaps.into_iter().peekable();
    for record in page.records {
        while let Some(gap) = gaps.next_if(|gap| gap.to < record.seq) {
            frames.extend(frame::encode(&LogFrame::Gap { from: gap.from, to: gap.to }));
        }
        frames.extend(frame::encode(&record_frame(record)));
        if frames.len() > PAGE_BYTES_MAX {
            stream.write_all(&frames).await?;
            frames.clear();
        }
    }
    for gap in gaps {
        frames.extend(frame::encode(&LogFrame::Gap { from: gap.from, to: gap.to }));
    }
    stream.write_all(&frames).await?;
    stream.flush().await?;
    Ok(())
}

fn record_frame(record: LogRecord) -> LogFrame {
    LogFrame::Record {
        sequence: record.seq,
        at_ms: record.time_ms,
        stream: record.stream as u8,
        bytes: record.bytes,
    }
}
