//! Standing in for a process: its output becomes ours, our input and signals become its, and its
//! exit code becomes ours.

use crate::commands::logs::write;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::note;
use crate::progress::Progress;
use futures::StreamExt;
use spawnery_client::api::{EndView, ExitView, ExitedView};
use spawnery_client::{Client, ClientError, LogItem, LogQuery};
use spawnery_model::{InstanceId, Phase};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::io::ReaderStream;

/// How often an instance is looked at until it runs.
const LOOK: Duration = Duration::from_millis(20);

/// How often a signal is sent to a process that has just been started, until it is there.
const TELL_ATTEMPTS_MAX: u32 = 100;

/// How long a command may take to start before it is said what it waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process to stand in for.
pub(crate) struct Attached {
    /// The server.
    pub(crate) client: Client,
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Which process in it; 0 is the main one.
    pub(crate) process: u32,
    /// Whether our standard input is for it.
    pub(crate) has_stdin: bool,
    /// Its memory limit, for the reason when it is reached.
    pub(crate) memory: Option<String>,
}

/// The signals that are passed on, which would end this process otherwise. To be made before what
/// they are meant for is started, so that none is lost.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    count: u32,
}

impl Signals {
    /// From now on, these signals do not end this process.
    pub(crate) fn new() -> Result<Signals, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::failed);
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            count: 0,
        })
    }

    /// The next signal, and how many came before it.
    pub(crate) async fn next(&mut self) -> (i32, u32) {
        let number = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.hangup.recv() => {
                // Whoever could ask a second time has gone.
                self.count = self.count.max(1);
                SignalKind::hangup().as_raw_value()
            }
        };
        self.count += 1;
        (number, self.count - 1)
    }
}

impl Attached {
    /// Follows the process to its end, and gives back the code to exit with.
    pub(crate) async fn follow(&self, mut signals: Signals) -> Result<ExitCode, CliError> {
        let query = LogQuery { process: self.process, follow: true, ..LogQuery::default() };
        let mut log = self.client.logs(self.instance, &query);
        let input = self.has_stdin.then(|| tokio::spawn(self.clone_for_input().forward()));
        let mut waiting = Some(Box::pin(self.say_what_it_waits_for()));
        let exited = loop {
            tokio::select! {
                item = log.next() => match item? {
                    Some(LogItem::Output(record)) => {
                        waiting = None;
                        let stream = record.stream;
                        let written = write(stream, &record.into_bytes().unwrap_or_default());
                        if let Err(error) = written {
                            // Nobody reads any more: as with a pipe, that ends the command.
                            self.end().await;
                            return Err(error);
                        }
                    }
                    Some(LogItem::Gap(gap)) => {
                        let count = gap.to - gap.from + 1;
                        note(format!("({count} pieces of output are gone: the log was full)"));
                    }
                    Some(LogItem::Exited(exited)) => break exited,
                    Some(LogItem::End) | None => {
                        return Err(CliError::failed("the output ended before the command"));
                    }
                },
                (number, before) = signals.next() => self.pass_on(number, before).await?,
                () = finish(waiting.as_mut()) => waiting = None,
            }
        };
        if let Some(input) = input {
            input.abort();
        }
        self.judge(exited, signals.count > 0)
    }

    fn clone_for_input(&self) -> Attached {
        Attached {
            client: self.client.clone(),
            instance: self.instance,
            process: self.process,
            has_stdin: true,
            memory: None,
        }
    }

    /// Passes a signal on; the second one ends the session, the third one this process.
    async fn pass_on(&self, number: i32, before: u32) -> Result<(), CliError> {
        match before {
            0 if self.tell(number).await => Ok(()),
            0 | 1 => {
                self.end().await;
                Ok(())
            }
            _ => Err(CliError::silent(ExitCode::of_signal(number))),
        }
    }

