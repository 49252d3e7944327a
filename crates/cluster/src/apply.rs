//! Makes a record true.
//!
//! This cannot fail: whatever could be wrong was refused by [`admit()`](crate::admit()). It runs
//! again on every replay, so it does nothing but change the state and return values. Where a
//! record contradicts the state the process stops, because it would be replaying somebody else's
//! journal.

mod access;
mod instances;
mod jobs;
mod keeping;
mod keys;
mod nodes;
mod services;
mod sessions;
mod workloads;

use crate::event::Event;
use crate::record::{Answered, Change, Record};
use crate::state::{AnswerKept, State};
use spawnery_model::{InstanceId, Name, NodeId, Order, Origin, RunId, Timestamp, Want, limits};

/// What follows from a record, to be carried out once the record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell a node what is wanted of one instance.
    Order {
        /// The node.
        node: NodeId,
        /// What is wanted; its revision is the position of the record.
        order: Order,
    },
    /// Tell a node all that is wanted of it.
    FullOrders {
        /// The node.
        node: NodeId,
        /// Its epoch from now on.
        epoch: u64,
        /// The agent process that introduced itself.
        incarnation: u64,
        /// All that is wanted.
        orders: Vec<Order>,
    },
    /// Forget what was to be told to a node: it is lost.
    NodeLost {
        /// The node.
        node: NodeId,
    },
    /// Look whether a service has the replicas that it wants. Not held back: it only leads to
    /// further records.
    Reconcile(Name),
    /// The same for all services that run on every node.
    ReconcileEveryNode,
    /// Which sandboxes are to be kept ready has changed.
    PoolsChanged,
    /// Find out whether a session is idle.
    AskIdle {
        /// Which one.
        instance: InstanceId,
    },
    /// Tell whoever follows along.
    Event(Box<Event>),
}

/// Makes `record` true in `state` and returns what follows from it.
pub fn apply(state: &mut State, record: &Record) -> Vec<Effect> {
    assert!(record.at >= state.time, "records are in the order of time");
    state.position += 1;
    state.time = record.at;
    let mut applier = Applier { state, at: record.at, effects: Vec::new() };
    applier.apply_change(&record.change);
    if let Some(answered) = &record.answered {
        applier.remember_answer(answered);
    }
    applier.effects
}

/// A record on its way into the state.
struct Applier<'a> {
    state: &'a mut State,
    at: Timestamp,
    effects: Vec<Effect>,
}

/// What an event is about.
#[derive(Default)]
struct About {
    workload: Option<Name>,
    instance: Option<InstanceId>,
    run: Option<RunId>,
    node: Option<NodeId>,
}

