//! What is to be told to the nodes, until they say that they have carried it out.
//!
//! Nothing here is durable: when a controller starts, each agent introduces itself and is told
//! everything again.

use crate::state::State;
use spawnery_model::{
    InstanceId, NodeId, Order, Orders, Report, StartOrder, Timestamp, WarmPool, Workload, limits,
};
use std::collections::BTreeMap;

/// Whether a node knows which sandboxes to keep ready.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Pools {
    /// It does not.
    #[default]
    Changed,
    /// It was told, by the message with this number at this time.
    Told(u64, Timestamp),
    /// It said that it heard.
    Known,
}

/// The messages to all nodes.
#[derive(Debug, Default)]
pub struct Outbox {
    nodes: BTreeMap<NodeId, NodeOutbox>,
}

#[derive(Debug, Default)]
struct NodeOutbox {
    epoch: u64,
    incarnation: u64,
    /// The number of the last message.
    sequence: u64,
    /// Reports that became durable since the last message.
    received: Vec<u64>,
    /// Orders that the node has not acknowledged, with the number and time of their last message.
    unacknowledged: BTreeMap<InstanceId, (Order, u64, Timestamp)>,
    /// Orders that were released and not sent yet.
    fresh: Vec<Order>,
    full: bool,
    pools: Pools,
}

impl Outbox {
    /// A node introduced itself: what was to be told before is void.
    pub(crate) fn introduce(
        &mut self,
        node: NodeId,
        epoch: u64,
        incarnation: u64,
        orders: Vec<Order>,
    ) {
        let outbox =
            NodeOutbox { epoch, incarnation, fresh: orders, full: true, ..NodeOutbox::default() };
        self.nodes.insert(node, outbox);
    }

    /// A node is lost: it will be told everything when it comes back.
    pub(crate) fn lose(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Something is wanted of a node. If it is not there it will hear of it when it comes back.
    pub(crate) fn order(&mut self, node: NodeId, order: Order) {
        if let Some(outbox) = self.nodes.get_mut(&node) {
            outbox.fresh.push(order);
        }
    }

    /// Which sandboxes are to be kept ready has changed: all nodes are told.
    pub(crate) fn pools_changed(&mut self) {
        for outbox in self.nodes.values_mut() {
            outbox.pools = Pools::Changed;
        }
    }

    /// A report of a known agent is durable.
    pub(crate) fn reported(&mut self, report: &ReportSeen) {
        let Some(outbox) = self.nodes.get_mut(&report.node) else {
            return;
        };
        if outbox.epoch != report.epoch && !report.introduced {
            return;
        }
        outbox.received.push(report.sequence);
        if !report.introduced {
            outbox.unacknowledged.retain(|_, (_, sent, _)| !report.received.contains(sent));
            if let Pools::Told(sent, _) = outbox.pools
                && report.received.contains(&sent)
            {
                outbox.pools = Pools::Known;
            }
        }
    }

    /// How many orders wait for their node to acknowledge them.
    pub(crate) fn unacknowledged(&self) -> usize {
        let waiting = |outbox: &NodeOutbox| outbox.unacknowledged.len() + outbox.fresh.len();
        self.nodes.values().map(waiting).sum()
    }

    /// The nodes for which something waits to be sent.
    pub(crate) fn nodes_with_fresh(&self) -> Vec<NodeId> {
        let has_fresh = |outbox: &NodeOutbox| {
            outbox.full || !outbox.fresh.is_empty() || outbox.pools == Pools::Changed
        };
        let fresh = self.nodes.iter().filter(|(_, outbox)| has_fresh(outbox));
        fresh.map(|(node, _)| *node).collect()
    }

    /// The next message to a node: what is new, and what was not acknowledged in time.
    pub(crate) fn message(
        &mut self,
        state: &State,
        node: NodeId,
        now: Timestamp,
    ) -> Option<Orders> {
        let outbox = self.nodes.get_mut(&node)?;
        outbox.sequence += 1;
        let sequence = outbox.sequence;
        let full = std::mem::take(&mut outbox.full);
        for order in outbox.fresh.drain(..) {
            outbox.unacknowledged.insert(order.instance, (order, sequence, now));
        }
        let mut orders = Vec::new();
        for (order, sent, at) in outbox.unacknowledged.values_mut() {
            if *sent == sequence {
                orders.push(order.clone());
            } else if now.since(*at) >= limits::RESEND {
                (*sent, *at) = (sequence, now);
                orders.push(order.clone());
            }
        }
        let pools = outbox.pools_due(sequence, now).then(|| pools_of(state, node));
        Some(Orders {
            reign: state.reign(),
            epoch: outbox.epoch,
            sequence,
            received: std::mem::take(&mut outbox.received),
            lease: limits::LEASE,
            introduce: false,
            full,
            orders,
            incarnation: outbox.incarnation,
            pools,
        })
    }
}

impl NodeOutbox {
    /// Whether the message with the number `sequence` says which sandboxes to keep ready.
    fn pools_due(&mut self, sequence: u64, now: Timestamp) -> bool {
        let due = match self.pools {
            Pools::Changed => true,
            Pools::Told(_, at) => now.since(at) >= limits::RESEND,
            Pools::Known => false,
        };
        if due {
            self.pools = Pools::Told(sequence, now);
        }
        due
    }
}

/// The sandboxes that a node keeps ready: those of the workloads that it may run.
fn pools_of(state: &State, node: NodeId) -> Vec<WarmPool> {
    let workloads = state.workloads().map(|entry| &entry.workload);
    let pool = |workload: &Workload| {
        let count = workload.surroundings.as_ref()?.warm;
        let order = Box::new(StartOrder {
            workload: workload.name.clone(),
            epoch: 0,
            process: workload.process.clone(),
            stop: workload.stop,
            surroundings: workload.surroundings.clone(),
            session: None,
        });
        (count > 0 && state.may_run_on(workload, node)).then_some(WarmPool { order, count })
    };
    workloads.filter_map(pool).collect()
}

/// What the outbox needs to know of a report.
#[derive(Debug, Clone)]
pub(crate) struct ReportSeen {
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) received: Vec<u64>,
    pub(crate) introduced: bool,
}

impl From<&Report> for ReportSeen {
    fn from(report: &Report) -> ReportSeen {
        ReportSeen {
            node: report.node,
            epoch: report.epoch,
            sequence: report.sequence,
            received: report.received.clone(),
            introduced: report.introduction.is_some(),
        }
    }
}

/// The message that asks an agent to introduce itself.
pub(crate) fn introduce_request(reign: u64, report: &ReportSeen) -> Orders {
    Orders {
        reign,
        epoch: report.epoch,
        sequence: 0,
        received: Vec::new(),
        lease: limits::LEASE,
        introduce: true,
        full: false,
        orders: Vec::new(),
        incarnation: 0,
        pools: None,
    }
}