    /// Sends the process a signal. False if there is no process to take it.
    async fn tell(&self, number: i32) -> bool {
        let instance = self.instance.to_string();
        for _ in 0..TELL_ATTEMPTS_MAX {
            if self.client.signal(&instance, self.process, number).await.is_ok() {
                return true;
            }
            let found = self.client.instance(&instance).await;
            let is_about_to_run = found.is_ok_and(|found| {
                matches!(found.phase, Phase::Starting | Phase::Running | Phase::Ready)
            });
            if !is_about_to_run {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Ends what was started: the session, or the further process in it.
    async fn end(&self) {
        let instance = self.instance.to_string();
        let kill = rustix::process::Signal::KILL.as_raw();
        // If the server is gone, so is what could be done.
        let _ = match self.process {
            0 => self.client.end_instance(&instance).await,
            process => self.client.signal(&instance, process, kill).await,
        };
    }

    /// Passes our standard input on, once the process runs.
    async fn forward(self) -> Result<(), ClientError> {
        let instance = self.instance.to_string();
        if self.process == 0 {
            loop {
                match self.client.instance(&instance).await?.phase {
                    Phase::Pending | Phase::Assigned | Phase::Starting => {}
                    Phase::Running | Phase::Ready => break,
                    Phase::Stopping | Phase::Ended => return Ok(()),
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        let input = ReaderStream::new(tokio::io::stdin()).boxed();
        self.client.stdin(&instance, self.process, input).await
    }

    /// After a second without output, says what the command waits for, if it waits.
    async fn say_what_it_waits_for(&self) {
        if self.process != 0 {
            return;
        }
        tokio::time::sleep(PATIENCE).await;
        let mut progress = Progress::new();
        // Where there is no terminal, a line says it, once.
        let mut is_said = std::io::stderr().is_terminal();
        loop {
            let Ok(found) = self.client.instance(&self.instance.to_string()).await else {
                return;
            };
            match (found.phase, found.waits_for) {
                (Phase::Pending | Phase::Assigned | Phase::Starting, Some(reason)) => {
                    if !is_said {
                        is_said = true;
                        note(format!("waiting: {reason}"));
                    }
                    progress.say(format!("waiting: {reason}"));
                }
                (Phase::Pending | Phase::Assigned | Phase::Starting, _) => {
                    progress.say("starting");
                }
                _ => return,
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// The code to exit with, after saying why if that is not the command's own doing.
    pub(crate) fn judge(
        &self,
        exited: ExitedView,
        was_signalled: bool,
    ) -> Result<ExitCode, CliError> {
        if exited.exit.as_ref().is_some_and(|exit| exit.timed_out) {
            let message = "timeout: it ran for as long as it might";
            return Err(CliError::failed(message).with_code(ExitCode::TIMED_OUT));
        }
        if is_out_of_memory(exited.exit.as_ref(), exited.end.as_ref()) {
            let message = match &self.memory {
                Some(memory) => format!("out of memory: it used more than its limit of {memory}"),
                None => "out of memory: it used more than its limit".to_owned(),
            };
            let error = CliError::failed(message).with_code(ExitCode::OUT_OF_MEMORY);
            return Err(error.hint("give it more with --memory"));
        }
        let code = exited.exit.as_ref().and_then(code_of);
        let failure = exited.exit.and_then(|exit| exit.failure);
        let reason = failure.or_else(|| {
            // Somebody else's doing, such as that of its timeout.
            let is_foreign = |end: &EndView| !was_signalled && end.code == "stopped";
            let end = exited.end.filter(|end| code.is_none() || is_foreign(end));
            end.map(|end| end.reason)
        });
        match (reason, code) {
            (None, Some(code)) => Ok(code),
            (Some(reason), code) => {
                Err(CliError::failed(reason).with_code(code.unwrap_or(ExitCode::NOT_RUN)))
            }
            (None, None) => {
                let message = "it is not known how the command ended";
                Err(CliError::failed(message).with_code(ExitCode::NOT_RUN))
            }
        }
    }
}

/// The code of a process that ended by itself or by a signal.
fn code_of(exit: &ExitView) -> Option<ExitCode> {
    let code = exit.exit_code.map(ExitCode::of_process);
    code.or_else(|| exit.signal.map(ExitCode::of_signal))
}

/// Waits for `work`; for ever, if there is none.
async fn finish(work: Option<impl Future<Output = ()>>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

fn is_out_of_memory(exit: Option<&ExitView>, end: Option<&EndView>) -> bool {
    exit.is_some_and(|exit| exit.out_of_memory) || end.is_some_and(|end| end.out_of_memory)
}

/// Whether our standard input is for the process: it holds data, or the user says so.
pub(crate) fn is_input_wanted(is_interactive: bool) -> bool {
    is_interactive || (!std::io::stdin().is_terminal() && !is_null())
}

/// Whether our standard input is `/dev/null`, as of a daemon: device 1, 3 (`null(4)`).
fn is_null() -> bool {
    let device = |stat: rustix::fs::Stat| {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        (major, minor) == (1, 3)
    };
    rustix::fs::fstat(std::io::stdin().as_fd()).map_or(true, device)
}
