//! All that the controller knows, as a plain value.
//!
//! The same records give the same state, byte for byte in its encoding; [`State::hash`] is what
//! tests and the simulator compare.

use crate::access::Access;
use crate::admit::secrets_of;
use crate::allowances::{constraints_of, labels_of};
use crate::command::{IdempotencyKey, Reply};
use crate::decide::mounts_of;
use crate::keys::{KeyHold, SessionKey};
use crate::owners::Owners;
use crate::record::SecretHash;
use crate::terms;
use minicbor::{Decode, Encode};
use spawnery_model::{
    Capacity, Instance, InstanceId, Kind, Name, Node, NodeId, NodeStatus, Phase, RunId, StopCause,
    Timestamp, Workload,
};
use spawnery_placement::Pool;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All that the controller knows. It changes only by [`apply()`](crate::apply()).
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct State {
    /// How many records made it: the position of the last one in the journal.
    #[n(0)]
    pub(crate) position: u64,
    /// The time of the last record.
    #[n(1)]
    pub(crate) time: Timestamp,
    /// The number of the controller process that rules.
    #[n(2)]
    pub(crate) reign: u64,
    /// The number of the newest definition.
    #[n(3)]
    pub(crate) definition_last: u64,
    #[n(4)]
    pub(crate) workloads: BTreeMap<Name, WorkloadEntry>,
    #[n(5)]
    pub(crate) definitions: BTreeMap<u64, Definition>,
    #[n(6)]
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    #[n(7)]
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    #[n(8)]
    pub(crate) node_names: BTreeMap<Name, NodeId>,
    #[n(9)]
    pub(crate) runs: BTreeMap<RunId, Run>,
    #[n(10)]
    pub(crate) join_tokens: BTreeMap<SecretHash, Timestamp>,
    #[n(11)]
    pub(crate) answers: Answers,
    #[n(12)]
    pub(crate) agenda: Agenda,
    /// Ended instances of workloads that still exist, oldest first.
    #[n(13)]
    pub(crate) ended: BTreeMap<Name, VecDeque<InstanceId>>,
    /// Ended instances of inline sessions and of workloads that are gone, oldest first.
    #[n(14)]
    pub(crate) ended_other: VecDeque<InstanceId>,
    /// Instances that are not ended.
    #[n(15)]
    pub(crate) live: u64,
    #[n(16)]
    #[cbor(default)]
    pub(crate) volumes: BTreeMap<Name, Volume>,
    #[n(17)]
    #[cbor(default)]
    pub(crate) secrets: BTreeMap<Name, SealedSecret>,
    /// Who holds the keys of sessions.
    #[n(18)]
    #[cbor(default)]
    pub(crate) keys: BTreeMap<SessionKey, KeyHold>,
    #[n(19)]
    #[cbor(default)]
    pub(crate) owners: Owners,
    #[n(20)]
    #[cbor(default)]
    pub(crate) access: Access,
    /// Derived from the nodes; rebuilt after decoding.
    #[cbor(skip)]
    pub(crate) pool: Pool,
}

/// A folder that is kept between instances.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Volume {
    /// Where it is: on one node, or on each node of a service that runs on every node.
    #[n(0)]
    pub nodes: BTreeSet<NodeId>,
    /// When it was first used.
    #[n(1)]
    pub created_at: Timestamp,
}

/// A secret, encrypted.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedSecret {
    /// What the shell made of its value.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// Grows with each value.
    #[n(1)]
    pub version: u64,
    /// When it got this value.
    #[n(2)]
    pub changed_at: Timestamp,
    /// Who set it.
    #[n(3)]
    pub by: String,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSecret").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A workload with what was decided about it lately.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkloadEntry {
    /// The number of its definition.
    #[n(0)]
    pub definition: u64,
    /// The workload.
    #[n(1)]
    pub workload: Workload,
    /// When it was first applied.
    #[n(2)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[n(3)]
    pub changed_at: Timestamp,
    /// Of a service: its replicas.
    #[n(4)]
    pub slots: BTreeMap<Slot, SlotState>,
    /// Of a job: its occurrences and runs.
    #[n(5)]
    pub job: JobState,
}

