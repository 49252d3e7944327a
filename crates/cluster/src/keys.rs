//! Which session a key names.

use crate::state::State;
use minicbor::{Decode, Encode};
use spawnery_model::{Instance, InstanceId, Name, Phase, Timestamp};

/// A template and a key of its sessions.
pub(crate) type SessionKey = (Name, Name);

/// Who holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct KeyHold {
    /// The session that may run.
    #[n(0)]
    pub(crate) holder: InstanceId,
    /// The one that runs after it, and waits for its end.
    #[n(1)]
    pub(crate) next: Option<InstanceId>,
    /// The holder's node is lost, so it may run on until then.
    #[n(2)]
    pub(crate) fenced_until: Option<Timestamp>,
}

impl KeyHold {
    /// The session that whoever asks for the key is led to.
    pub(crate) fn newest(&self) -> InstanceId {
        self.next.unwrap_or(self.holder)
    }
}

/// The key of an instance, if it has one.
pub(crate) fn key_of(instance: &Instance) -> Option<SessionKey> {
    let key = instance.session.as_ref()?.key.clone()?;
    Some((instance.workload.clone(), key))
}

/// Whether a session is alive or comes back by itself, and so is what its key names.
pub(crate) fn is_current(instance: &Instance) -> bool {
    match instance.phase {
        Phase::Ended => instance.restarts_at.is_some(),
        _ => instance.stop_cause.is_none(),
    }
}

impl State {
    /// The session that the key names now: alive, or on its way back. Also while its node is lost,
    /// the one that comes after it.
    pub fn session_of_key(&self, template: &Name, key: &Name) -> Option<&Instance> {
        let hold = self.keys.get(&(template.clone(), key.clone()))?;
        self.instance(hold.newest()).filter(|instance| is_current(instance))
    }

    /// Whether an instance has ended for the controller, and may still run on a lost node.
    pub(crate) fn is_fenced(&self, instance: &Instance) -> bool {
        let hold = key_of(instance).and_then(|key| self.keys.get(&key));
        hold.is_some_and(|hold| hold.holder == instance.id && hold.fenced_until.is_some())
    }

    /// Each key has at most one session that is placed, and its holder is that one.
    pub(crate) fn assert_keys_consistent(&self) {
        for instance in self.instances.values().filter(|it| it.phase != Phase::Ended) {
            let Some(key) = key_of(instance) else { continue };
            let hold = self.keys.get(&key).expect("the key of a live session is held");
            if instance.phase.holds_reservation() {
                assert_eq!(hold.holder, instance.id, "{key:?} is held by another");
                assert_eq!(hold.fenced_until, None, "{key:?} is fenced");
            } else {
                let known = [Some(hold.holder), hold.next];
                assert!(known.contains(&Some(instance.id)), "{key:?} does not know its session");
            }
        }
    }
}
