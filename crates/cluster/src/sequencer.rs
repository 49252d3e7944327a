//! Puts admitting, applying and deciding into an order in which nothing is promised too early.
//!
//! The shell calls, from one thread and in this order:
//!
//! 1. [`handle`](Sequencer::handle) for each input that came;
//! 2. [`poll_batch`](Sequencer::poll_batch), and if there is a batch, appends it to the journal
//!    and tells how that went by [`appended`](Sequencer::appended) or
//!    [`refused`](Sequencer::refused);
//! 3. [`poll_output`](Sequencer::poll_output) until it is empty;
//! 4. waits for the next input, or until [`poll_timeout`](Sequencer::poll_timeout).
//!
//! Inputs may also be handled while an append is under way. A query then waits until all that the
//! state holds is durable, so whoever never stops admitting never answers one.
//!
//! `now` must never go backwards by much: where it does, records keep the time of the one before.

use crate::admit::{self, ReportStanding, admit};
use crate::apply::{Effect, apply};
use crate::command::{Command, IdempotencyKey, Ids, Rejection, Reply};
use crate::decide::{self, Attention, decide};
use crate::event::Event;
use crate::outbox::{Outbox, ReportSeen, introduce_request};
use crate::record::Record;
use crate::state::State;
use spawnery_model::{
    DurationMs, InstanceId, NodeId, NodeStatus, Orders, Report, Timestamp, limits,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Decisions that go into one batch: more follow in the next, so that no batch makes callers wait
/// for long.
const DECISIONS_PER_BATCH_MAX: usize = 4096;

/// When a batch that the journal refused for lack of space is tried again.
const RETRY: DurationMs = DurationMs(1000);

/// Something that comes from outside. `T` says to whom the answer goes.
#[derive(Debug)]
pub enum Input<T> {
    /// A command.
    Command {
        /// To whom the answer goes.
        ticket: T,
        /// What is asked.
        command: Command,
        /// Makes a repetition harmless.
        key: Option<IdempotencyKey>,
    },
    /// Somebody wants to read the state.
    Query {
        /// To whom the answer goes.
        ticket: T,
    },
    /// Something came from an agent that showed its node's secret.
    Report(Box<Report>),
}

/// Something that goes out.
#[derive(Debug)]
pub enum Output<T> {
    /// The answer to a command.
    Reply {
        /// To whom.
        ticket: T,
        /// The answer.
        result: Result<Reply, Rejection>,
    },
    /// The state may be read now: all that it holds is durable.
    Query {
        /// By whom.
        ticket: T,
        /// Whether it may not: the journal is full.
        refused: Option<Rejection>,
    },
    /// A message to a node.
    Orders {
        /// To which.
        node: NodeId,
        /// What is wanted of it.
        orders: Orders,
    },
    /// Somebody is to find out when a session was used last, to keep it from being used until the
    /// answer is taken in, and to answer by [`Command::SessionSeen`].
    AskIdle {
        /// Which session.
        instance: InstanceId,
    },
    /// Something happened.
    Event(Box<Event>),
}

/// Records that go into the journal together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The position that the first of them will have.
    pub first_position: u64,
    /// The records.
    pub records: Vec<Record>,
}

/// Something that waits until what it rests on is durable.
#[derive(Debug)]
enum Held<T> {
    Reply { ticket: T, result: Result<Reply, Rejection> },
    Query { ticket: T },
    Effect(Effect),
    Reported(ReportSeen),
    Introduce(ReportSeen),
}

/// Whether the journal takes what it is given.
#[derive(Debug)]
enum Appending {
    /// Nothing is being appended.
    Idle,
    /// This batch is being appended.
    Waits(Batch),
    /// This batch was refused for lack of space, and is tried again.
    Refused { batch: Batch, reason: String, retry_at: Timestamp },
}

/// The controller's core, from input to output.
#[derive(Debug)]
pub struct Sequencer<T> {
    state: State,
    attention: Attention,
    outbox: Outbox,
    leases: BTreeMap<NodeId, Timestamp>,
    appending: Appending,
    records: Vec<Record>,
    held: Vec<Held<T>>,
    /// What waits for the batch that is being appended.
    held_in_flight: Vec<Held<T>>,
    output: VecDeque<Output<T>>,
    reports_refused: u64,
    /// More decisions are due than went into the last batch.
    decisions_left: bool,
}

