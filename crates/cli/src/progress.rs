//! Progress, for a person who waits: on a terminal, and only after a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How long something may take before its progress is shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// How often work in another thread is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A line that says what is being waited for. It goes away when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    since: Instant,
    is_shown: bool,
}

impl Progress {
    /// Progress that is shown on standard error, if that is a terminal.
    pub(crate) fn new() -> Progress {
        Progress {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            since: Instant::now(),
            is_shown: false,
        }
    }

    /// Says what is being waited for. Call it again now and then: it appears after a second.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        if !self.is_shown && self.since.elapsed() >= SHOWN_AFTER && std::io::stderr().is_terminal()
        {
            self.is_shown = true;
            let style = ProgressStyle::with_template("{spinner} {msg}");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TURN);
        }
        self.bar.set_message(text.into());
    }

    /// Does `print`, which prints, while the line is out of the way.
    pub(crate) fn hidden(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Does `work`, which blocks, in a thread of its own, and says meanwhile what it is.
    pub(crate) fn during_blocking<T: Send>(text: &str, work: impl FnOnce() -> T + Send) -> T {
        let mut progress = Progress::new();
        std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                progress.say(text);
                std::thread::sleep(LOOK);
            }
            let result = worker.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits for `work` and says meanwhile what it is.
    pub(crate) async fn during<T>(text: &str, work: impl Future<Output = T>) -> T {
        let mut progress = Progress::new();
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = tokio::time::sleep(TURN) => progress.say(text),
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
