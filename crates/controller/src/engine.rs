//! The thread that owns the core and the journal.

use crate::events::EventHub;
use crate::links::Links;
use crate::secret::{SystemIds, now};
use crate::statistics::{Counters, add};
use spawnery_cluster::{
    Batch, Command, Event, IdempotencyKey, Input, Output, Rejection, Reply, Sequencer, State,
};
use spawnery_journal::{AppendError, Journal};
use spawnery_model::{InstanceId, Report};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Inputs that wait for the engine. When it is full, callers are told that it is busy.
pub(crate) const QUEUE_MAX: usize = 65_536;

/// Inputs that are taken in before the batch is written: a larger batch saves syncs, but makes
/// the first caller wait.
const INPUTS_PER_BATCH_MAX: usize = 1024;

/// A snapshot is saved after so many records: replaying as many takes well below a second.
const RECORDS_PER_SNAPSHOT: u64 = 200_000;

/// Records that stay in the journal before the older snapshot, for whoever wants to look back.
const RECORDS_KEPT: u64 = spawnery_journal::TAIL_COUNT_DEFAULT;

/// The journal failed, and the process must stop: what was not acknowledged is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal failed: {0}")]
pub struct EngineFailure(pub String);

pub(crate) type Answer = Box<dyn FnOnce(Result<&State, Rejection>) + Send>;

pub(crate) enum Message {
    Command {
        command: Command,
        key: Option<IdempotencyKey>,
        reply: oneshot::Sender<Result<Reply, Rejection>>,
    },
    Query(Answer),
    Report(Box<Report>),
    Stop,
}

enum Ticket {
    Reply(oneshot::Sender<Result<Reply, Rejection>>),
    Query(Answer),
}

pub(crate) struct Engine {
    pub(crate) sequencer: Core,
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) events: Arc<EventHub>,
    pub(crate) links: Arc<Links>,
    pub(crate) counters: Arc<Counters>,
    /// Sessions of which the core asks whether they are idle. There are as many as sessions at most.
    pub(crate) asked: tokio::sync::mpsc::UnboundedSender<InstanceId>,
    pub(crate) failure: watch::Sender<Option<EngineFailure>>,
    pub(crate) snapshot_position: u64,
}

/// The core with the tickets of this shell.
pub(crate) struct Core(Sequencer<Ticket>);

impl Core {
    pub(crate) fn new(state: State) -> Core {
        Core(Sequencer::new(state, now()))
    }
}

impl Engine {
    /// Runs until it is told to stop or the journal fails.
    pub(crate) fn run(mut self) {
        loop {
            let stop = self.take_inputs();
            let written = self.write_batch();
            self.release_outputs();
            if let Err(failure) = written {
                tracing::error!("{failure}");
                self.failure.send_replace(Some(failure));
                return;
            }
            if stop {
                self.save_snapshot();
                return;
            }
            if self.state().position() >= self.snapshot_position + RECORDS_PER_SNAPSHOT {
                self.save_snapshot();
            }
        }
    }

    fn state(&self) -> &State {
        self.sequencer.0.state()
    }

