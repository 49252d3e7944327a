//! The latest events, for those who follow along.

use spawnery_cluster::Event;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Events kept for those who come back: at 200 bytes each about 4 MB. Older ones are dropped, and
/// whoever asks for them is told of the gap.
const EVENTS_KEPT_MAX: usize = 20_000;

/// The place of an event: the position of its record, and which of that record's events it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor {
    /// The position of the record.
    pub position: u64,
    /// From 0.
    pub index: u32,
}

/// From where events are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStart {
    /// From the oldest that is kept.
    Oldest,
    /// From the next one on.
    Now,
    /// From the one after this.
    After(EventCursor),
}

/// One event, or a hole where events were.
#[derive(Debug, Clone)]
pub enum EventItem {
    /// An event and its place.
    Event(EventCursor, Arc<Event>),
    /// Events after the place that was asked for were dropped; the next one is the oldest kept.
    Gap {
        /// The place that was asked for.
        after: EventCursor,
        /// The oldest that is kept.
        oldest: EventCursor,
    },
}

#[derive(Debug, Default)]
struct Ring {
    /// How many events were dropped: the number of the first that is kept.
    dropped: u64,
    events: VecDeque<(EventCursor, Arc<Event>)>,
    /// The place of the newest event that was dropped.
    dropped_last: Option<EventCursor>,
}

/// Where the engine puts events and others take them.
#[derive(Debug)]
pub(crate) struct EventHub {
    ring: Mutex<Ring>,
    /// How many events there have been.
    total: watch::Sender<u64>,
}

impl EventHub {
    pub(crate) fn new() -> Arc<EventHub> {
        Arc::new(EventHub { ring: Mutex::default(), total: watch::channel(0).0 })
    }

    /// Events up to and with this position are not kept, because this process never saw them.
    pub(crate) fn begin_after(&self, position: u64) {
        let mut ring = self.ring.lock().expect("no holder panics");
        ring.dropped_last = (position > 0).then_some(EventCursor { position, index: u32::MAX });
    }

    /// Adds events in order.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let total = {
            let mut ring = self.ring.lock().expect("no holder panics");
            for event in events {
                let index = match ring.events.back() {
                    Some((last, _)) if last.position == event.position => last.index + 1,
                    _ => 0,
                };
                let cursor = EventCursor { position: event.position, index };
                ring.events.push_back((cursor, Arc::new(event)));
            }
            while ring.events.len() > EVENTS_KEPT_MAX {
                let (cursor, _) = ring.events.pop_front().expect("there are more than none");
                ring.dropped_last = Some(cursor);
                ring.dropped += 1;
            }
            ring.dropped + ring.events.len() as u64
        };
        self.total.send_replace(total);
    }

    pub(crate) fn follow(self: &Arc<EventHub>, start: EventStart) -> EventStream {
        let ring = self.ring.lock().expect("no holder panics");
        let mut gap = None;
        let next = match start {
            EventStart::Oldest => ring.dropped,
            EventStart::Now => ring.dropped + ring.events.len() as u64,
            EventStart::After(after) => {
                if let Some(dropped) = ring.dropped_last.filter(|dropped| after < *dropped) {
                    let oldest = ring.events.front().map_or(dropped, |(oldest, _)| *oldest);
                    gap = Some(EventItem::Gap { after, oldest });
                }
                let known = ring.events.partition_point(|(cursor, _)| *cursor <= after);
                ring.dropped + known as u64
            }
        };
        drop(ring);
        EventStream { hub: self.clone(), total: self.total.subscribe(), next, gap }
    }
}

/// Events in order, from a place on. It ends when the controller does.
#[derive(Debug)]
pub struct EventStream {
    hub: Arc<EventHub>,
    total: watch::Receiver<u64>,
    /// The number of the next event, counted from the start of this process.
    next: u64,
    gap: Option<EventItem>,
}

impl EventStream {
    /// The next event, as soon as there is one.
    pub async fn next(&mut self) -> Option<EventItem> {
        loop {
            if let Some(item) = self.ready() {
                return Some(item);
            }
            self.total.changed().await.ok()?;
        }
    }

