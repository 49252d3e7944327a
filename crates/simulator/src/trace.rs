//! What happened, as text: hashed from the beginning, kept at the end.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// The lines of a run. Two runs are the same if their hashes are.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines_kept_max: usize,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(lines_kept_max: usize) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines_kept_max,
            lines: VecDeque::with_capacity(lines_kept_max + 1),
        }
    }

    /// Adds a line: the time, who, and what.
    pub(crate) fn line(&mut self, at_ms: u64, what: fmt::Arguments<'_>) {
        let mut line = match self.lines.len() >= self.lines_kept_max.max(1) {
            true => self.lines.pop_front().expect("there is one at least"),
            false => String::new(),
        };
        line.clear();
        let _ = write!(line, "{:>4}.{:03} {what}", at_ms / 1000, at_ms % 1000);
        self.hash_line(line.as_bytes());
        self.lines.push_back(line);
    }

    /// FNV-1a over words of eight bytes, so that hashing costs less than writing.
    fn hash_line(&mut self, line: &[u8]) {
        let mut mix = |word: u64| {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        };
        for chunk in line.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(u64::from_le_bytes(word));
        }
        mix(line.len() as u64);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_all_lines_and_the_end_is_kept() {
        let write = |lines: &[&str]| {
            let mut trace = Trace::new(2);
            for (place, line) in lines.iter().enumerate() {
                trace.line(place as u64, format_args!("{line}"));
            }
            (trace.hash(), trace.last_lines())
        };
        let (hash, kept) = write(&["one", "two", "three"]);
        assert_eq!(kept, ["   0.001 two", "   0.002 three"]);
        assert_eq!(hash, write(&["one", "two", "three"]).0);
        assert_ne!(hash, write(&["One", "two", "three"]).0);
    }
}
