//! A cluster in memory: the real core, with agents that do at once what they are told.

use std::collections::BTreeMap;

use spawnery_cluster::{Command, Ids, Input, Output, Reply, SecretHash, Sequencer, State};
use spawnery_journal::{Journal, SqliteJournal};
use spawnery_model::{
    Bytes, Capacity, CpuMillis, DurationMs, Exit, Id, Introduction, Name, NodeId, Observation,
    Observed, Order, Orders, Report, Timestamp, Want, Workload,
};

use crate::Failure;

/// Memory of each node: room for everything that a benchmark places.
const NODE_MEMORY: Bytes = Bytes::mib(16 << 20);

/// A controller's core, its journal if it has one, and its nodes.
pub struct Cluster {
    sequencer: Sequencer<()>,
    journal: Option<SqliteJournal>,
    ids: CountedIds,
    agents: BTreeMap<NodeId, Agent>,
    replies: Vec<Reply>,
    records: usize,
}

/// Ids in an order that looks like chance.
struct CountedIds(u128);

impl Ids for CountedIds {
    fn fresh(&mut self) -> Id {
        self.0 += 1;
        Id::from_bits(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39d))
    }
}

#[derive(Default)]
struct Agent {
    sequence: u64,
    revision: u64,
}

impl Cluster {
    /// A cluster that writes to the journal, or nowhere.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub fn new(journal: Option<SqliteJournal>) -> Result<Cluster, Failure> {
        let mut cluster = Cluster {
            sequencer: Sequencer::new(State::default(), NOW),
            journal,
            ids: CountedIds(0),
            agents: BTreeMap::new(),
            replies: Vec::new(),
            records: 0,
        };
        cluster.command(Command::BeginReign)?;
        Ok(cluster)
    }

    /// The cluster's state.
    pub fn state(&self) -> &State {
        self.sequencer.state()
    }

    /// How many records were written.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Lets a node join.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn join(&mut self, number: u8) -> Result<(), Failure> {
        let token = SecretHash([number; 32]);
        let life = DurationMs::from_secs(60);
        self.command(Command::CreateJoinToken { hash: token, life, by: "bench".to_owned() })?;
        let name = Name::new(format!("node-{number}")).map_err(|error| error.to_string())?;
        let joined = Command::Join { token, name: name.clone(), credential: token };
        let Reply::Joined(node) = self.command(joined)? else {
            return Err("a node did not join".to_owned());
        };
        let capacity = Capacity { memory: NODE_MEMORY, cpu: CpuMillis(10_000_000) };
        let introduction = Introduction {
            name,
            labels: BTreeMap::new(),
            capacity,
            version: "bench".to_owned(),
            incarnation: 1,
            allowances: None,
        };
        self.agents.insert(node, Agent { sequence: 1, revision: 0 });
        let report = Report {
            node,
            epoch: 0,
            reign: 0,
            sequence: 1,
            received: Vec::new(),
            introduction: Some(introduction),
            observed: Vec::new(),
        };
        self.sequencer.handle(Input::Report(Box::new(report)), NOW, &mut self.ids);
        self.settle()
    }

    /// Asks for something, and lets everything that follows happen.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn command(&mut self, command: Command) -> Result<Reply, Failure> {
        self.commands([command])?.pop().ok_or_else(|| "a command had no answer".to_owned())
    }

    /// The same for several commands at once.
    ///
    /// # Errors
    ///
    /// When one is refused.
    pub fn commands(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<Vec<Reply>, Failure> {
        for command in commands {
            let input = Input::Command { ticket: (), command, key: None };
            self.sequencer.handle(input, NOW, &mut self.ids);
        }
        self.settle()?;
        Ok(std::mem::take(&mut self.replies))
    }

    /// Writes and delivers until nothing is left to do.
    fn settle(&mut self) -> Result<(), Failure> {
        loop {
            let batch = self.sequencer.poll_batch(NOW, &mut self.ids);
            if let Some(batch) = &batch {
                self.records += batch.records.len();
                if let Some(journal) = &mut self.journal {
                    let payloads: Result<Vec<Vec<u8>>, _> =
                        batch.records.iter().map(minicbor::to_vec).collect();
                    let payloads = payloads.map_err(|error| error.to_string())?;
                    journal.append(&payloads).map_err(|error| error.to_string())?;
                }
                self.sequencer.appended(NOW);
            }
            let mut quiet = batch.is_none();
            while let Some(output) = self.sequencer.poll_output() {
                quiet = false;
                self.deliver(output)?;
            }
            if quiet {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, output: Output<()>) -> Result<(), Failure> {
        match output {
            Output::Reply { result, .. } => {
                self.replies.push(result.map_err(|rejection| rejection.to_string())?);
            }
            Output::Orders { node, orders } if !orders.orders.is_empty() || orders.full => {
                let Some(agent) = self.agents.get_mut(&node) else {
                    return Ok(());
                };
                let report = agent.obey(node, &orders);
                self.sequencer.handle(Input::Report(Box::new(report)), NOW, &mut self.ids);
            }
            Output::Orders { .. }
            | Output::AskIdle { .. }
            | Output::Query { .. }
            | Output::Event(_) => {}
        }
        Ok(())
    }
}

impl Agent {
    /// What an agent says when it has done what it was told.
    fn obey(&mut self, node: NodeId, orders: &Orders) -> Report {
        self.sequence += 1;
        let observed = orders.orders.iter().filter_map(|order| self.observe(order)).collect();
        Report {
            node,
            epoch: orders.epoch,
            reign: orders.reign,
            sequence: self.sequence,
            received: vec![orders.sequence],
            introduction: None,
            observed,
        }
    }

    fn observe(&mut self, order: &Order) -> Option<Observed> {
        let observation = match order.want {
            Want::Run(_) => Observation::Ready { pid: 4242 },
            Want::Stop => Observation::Ended { exit: exit() },
            Want::Forget => return None,
        };
        self.revision += 1;
        Some(Observed { instance: order.instance, revision: self.revision, observation })
    }
}

fn exit() -> Exit {
    Exit { code: Some(0), signal: None, at: NOW, ..Exit::default() }
}

/// The workloads of a manifest in YAML.
///
/// # Errors
///
/// What is wrong with it.
pub fn workloads(manifest: &str) -> Result<Vec<Workload>, Failure> {
    let manifest = spawnery_manifest::parse(manifest, spawnery_manifest::Format::Yaml);
    manifest.map(|it| it.workloads).map_err(|errors| errors.to_string())
}

/// The time that it always is: what is measured here does not wait for anything.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
