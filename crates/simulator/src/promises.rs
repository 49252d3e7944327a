//! What nobody may break, checked against the durable records and against all that goes out.
//!
//! The checks follow the journal with a state of their own, so that they know what a controller
//! that crashes now would come back with.

mod jobs;
mod replies;
mod sessions;

use crate::coverage::{self, Coverage};
use jobs::JobModels;
use replies::Answers;
use sessions::SessionModels;
use spawnery_cluster::state::Slot;
use spawnery_cluster::{Change, Event, Record, State, apply};
use spawnery_model::{
    Capacity, EndReason, InstanceId, Kind, NodeId, Observed, Orders, Phase, Report, StartOrder,
    StopCause, limits,
};
use std::collections::BTreeMap;

/// Reports of each node that are remembered until they are confirmed: many more than can be on
/// their way.
const REPORTS_KEPT_PER_NODE: u64 = 1000;

/// A promise that was broken.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) promise: &'static str,
    pub(crate) message: String,
}

/// Something that people do because of a record.
#[derive(Debug)]
pub(crate) enum Consequence {
    /// They wipe a machine whose node was removed.
    NodeRemoved(NodeId),
    /// They restart a machine whose node was told to stop.
    NodeStopping(NodeId),
    /// Nobody uses a session, so it is ended.
    EndedIdle(InstanceId),
}

pub(crate) fn broken<T>(promise: &'static str, message: String) -> Result<T, Broken> {
    Err(Broken { promise, message })
}