    /// Waits for an input or a timer, then takes what else is there. Says whether to stop.
    fn take_inputs(&mut self) -> bool {
        let first = match self.sequencer.0.poll_timeout() {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => {
                let wait = Duration::from_millis(at.since(now()).0);
                self.inbox.recv_timeout(wait)
            }
        };
        match first {
            Ok(message) => {
                if self.take_input(message) {
                    return true;
                }
            }
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
        for _ in 1..INPUTS_PER_BATCH_MAX {
            match self.inbox.try_recv() {
                Ok(message) => {
                    if self.take_input(message) {
                        return true;
                    }
                }
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    fn take_input(&mut self, message: Message) -> bool {
        let input = match message {
            Message::Command { command, key, reply } => {
                add(&self.counters.commands, 1);
                Input::Command { ticket: Ticket::Reply(reply), command, key }
            }
            Message::Query(answer) => Input::Query { ticket: Ticket::Query(answer) },
            Message::Report(report) => {
                add(&self.counters.reports, 1);
                Input::Report(report)
            }
            Message::Stop => return true,
        };
        self.sequencer.0.handle(input, now(), &mut SystemIds);
        false
    }

    fn write_batch(&mut self) -> Result<(), EngineFailure> {
        let Some(batch) = self.sequencer.0.poll_batch(now(), &mut SystemIds) else {
            return Ok(());
        };
        let began = Instant::now();
        let appended = append(self.journal.as_mut(), &batch);
        add(&self.counters.append_us, began.elapsed().as_micros() as u64);
        match appended {
            Ok(()) => {
                add(&self.counters.batches, 1);
                add(&self.counters.records, batch.records.len() as u64);
                self.sequencer.0.appended(now());
                self.set_full(None);
                Ok(())
            }
            Err(error @ AppendError::NoSpace { .. }) => {
                tracing::warn!("{error}");
                self.sequencer.0.refused(error.to_string(), now());
                self.set_full(Some(error.to_string()));
                Ok(())
            }
            Err(error) => Err(EngineFailure(error.to_string())),
        }
    }

    fn set_full(&self, reason: Option<String>) {
        let mut full = self.counters.journal_full.lock().expect("no holder panics");
        if *full != reason {
            *full = reason;
        }
    }

    /// Events go out first, so that whoever follows them from an answer on has missed none.
    fn release_outputs(&mut self) {
        let outputs: Vec<_> = std::iter::from_fn(|| self.sequencer.0.poll_output()).collect();
        let mut events: Vec<Event> = Vec::new();
        let mut others = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Event(event) => events.push(*event),
                other => others.push(other),
            }
        }
        self.events.publish(events);
        for output in others {
            self.release(output);
        }
        self.count();
    }

    fn release(&self, output: Output<Ticket>) {
        match output {
            // Whoever asked may have gone away.
            Output::Reply { ticket: Ticket::Reply(reply), result } => {
                let _ = reply.send(result);
            }
            Output::Query { ticket: Ticket::Query(answer), refused } => match refused {
                Some(rejection) => answer(Err(rejection)),
                None => answer(Ok(self.state())),
            },
            Output::Orders { node, orders } => self.links.send(node, orders),
            // Nobody answers while the controller stops: the core asks again.
            Output::AskIdle { instance } => drop(self.asked.send(instance)),
            Output::Reply { .. } | Output::Query { .. } | Output::Event(_) => {
                unreachable!("an answer goes to the ticket that its input came with")
            }
        }
    }

    fn count(&self) {
        let counters = &self.counters;
        counters.reign.store(self.state().reign(), Ordering::Relaxed);
        counters.position.store(self.state().position(), Ordering::Relaxed);
        let refused = self.sequencer.0.reports_refused();
        counters.reports_refused.store(refused, Ordering::Relaxed);
    }

    /// A snapshot only makes the next start quicker, so a failure is no reason to stop.
    fn save_snapshot(&mut self) {
        let position = self.state().position();
        if self.sequencer.0.refusal().is_some() || position == self.snapshot_position {
            return;
        }
        self.snapshot_position = position;
        let state = self.state().encode();
        match self.journal.save_snapshot(position, &state) {
            Ok(()) => add(&self.counters.snapshots, 1),
            Err(error) => return tracing::warn!("no snapshot was saved: {error}"),
        }
        loop {
            match self.journal.prune(RECORDS_KEPT) {
                Ok(pruned) if pruned.more => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!("the journal was not pruned: {error}"),
            }
        }
    }
}

fn append(journal: &mut dyn Journal, batch: &Batch) -> Result<(), AppendError> {
    let encode = |record| minicbor::to_vec(record).expect("writing to memory does not fail");
    let payloads: Vec<Vec<u8>> = batch.records.iter().map(encode).collect();
    let last = journal.append(&payloads)?;
    let expected = batch.first_position + payloads.len() as u64 - 1;
    assert_eq!(last, expected, "only this engine writes to the journal");
    Ok(())
}
