//! Output, input and signals between the launcher's pipes and the engine's streams.

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures::{Stream, StreamExt};
use rustix::event::{PollFd, PollFlags, poll};
use spawnery_sandbox::tool::Signals;
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// The streams of one process.
pub(super) struct Relay {
    output: Output,
}

impl Relay {
    /// Passes the standard input on from now, if there is one.
    pub(super) fn new(output: Output, input: Option<Input>) -> Self {
        if let Some(input) = input {
            tokio::spawn(feed(input));
        }
        Self { output }
    }

    /// Passes output on until all of it has come.
    pub(super) async fn run(mut self) {
        let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(Ok(piece)) = self.output.next().await {
            // Output that the launcher does not take any more has no reader.
            let _ = match piece {
                LogOutput::StdErr { message } => pass(&mut stderr, &message).await,
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    pass(&mut stdout, &message).await
                }
                LogOutput::StdIn { .. } => Ok(()),
            };
        }
    }
}

async fn pass(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Ends with the input, or with a process that reads no more.
async fn feed(mut input: Input) {
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
    let _ = input.shutdown().await;
}

/// Signals as they come.
pub(super) struct SignalStream(mpsc::UnboundedReceiver<i32>);

impl SignalStream {
    /// Waits for them in a thread of its own, which ends with the process.
    pub(super) fn new(signals: Signals) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            loop {
                let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
                for signal in std::iter::from_fn(|| signals.next()) {
                    let _ = sender.send(signal);
                }
            }
        });
        Self(receiver)
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> i32 {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}
