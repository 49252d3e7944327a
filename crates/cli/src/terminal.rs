//! Our terminal as that of a process elsewhere.

use crate::attach::{Attached, Signals};
use crate::commands::logs::write;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::note;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use spawnery_client::api::{AttachInput, TerminalSize};
use spawnery_client::{AttachItem, AttachedInput, Attachment};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Ctrl-P and then Ctrl-Q detach, as with Docker.
const DETACH: [u8; 2] = [0x10, 0x11];

/// Bytes read from the terminal at once: what somebody pastes comes in a few pieces.
const READ_BYTES: usize = 16 * 1024;

/// Pieces of input that wait to be passed on; then the terminal waits.
const PIECES_MAX: usize = 4;

/// The size of a terminal that does not know its own.
const SIZE_DEFAULT: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// Our terminal, in raw mode for as long as this lives.
#[derive(Debug)]
pub(crate) struct Terminal {
    before: Termios,
}

/// Whether our standard input and output are a terminal.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Terminal {
    /// Looks at our terminal, without changing it yet.
    pub(crate) fn open() -> Result<Terminal, CliError> {
        if !is_there() {
            let message = "there is no terminal here: standard input or output is something else";
            return Err(CliError::usage(message).hint("leave --terminal out"));
        }
        let before = tcgetattr(io::stdin().as_fd()).map_err(unusable)?;
        Ok(Terminal { before })
    }

    /// Its size.
    pub(crate) fn size(&self) -> Result<TerminalSize, CliError> {
        let size = tcgetwinsize(io::stdout().as_fd()).map_err(unusable)?;
        let size = TerminalSize { columns: size.ws_col, rows: size.ws_row };
        Ok(if size.columns == 0 || size.rows == 0 { SIZE_DEFAULT } else { size })
    }

    /// From now on every key is passed on as it is.
    fn make_raw(&self) -> Result<(), CliError> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &raw).map_err(unusable)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to set back.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}

fn unusable(error: rustix::io::Errno) -> CliError {
    CliError::failed(format!("the terminal cannot be used: {error}"))
}

/// How being attached ended.
enum End {
    Exited(spawnery_client::api::ExitedView),
    Detached,
}

/// Is attached to a process until it ends or the user detaches.
pub(crate) async fn serve(
    attached: &Attached,
    terminal: Option<Terminal>,
    from: u64,
) -> Result<ExitCode, CliError> {
    let instance = attached.instance.to_string();
    let mut attachment = attached.client.attach(&instance, attached.process, from);
    let input = attachment.input();
    let is_raw = terminal.is_some();
    if let Some(terminal) = &terminal {
        let TerminalSize { columns, rows } = terminal.size()?;
        input.steer(AttachInput::Resize { columns, rows }).await;
        terminal.make_raw()?;
    }
    let end = {
        let keys = read_input(attached.has_stdin || is_raw);
        let typing = pass_on(keys, &input, is_raw);
        let resizing = follow_size(terminal.as_ref(), &input);
        tokio::select! {
            end = show(&mut attachment) => end,
            end = typing => end,
            error = resizing => Err(error),
            end = signals(&input, is_raw) => end,
        }
    };
    drop(terminal);
    let next = attachment.next_sequence();
    match end? {
        End::Exited(exited) => attached.judge(exited, false),
        End::Detached => {
            let (id, process) = (attached.instance, attached.process);
            // Where the cursor is, nobody knows.
            note(format!("{}detached; process {process} runs on", if is_raw { "\n" } else { "" }));
            note(format!("attach again: spawnery session attach {id} {process} --from {next}"));
            Ok(ExitCode::OK)
        }
    }
}