impl Applier<'_> {
    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::ReignBegan { reign } => {
                self.state.reign = *reign;
                self.event("controller.started", About::default(), format!("reign {reign} began"));
            }
            Change::WorkloadsApplied { workloads, by } => {
                for applied in workloads {
                    self.workload_applied(applied, by);
                }
            }
            Change::WorkloadsRemoved { names, by } => {
                for name in names {
                    self.workload_removed(name, by);
                }
            }
            Change::NodeJoined { node, name, credential, token } => {
                self.node_joined(*node, name, *credential, *token);
            }
            Change::NodeIntroduced { node, epoch, introduction, sequence, observed } => {
                self.node_introduced(*node, *epoch, introduction, *sequence, observed);
            }
            Change::Observed { node, sequence, observed } => {
                self.node_mut(*node).report_sequence = *sequence;
                for news in observed {
                    self.observed(news);
                }
            }
            Change::NodeLost { node } => self.node_lost(*node),
            Change::NodeDraining { node, draining, by, until } => {
                self.node_draining(*node, *draining, by, *until);
            }
            Change::NodeStopping { node } => self.node_stopping(*node),
            Change::NodeRemoved { node, by } => self.node_removed(*node, by),
            Change::JoinTokenCreated { hash, expires_at, by } => {
                let at = self.at;
                self.state.join_tokens.retain(|_, expires_at| *expires_at > at);
                self.state.join_tokens.insert(*hash, *expires_at);
                let message = format!("a join token was made by {by}");
                self.event("token.created", About::default(), message);
            }
            Change::InstanceCreated { .. } => self.instance_created(change),
            Change::InstanceAssigned { instance, node, epoch } => {
                self.instance_assigned(*instance, *node, *epoch);
            }
            Change::InstanceWaits { instance, reason } => self.instance_waits(*instance, reason),
            Change::InstanceStopRequested { instance, cause } => {
                self.stop_requested(*instance, cause.clone());
            }
            Change::RunCreated { run, job, definition, occurrence, by, next } => {
                self.run_created(*run, job, *definition, *occurrence, by.as_deref(), *next);
            }
            Change::SecretSet { name, sealed, by } => self.secret_set(name, sealed, by),
            Change::SecretRemoved { name, by } => self.secret_removed(name, by),
            Change::VolumeRemoved { name, by } => self.volume_removed(name, by),
            Change::OccurrencesMissed { job, first: _, last, count, reason, next } => {
                self.occurrences_missed(job, *last, *count, reason, *next);
            }
            _ => self.apply_to_use(change),
        }
    }

    /// What changes sessions and tokens only.
    fn apply_to_use(&mut self, change: &Change) {
        match change {
            Change::SessionAsked { instance } => self.session_asked(*instance),
            Change::SessionSeen { instance, active_at } => {
                self.session_seen(*instance, *active_at);
            }
            Change::SessionWarned { instance, cause, ends_at } => {
                self.session_warned(*instance, *cause, *ends_at);
            }
            Change::SessionExtended { instance, duration, by } => {
                self.session_extended(*instance, *duration, by);
            }
            Change::OwnerRevoked { owner, by } => self.owner_revoked(owner, by),
            Change::KeyReleased { template, key } => {
                self.key_released(&(template.clone(), key.clone()));
            }
            Change::SessionForgotten { instance } => self.session_forgotten(*instance),
            Change::DrainEnded { node } => self.drain_ended(*node),
            Change::TokenCreated { .. } | Change::TokensRevoked { .. } => {
                self.apply_to_tokens(change);
            }
            _ => unreachable!("the caller has applied all others"),
        }
    }

    fn remember_answer(&mut self, answered: &Answered) {
        let answers = &mut self.state.answers;
        let kept = AnswerKept {
            fingerprint: answered.key.fingerprint,
            reply: answered.reply.clone(),
            at: self.at,
        };
        answers.by_key.insert(answered.key.key.clone(), kept);
        answers.by_age.insert((self.at, answered.key.key.clone()));
        while let Some((at, _)) = answers.by_age.first() {
            let full = answers.by_key.len() > limits::IDEMPOTENCY_KEYS_MAX;
            if !full && self.at.since(*at) <= limits::IDEMPOTENCY_KEY_LIFE {
                break;
            }
            let (_, key) = answers.by_age.pop_first().expect("it was just looked at");
            answers.by_key.remove(&key);
        }
    }

    fn event(&mut self, kind: &'static str, about: About, message: String) {
        let About { workload, instance, run, node } = about;
        let seen_by = instance.map(|id| self.subjects_of(id)).unwrap_or_default();
        let (position, at) = (self.state.position, self.at);
        let event = Event { position, at, kind, workload, instance, run, node, seen_by, message };
        self.effects.push(Effect::Event(Box::new(event)));
    }

    /// Whose an instance is, and with whom it is shared.
    fn subjects_of(&self, instance: InstanceId) -> Vec<String> {
        let Some(found) = self.state.instances.get(&instance) else {
            return Vec::new();
        };
        let Origin::Session { owner, .. } = &found.origin else {
            return Vec::new();
        };
        let shared = found.session.iter().flat_map(|session| &session.shared_with);
        std::iter::once(owner).chain(shared).cloned().collect()
    }

    fn reconcile(&mut self, service: &Name) {
        self.effects.push(Effect::Reconcile(service.clone()));
    }

    fn order(&mut self, node: NodeId, instance: InstanceId, want: Want) {
        let order = Order { instance, revision: self.state.position, want };
        self.effects.push(Effect::Order { node, order });
    }
}
