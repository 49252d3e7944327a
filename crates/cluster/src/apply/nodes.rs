//! Nodes join, introduce themselves, are drained, lost and forgotten.

use super::{About, Applier, Effect};
use crate::allowances::labels_of;
use crate::record::SecretHash;
use crate::state::{NodeEntry, Slot};
use crate::terms::{process_of, session_order};
use spawnery_model::{
    Capacity, EndReason, InstanceId, Introduction, Name, Node, NodeId, NodeStatus, Observed, Order,
    Origin, Phase, StartOrder, StopCause, Timestamp, Want,
};
use std::collections::{BTreeMap, BTreeSet};

impl Applier<'_> {
    pub(super) fn node_joined(
        &mut self,
        id: NodeId,
        name: &Name,
        credential: SecretHash,
        token: SecretHash,
    ) {
        self.state.join_tokens.remove(&token);
        let node = Node {
            id,
            name: name.clone(),
            labels: BTreeMap::new(),
            capacity: Capacity::default(),
            reserved: Capacity::default(),
            // It is up once it has introduced itself.
            status: NodeStatus::Lost,
            draining: false,
            epoch: 0,
            joined_at: self.at,
            changed_at: self.at,
            version: String::new(),
            allowances: None,
        };
        let entry = NodeEntry {
            node,
            credential,
            instances: BTreeSet::new(),
            incarnation: 0,
            report_sequence: 0,
            drain_until: None,
        };
        self.state.nodes.insert(id, entry);
        self.state.node_names.insert(name.clone(), id);
        self.node_event("node.joined", id, "joined");
        self.refresh_pool(id);
    }

    pub(super) fn node_introduced(
        &mut self,
        id: NodeId,
        epoch: u64,
        introduction: &Introduction,
        sequence: u64,
        observed: &[Observed],
    ) {
        let at = self.at;
        let entry = self.node_mut(id);
        let was = entry.node.status;
        let name_old = std::mem::replace(&mut entry.node.name, introduction.name.clone());
        entry.node.labels = introduction.labels.clone();
        entry.node.capacity = introduction.capacity;
        entry.node.version = introduction.version.clone();
        entry.node.allowances = introduction.allowances.clone();
        entry.node.epoch = epoch;
        entry.node.status = NodeStatus::Up;
        entry.incarnation = introduction.incarnation;
        entry.report_sequence = sequence;
        if was != NodeStatus::Up {
            entry.node.changed_at = at;
        }
        self.state.node_names.remove(&name_old);
        self.state.node_names.insert(introduction.name.clone(), id);
        self.refresh_pool(id);

        let present: BTreeSet<InstanceId> = observed.iter().map(|seen| seen.instance).collect();
        for seen in observed {
            if self.state.instances.get(&seen.instance).is_some_and(|instance| {
                instance.node == Some(id)
                    && (instance.phase != Phase::Ended || self.state.is_fenced(instance))
                    && seen.revision > instance.revision_observed
            }) {
                self.observed(seen);
            }
        }
        self.end_missing(id, &present);
        self.release_fences(id, &present);
        self.raise_fences(id);
        let orders = self.full_orders(id);
        self.effects.push(Effect::FullOrders {
            node: id,
            epoch,
            incarnation: introduction.incarnation,
            orders,
        });
        if was != NodeStatus::Up {
            self.node_event("node.up", id, "is up");
        }
        self.room_appeared();
        self.reconcile_around(id);
    }

    /// Ends the instances that the node had begun with and no longer has.
    fn end_missing(&mut self, id: NodeId, present: &BTreeSet<InstanceId>) {
        let missing: Vec<_> = self
            .on_node(id)
            .filter(|(instance, phase)| *phase > Phase::Assigned && !present.contains(instance))
            .map(|(instance, _)| instance)
            .collect();
        for instance in missing {
            // One that was told to stop before its node heard of it has stopped, and is not lost.
            let reason = match self.state.instances[&instance].stop_cause.clone() {
                Some(cause) => EndReason::Stopped { cause },
                None => EndReason::LostByNode { message: "it is no longer there".to_owned() },
            };
            self.end_instance(instance, reason, None);
        }
    }

    /// All that is wanted of a node: its live instances run or stop, and the ended ones that are
    /// remembered stay as they are.
    fn full_orders(&self, id: NodeId) -> Vec<Order> {
        let instances = &self.state.nodes[&id].instances;
        let order = |instance: &InstanceId| {
            let found = &self.state.instances[instance];
            let runs = found.stop_cause.is_none() && found.phase != Phase::Ended;
            let want = if runs { self.want_run(*instance) } else { Want::Stop };
            Order { instance: *instance, revision: self.state.position, want }
        };
        instances.iter().map(order).collect()
    }

    pub(super) fn want_run(&self, id: InstanceId) -> Want {
        let instance = &self.state.instances[&id];
        let workload = self.state.definition_of(instance);
        Want::Run(Box::new(StartOrder {
            workload: instance.workload.clone(),
            epoch: instance.epoch,
            process: process_of(workload, instance),
            stop: workload.stop,
            surroundings: workload.surroundings.clone(),
            session: session_order(workload, instance),
        }))
    }

    pub(super) fn node_lost(&mut self, id: NodeId) {
        let at = self.at;
        let entry = self.node_mut(id);
        entry.node.status = NodeStatus::Lost;
        entry.node.changed_at = at;
        self.refresh_pool(id);
        self.effects.push(Effect::NodeLost { node: id });
        self.node_event("node.lost", id, "was silent for longer than its lease and is lost");
        self.raise_fences(id);
        let live: Vec<_> = self.on_node(id).map(|(instance, _)| instance).collect();
        for instance in live {
            self.end_instance(instance, EndReason::NodeLost, None);
        }
        self.reconcile_around(id);
    }

    pub(super) fn node_draining(
        &mut self,
        id: NodeId,
        draining: bool,
        by: &str,
        until: Option<Timestamp>,
    ) {
        self.drain_sessions(id, draining, until);
        self.refresh_pool(id);
        if draining {
            self.node_event("node.draining", id, &format!("is drained by {by}"));
            self.drain_unmovable(id);
        } else {
            self.node_event("node.undrained", id, &format!("takes instances again, says {by}"));
            self.room_appeared();
        }
        self.reconcile_around(id);
    }

    /// Attempts have no replica to take over: they are told to end. Services are moved one replica
    /// at a time, by their reconciliation. Sessions are warned, and end when they are idle.
    fn drain_unmovable(&mut self, id: NodeId) {
        let told: Vec<_> = self
            .on_node(id)
            .map(|(instance, _)| instance)
            .filter(|instance| {
                let instance = &self.state.instances[instance];
                let is_attempt = matches!(instance.origin, Origin::Attempt { .. });
                instance.stop_cause.is_none() && is_attempt
            })
            .collect();
        for instance in told {
            self.state.agenda.stops.insert(instance, StopCause::Drained);
        }
    }

    pub(super) fn node_stopping(&mut self, id: NodeId) {
        let at = self.at;
        let entry = self.node_mut(id);
        entry.node.status = NodeStatus::Stopping;
        entry.node.changed_at = at;
        self.refresh_pool(id);
        self.node_event("node.stopping", id, "is being shut down");
        let live: Vec<_> = self.on_node(id).map(|(instance, _)| instance).collect();
        for instance in live {
            if self.state.instances[&instance].stop_cause.is_none() {
                self.stop_requested(instance, StopCause::NodeStopped);
            }
        }
    }

    pub(super) fn node_removed(&mut self, id: NodeId, by: &str) {
        self.node_event("node.removed", id, &format!("was removed by {by}"));
        self.release_fences(id, &BTreeSet::new());
        self.drain_sessions(id, false, None);
        let entry = self.state.nodes.remove(&id).expect("admit found the node");
        self.state.node_names.remove(&entry.node.name);
        self.state.pool.remove(id);
        self.forget_volumes_of(id);
        for instance in entry.instances {
            self.state.instances.get_mut(&instance).expect("it is remembered").node = None;
        }
        for entry in self.state.workloads.values_mut() {
            let place = entry.slots.get(&Slot::Node(id));
            if place.is_some_and(|place| place.instance.is_none()) {
                entry.slots.remove(&Slot::Node(id));
            }
        }
        self.reconcile_around(id);
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut NodeEntry {
        self.state.nodes.get_mut(&id).expect("admit found the node")
    }

    /// The live instances on a node.
    fn on_node(&self, id: NodeId) -> impl Iterator<Item = (InstanceId, Phase)> {
        self.state.nodes[&id]
            .instances
            .iter()
            .map(|instance| (*instance, self.state.instances[instance].phase))
            .filter(|(_, phase)| *phase != Phase::Ended)
    }

    fn refresh_pool(&mut self, id: NodeId) {
        let entry = &self.state.nodes[&id];
        let node = &entry.node;
        let open = entry.is_open();
        let (name, labels) = (&node.name, labels_of(node));
        self.state.pool.insert(id, name, &labels, node.capacity, node.reserved, open);
    }

    /// What waits for room may be tried again.
    pub(super) fn room_appeared(&mut self) {
        self.state.agenda.room_at = self.state.position;
    }

    /// Services that run on every node may want something else when a node has changed, and so may
    /// those that have a replica on it.
    fn reconcile_around(&mut self, id: NodeId) {
        self.effects.push(Effect::ReconcileEveryNode);
        let Some(entry) = self.state.nodes.get(&id) else {
            return;
        };
        let instances = entry.instances.iter().map(|id| &self.state.instances[id]);
        let live = instances.filter(|instance| instance.phase != Phase::Ended);
        let names: BTreeSet<Name> = live
            .filter(|instance| self.state.is_service(&instance.workload))
            .map(|instance| instance.workload.clone())
            .collect();
        for name in names {
            self.reconcile(&name);
        }
    }

    fn node_event(&mut self, kind: &'static str, node: NodeId, what: &str) {
        let message = format!("node {} {what}", self.state.nodes[&node].node.name);
        self.event(kind, About { node: Some(node), ..About::default() }, message);
    }
}
