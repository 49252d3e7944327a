//! Who uses which session: the part of the controller's shell that answers whether one is idle.

use crate::random::Random;
use spawnery_model::{InstanceId, Timestamp};
use std::collections::BTreeMap;

/// When a session that is in use was used last: no clock has reached it.
pub(crate) const IN_USE: Timestamp = Timestamp(u64::MAX);

/// How long an answer takes that does not take long.
const ANSWER_MS_MAX: u64 = 50;

/// How long one may take that does: longer than until the core asks again.
const SLOW_ANSWER_MS_MAX: u64 = 15_000;

/// The uses of all sessions. They end with their controller process.
#[derive(Debug)]
pub(crate) struct Activity {
    sessions: BTreeMap<InstanceId, Use>,
    /// Nothing is known of the time before.
    since: Timestamp,
}

#[derive(Debug)]
struct Use {
    in_flight: u32,
    used_at: Timestamp,
    standing: Standing,
    /// Whether it is idle is being answered.
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    Closed,
    Ending,
}

impl Activity {
    pub(crate) fn new(since: Timestamp) -> Activity {
        Activity { sessions: BTreeMap::new(), since }
    }

    fn of(&mut self, session: InstanceId) -> &mut Use {
        let since = self.since;
        let new = || Use { in_flight: 0, used_at: since, standing: Standing::Open, asked: false };
        self.sessions.entry(session).or_insert_with(new)
    }

    /// Begins a use, unless the session is closed or ending.
    pub(crate) fn begin(&mut self, session: InstanceId) -> Standing {
        let found = self.of(session);
        if found.standing == Standing::Open {
            found.in_flight += 1;
        }
        found.standing
    }

    pub(crate) fn end(&mut self, session: InstanceId, now: Timestamp) {
        let found = self.of(session);
        found.in_flight -= 1;
        found.used_at = now;
    }

    pub(crate) fn in_flight(&mut self, session: InstanceId) -> u32 {
        self.of(session).in_flight
    }

    /// It was asked whether a session is idle. Gives after how long that is answered, if it is.
    pub(crate) fn asked(
        &mut self,
        session: InstanceId,
        slow: u32,
        random: &mut Random,
    ) -> Option<u64> {
        let found = self.of(session);
        if found.asked || random.chance(slow / 4) {
            return None;
        }
        found.asked = true;
        Some(match random.chance(slow) {
            true => random.below(SLOW_ANSWER_MS_MAX),
            false => random.below(ANSWER_MS_MAX),
        })
    }

    /// When a session was used last. One that nobody uses is closed until that is decided.
    pub(crate) fn answer(&mut self, session: InstanceId) -> Timestamp {
        let found = self.of(session);
        if found.in_flight > 0 {
            return IN_USE;
        }
        found.standing = Standing::Closed;
        found.used_at
    }

    /// When a session was used last, whoever uses it; only sabotage says so.
    pub(crate) fn used_at(&mut self, session: InstanceId) -> Timestamp {
        self.of(session).used_at
    }

    /// The core has taken in the answer.
    pub(crate) fn decided(&mut self, session: InstanceId, ending: bool) {
        let found = self.of(session);
        found.asked = false;
        found.standing = if ending { Standing::Ending } else { Standing::Open };
    }
}