/// The place of one replica of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Slot {
    /// One of a number of replicas.
    #[n(0)]
    Index(#[n(0)] u32),
    /// The replica of one node.
    #[n(1)]
    Node(#[n(0)] NodeId),
}

/// What is known of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SlotState {
    /// Its instance, until that is ended.
    #[n(0)]
    pub instance: Option<InstanceId>,
    /// How often in a row it ended by itself too soon.
    #[n(1)]
    pub failures: u32,
    /// No new instance before this time.
    #[n(2)]
    pub not_before: Timestamp,
    /// It ended, and its restart policy says that this is the end.
    #[n(3)]
    pub finished: bool,
}

/// What is known of a job's occurrences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct JobState {
    /// Every occurrence up to this one has a run or a recorded reason.
    #[n(0)]
    pub considered_until: Timestamp,
    /// The next occurrence.
    #[n(1)]
    pub next: Option<Timestamp>,
    /// Runs that are not finished.
    #[n(2)]
    pub active: BTreeSet<RunId>,
    /// Finished runs, oldest first.
    #[n(3)]
    pub finished: VecDeque<RunId>,
    /// How many occurrences passed without a run.
    #[n(4)]
    pub missed_total: u64,
    /// Why the latest of them did.
    #[n(5)]
    pub missed_last: Option<MissedOccurrence>,
}

/// An occurrence without a run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MissedOccurrence {
    /// When it was.
    #[n(0)]
    pub at: Timestamp,
    /// Why it has no run.
    #[n(1)]
    pub reason: String,
}

/// A definition that is in use by a workload or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Definition {
    /// The workload as it was applied or given inline.
    #[n(0)]
    pub workload: Workload,
    /// How many workloads (one at most) and instances use it.
    #[n(1)]
    pub users: u64,
}

/// A node with what only the controller knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeEntry {
    /// The node.
    #[n(0)]
    pub node: Node,
    /// The hash of the secret that it must show.
    #[n(1)]
    pub credential: SecretHash,
    /// The instances that it has or had, as long as they are remembered.
    #[n(2)]
    pub instances: BTreeSet<InstanceId>,
    /// The agent process that introduced itself last.
    #[n(3)]
    pub incarnation: u64,
    /// The number of its last report that changed something.
    #[n(4)]
    pub report_sequence: u64,
    /// While it is drained: until when sessions may stay.
    #[n(5)]
    pub drain_until: Option<Timestamp>,
}

impl NodeEntry {
    /// Whether it takes new instances.
    pub fn is_open(&self) -> bool {
        self.node.status == NodeStatus::Up && !self.node.draining
    }
}

/// One occurrence of a job.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// Its id.
    #[n(0)]
    pub id: RunId,
    /// The job.
    #[n(1)]
    pub job: Name,
    /// Which definition of it.
    #[n(2)]
    pub definition: u64,
    /// The occurrence that it is, if the schedule asked for it.
    #[n(3)]
    pub occurrence: Option<Timestamp>,
    /// Who asked for it, if somebody did.
    #[n(4)]
    pub by: Option<String>,
    /// When it was created.
    #[n(5)]
    pub created_at: Timestamp,
    /// How many attempts were made.
    #[n(6)]
    pub attempts: u32,
    /// The attempt that is not ended.
    #[n(7)]
    pub current: Option<InstanceId>,
    /// When the next attempt may start, if the last one failed.
    #[n(8)]
    pub retry_at: Option<Timestamp>,
    /// How it ended.
    #[n(9)]
    pub outcome: Option<RunOutcome>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunOutcome {
    /// Whether an attempt finished well.
    #[n(0)]
    pub succeeded: bool,
    /// Why it ended, in words.
    #[n(1)]
    pub reason: String,
    /// When.
    #[n(2)]
    pub at: Timestamp,
}

/// Requests that were answered, so that a repeated one gets the same answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Answers {
    #[n(0)]
    pub(crate) by_key: BTreeMap<String, AnswerKept>,
    #[n(1)]
    pub(crate) by_age: BTreeSet<(Timestamp, String)>,
}

/// An answer, for as long as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AnswerKept {
    #[n(0)]
    pub(crate) fingerprint: u64,
    #[n(1)]
    pub(crate) reply: Reply,
    #[n(2)]
    pub(crate) at: Timestamp,
}

impl Answers {
    /// The answer that was given under this key: `None` if none was, an error if it was to
    /// another request.
    pub(crate) fn find(&self, key: &IdempotencyKey) -> Option<Result<&Reply, ()>> {
        self.by_key
            .get(&key.key)
            .map(|kept| if kept.fingerprint == key.fingerprint { Ok(&kept.reply) } else { Err(()) })
    }
}