impl<T> Sequencer<T> {
    /// Continues from `state`, which is what the journal gives. The first command must be
    /// [`Command::BeginReign`].
    pub fn new(state: State, now: Timestamp) -> Sequencer<T> {
        let mut sequencer = Sequencer {
            state,
            attention: Attention::everywhere(),
            outbox: Outbox::default(),
            leases: BTreeMap::new(),
            appending: Appending::Idle,
            records: Vec::new(),
            held: Vec::new(),
            held_in_flight: Vec::new(),
            output: VecDeque::new(),
            reports_refused: 0,
            decisions_left: false,
        };
        // Nobody could renew a lease while no controller ruled.
        let present = sequencer.state.nodes().filter(|n| n.node.status != NodeStatus::Lost);
        let present: Vec<NodeId> = present.map(|entry| entry.node.id).collect();
        let until = now.plus(limits::LEASE).plus(limits::LEASE);
        sequencer.leases = present.into_iter().map(|node| (node, until)).collect();
        sequencer
    }

    /// The state, with all that was admitted. What is in it may not be durable yet, except right
    /// when an [`Output::Query`] comes out.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reports that were refused because they showed an old epoch or reign.
    pub fn reports_refused(&self) -> u64 {
        self.reports_refused
    }

    /// Orders that their nodes have not acknowledged yet.
    pub fn orders_unacknowledged(&self) -> usize {
        self.outbox.unacknowledged()
    }

    /// Why nothing can be changed at the moment, if so.
    pub fn refusal(&self) -> Option<Rejection> {
        match &self.appending {
            Appending::Refused { reason, .. } => {
                Some(Rejection::JournalFull { reason: reason.clone() })
            }
            Appending::Idle | Appending::Waits(_) => None,
        }
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: Input<T>, now: Timestamp, ids: &mut dyn Ids) {
        let refusal = self.refusal();
        match input {
            Input::Command { ticket, command, key } => {
                let result = match refusal {
                    // It rests on nothing that is not durable, so it need not wait.
                    Some(rejection) => {
                        let result = Err(rejection);
                        return self.output.push_back(Output::Reply { ticket, result });
                    }
                    None => self.command(command, key, now, ids),
                };
                self.held.push(Held::Reply { ticket, result });
            }
            Input::Query { ticket } if refusal.is_some() => {
                self.output.push_back(Output::Query { ticket, refused: refusal });
            }
            Input::Query { ticket } => self.held.push(Held::Query { ticket }),
            Input::Report(report) => self.report(*report, now, ids, refusal.is_some()),
        }
    }

    fn command(
        &mut self,
        command: Command,
        key: Option<IdempotencyKey>,
        now: Timestamp,
        ids: &mut dyn Ids,
    ) -> Result<Reply, Rejection> {
        // A changed job gets new occurrences: those of the old one that are due come first.
        while matches!(command, Command::Apply { .. }) && decide::is_due(&self.state, now) {
            self.decide(now, ids);
        }
        // Whoever does not want to wait is told what room there is after all who came before.
        if matches!(&command, Command::CreateSession { terms, .. } if terms.at_once) {
            self.decide(now, ids);
        }
        let admitted = admit(&self.state, command, key, now, ids)?;
        if let Some(record) = admitted.record {
            self.record(record);
        }
        Ok(admitted.reply)
    }

    fn report(&mut self, report: Report, now: Timestamp, ids: &mut dyn Ids, full: bool) {
        let seen = ReportSeen::from(&report);
        match admit::standing(&self.state, &report) {
            ReportStanding::Stale => self.reports_refused += 1,
            ReportStanding::Introduce => {
                self.reports_refused += 1;
                self.held.push(Held::Introduce(seen));
            }
            ReportStanding::Valid => {
                self.leases.insert(report.node, now.plus(limits::LEASE));
                // While the journal is full the agent hears nothing, and says it again.
                if full {
                    return;
                }
                let command = Command::Report(Box::new(report));
                match self.command(command, None, now, ids) {
                    Ok(_) => self.held.push(Held::Reported(seen)),
                    Err(_) => self.reports_refused += 1,
                }
            }
        }
    }

    fn record(&mut self, record: Record) {
        let effects = apply(&mut self.state, &record);
        self.records.push(record);
        for effect in effects {
            match effect {
                Effect::Reconcile(name) => self.attention.service(name),
                Effect::ReconcileEveryNode => self.attention.services_on_every_node(),
                effect => self.held.push(Held::Effect(effect)),
            }
        }
    }

