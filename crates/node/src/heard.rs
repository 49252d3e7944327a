//! Up to when the controller has heard of this node.

use spawnery_model::{DurationMs, Timestamp};
use std::collections::VecDeque;

/// Time between two reports that are remembered: many may be sent in a moment, and leases are
/// counted in tens of seconds.
const REMEMBERED_EVERY: DurationMs = DurationMs(1000);

/// Reports that are remembered: a link on which nothing is confirmed for so long has ended.
const REMEMBERED_MAX: usize = 60;

/// When reports were sent that were not confirmed yet, and whose confirmation says something new.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Sequence numbers and times, both growing.
    sent: VecDeque<(u64, Timestamp)>,
    /// The newest that was confirmed.
    confirmed: u64,
}

impl Heard {
    /// A report is sent.
    pub(crate) fn sent(&mut self, sequence: u64, now: Timestamp) {
        let last = self.sent.back();
        if last.is_some_and(|(_, at)| now.since(*at) < REMEMBERED_EVERY) {
            return;
        }
        if self.sent.len() >= REMEMBERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((sequence, now));
    }

    /// The controller has these reports. Gives since when that is known to be so, if it is news:
    /// at the latest when the newest of them was sent.
    pub(crate) fn confirm(&mut self, received: &[u64]) -> Option<Timestamp> {
        let newest = received.iter().copied().max()?;
        if newest <= self.confirmed {
            return None;
        }
        self.confirmed = newest;
        let known = self.sent.partition_point(|(sequence, _)| *sequence <= newest);
        self.sent.drain(..known).next_back().map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_says_when_what_it_confirms_was_sent_and_says_it_once() {
        let mut heard = Heard::default();
        for (sequence, at) in [(1, 1000), (2, 1500), (3, 2000), (4, 5000)] {
            heard.sent(sequence, Timestamp(at));
        }
        assert_eq!(heard.confirm(&[]), None);
        // The second was sent so soon after the first that the time of that one will do.
        assert_eq!(heard.confirm(&[2]), Some(Timestamp(1000)));
        assert_eq!(heard.confirm(&[2]), None);
        assert_eq!(heard.confirm(&[4, 3]), Some(Timestamp(5000)));
        assert_eq!(heard.confirm(&[3]), None);
        heard.sent(5, Timestamp(6000));
        assert_eq!(heard.confirm(&[5]), Some(Timestamp(6000)));
    }

    #[test]
    fn reports_that_nobody_confirms_are_forgotten() {
        let mut heard = Heard::default();
        let sent = |sequence: u64| Timestamp(sequence * REMEMBERED_EVERY.0);
        for sequence in 1..=1000 {
            heard.sent(sequence, sent(sequence));
        }
        assert_eq!(heard.sent.len(), REMEMBERED_MAX);
        assert_eq!(heard.confirm(&[1000]), Some(sent(1000)));
    }
}
