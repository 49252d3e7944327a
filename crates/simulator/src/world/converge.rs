//! After the faults: is everything as it should be?

use super::{
    CONVERGENCE_CHECK_MS, CONVERGENCE_MS_MAX, CONVERGENCE_MS_MIN, Happening, World, trace,
};
use crate::generate::MUTE;
use crate::promises::broken;
use spawnery_cluster::State;
use spawnery_cluster::state::{Slot, WorkloadEntry};
use spawnery_cluster::terms::{process_of, settings_of};
use spawnery_model::{
    Capacity, DurationMs, Instance, Kind, NodeId, NodeStatus, Origin, Phase, Replicas, StopCause,
    Timestamp, VolumeMount, Workload,
};
use spawnery_placement::{NODE_LABEL, Pool, Request, choose};
use std::collections::{BTreeMap, BTreeSet};

/// How old a run of a job may be at most once everything has healed: all its attempts, each as
/// long as work takes here, with the delays between them.
const RUN_MS_MAX: u64 = 150_000;

/// How long nothing may happen to any node after that: longer than a lease.
const PEACE_MS: u64 = 20_000;

/// How long it takes at most until an end is known once everything has healed.
const STOP_NOTICED_MS_MAX: DurationMs = DurationMs(10_000);

/// What is still missing, in words.
type Missing = Result<(), String>;

impl World {
    pub(super) fn check_convergence(&mut self) {
        let Some(healed_at) = self.healed_at else {
            return;
        };
        let early = self.now - healed_at < CONVERGENCE_MS_MIN;
        let settled = if early { Err("it is early".to_owned()) } else { self.settled() };
        match settled {
            Ok(()) => {
                trace!(self, "converged");
                self.introductions_then = Some(self.introductions());
                self.after(PEACE_MS, Happening::CheckPeace);
            }
            Err(missing) => {
                self.missing = missing;
                if self.now - healed_at > CONVERGENCE_MS_MAX {
                    let what = std::mem::take(&mut self.missing);
                    return self.check(broken("everything converges once faults stop", what));
                }
                self.after(CONVERGENCE_CHECK_MS, Happening::CheckConvergence);
            }
        }
    }

    /// Once everything has converged, nobody has a reason to introduce itself or to be lost.
    pub(super) fn check_peace(&mut self) {
        let (then, now) = (self.introductions_then, self.introductions());
        if then != Some(now) {
            let what = format!("{then:?} introductions and losses became {now}");
            return self.check(broken("what has converged stays so", what));
        }
        trace!(self, "peace");
        self.converged = true;
    }

    fn introductions(&self) -> u64 {
        let coverage = &self.promises.coverage;
        coverage.of("record: node introduced") + coverage.of("record: node lost")
    }

    fn settled(&self) -> Missing {
        let Some(process) = &self.controller.process else {
            return Err("the controller is down".to_owned());
        };
        if process.appending {
            return Err("an append is under way".to_owned());
        }
        if let Some(refusal) = process.sequencer.refusal() {
            return Err(refusal.to_string());
        }
        let state = process.sequencer.state();
        let open = self.requests.iter().position(|request| request.is_open());
        if let Some(request) = open {
            return Err(format!("request {request} is not answered"));
        }
        self.nodes_settled(state)?;
        let now = self.controller.clock(self.now);
        let grace = Timestamp(now.0.saturating_sub(5000));
        if let Some(job) = self.promises.jobs().overdue(grace) {
            return Err(format!("{job} has an occurrence without run or reason"));
        }
        for entry in state.workloads() {
            if let Kind::Service(service) = &entry.workload.kind
                && !never_settles(&entry.workload)
            {
                service_settled(state, entry, service.replicas)?;
            }
        }
        for run in state.runs().filter(|run| run.outcome.is_none()) {
            let waits = run.current.and_then(|id| state.instance(id));
            let waits = waits.is_some_and(|attempt| attempt.phase == Phase::Pending);
            if !waits && now.since(run.created_at).0 > RUN_MS_MAX {
                return Err(format!("run {} of {} does not end", run.id, run.job));
            }
        }
        let pool = pool_of(state);
        for instance in state.instances() {
            self.instance_settled(state, &pool, instance, now)?;
        }
        self.machines_settled(state)?;
        match process.sequencer.orders_unacknowledged() {
            0 => Ok(()),
            count => Err(format!("{count} orders are not acknowledged")),
        }
    }

