//! The codes that `spawnery` exits with.

/// A code to exit with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitCode(pub(crate) u8);

impl ExitCode {
    /// What was asked for was done.
    pub(crate) const OK: ExitCode = ExitCode(0);
    /// What was asked for did not work.
    pub(crate) const FAILED: ExitCode = ExitCode(1);
    /// The command line, the configuration or a manifest is wrong.
    pub(crate) const USAGE: ExitCode = ExitCode(2);
    /// There is no server, or the way to it is broken.
    pub(crate) const NO_SERVER: ExitCode = ExitCode(3);
    /// The token is missing, wrong or does not allow it.
    pub(crate) const REFUSED: ExitCode = ExitCode(4);
    /// Of `session exec`: it ran longer than its `--timeout`, as `timeout(1)` gives it.
    pub(crate) const TIMED_OUT: ExitCode = ExitCode(124);
    /// Of `run` and `session exec`: Spawnery failed, not the command.
    pub(crate) const NOT_RUN: ExitCode = ExitCode(125);
    /// Of `run` and `session exec`: killed because it used more memory than its limit (128 + KILL).
    pub(crate) const OUT_OF_MEMORY: ExitCode = ExitCode(137);
    /// Who read the output went away (128 + PIPE).
    pub(crate) const BROKEN_PIPE: ExitCode = ExitCode(141);

    /// What a shell gives for a process that a signal ended.
    pub(crate) fn of_signal(signal: i32) -> ExitCode {
        ExitCode(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }

    /// The code of a process; beyond eight bits no system can give it on.
    pub(crate) fn of_process(code: i32) -> ExitCode {
        ExitCode((code & 0xff) as u8)
    }
}

/// Stands at the end of `spawnery --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    what was asked for was done
  1    it did not work
  2    the command line, the configuration or a manifest is wrong
  3    there is no server, or the way to it is broken
  4    the server refused: the token is missing, wrong or does not allow it
  `run` and `session exec` give the code of the command itself, or 128 + the signal
  that ended it (137 when it was out of memory, with the reason), or 124 when it was
  ended by its --timeout, or 125 when Spawnery could not run it.

Every setting can be given as an option, as SPAWNERY_… in the environment or in the
configuration file, in this order; `spawnery config --all` shows all.";
