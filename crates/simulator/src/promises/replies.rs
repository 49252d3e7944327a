//! What was answered is durable, and a repeated request gets the same answer.

use super::{Broken, ensure};
use crate::requests::Request;
use spawnery_cluster::diff::Verdict;
use spawnery_cluster::{Change, Command, Record, Reply, SecretHash, State};
use spawnery_model::{InstanceId, Name, NodeId, Phase, RunId, Workload};
use std::collections::{BTreeMap, BTreeSet};

const DURABLE: &str = "an acknowledged command is durable";

/// The answers that were given, and what the durable records bear out.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    facts: BTreeSet<Fact>,
    /// Keys under which something was done.
    keys: BTreeSet<String>,
    by_key: BTreeMap<String, Reply>,
}

/// Something that a durable record says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    Applied(Name, Vec<u8>),
    Removed(Name),
    Instance(InstanceId),
    Stop(InstanceId),
    Run(RunId),
    Joined(NodeId),
    Token(SecretHash),
    Draining(NodeId, bool),
    NodeStopping(NodeId),
    NodeRemoved(NodeId),
    SecretSet(Name, Vec<u8>),
    SecretRemoved(Name),
    VolumeRemoved(Name),
    Extended(InstanceId),
    Revoked(String),
}

fn applied(workload: &Workload) -> Fact {
    let encoded = minicbor::to_vec(workload).expect("writing to memory does not fail");
    Fact::Applied(workload.name.clone(), encoded)
}

impl Answers {
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Broken> {
        match &record.change {
            Change::WorkloadsApplied { workloads, .. } => {
                let facts = workloads.iter().map(|entry| applied(&entry.workload));
                self.facts.extend(facts);
            }
            Change::WorkloadsRemoved { names, .. } => {
                self.facts.extend(names.iter().cloned().map(Fact::Removed));
            }
            Change::NodeJoined { node, .. } => self.fact(Fact::Joined(*node)),
            Change::JoinTokenCreated { hash, .. } => self.fact(Fact::Token(*hash)),
            Change::InstanceCreated { instance, .. } => self.fact(Fact::Instance(*instance)),
            Change::InstanceStopRequested { instance, .. } => self.fact(Fact::Stop(*instance)),
            Change::RunCreated { run, .. } => self.fact(Fact::Run(*run)),
            Change::NodeDraining { node, draining, .. } => {
                self.fact(Fact::Draining(*node, *draining));
            }
            Change::NodeStopping { node } => self.fact(Fact::NodeStopping(*node)),
            Change::NodeRemoved { node, .. } => self.fact(Fact::NodeRemoved(*node)),
            Change::SecretSet { name, sealed, .. } => {
                self.fact(Fact::SecretSet(name.clone(), sealed.clone()));
            }
            Change::SecretRemoved { name, .. } => self.fact(Fact::SecretRemoved(name.clone())),
            Change::VolumeRemoved { name, .. } => self.fact(Fact::VolumeRemoved(name.clone())),
            Change::SessionExtended { instance, .. } => self.fact(Fact::Extended(*instance)),
            Change::OwnerRevoked { owner, .. } => self.fact(Fact::Revoked(owner.clone())),
            _ => {}
        }
        if let Some(answered) = &record.answered {
            ensure!(
                self.keys.insert(answered.key.key.clone()),
                "a repeated request is carried out once",
                "key {} a second time: {:?}",
                answered.key.key,
                record.change
            );
        }
        Ok(())
    }

    fn fact(&mut self, fact: Fact) {
        self.facts.insert(fact);
    }

    /// An answer goes out.
    pub(crate) fn released(
        &mut self,
        request: &Request,
        reply: &Reply,
        durable: &State,
    ) -> Result<(), Broken> {
        let command = &request.command;
        ensure!(self.bears_out(command, reply, durable), DURABLE, "{reply:?} to {command:?}");
        let Some(key) = &request.key else {
            return Ok(());
        };
        let before = self.by_key.entry(key.key.clone()).or_insert(reply.clone());
        ensure!(
            before == reply,
            "a repeated request gets the same answer",
            "{before:?}, then {reply:?} to {command:?}"
        );
        Ok(())
    }

    fn bears_out(&self, command: &Command, reply: &Reply, durable: &State) -> bool {
        let has = |fact: Fact| self.facts.contains(&fact);
        match (command, reply) {
            (Command::Apply { workloads, .. }, Reply::Applied(differences)) => {
                let mut both = workloads.iter().zip(differences);
                both.all(|(workload, difference)| {
                    workload.name == difference.name
                        && (difference.verdict == Verdict::Unchanged || has(applied(workload)))
                })
            }
            (Command::Remove { names, .. }, Reply::Done) => {
                names.iter().cloned().all(|name| has(Fact::Removed(name)))
            }
            (Command::CreateSession { .. }, Reply::Session(id) | Reply::SessionFound(id)) => {
                has(Fact::Instance(*id))
            }
            (Command::ExtendSession { instance, .. }, Reply::Extended { .. }) => {
                has(Fact::Extended(*instance))
            }
            (Command::EndSessionsOf { owner, .. }, Reply::Done) => {
                has(Fact::Revoked(owner.clone()))
            }
            (Command::SessionSeen { .. }, Reply::Done) => true,
            (Command::RunJob { .. }, Reply::Run(id)) => has(Fact::Run(*id)),
            (Command::Join { .. }, Reply::Joined(id)) => has(Fact::Joined(*id)),
            (Command::CreateJoinToken { hash, .. }, Reply::JoinToken { .. }) => {
                has(Fact::Token(*hash))
            }
            (Command::EndInstance { instance, .. }, Reply::Done) => {
                has(Fact::Stop(*instance))
                    || durable.instance(*instance).is_none_or(|instance| {
                        instance.stop_cause.is_some() || instance.phase == Phase::Ended
                    })
            }
            (Command::SetDraining { node, draining, .. }, Reply::Done) => {
                has(Fact::Draining(*node, *draining)) || !draining
            }
            (Command::StopNode { node }, Reply::Done) => {
                has(Fact::NodeStopping(*node))
                    || has(Fact::NodeRemoved(*node))
                    || durable.node(*node).is_some()
            }
            (Command::RemoveNode { node, .. }, Reply::Done) => has(Fact::NodeRemoved(*node)),
            (Command::SetSecret { name, sealed, .. }, Reply::Done) => {
                has(Fact::SecretSet(name.clone(), sealed.clone()))
            }
            (Command::RemoveSecret { name, .. }, Reply::Done) => {
                has(Fact::SecretRemoved(name.clone()))
            }
            (Command::RemoveVolume { name, .. }, Reply::Done) => {
                has(Fact::VolumeRemoved(name.clone()))
            }
            (Command::BeginReign, Reply::Reign(reign)) => durable.reign() >= *reign,
            _ => false,
        }
    }
}