    fn nodes_settled(&self, state: &State) -> Missing {
        for machine in self.machines.iter().filter(|machine| !machine.destroyed) {
            let name = &machine.name;
            if machine.restarts_soon {
                return Err(format!("{name} is about to be restarted"));
            }
            let Some(node) = machine.node else {
                return Err(format!("{name} has not joined"));
            };
            let introduced = machine.agent.as_ref().map(|a| a.node.is_introduced());
            if introduced != Some(true) {
                return Err(format!("the agent of {name} is not introduced"));
            }
            let entry = state.node(node);
            if entry.is_none_or(|entry| entry.node.status != NodeStatus::Up) {
                return Err(format!("node {name} is not up"));
            }
        }
        for entry in state.nodes() {
            let there = self.machine_of(entry.node.id);
            let there = there.is_some_and(|machine| !self.machines[machine].destroyed);
            if !there && entry.node.status != NodeStatus::Lost {
                return Err(format!("node {} is not known to be lost", entry.node.name));
            }
        }
        Ok(())
    }

    fn instance_settled(
        &self,
        state: &State,
        pool: &Pool,
        instance: &Instance,
        now: Timestamp,
    ) -> Missing {
        let id = instance.id;
        match instance.phase {
            Phase::Ended => return Ok(()),
            Phase::Pending => return pending_settled(state, pool, instance),
            _ => {}
        }
        if let Origin::Attempt { run, .. } = &instance.origin {
            let run = state.run(*run);
            let young = run.is_some_and(|run| now.since(run.created_at).0 < RUN_MS_MAX);
            return match young {
                true => Ok(()),
                false => Err(format!("{id} is an attempt that does not end")),
            };
        }
        // What ends by itself comes and goes, and never settles.
        let told = instance.stop_cause.is_some();
        if never_settles(state.definition_of(instance)) && !told {
            return Ok(());
        }
        if instance.stop_cause == Some(StopCause::DurationReached) && self.stops_soon(instance) {
            return Ok(());
        }
        let node = instance.node.and_then(|node| state.node(node));
        let session = matches!(instance.origin, Origin::Session { .. });
        if session && node.is_some_and(|node| node.node.draining) {
            return Err(format!("{id} stays on a drained node"));
        }
        if instance.phase != Phase::Ready {
            return Err(format!("{id} is {}", instance.phase.word()));
        }
        let machine = instance.node.and_then(|node| self.machine_of(node));
        let launched = machine.and_then(|m| self.machines[m].launcher.instances.get(&id));
        if launched.and_then(|process| process.pid()) != instance.pid {
            return Err(format!("{id} is ready, but its process is another or none"));
        }
        Ok(())
    }

    /// Whether an instance that lived as long as it may was told so lately.
    fn stops_soon(&self, instance: &Instance) -> bool {
        let Some(process) = &self.controller.process else {
            return false;
        };
        let definition = process.sequencer.state().definition_of(instance);
        let Some(session) = &instance.session else {
            return false;
        };
        let limit = session.limits.duration.unwrap_or_default();
        let started_at = instance.started_at.unwrap_or(instance.created_at);
        let gone = started_at.plus(limit).plus(definition.stop.grace);
        self.controller.clock(self.now) < gone.plus(STOP_NOTICED_MS_MAX)
    }

    /// Nothing runs or lies on a machine that the controller does not know of.
    fn machines_settled(&self, state: &State) -> Missing {
        for machine in self.machines.iter().filter(|machine| !machine.destroyed) {
            let (name, node) = (&machine.name, machine.node);
            for (id, process) in &machine.launcher.instances {
                let known = state.instance(*id).filter(|i| i.node == node);
                let Some(known) = known else {
                    return Err(format!("{id} lies on {name}, and nobody knows it"));
                };
                if process.runs() && known.phase == Phase::Ended {
                    return Err(format!("{id} runs on {name}, and nobody wants it"));
                }
            }
            let held = machine.agent.iter().flat_map(|agent| agent.node.instances());
            for (id, _) in held {
                if state.instance(id).is_none() {
                    return Err(format!("the agent of {name} holds {id} for nobody"));
                }
            }
        }
        Ok(())
    }
}

/// Whether its processes end by themselves, so that it is always about to begin anew, or never
/// become ready.
fn never_settles(workload: &Workload) -> bool {
    workload.process.run.len() > 1 || workload.process.run[0] == MUTE
}

