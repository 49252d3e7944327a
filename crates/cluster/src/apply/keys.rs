//! A key changes hands.

use super::Applier;
use crate::keys::{KeyHold, SessionKey, key_of};
use crate::state::Timer;
use crate::terms::settings_of;
use spawnery_model::{EndReason, InstanceId, NodeId, Phase, limits};
use std::collections::BTreeSet;

impl Applier<'_> {
    /// A session with a key was created: it holds the key, or is the next to do so.
    pub(super) fn take_key(&mut self, id: InstanceId) {
        let Some(key) = key_of(&self.state.instances[&id]) else {
            return;
        };
        let epoch = self.state.position;
        // Positions grow, so each session of a key has a higher epoch than those before it.
        self.instance_mut(id).epoch = epoch;
        let held = self.state.keys.get(&key).map(|hold| (hold.holder, hold.fenced_until.is_some()));
        let may_run = held.filter(|(holder, fenced)| {
            let holder = self.state.instances.get(holder);
            *fenced || holder.is_some_and(|holder| holder.phase != Phase::Ended)
        });
        let Some((holder, _)) = may_run else {
            let hold = KeyHold { holder: id, next: None, fenced_until: None };
            self.state.keys.insert(key, hold);
            return;
        };
        let hold = self.state.keys.get_mut(&key).expect("it was just looked at");
        assert_eq!(hold.next, None, "two sessions wait for {key:?}");
        hold.next = Some(id);
        let created_at = self.state.instances[&id].created_at;
        self.state.agenda.place.remove(&(created_at, id));
        let instance = self.instance_mut(id);
        instance.waits_for = Some("the session of this key before it has to end first".to_owned());
        instance.session.as_mut().expect("it has a key").follows = Some(holder);
    }

    /// A session ended: if its node is lost it may still run there until its lease ends.
    pub(super) fn fence_key(&mut self, id: InstanceId) {
        let instance = &self.state.instances[&id];
        let lost = instance.end.as_ref().is_some_and(|end| end.reason == EndReason::NodeLost);
        let Some(key) = key_of(instance).filter(|_| lost) else {
            return;
        };
        let definition = self.state.definition_of(instance);
        let lease = settings_of(definition).and_then(|settings| settings.key_lease);
        let lease = lease.unwrap_or(limits::KEY_LEASE_DEFAULT);
        let until = self.at.plus(lease).plus(definition.stop.grace).plus(limits::KEY_LEASE_MARGIN);
        let timers = &mut self.state.agenda.timers;
        if let Some(hold) = self.state.keys.get_mut(&key)
            && hold.holder == id
        {
            let (template, key) = key;
            if let Some(old) = hold.fenced_until.replace(until) {
                timers.remove(&(old, Timer::Fence(template.clone(), key.clone())));
            }
            timers.insert((until, Timer::Fence(template, key)));
        }
    }

    /// A node that is back was heard, or is lost again after that: what it had lets its leases run
    /// from now, if its agent dies before it carries out that they are to end.
    pub(super) fn raise_fences(&mut self, node: NodeId) {
        let instances = self.state.nodes[&node].instances.iter();
        let ended = instances.filter_map(|id| {
            let instance = &self.state.instances[id];
            (instance.phase == Phase::Ended && self.state.is_fenced(instance)).then_some(*id)
        });
        for id in ended.collect::<Vec<_>>() {
            self.fence_key(id);
        }
    }

    /// A session has ended and does not come back: the next one may run, if no fence is up.
    pub(super) fn leave_key(&mut self, id: InstanceId) {
        let Some(key) = key_of(&self.state.instances[&id]) else {
            return;
        };
        let Some(hold) = self.state.keys.get_mut(&key) else {
            return;
        };
        if hold.next == Some(id) {
            hold.next = None;
        } else if hold.holder == id && hold.fenced_until.is_none() {
            self.pass_key(&key);
        }
    }

    /// The holder is known to have ended: the key goes to the next, or is free.
    fn pass_key(&mut self, key: &SessionKey) {
        let hold = self.state.keys.get_mut(key).expect("the caller found it");
        if let Some(until) = hold.fenced_until.take() {
            let (template, name) = key.clone();
            self.state.agenda.timers.remove(&(until, Timer::Fence(template, name)));
        }
        let holder = hold.holder;
        let Some(next) = hold.next.take() else {
            // One that comes back by itself keeps its key.
            let waits =
                self.state.instances.get(&holder).is_some_and(|it| it.restarts_at.is_some());
            if !waits {
                self.state.keys.remove(key);
            }
            return;
        };
        hold.holder = next;
        let at = self.at;
        let instance = self.instance_mut(next);
        let created_at = instance.created_at;
        instance.waits_for = None;
        let session = instance.session.as_mut().expect("it has a key");
        session.follows = None;
        // It begins to wait for room only now.
        let deadline = session.queue_until.map(|until| until.since(created_at));
        session.queue_until = deadline.map(|deadline| at.plus(deadline));
        let until = session.queue_until;
        self.state.agenda.timers.extend(until.map(|until| (until, Timer::Queue(next))));
        self.state.agenda.place.insert((created_at, next));
    }

    pub(super) fn key_released(&mut self, key: &SessionKey) {
        if self.state.keys.get(key).is_some_and(|hold| hold.fenced_until.is_some()) {
            self.pass_key(key);
        }
    }

    /// A session that had ended for the controller has ended on its node too.
    pub(super) fn fenced_ended(&mut self, id: InstanceId) {
        if let Some(instance) = self.state.instances.get(&id)
            && self.state.is_fenced(instance)
            && let Some(key) = key_of(instance)
        {
            self.key_released(&key);
        }
    }

    /// A lost node came back with `present`, or is gone for good: what it no longer has is over.
    pub(super) fn release_fences(&mut self, node: NodeId, present: &BTreeSet<InstanceId>) {
        let instances = self.state.nodes[&node].instances.iter();
        let gone: Vec<_> = instances.filter(|id| !present.contains(*id)).copied().collect();
        for id in gone {
            self.fenced_ended(id);
        }
    }
}