/// Prints what comes, until the process has ended.
async fn show(attachment: &mut Attachment) -> Result<End, CliError> {
    loop {
        match attachment.next().await? {
            Some(AttachItem::Output(output)) => write(output.stream, &output.bytes)?,
            Some(AttachItem::Gap(gap)) => {
                let count = gap.to - gap.from + 1;
                note(format!("({count} pieces of output are gone: the log was full)"));
            }
            // It reads no more, as programs do that end soon.
            Some(AttachItem::InputClosed(_)) => {}
            Some(AttachItem::Exited(exited)) => return Ok(End::Exited(exited)),
            None => return Err(CliError::failed("the output ended before the command")),
        }
    }
}

/// Reads our input in a thread of its own, which ends with this process.
fn read_input(is_wanted: bool) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    if is_wanted {
        std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            loop {
                match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        if sender.blocking_send(buffer[..read].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
    receiver
}

/// Passes input on until the user detaches.
async fn pass_on(
    mut pieces: mpsc::Receiver<Vec<u8>>,
    input: &AttachedInput,
    is_raw: bool,
) -> Result<End, CliError> {
    let mut keys = Keys::default();
    while let Some(piece) = pieces.recv().await {
        let (piece, is_detached) = if is_raw { keys.take(&piece) } else { (piece, false) };
        if !piece.is_empty() {
            input.write(piece).await;
        }
        if is_detached {
            return Ok(End::Detached);
        }
    }
    if !is_raw {
        input.steer(AttachInput::End).await;
    }
    std::future::pending().await
}

/// Tells the size of our terminal whenever it changes.
async fn follow_size(terminal: Option<&Terminal>, input: &AttachedInput) -> CliError {
    let Some(terminal) = terminal else {
        return std::future::pending().await;
    };
    let mut changes = match signal(SignalKind::window_change()) {
        Ok(changes) => changes,
        Err(error) => return CliError::failed(error),
    };
    while changes.recv().await.is_some() {
        match terminal.size() {
            Ok(TerminalSize { columns, rows }) => {
                input.steer(AttachInput::Resize { columns, rows }).await;
            }
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

/// On a raw terminal, Ctrl-C is a key like others, and a signal is for us: we detach. Otherwise the
/// first signal is passed on, and the second one is for us.
async fn signals(input: &AttachedInput, is_raw: bool) -> Result<End, CliError> {
    let mut signals = Signals::new()?;
    loop {
        let (signal, before) = signals.next().await;
        if is_raw || before > 0 {
            return Ok(End::Detached);
        }
        input.steer(AttachInput::Signal { signal }).await;
    }
}

/// Finds the keys that detach in what is typed.
#[derive(Debug, Default)]
struct Keys {
    /// Whether the first of them was typed last, and is held back.
    is_begun: bool,
}

impl Keys {
    /// What is to be passed on, and whether the user detaches after it.
    fn take(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(piece.len() + 1);
        for &byte in piece {
            match (self.is_begun, byte) {
                (true, byte) if byte == DETACH[1] => {
                    self.is_begun = false;
                    return (passed, true);
                }
                // Twice the first key is the key itself, once.
                (true, byte) if byte == DETACH[0] => {
                    self.is_begun = false;
                    passed.push(byte);
                }
                (true, byte) => {
                    self.is_begun = false;
                    passed.extend([DETACH[0], byte]);
                }
                (false, byte) if byte == DETACH[0] => self.is_begun = true,
                (false, byte) => passed.push(byte),
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_detach_also_when_they_come_apart() {
        let check = |pieces: &[&[u8]], passed: &[u8], detached: bool| {
            let (mut keys, mut all, mut is_detached) = (Keys::default(), Vec::new(), false);
            for piece in pieces {
                let (passed, detaches) = keys.take(piece);
                all.extend(passed);
                is_detached |= detaches;
            }
            assert_eq!((all.as_slice(), is_detached), (passed, detached), "{pieces:?}");
        };
        check(&[b"ls\r"], b"ls\r", false);
        check(&[b"a\x10\x11b"], b"a", true);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"\x10x"], b"\x10x", false);
        check(&[b"\x10", b"x\x11"], b"\x10x\x11", false);
        check(&[b"\x10\x10", b"y"], b"\x10y", false);
        check(&[b"\x11"], b"\x11", false);
    }
}