/// A pending instance says why it waits, and there is indeed no place for it.
fn pending_settled(state: &State, pool: &Pool, instance: &Instance) -> Missing {
    if instance.waits_for.as_ref().is_none_or(String::is_empty) {
        return Err(format!("{} waits without a reason", instance.id));
    }
    let workload = state.definition_of(instance);
    if instance.session.as_ref().is_some_and(|session| session.follows.is_some()) {
        // The default lease is longer than anybody waits here.
        return match settings_of(workload).and_then(|settings| settings.key_lease) {
            Some(_) => Err(format!("{} waits for its key", instance.id)),
            None => Ok(()),
        };
    }
    let process = process_of(workload, instance);
    let none = BTreeSet::new();
    let request = Request {
        amount: Capacity { memory: process.memory, cpu: process.cpu_reserved },
        constraints: &workload.constraints,
        node: match &instance.origin {
            Origin::NodeReplica { node } => Some(*node),
            _ => None,
        },
        avoid: &none,
    };
    let mut nodes = pool.iter().map(|(node, _)| node).filter(|node| {
        request.node.is_none_or(|only| only == *node)
            && volumes_allow(state, workload, instance, *node)
    });
    let fits = nodes.find_map(|node| choose(pool, &Request { node: Some(node), ..request }));
    match fits {
        Some(node) => Err(format!("{} waits, but fits on {node}", instance.id)),
        None => Ok(()),
    }
}

fn pool_of(state: &State) -> Pool {
    let mut pool = Pool::default();
    for entry in state.nodes() {
        let node = &entry.node;
        pool.insert(
            node.id,
            &node.name,
            &node.labels,
            node.capacity,
            node.reserved,
            entry.is_open(),
        );
    }
    pool
}

/// All replicas are ready, current and on nodes that stay; or one waits and says why, and then
/// the others may be kept as they are until it has a place.
fn service_settled(state: &State, entry: &WorkloadEntry, replicas: Replicas) -> Missing {
    let name = &entry.workload.name;
    let wanted = slots_wanted(state, entry, replicas);
    let (mut waits, mut outdated) = (false, None);
    for slot in &wanted {
        let Some(found) = entry.slots.get(slot) else {
            return Err(format!("{name} lacks {slot:?}"));
        };
        if found.finished {
            continue;
        }
        let instance = found.instance.and_then(|id| state.instance(id));
        let Some(instance) = instance else {
            return Err(format!("{name} lacks {slot:?}"));
        };
        match instance.phase {
            Phase::Pending => waits = true,
            Phase::Ready => {
                if is_outdated(state, entry, instance) {
                    outdated = Some(instance.id);
                }
            }
            phase => return Err(format!("{name} {slot:?} is {}", phase.word())),
        }
    }
    for (slot, found) in &entry.slots {
        if !wanted.contains(slot) && found.instance.is_some() {
            return Err(format!("{name} has {slot:?} in excess"));
        }
    }
    match outdated.filter(|_| !waits) {
        Some(id) => Err(format!("{id} of {name} is outdated or on a drained node")),
        None => Ok(()),
    }
}

fn slots_wanted(state: &State, entry: &WorkloadEntry, replicas: Replicas) -> BTreeSet<Slot> {
    let count = match replicas {
        Replicas::Count(count) => return (0..count).map(Slot::Index).collect(),
        Replicas::EveryNode => state.nodes().filter(|node| node.is_open()),
    };
    let meets = count.filter(|node| {
        let mut labels: BTreeMap<_, _> = node.node.labels.clone();
        labels.insert(NODE_LABEL.to_owned(), node.node.name.to_string());
        let mut constraints = entry.workload.constraints.iter();
        constraints.all(|constraint| constraint.holds(&labels))
    });
    meets.map(|node| Slot::Node(node.node.id)).collect()
}

fn is_outdated(state: &State, entry: &WorkloadEntry, instance: &Instance) -> bool {
    let (old, new) = (state.definition_of(instance), &entry.workload);
    let same =
        old.process == new.process && old.stop == new.stop && old.constraints == new.constraints;
    let node = instance.node.and_then(|node| state.node(node));
    !same || node.is_none_or(|node| node.node.draining)
}

/// Whether the volumes of a pending instance are on `node` or nowhere, and free there.
fn volumes_allow(state: &State, workload: &Workload, pending: &Instance, node: NodeId) -> bool {
    let per_node = matches!(pending.origin, Origin::NodeReplica { .. });
    volumes_of(workload).iter().all(|mine| {
        let known = state.volume(&mine.name);
        let here = known.is_none_or(|volume| per_node || volume.nodes.contains(&node));
        let mut others = state.instances().filter(|it| {
            it.node == Some(node) && it.phase.holds_reservation() && it.id != pending.id
        });
        let taken = others.any(|other| {
            let theirs = volumes_of(state.definition_of(other));
            theirs.iter().any(|it| it.name == mine.name && (it.exclusive || mine.exclusive))
        });
        here && !taken
    })
}

fn volumes_of(workload: &Workload) -> &[VolumeMount] {
    workload.surroundings.as_ref().map_or(&[], |surroundings| &surroundings.volumes)
}
