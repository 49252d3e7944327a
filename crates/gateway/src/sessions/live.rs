//! The sessions that are ready, by their keys, as far as somebody came to them.

use spawnery_controller::{Controller, EventItem, EventStart, EventStream};
use spawnery_model::{Instance, InstanceId, Name};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A template and a key.
pub(super) type Key = (Name, Name);

/// Sessions that were ready when they were looked at, and of which nothing was heard since.
#[derive(Debug, Default)]
pub(crate) struct Live {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_key: BTreeMap<Key, Arc<Instance>>,
    keys: BTreeMap<InstanceId, Key>,
}

impl Known {
    fn forget(&mut self, instance: InstanceId) -> bool {
        let Some(key) = self.keys.remove(&instance) else {
            return false;
        };
        if self.by_key.get(&key).is_some_and(|it| it.id == instance) {
            self.by_key.remove(&key);
        }
        true
    }
}

impl Live {
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Instance>> {
        self.known.lock().expect("no holder panics").by_key.get(key).cloned()
    }

    /// Keeps a session, unless something has happened to it: `news` are the events since before it
    /// was looked at.
    pub(super) fn keep(&self, key: &Key, instance: &Arc<Instance>, news: &mut EventStream) -> bool {
        // Whoever forgets it because of a later event waits for this lock.
        let mut known = self.known.lock().expect("no holder panics");
        while let Some(item) = news.ready() {
            if is_about(&item, &key.0) {
                return false;
            }
        }
        if let Some(former) = known.by_key.insert(key.clone(), instance.clone()) {
            known.keys.remove(&former.id);
        }
        known.keys.insert(instance.id, key.clone());
        true
    }

    /// Forgets a session. Says whether it was known.
    pub(crate) fn forget(&self, instance: InstanceId) -> bool {
        self.known.lock().expect("no holder panics").forget(instance)
    }

    /// Forgets each session of which something is heard: the next request looks at it anew.
    pub(super) async fn follow(self: Arc<Live>, controller: Controller) {
        let mut events = controller.events(EventStart::Now);
        drop(controller);
        while let Some(item) = events.next().await {
            let mut known = self.known.lock().expect("no holder panics");
            match item {
                EventItem::Event(_, event) => {
                    event.instance.map(|instance| known.forget(instance));
                }
                EventItem::Gap { .. } => *known = Known::default(),
            }
        }
    }
}

/// Whether an event may be about a session of this template.
pub(super) fn is_about(item: &EventItem, template: &Name) -> bool {
    match item {
        EventItem::Event(_, event) => event.workload.as_ref().is_none_or(|it| it == template),
        EventItem::Gap { .. } => true,
    }
}
