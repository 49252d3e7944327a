//! The async runtimes of the commands.

use crate::error::CliError;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Threads of a server beside those of the engine and of blocking work: a server is idle most of
/// the time, and each thread costs memory.
const SERVER_THREADS: usize = 2;

/// Carries out a client's or an agent's work on this thread.
pub(crate) fn client<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    run(Builder::new_current_thread(), work)
}

/// Carries out a server's work.
pub(crate) fn server<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(SERVER_THREADS);
    run(builder, work)
}

fn run<T>(
    mut builder: Builder,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime: Runtime = builder.enable_all().build().map_err(|error| {
        CliError::failed(format!("cannot start: {error}")).hint("see the limits of this process")
    })?;
    let result = runtime.block_on(work);
    // A read of standard input that nobody waits for would keep us here.
    runtime.shutdown_background();
    result
}