    /// The records that the journal should append next. It comes again until
    /// [`appended`](Sequencer::appended) is called.
    pub fn poll_batch(&mut self, now: Timestamp, ids: &mut dyn Ids) -> Option<Batch> {
        match std::mem::replace(&mut self.appending, Appending::Idle) {
            Appending::Idle => {}
            Appending::Waits(batch) => {
                self.appending = Appending::Waits(batch.clone());
                return Some(batch);
            }
            Appending::Refused { batch, reason, retry_at } if now < retry_at => {
                self.appending = Appending::Refused { batch, reason, retry_at };
                return None;
            }
            Appending::Refused { batch, reason, .. } => {
                let retry_at = now.plus(RETRY);
                self.appending = Appending::Refused { batch: batch.clone(), reason, retry_at };
                return Some(batch);
            }
        }
        self.decide_all(now, ids);
        let held = std::mem::take(&mut self.held);
        if self.records.is_empty() {
            self.release(held, now);
            return None;
        }
        let records = std::mem::take(&mut self.records);
        let first_position = self.state.position() + 1 - records.len() as u64;
        let batch = Batch { first_position, records };
        self.held_in_flight = held;
        self.appending = Appending::Waits(batch.clone());
        Some(batch)
    }

    fn decide_all(&mut self, now: Timestamp, ids: &mut dyn Ids) {
        let expired: Vec<NodeId> =
            self.leases.iter().filter(|(_, until)| **until <= now).map(|(n, _)| *n).collect();
        for node in expired {
            self.leases.remove(&node);
            if let Ok(admitted) = admit(&self.state, Command::LeaseExpired { node }, None, now, ids)
                && let Some(record) = admitted.record
            {
                self.record(record);
            }
        }
        self.decide(now, ids);
    }

    /// Decides what is due, up to a limit.
    fn decide(&mut self, now: Timestamp, ids: &mut dyn Ids) {
        self.decisions_left = true;
        for _ in 0..DECISIONS_PER_BATCH_MAX {
            match decide(&self.state, &mut self.attention, now, ids) {
                Some(record) => self.record(record),
                None => {
                    self.decisions_left = false;
                    break;
                }
            }
        }
    }

    /// The batch is durable: what rests on it may go out.
    pub fn appended(&mut self, now: Timestamp) {
        self.appending = Appending::Idle;
        let held = std::mem::take(&mut self.held_in_flight);
        self.release(held, now);
    }

    /// The journal has no space for the batch. It is kept and tried again; until it goes through,
    /// commands are refused.
    pub fn refused(&mut self, reason: String, now: Timestamp) {
        let retry_at = now.plus(RETRY);
        let appending = std::mem::replace(&mut self.appending, Appending::Idle);
        self.appending = match appending {
            Appending::Idle => Appending::Idle,
            Appending::Waits(batch) | Appending::Refused { batch, .. } => {
                Appending::Refused { batch, reason, retry_at }
            }
        };
    }

    fn release(&mut self, held: Vec<Held<T>>, now: Timestamp) {
        let reign = self.state.reign();
        let mut answered = BTreeSet::new();
        for held in held {
            match held {
                Held::Reply { ticket, result } => {
                    self.output.push_back(Output::Reply { ticket, result });
                }
                // More was admitted meanwhile, and is not durable yet: what is read must be.
                Held::Query { ticket } if !self.records.is_empty() => {
                    self.held.push(Held::Query { ticket });
                }
                Held::Query { ticket } => {
                    self.output.push_back(Output::Query { ticket, refused: None });
                }
                Held::Effect(effect) => self.release_effect(effect),
                Held::Reported(seen) => {
                    self.outbox.reported(&seen);
                    answered.insert(seen.node);
                }
                Held::Introduce(seen) => {
                    let orders = introduce_request(reign, &seen);
                    self.output.push_back(Output::Orders { node: seen.node, orders });
                }
            }
        }
        answered.extend(self.outbox.nodes_with_fresh());
        for node in answered {
            if let Some(orders) = self.outbox.message(&self.state, node, now) {
                self.output.push_back(Output::Orders { node, orders });
            }
        }
    }

    fn release_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Order { node, order } => self.outbox.order(node, order),
            Effect::FullOrders { node, epoch, incarnation, orders } => {
                self.outbox.introduce(node, epoch, incarnation, orders);
            }
            Effect::NodeLost { node } => self.outbox.lose(node),
            Effect::PoolsChanged => self.outbox.pools_changed(),
            Effect::AskIdle { instance } => self.output.push_back(Output::AskIdle { instance }),
            Effect::Event(event) => self.output.push_back(Output::Event(event)),
            Effect::Reconcile(_) | Effect::ReconcileEveryNode => {
                unreachable!("these are not held back")
            }
        }
    }

    /// What may go out now.
    pub fn poll_output(&mut self) -> Option<Output<T>> {
        self.output.pop_front()
    }

    /// When [`poll_batch`](Sequencer::poll_batch) wants to be called, if nothing comes before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if let Appending::Refused { retry_at, .. } = &self.appending {
            return Some(*retry_at);
        }
        if self.decisions_left {
            return Some(self.state.time());
        }
        let lease = self.leases.values().min().copied();
        let timer = decide::poll_timeout(&self.state, &self.attention);
        [lease, timer].into_iter().flatten().min()
    }
}
