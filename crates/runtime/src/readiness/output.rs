//! Whether the main process has written a text.

use super::Look;
use crate::log::{Log, LogFiles};
use crate::runtime::Runtime;
use spawnery_model::InstanceId;
use spawnery_sandbox::log::{LogError, LogPage, Stream};
use std::collections::BTreeMap;

/// Bytes of a log that are read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// Follows the output until the text is in it, or until it cannot be followed.
pub(super) async fn look(runtime: &dyn Runtime, instance: InstanceId, text: &str) -> Look {
    let mut log = match runtime.log(instance, 0) {
        Ok(log) => log,
        Err(error) => return error.into(),
    };
    let mut search = Search::new(text);
    let mut next = 1;
    loop {
        let ended = log.progress().exit.is_some();
        match read_all(&log, &mut next, &mut search).await {
            Ok(true) => return Look::Ready,
            Ok(false) => {}
            Err(error) => return Look::Not(format!("its output cannot be read: {error}")),
        }
        if ended || !log.changed().await {
            return Look::Gone;
        }
    }
}

/// Reads all that is there from `next` on; whether the text was found.
async fn read_all(log: &Log, next: &mut u64, search: &mut Search) -> Result<bool, LogError> {
    loop {
        let page = read(log.files.clone(), *next).await?;
        if !page.gaps.is_empty() {
            search.interrupt();
        }
        if page.records.iter().any(|record| search.takes(record.stream, &record.bytes)) {
            return Ok(true);
        }
        if page.records.is_empty() {
            return Ok(false);
        }
        *next = page.next_seq;
    }
}

async fn read(files: LogFiles, next: u64) -> Result<LogPage, LogError> {
    let page = tokio::task::spawn_blocking(move || files.read_from(next, PAGE_BYTES)).await;
    page.unwrap_or_else(|_| Ok(LogPage { next_seq: next, ..LogPage::default() }))
}

/// Finds a text in the lines of two streams, whatever the pieces are in which they come.
struct Search {
    text: Vec<u8>,
    /// The end of what each stream had, in which the text may have begun.
    ends: BTreeMap<Stream, Vec<u8>>,
}

impl Search {
    fn new(text: &str) -> Self {
        Self { text: text.as_bytes().to_vec(), ends: BTreeMap::new() }
    }

    /// Something between what came and what comes is missing.
    fn interrupt(&mut self) {
        self.ends.clear();
    }

    /// Whether the text is complete by this piece.
    fn takes(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let Some(longest) = self.text.len().checked_sub(1) else {
            return true;
        };
        let end = self.ends.entry(stream).or_default();
        end.extend_from_slice(bytes);
        if end.windows(self.text.len()).any(|window| window == self.text) {
            return true;
        }
        end.drain(..end.len().saturating_sub(longest));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_pieces_but_not_over_two_streams() {
        let check = |text: &str, pieces: &[(Stream, &str)], expected| {
            let mut search = Search::new(text);
            let found =
                pieces.iter().any(|(stream, piece)| search.takes(*stream, piece.as_bytes()));
            assert_eq!(found, expected, "{text} in {pieces:?}");
        };
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        check("ready", &[(out, "now ready\n")], true);
        check("ready", &[(out, "re"), (out, "a"), (out, "dy")], true);
        check("ready", &[(out, "re"), (err, "ady")], false);
        check("ready", &[(out, "re"), (err, "x\n"), (out, "ady")], true);
        check("ready", &[(out, "re\nady")], false);
        check("aab", &[(out, "aa"), (out, "ab")], true);
        check("", &[(out, "x")], true);
        check("ready", &[], false);
    }

    #[test]
    fn what_is_missing_between_two_pieces_joins_nothing() {
        let mut search = Search::new("ready");
        assert!(!search.takes(Stream::Stdout, b"rea"));
        search.interrupt();
        assert!(!search.takes(Stream::Stdout, b"dy"));
    }
}