/// What is to be decided next; see [`decide`](crate::decide).
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Agenda {
    /// Instances that nobody has tried to place yet, oldest first.
    #[n(0)]
    pub(crate) place: BTreeSet<(Timestamp, InstanceId)>,
    /// Instances that could not be placed and are no sessions, oldest first.
    #[n(1)]
    pub(crate) waiting: BTreeSet<(Timestamp, InstanceId)>,
    /// The position of the record that last made room for instances.
    #[n(2)]
    pub(crate) room_at: u64,
    /// Instances to be told to end.
    #[n(3)]
    pub(crate) stops: BTreeMap<InstanceId, StopCause>,
    /// Runs that need an attempt.
    #[n(4)]
    pub(crate) attempts: BTreeSet<RunId>,
    /// What happens at a time.
    #[n(5)]
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    /// Sessions that could not be placed, by their turn and then oldest first.
    #[n(6)]
    #[cbor(default)]
    pub(crate) queue: BTreeSet<(u64, Timestamp, InstanceId)>,
}

/// What happens at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) enum Timer {
    /// A job's next occurrence.
    #[n(0)]
    Occurrence(#[n(0)] Name),
    /// A run's next attempt.
    #[n(1)]
    Attempt(#[n(0)] RunId),
    /// An instance has lived as long as it may.
    #[n(2)]
    Duration(#[n(0)] InstanceId),
    /// A session that ended by itself is started anew.
    #[n(3)]
    Restart(#[n(0)] InstanceId),
    /// A session is to be asked whether it is idle.
    #[n(4)]
    Idle(#[n(0)] InstanceId),
    /// A session is to be warned that it will have lived long enough.
    #[n(5)]
    DurationWarning(#[n(0)] InstanceId),
    /// A session has waited for room as long as it may.
    #[n(6)]
    Queue(#[n(0)] InstanceId),
    /// An ended session has been listed as long as it is.
    #[n(7)]
    Stale(#[n(0)] InstanceId),
    /// A session on a lost node has ended by itself.
    #[n(8)]
    Fence(#[n(0)] Name, #[n(1)] Name),
    /// Sessions on a drained node have stayed as long as they may.
    #[n(9)]
    Drain(#[n(0)] NodeId),
}

impl State {
    /// The position of the last record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The time of the last record.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The number of the controller process that rules.
    pub fn reign(&self) -> u64 {
        self.reign
    }

    /// All workloads, by name.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadEntry> {
        self.workloads.values()
    }

    /// The workload called `name`.
    pub fn workload(&self, name: &Name) -> Option<&WorkloadEntry> {
        self.workloads.get(name)
    }

    /// All instances that are remembered, by id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The instances whose id is at or after `from`, by id: for paging.
    pub fn instances_from(&self, from: InstanceId) -> impl Iterator<Item = &Instance> {
        self.instances.range(from..).map(|(_, instance)| instance)
    }

    /// One instance.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// What an instance runs.
    pub fn definition_of(&self, instance: &Instance) -> &Workload {
        let definition = self.definitions.get(&instance.definition);
        &definition.expect("a definition is kept while an instance uses it").workload
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> impl Iterator<Item = (&Name, &Volume)> {
        self.volumes.iter()
    }

    /// The volume called `name`.
    pub fn volume(&self, name: &Name) -> Option<&Volume> {
        self.volumes.get(name)
    }

    /// All secrets, by name.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &SealedSecret)> {
        self.secrets.iter()
    }

    /// The secret called `name`.
    pub fn secret(&self, name: &Name) -> Option<&SealedSecret> {
        self.secrets.get(name)
    }

    /// What is recorded about tokens.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The workloads that use the secret called `name`, for instances or environments.
    pub fn users_of_secret(&self, name: &Name) -> impl Iterator<Item = &Name> {
        let workloads = self.workloads.values().map(|entry| &entry.workload);
        let uses = move |workload: &&Workload| secrets_of(workload).any(|used| used == name);
        workloads.filter(uses).map(|workload| &workload.name)
    }

    /// Whether `node` meets the constraints of `workload` and allows what it needs.
    pub fn may_run_on(&self, workload: &Workload, node: NodeId) -> bool {
        let entry = self.pool.get(node);
        let holds = |labels| constraints_of(workload).iter().all(|it| it.holds(labels));
        entry.is_some_and(|entry| holds(&entry.labels))
    }

    /// Of a session that waits for room: how many sessions are tried before it.
    pub fn queue_place(&self, instance: &Instance) -> Option<u64> {
        let turn = instance.session.as_ref()?.turn?;
        let before = self.agenda.queue.range(..(turn, instance.created_at, instance.id));
        Some(before.count() as u64)
    }

    /// How many sessions wait for room.
    pub fn sessions_queued(&self) -> usize {
        self.agenda.queue.len()
    }

    /// How many instances are not ended.
    pub fn instances_live(&self) -> u64 {
        self.live
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values()
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&id)
    }

    /// The node called `name`.
    pub fn node_named(&self, name: &Name) -> Option<&NodeEntry> {
        self.node_names.get(name).and_then(|id| self.nodes.get(id))
    }

    /// One run.
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// All runs that are remembered, by id.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }

    /// The state in bytes, for a snapshot.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to memory does not fail")
    }

    /// The state of a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<State, minicbor::decode::Error> {
        let mut state: State = minicbor::decode(bytes)?;
        state.rebuild_pool();
        Ok(state)
    }

    /// A number that differs when states differ (FNV-1a over the encoding, 64 bits).
    pub fn hash(&self) -> u64 {
        self.encode().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Stops the process if the state contradicts itself. The simulator calls it after each step.
    pub fn assert_consistent(&self) {
        let mut live = 0;
        let mut reserved: BTreeMap<NodeId, Capacity> = BTreeMap::new();
        for instance in self.instances.values() {
            assert!(self.definitions.contains_key(&instance.definition), "{instance:?}");
            assert_eq!(instance.phase == Phase::Ended, instance.end.is_some(), "{instance:?}");
            live += u64::from(instance.phase != Phase::Ended);
            if instance.phase.holds_reservation() {
                let node = instance.node.expect("what holds a reservation is placed");
                let sum = reserved.entry(node).or_default();
                *sum = sum.plus(self.amount_of(instance));
            }
        }
        assert_eq!(live, self.live);
        for entry in self.nodes.values() {
            let node = &entry.node;
            assert_eq!(node.reserved, reserved.remove(&node.id).unwrap_or_default(), "{node:?}");
        }
        assert!(reserved.is_empty(), "reservations on unknown nodes: {reserved:?}");
        self.assert_volumes_consistent();
        self.assert_keys_consistent();
        self.assert_owners_consistent();
        let mut rebuilt = self.clone();
        rebuilt.rebuild_pool();
        assert_eq!(rebuilt.pool, self.pool, "the pool is what the nodes say");
    }

    /// Every volume of a live instance is on its node, and who wants one alone has it alone.
    fn assert_volumes_consistent(&self) {
        let mut users: BTreeMap<(NodeId, &Name), Vec<bool>> = BTreeMap::new();
        let live = self.instances.values().filter(|it| it.phase.holds_reservation());
        for instance in live {
            let node = instance.node.expect("what holds a reservation is placed");
            for mount in mounts_of(self.definition_of(instance)) {
                let volume = self.volumes.get(&mount.name).expect("a volume in use is known");
                assert!(volume.nodes.contains(&node), "{} is not on {node}", mount.name);
                users.entry((node, &mount.name)).or_default().push(mount.exclusive);
            }
        }
        for ((node, name), exclusive) in users {
            let alone = exclusive.len() == 1 || exclusive.iter().all(|exclusive| !exclusive);
            assert!(alone, "volume {name} on {node} is not used alone");
        }
    }

    /// What an instance reserves.
    pub(crate) fn amount_of(&self, instance: &Instance) -> Capacity {
        terms::amount(self.definition_of(instance), instance.session.as_deref())
    }

    /// Whether `instance` is still what its workload says now.
    pub(crate) fn is_current(&self, instance: &Instance, entry: &WorkloadEntry) -> bool {
        if instance.definition == entry.definition {
            return true;
        }
        let (old, new) = (self.definition_of(instance), &entry.workload);
        old.process == new.process
            && old.stop == new.stop
            && old.constraints == new.constraints
            && old.surroundings == new.surroundings
    }

    pub(crate) fn is_service(&self, name: &Name) -> bool {
        self.workloads.get(name).is_some_and(|e| matches!(e.workload.kind, Kind::Service(_)))
    }

    fn rebuild_pool(&mut self) {
        self.pool = Pool::default();
        for entry in self.nodes.values() {
            let node = &entry.node;
            self.pool.insert(
                node.id,
                &node.name,
                &labels_of(node),
                node.capacity,
                node.reserved,
                entry.is_open(),
            );
        }
    }
}