macro_rules! ensure {
    ($holds:expr, $promise:expr, $($message:tt)+) => {
        if !$holds {
            return $crate::promises::broken($promise, format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// Orders in one message: what a node's instances and its forgotten ones can need in the worst
/// case of these simulations.
const ORDERS_PER_MESSAGE_MAX: usize = 10_000;

/// Whether an end is told as it was: what was told to stop has stopped for that cause, unless its
/// node was lost with it, and nothing else has.
fn says_why(reason: &EndReason, told: Option<&StopCause>) -> bool {
    let stopped = match reason {
        EndReason::Stopped { cause } => Some(cause),
        EndReason::NodeLost => return true,
        _ => None,
    };
    !reason.words().is_empty() && stopped == told
}

/// What is known to be true, and must stay so.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// What the durable records make.
    pub(crate) durable: State,
    pub(crate) coverage: Coverage,
    jobs: JobModels,
    sessions: SessionModels,
    answers: Answers,
    /// Where each instance was placed, and under which epoch.
    assigned: BTreeMap<InstanceId, (NodeId, u64)>,
    /// Where each instance was started.
    started: BTreeMap<InstanceId, usize>,
    phases: BTreeMap<InstanceId, Phase>,
    /// What a node may have reserved: more than its capacity only if that shrank.
    reserved_max: BTreeMap<NodeId, Capacity>,
    /// The number of the last message to each node, with its reign and epoch.
    messages: BTreeMap<NodeId, (u64, u64, u64)>,
    /// Reports that arrived in this reign, by node and number.
    reports: BTreeMap<(NodeId, u64), Vec<ReportLogged>>,
    /// How many batches between two thorough checks; 1 checks after each.
    pub(crate) check_every: u64,
    batches: u64,
}

/// A report as its agent sent it.
#[derive(Debug)]
struct ReportLogged {
    incarnation: u64,
    epoch: u64,
    introduces: bool,
    observed: Vec<Observed>,
}

impl Promises {
    /// Takes in records that have just become durable.
    pub(crate) fn records(
        &mut self,
        first: u64,
        records: &[Vec<u8>],
    ) -> Result<Vec<Consequence>, Broken> {
        let mut consequences = Vec::new();
        for (place, bytes) in records.iter().enumerate() {
            let record: Record = match minicbor::decode(bytes) {
                Ok(record) => record,
                Err(error) => return broken("a record can be read back", error.to_string()),
            };
            ensure!(
                self.durable.position() + 1 == first + place as u64,
                "records have no gap",
                "after {} comes {first}",
                self.durable.position()
            );
            self.record(&record)?;
            match record.change {
                Change::NodeRemoved { node, .. } => {
                    consequences.push(Consequence::NodeRemoved(node));
                }
                Change::NodeStopping { node } => {
                    consequences.push(Consequence::NodeStopping(node));
                }
                Change::InstanceStopRequested { instance, cause: StopCause::Idle } => {
                    consequences.push(Consequence::EndedIdle(instance));
                }
                _ => {}
            }
        }
        self.batches += 1;
        if self.batches.is_multiple_of(self.check_every.max(1)) {
            self.check_state()?;
        }
        Ok(consequences)
    }

    fn record(&mut self, record: &Record) -> Result<(), Broken> {
        self.coverage.count(coverage::change(&record.change));
        ensure!(
            record.at >= self.durable.time(),
            "time never goes back in the journal",
            "{:?} after {:?}",
            record.at,
            self.durable.time()
        );
        self.before(record)?;
        self.sessions.before(record, &self.durable)?;
        apply(&mut self.durable, record);
        self.sessions.after(record, &self.durable)?;
        self.answers.record(record)?;
        self.jobs.record(record)
    }

    /// What must hold of a record in the state that it changes.
    fn before(&mut self, record: &Record) -> Result<(), Broken> {
        match &record.change {
            Change::ReignBegan { reign } => ensure!(
                *reign == self.durable.reign() + 1,
                "reigns never go back",
                "{reign} after {}",
                self.durable.reign()
            ),
            Change::NodeIntroduced { node, epoch, introduction, .. } => {
                let entry = self.durable.node(*node);
                let before = entry.map_or(0, |entry| entry.node.epoch);
                ensure!(
                    *epoch > before,
                    "epochs never go back",
                    "node {node}: {epoch} after {before}"
                );
                let reserved = entry.map_or(Capacity::default(), |e| e.node.reserved);
                let capacity = introduction.capacity;
                let most = Capacity {
                    memory: capacity.memory.max(reserved.memory),
                    cpu: capacity.cpu.max(reserved.cpu),
                };
                self.reserved_max.insert(*node, most);
            }
            Change::InstanceAssigned { instance, node, epoch } => {
                let entry = self.durable.node(*node);
                ensure!(
                    entry.is_some_and(|entry| entry.is_open()),
                    "instances go to open nodes only",
                    "{instance} to {node}"
                );
                let before = self.assigned.insert(*instance, (*node, *epoch));
                ensure!(
                    before.is_none_or(|(_, old)| old < *epoch),
                    "an epoch names one owner",
                    "{instance}: {epoch} after {before:?}"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn check_state(&mut self) -> Result<(), Broken> {
        self.durable.assert_consistent();
        for entry in self.durable.nodes() {
            let node = &entry.node;
            let most = self.reserved_max.get(&node.id).copied().unwrap_or_default();
            ensure!(most.fits(node.reserved), "reservations never exceed capacity", "{node:?}");
        }
        for instance in self.durable.instances() {
            let before = self.phases.insert(instance.id, instance.phase);
            if before == Some(instance.phase) {
                continue;
            }
            ensure!(
                before.is_none_or(|before| before < instance.phase),
                "an instance's life goes one way",
                "{before:?} before {instance:?}"
            );
            if let Some(end) = &instance.end {
                self.coverage.count(coverage::end(&end.reason));
                ensure!(
                    says_why(&end.reason, instance.stop_cause.as_ref()),
                    "every ended instance has its reason",
                    "{instance:?}"
                );
            }
        }
        self.sessions.check(&self.durable)?;
        let kept = self.durable.workloads().map(|entry| match entry.workload.kind {
            Kind::Session(_) => limits::SESSIONS_ENDED_KEPT_MAX,
            Kind::Service(_) | Kind::Job(_) => limits::ENDED_KEPT_PER_WORKLOAD_MAX,
        });
        let kept_max = kept.sum::<usize>()
            + limits::ENDED_INLINE_KEPT_MAX
            + self.durable.instances_live() as usize;
        ensure!(
            self.durable.instances().count() <= kept_max,
            "what is remembered is bounded",
            "{} instances, at most {kept_max}",
            self.durable.instances().count()
        );
        let known = |slot: &Slot| match slot {
            Slot::Node(node) => self.durable.node(*node).is_some(),
            Slot::Index(_) => true,
        };
        for entry in self.durable.workloads() {
            let name = &entry.workload.name;
            let mut gone = entry.slots.iter().filter(|(slot, _)| !known(slot));
            ensure!(
                gone.all(|(_, slot)| slot.instance.is_some()),
                "what is remembered is bounded",
                "{name} has empty places for nodes that are gone"
            );
        }
        Ok(())
    }

    /// The state of the sequencer, when all that it holds is durable.
    pub(crate) fn live_state(&mut self, live: &State) -> Result<(), Broken> {
        let every = self.check_every.max(1);
        if live.position() != self.durable.position() || !self.batches.is_multiple_of(every) {
            return Ok(());
        }
        ensure!(
            *live == self.durable,
            "a replay gives the same state",
            "at position {}",
            live.position()
        );
        Ok(())
    }

    /// What a restarted controller has read back.
    pub(crate) fn recovered(&mut self, state: &State) -> Result<(), Broken> {
        ensure!(
            state.position() >= self.durable.position(),
            "an acknowledged command survives",
            "the journal ends at {}, but {} was durable",
            state.position(),
            self.durable.position()
        );
        ensure!(
            *state == self.durable,
            "a snapshot and the rest give the same as all records",
            "at position {}",
            state.position()
        );
        let decoded = State::decode(&state.encode());
        ensure!(
            decoded.is_ok_and(|decoded| decoded == *state),
            "a snapshot can be read back",
            "at position {}",
            state.position()
        );
        self.reports.clear();
        Ok(())
    }

    /// A report arrived, as its agent had sent it.
    pub(crate) fn report_arrived(&mut self, report: &Report, incarnation: u64) {
        let logged = ReportLogged {
            incarnation,
            epoch: report.epoch,
            introduces: report.introduction.is_some(),
            observed: report.observed.clone(),
        };
        let (node, sequence) = (report.node, report.sequence);
        self.reports.entry((node, sequence)).or_default().push(logged);
        if let Some(old) = sequence.checked_sub(REPORTS_KEPT_PER_NODE) {
            self.reports.remove(&(node, old));
        }
    }

    /// The controller lets a message to a node go out.
    pub(crate) fn orders(&mut self, node: NodeId, orders: &Orders) -> Result<(), Broken> {
        const DURABLE: &str = "nothing is promised before it is durable";
        let position = self.durable.position();
        ensure!(
            orders.reign == self.durable.reign(),
            DURABLE,
            "orders of reign {}, durable is {}",
            orders.reign,
            self.durable.reign()
        );
        for order in &orders.orders {
            ensure!(
                order.revision <= position,
                DURABLE,
                "an order of position {} at {position}: {order:?}",
                order.revision
            );
        }
        ensure!(
            orders.orders.len() <= ORDERS_PER_MESSAGE_MAX,
            "every queue is bounded",
            "{} orders in one message",
            orders.orders.len()
        );
        if orders.introduce {
            return Ok(());
        }
        let Some(entry) = self.durable.node(node) else {
            return Ok(());
        };
        ensure!(
            orders.epoch <= entry.node.epoch,
            DURABLE,
            "orders of epoch {}, durable is {}",
            orders.epoch,
            entry.node.epoch
        );
        let now = (orders.reign, orders.epoch, orders.sequence);
        let before = self.messages.insert(node, now).unwrap_or_default();
        ensure!(before < now, "messages are numbered upwards", "{before:?} before {now:?}");
        for sequence in &orders.received {
            self.report_confirmed(node, *sequence, orders.epoch)?;
        }
        Ok(())
    }

    /// The controller tells an agent that what a report said is durable.
    fn report_confirmed(&self, node: NodeId, sequence: u64, epoch: u64) -> Result<(), Broken> {
        let Some(entry) = self.durable.node(node) else {
            return Ok(());
        };
        let logged = self.reports.get(&(node, sequence)).into_iter().flatten();
        let mut current = logged
            .filter(|report| report.incarnation == entry.incarnation)
            .filter(|report| report.introduces || report.epoch == epoch);
        let Some(report) = current.next_back() else {
            return broken(
                "whoever shows an older epoch is refused",
                format!("report {sequence} of node {node} was taken in at epoch {epoch}"),
            );
        };
        for seen in &report.observed {
            let known = self.durable.instance(seen.instance).is_none_or(|instance| {
                instance.node != Some(node)
                    || instance.phase == Phase::Ended
                    || instance.revision_observed >= seen.revision
            });
            ensure!(known, "nothing is confirmed before it is durable", "{seen:?} of node {node}");
        }
        Ok(())
    }

    pub(crate) fn event(&self, event: &Event) -> Result<(), Broken> {
        ensure!(
            event.position <= self.durable.position(),
            "nothing is promised before it is durable",
            "event {event:?}"
        );
        Ok(())
    }

    /// The state is given to be read.
    pub(crate) fn query(&self, state: &State) -> Result<(), Broken> {
        ensure!(
            state.position() <= self.durable.position(),
            "what is read is durable",
            "position {} is read, durable is {}",
            state.position(),
            self.durable.position()
        );
        Ok(())
    }

    /// An agent tells its launcher to start an instance.
    pub(crate) fn starts(
        &mut self,
        machine: usize,
        node: NodeId,
        instance: InstanceId,
        order: &StartOrder,
    ) -> Result<(), Broken> {
        let assigned = self.assigned.get(&instance);
        ensure!(
            assigned == Some(&(node, order.epoch)),
            "only what was durably placed is started",
            "{instance} on {node} with epoch {}, placed was {assigned:?}",
            order.epoch
        );
        let before = self.started.insert(instance, machine);
        ensure!(
            before.is_none(),
            "no instance is started twice",
            "{instance} on machine {machine}, before on {before:?}"
        );
        Ok(())
    }

    pub(crate) fn answers(&mut self) -> (&mut Answers, &State) {
        (&mut self.answers, &self.durable)
    }

    pub(crate) fn jobs(&self) -> &JobModels {
        &self.jobs
    }
}