    /// The next event, if there is one already.
    pub fn ready(&mut self) -> Option<EventItem> {
        if let Some(gap) = self.gap.take() {
            return Some(gap);
        }
        self.total.mark_unchanged();
        let ring = self.hub.ring.lock().expect("no holder panics");
        if self.next < ring.dropped {
            // This reader was slower than all others wrote.
            let after = ring.dropped_last.expect("events were dropped");
            let (oldest, _) = ring.events.front()?;
            self.next = ring.dropped;
            return Some(EventItem::Gap { after, oldest: *oldest });
        }
        let (cursor, event) = ring.events.get((self.next - ring.dropped) as usize)?;
        self.next += 1;
        Some(EventItem::Event(*cursor, event.clone()))
    }

    /// The same as a [`futures::Stream`].
    pub fn into_stream(self) -> impl futures::Stream<Item = EventItem> {
        futures::stream::unfold(self, |mut events| async move {
            let item = events.next().await?;
            Some((item, events))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Timestamp;

    fn event(position: u64) -> Event {
        Event {
            position,
            at: Timestamp(0),
            kind: "test",
            workload: None,
            instance: None,
            run: None,
            node: None,
            seen_by: Vec::new(),
            message: String::new(),
        }
    }

    fn places(stream: &mut EventStream) -> Vec<(u64, u32)> {
        let mut places = Vec::new();
        while let Some(item) = stream.ready() {
            match item {
                EventItem::Event(cursor, _) => places.push((cursor.position, cursor.index)),
                EventItem::Gap { .. } => places.push((0, 0)),
            }
        }
        places
    }

    #[test]
    fn a_reader_goes_on_after_the_last_event_that_it_has_seen() {
        let hub = EventHub::new();
        hub.publish(vec![event(1), event(2), event(2), event(5)]);
        let check = |start, expected: &[(u64, u32)]| {
            assert_eq!(places(&mut hub.follow(start)), expected, "{start:?}");
        };
        let after = |position, index| EventStart::After(EventCursor { position, index });
        check(EventStart::Oldest, &[(1, 0), (2, 0), (2, 1), (5, 0)]);
        check(EventStart::Now, &[]);
        check(after(1, 0), &[(2, 0), (2, 1), (5, 0)]);
        check(after(2, 0), &[(2, 1), (5, 0)]);
        check(after(3, 0), &[(5, 0)]);
        check(after(9, 0), &[]);
    }

    #[test]
    fn what_was_dropped_is_told_as_a_gap() {
        let hub = EventHub::new();
        hub.publish((1..=EVENTS_KEPT_MAX as u64 + 10).map(event).collect());
        let mut stream = hub.follow(EventStart::After(EventCursor { position: 3, index: 0 }));
        assert_eq!(places(&mut stream)[..2], [(0, 0), (11, 0)]);
        let mut stream = hub.follow(EventStart::After(EventCursor { position: 10, index: 0 }));
        assert_eq!(places(&mut stream)[0], (11, 0));
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_so() {
        let hub = EventHub::new();
        let mut stream = hub.follow(EventStart::Now);
        hub.publish((1..=EVENTS_KEPT_MAX as u64 + 5).map(event).collect());
        assert_eq!(places(&mut stream)[..2], [(0, 0), (6, 0)]);
    }

    #[test]
    fn what_a_snapshot_stands_for_is_told_as_a_gap() {
        let hub = EventHub::new();
        hub.begin_after(7);
        let after = |position| EventStart::After(EventCursor { position, index: 0 });
        assert_eq!(places(&mut hub.follow(after(3))), [(0, 0)]);
        hub.publish(vec![event(8)]);
        assert_eq!(places(&mut hub.follow(after(3))), [(0, 0), (8, 0)]);
        assert_eq!(places(&mut hub.follow(after(8))), []);
        assert_eq!(places(&mut hub.follow(EventStart::Oldest)), [(8, 0)]);
    }
}
