//! Asking for something that nobody may read over the shoulder.

use crate::error::CliError;
use crate::exit::ExitCode;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;

/// What Ctrl-C, Ctrl-D and Ctrl-U send, and the two keys that take a character back.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const CLEAR: u8 = 0x15;
const BACK: [u8; 2] = [0x08, 0x7f];

/// Asks at the terminal, which shows nothing of what is typed, and gives back the line.
pub(crate) fn ask(question: &str, bytes_max: usize) -> Result<Vec<u8>, CliError> {
    let failed = |error: io::Error| CliError::failed(format!("cannot read the terminal: {error}"));
    let mut error = io::stderr().lock();
    write!(error, "{question}: ").and_then(|()| error.flush()).map_err(failed)?;
    let line = {
        let _hidden = Hidden::new().map_err(failed)?;
        line(io::stdin().lock(), bytes_max)
    };
    // The line break that was typed was not shown either.
    let _ = writeln!(error);
    line
}

/// The terminal does not show what is typed for as long as this lives, and gives it out at once.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn new() -> io::Result<Hidden> {
        let stdin = io::stdin();
        let before = rustix::termios::tcgetattr(stdin.as_fd())?;
        let mut hidden = before.clone();
        // Signals too are read as characters, so that the terminal is always set back.
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Drain, &hidden)?;
        Ok(Hidden { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to set back.
        let stdin = io::stdin();
        let _ = rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Drain, &self.before);
    }
}

fn line(input: impl BufRead, bytes_max: usize) -> Result<Vec<u8>, CliError> {
    let mut line = Vec::new();
    for byte in input.bytes() {
        let byte = byte.map_err(|error| CliError::failed(format!("cannot read it: {error}")))?;
        match byte {
            b'\n' | b'\r' | END => break,
            INTERRUPT => return Err(CliError::silent(ExitCode::of_signal(2))),
            CLEAR => line.clear(),
            byte if BACK.contains(&byte) => {
                // Characters are taken back whole.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte => line.push(byte),
        }
        if line.len() > bytes_max {
            return Err(CliError::usage(format!("more than {bytes_max} bytes were typed")));
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_mended() {
        let check = |typed: &str, expected: &str| {
            assert_eq!(line(typed.as_bytes(), 9).unwrap(), expected.as_bytes(), "{typed:?}");
        };
        check("abc\nd", "abc");
        check("abc\r", "abc");
        check("abc\u{4}d", "abc");
        check("abc", "abc");
        check("ab\u{7f}\u{8}c\n", "c");
        check("aä\u{7f}c\n", "ac");
        check("abc\u{15}d\n", "d");
        check("\u{7f}\n", "");
        assert!(line("a\u{3}\n".as_bytes(), 9).unwrap_err().message.is_empty());
        assert!(line("aaaaaaaaaa\n".as_bytes(), 9).is_err());
    }
}
