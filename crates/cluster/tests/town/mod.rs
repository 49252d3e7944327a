//! A small cluster for scenarios: a controller's core, a journal in memory, and agents that do as
//! they are told, unless a test says otherwise.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use spawnery_cluster::state::State;
use spawnery_cluster::{
    Command, Event, IdempotencyKey, Ids, Input, Output, Record, Rejection, Reply, SecretHash,
    Sequencer, SessionSource, apply,
};
use spawnery_model::{
    Allowances, Bytes, Capacity, CpuMillis, DurationMs, Exit, Id, InstanceId, Introduction,
    JobSettings, Kind, Missed, Name, Network, NodeId, Observation, Observed, Orders, Origin,
    Overlap, Phase, Process, Replicas, Report, Restart, RestartPolicy, Schedule, ServiceSettings,
    SessionSettings, SessionTerms, Stop, Timestamp, Want, Workload, limits,
};
use std::collections::{BTreeMap, BTreeSet};

/// 2026-06-01, 00:00:00 UTC: when every town begins.
pub const BEGINNING: u64 = 1_780_272_000_000;

/// Ids that count upwards, so that a failing test shows the same ones each time.
pub struct Counter(u128);

impl Ids for Counter {
    fn fresh(&mut self) -> Id {
        self.0 += 1;
        Id::from_bits(self.0)
    }
}

/// An agent that is told what to run, and says that it does.
#[derive(Debug, Default)]
pub struct Agent {
    pub node: Option<NodeId>,
    pub connected: bool,
    /// Whether it starts what it is told to start.
    pub starts: bool,
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    pub incarnation: u64,
    pub epoch: u64,
    pub reign: u64,
    pub sequence: u64,
    introduced: bool,
    received: Vec<u64>,
    pub has: BTreeMap<InstanceId, (u64, Observation)>,
    news: Vec<InstanceId>,
    reported_at: u64,
    /// What its configuration allows.
    pub allowances: Option<Allowances>,
    /// The sandboxes that it keeps ready.
    pub pools: Vec<(Name, u32)>,
}

/// The cluster.
pub struct Town {
    pub sequencer: Sequencer<u32>,
    pub now: Timestamp,
    ids: Counter,
    pub journal: Vec<Record>,
    /// Why the journal takes nothing, while it does not.
    pub full: Option<String>,
    pub agents: BTreeMap<String, Agent>,
    pub events: Vec<Event>,
    replies: BTreeMap<u32, Result<Reply, Rejection>>,
    tickets: u32,
    /// When sessions were used last, as whoever is asked says; those not in it never were.
    pub used: BTreeMap<InstanceId, Timestamp>,
    /// Sessions that are used without a break.
    pub busy: BTreeSet<InstanceId>,
    /// Nobody answers whether a session is idle.
    pub deaf: bool,
    asked: Vec<InstanceId>,
    /// Messages that agents were sent, the newest last.
    pub orders: Vec<(NodeId, Orders)>,
}

impl Town {
    /// A town whose nodes have 1 GiB and 4 cores each.
    pub fn with_nodes(names: &[&str]) -> Town {
        let now = Timestamp(BEGINNING);
        let mut town = Town {
            sequencer: Sequencer::new(State::default(), now),
            now,
            ids: Counter(0),
            journal: Vec::new(),
            full: None,
            agents: BTreeMap::new(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            orders: Vec::new(),
            used: BTreeMap::new(),
            busy: BTreeSet::new(),
            deaf: false,
            asked: Vec::new(),
        };
        town.command(Command::BeginReign).unwrap();
        for name in names {
            town.add_node(name);
        }
        town
    }

    pub fn add_node(&mut self, name: &str) -> NodeId {
        let secret = self.token(limits::JOIN_TOKEN_LIFE_DEFAULT);
        let reply = self.join(secret, name).unwrap();
        let Reply::Joined(node) = reply else { panic!("{reply:?}") };
        let agent = Agent {
            node: Some(node),
            connected: true,
            starts: true,
            capacity: Capacity { memory: Bytes::mib(1024), cpu: CpuMillis(4000) },
            incarnation: self.now.0,
            ..Agent::default()
        };
        self.agents.insert(name.to_owned(), agent);
        self.settle();
        node
    }

    pub fn token(&mut self, life: DurationMs) -> SecretHash {
        self.tickets += 1;
        let hash = SecretHash([self.tickets as u8; 32]);
        let by = "tester".to_owned();
        self.command(Command::CreateJoinToken { hash, life, by }).unwrap();
        hash
    }

    pub fn join(&mut self, token: SecretHash, name: &str) -> Result<Reply, Rejection> {
        self.command(Command::Join { token, name: label(name), credential: SecretHash([9; 32]) })
    }

    pub fn command(&mut self, command: Command) -> Result<Reply, Rejection> {
        self.keyed(command, None)
    }

    /// Asks for something and waits until the answer comes.
    pub fn keyed(
        &mut self,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<Reply, Rejection> {
        let ticket = self.ask(command, key);
        self.settle();
        self.reply(ticket).expect("it is answered")
    }

    /// Asks for something without waiting.
    pub fn ask(&mut self, command: Command, key: Option<IdempotencyKey>) -> u32 {
        self.tickets += 1;
        let ticket = self.tickets;
        let input = Input::Command { ticket, command, key };
        self.sequencer.handle(input, self.now, &mut self.ids);
        ticket
    }

    pub fn reply(&mut self, ticket: u32) -> Option<Result<Reply, Rejection>> {
        self.replies.remove(&ticket)
    }

    pub fn apply(&mut self, workload: Workload) {
        let by = "tester".to_owned();
        let workloads = vec![workload];
        self.command(Command::Apply { workloads, by }).unwrap();
    }

    pub fn session(&mut self, workload: Workload) -> InstanceId {
        let command = Command::CreateSession {
            source: SessionSource::Inline(Box::new(workload)),
            owner: "tester".to_owned(),
            terms: Box::default(),
        };
        match self.command(command).unwrap() {
            Reply::Session(instance) => instance,
            reply => panic!("{reply:?}"),
        }
    }

    /// Asks for a session of a template.
    pub fn create(
        &mut self,
        template: &str,
        owner: &str,
        terms: SessionTerms,
    ) -> Result<Reply, Rejection> {
        self.command(Command::CreateSession {
            source: SessionSource::Template(label(template)),
            owner: owner.to_owned(),
            terms: Box::new(terms),
        })
    }

    /// A new session of a template.
    #[track_caller]
    pub fn created(&mut self, template: &str, owner: &str, terms: SessionTerms) -> InstanceId {
        match self.create(template, owner, terms) {
            Ok(Reply::Session(instance)) => instance,
            other => panic!("{other:?}"),
        }
    }

    /// The session that a key of `tester` names, and whether it is new.
    #[track_caller]
    pub fn keyed_session(&mut self, template: &str, key: &str) -> (InstanceId, bool) {
        match self.create(template, "tester", keyed(key)) {
            Ok(Reply::Session(instance)) => (instance, true),
            Ok(Reply::SessionFound(instance)) => (instance, false),
            other => panic!("{other:?}"),
        }
    }

    pub fn end(&mut self, instance: InstanceId) {
        let by = "tester".to_owned();
        self.command(Command::EndInstance { instance, by }).unwrap();
    }

    pub fn phase(&self, instance: InstanceId) -> Phase {
        self.state().instance(instance).expect("it is listed").phase
    }

    /// Why an instance ended, in words.
    #[track_caller]
    pub fn why(&self, instance: InstanceId) -> String {
        let found = self.state().instance(instance).expect("it is listed");
        found.end.as_ref().expect("it has ended").reason.words()
    }

    pub fn drain(&mut self, name: &str, draining: bool) {
        let node = self.node(name);
        let by = "tester".to_owned();
        self.command(Command::SetDraining { node, draining, deadline: None, by }).unwrap();
    }

    pub fn node(&self, name: &str) -> NodeId {
        self.agents[name].node.expect("it has joined")
    }

    pub fn state(&self) -> &State {
        self.sequencer.state()
    }

    /// Lets time pass, with all that it brings.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now.0 + ms;
        while self.now.0 < until {
            let next = self.sequencer.poll_timeout().map_or(until, |at| at.0);
            let beats = self.agents.values().filter(|agent| agent.connected);
            let beat = beats.map(|agent| agent.reported_at + limits::HEARTBEAT.0).min();
            let next = next.min(beat.unwrap_or(until));
            self.now = Timestamp(next.clamp(self.now.0 + 1, until));
            self.settle();
        }
    }

    /// Lets happen all that happens at once.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            if let Some(batch) = self.sequencer.poll_batch(self.now, &mut self.ids) {
                match self.full.clone() {
                    Some(reason) => self.sequencer.refused(reason, self.now),
                    None => {
                        assert_eq!(batch.first_position, self.journal.len() as u64 + 1);
                        self.journal.extend(batch.records);
                        self.sequencer.appended(self.now);
                        quiet = false;
                    }
                }
            }
            while let Some(output) = self.sequencer.poll_output() {
                quiet = false;
                self.output(output);
            }
            quiet &= !self.answer_asked();
            quiet &= !self.agents_report();
            if quiet {
                self.state().assert_consistent();
                return;
            }
        }
        panic!("it never settles");
    }

    fn output(&mut self, output: Output<u32>) {
        match output {
            Output::Reply { ticket, result } => {
                self.replies.insert(ticket, result);
            }
            Output::Event(event) => self.events.push(*event),
            Output::AskIdle { instance } => self.asked.push(instance),
            Output::Query { .. } => {}
            Output::Orders { node, orders } => {
                self.orders.push((node, orders.clone()));
                let mut agents = self.agents.values_mut();
                if let Some(agent) = agents.find(|a| a.node == Some(node) && a.connected) {
                    agent.take_in(orders);
                }
            }
        }
    }

    /// Says when the sessions that were asked about were used last.
    fn answer_asked(&mut self) -> bool {
        let asked = std::mem::take(&mut self.asked);
        if self.deaf {
            return false;
        }
        for instance in &asked {
            let active_at = match self.busy.contains(instance) {
                true => Timestamp(u64::MAX),
                false => self.used.get(instance).copied().unwrap_or_default(),
            };
            self.ask(Command::SessionSeen { instance: *instance, active_at }, None);
        }
        !asked.is_empty()
    }

    fn agents_report(&mut self) -> bool {
        let mut reports = Vec::new();
        for (name, agent) in &mut self.agents {
            let due = self.now.0 >= agent.reported_at + limits::HEARTBEAT.0;
            let news = !agent.news.is_empty() || !agent.received.is_empty();
            if agent.connected && (due || news) {
                reports.push(agent.report(name, self.now));
            }
        }
        let any = !reports.is_empty();
        for report in reports {
            self.send(report);
        }
        any
    }

    pub fn send(&mut self, report: Report) {
        let input = Input::Report(Box::new(report));
        self.sequencer.handle(input, self.now, &mut self.ids);
    }

    /// The link of a node breaks; what runs on it goes on.
    pub fn disconnect(&mut self, name: &str) {
        let agent = self.agents.get_mut(name).expect("it is there");
        agent.connected = false;
        agent.introduced = false;
    }

    pub fn connect(&mut self, name: &str) {
        let now = self.now.0;
        let agent = self.agents.get_mut(name).expect("it is there");
        agent.connected = true;
        agent.reported_at = now.saturating_sub(limits::HEARTBEAT.0);
        self.settle();
    }

    /// A process ends on its node.
    pub fn exits(&mut self, instance: InstanceId, exit: Exit) {
        let node = self.state().instance(instance).and_then(|i| i.node);
        let mut agents = self.agents.values_mut();
        let agent = agents.find(|agent| agent.node == node).expect("it runs");
        agent.observe(instance, Observation::Ended { exit });
        self.settle();
    }

    /// The controller dies and comes back with what the journal holds.
    pub fn restart_controller(&mut self) {
        let mut state = State::default();
        for record in &self.journal {
            let bytes = minicbor::to_vec(record).unwrap();
            apply(&mut state, &minicbor::decode(&bytes).unwrap());
        }
        self.sequencer = Sequencer::new(state, self.now);
        self.command(Command::BeginReign).unwrap();
        for name in self.agents.keys().cloned().collect::<Vec<_>>() {
            if self.agents[&name].connected {
                self.disconnect(&name);
                self.connect(&name);
            }
        }
    }

    /// The one live instance of `workload`, or the first of several.
    pub fn live(&self, workload: &str) -> InstanceId {
        let mut all = self.state().instances();
        let found = all.find(|i| i.workload.as_str() == workload && i.phase != Phase::Ended);
        found.expect("one is live").id
    }

    /// The first instance that is in a phase of its life.
    pub fn in_phase(&self, phase: Phase) -> InstanceId {
        let mut all = self.state().instances();
        let found = all.find(|instance| instance.phase == phase);
        found.expect("there is one").id
    }

    /// The instances as a table, those that have ended too: `workload/slot phase node why`.
    pub fn table(&self) -> Vec<String> {
        let mut rows: Vec<_> = self
            .state()
            .instances()
            .map(|instance| {
                let slot = match &instance.origin {
                    Origin::Replica { slot } => slot.to_string(),
                    Origin::NodeReplica { .. } => "node".to_owned(),
                    Origin::Attempt { attempt, .. } => format!("try{attempt}"),
                    Origin::Session { .. } => "session".to_owned(),
                };
                let node = instance.node.and_then(|id| self.state().node(id));
                let node = node.map_or("-".to_owned(), |entry| entry.node.name.to_string());
                let why = match (&instance.end, &instance.waits_for) {
                    (Some(end), _) => format!(": {}", end.reason.words()),
                    (None, Some(waits_for)) => format!(": {waits_for}"),
                    (None, None) => String::new(),
                };
                let row =
                    format!("{}/{slot} {} {node}{why}", instance.workload, instance.phase.word());
                (instance.workload.clone(), slot, instance.id, row)
            })
            .collect();
        rows.sort();
        rows.into_iter().map(|(_, _, _, row)| row).collect()
    }

    /// The instances are these, one a line.
    #[track_caller]
    pub fn check(&self, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(self.table(), expected);
    }

    /// The live instances are these, one a line.
    #[track_caller]
    pub fn check_live(&self, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let mut live = self.table();
        live.retain(|row| row.split(' ').nth(1) != Some("ended"));
        assert_eq!(live, expected);
    }

    /// What was told of one kind of event, in words.
    pub fn told(&self, kind: &str) -> Vec<&str> {
        let events = self.events.iter().filter(|event| event.kind == kind);
        events.map(|event| event.message.as_str()).collect()
    }
}

impl Agent {
    fn take_in(&mut self, orders: Orders) {
        if orders.introduce {
            self.introduced = false;
            self.reported_at = 0;
            return;
        }
        if orders.full {
            (self.epoch, self.reign, self.introduced) = (orders.epoch, orders.reign, true);
            let named: Vec<_> = orders.orders.iter().map(|order| order.instance).collect();
            self.has.retain(|instance, _| named.contains(instance));
        }
        if orders.full || !orders.orders.is_empty() || orders.pools.is_some() {
            self.received.push(orders.sequence);
        }
        if let Some(pools) = orders.pools {
            self.pools = pools.iter().map(|it| (it.order.workload.clone(), it.count)).collect();
        }
        for order in orders.orders {
            let instance = order.instance;
            let ended = self.has.get(&instance);
            let ended = ended.is_some_and(|(_, o)| matches!(o, Observation::Ended { .. }));
            match order.want {
                Want::Run(_) if !self.has.contains_key(&instance) && self.starts => {
                    self.observe(instance, Observation::Ready { pid: 7 });
                }
                Want::Run(_) => {}
                Want::Stop if ended => {}
                Want::Stop => {
                    let exit = Exit { signal: Some(15), ..Exit::default() };
                    self.observe(instance, Observation::Ended { exit });
                }
                Want::Forget => {
                    self.has.remove(&instance);
                }
            }
        }
    }

    pub fn observe(&mut self, instance: InstanceId, observation: Observation) {
        let revision = self.has.get(&instance).map_or(0, |(revision, _)| *revision) + 1;
        self.has.insert(instance, (revision, observation));
        self.news.push(instance);
    }

    pub fn report(&mut self, name: &str, now: Timestamp) -> Report {
        self.sequence += 1;
        self.reported_at = now.0;
        let introduction = (!self.introduced).then(|| Introduction {
            name: label(name),
            labels: self.labels.clone(),
            capacity: self.capacity,
            version: "1".to_owned(),
            incarnation: self.incarnation,
            allowances: self.allowances.clone().map(Box::new),
        });
        let news = std::mem::take(&mut self.news);
        let told = |instance: &InstanceId| introduction.is_some() || news.contains(instance);
        let observed = self.has.iter().filter(|(instance, _)| told(instance));
        let observed = observed.map(|(instance, (revision, observation))| Observed {
            instance: *instance,
            revision: *revision,
            observation: observation.clone(),
        });
        Report {
            node: self.node.expect("it has joined"),
            epoch: self.epoch,
            reign: self.reign,
            sequence: self.sequence,
            received: std::mem::take(&mut self.received),
            observed: observed.collect(),
            introduction,
        }
    }
}

pub fn label(name: &str) -> Name {
    Name::new(name).unwrap()
}

pub fn exit_code(code: i32) -> Exit {
    Exit { code: Some(code), ..Exit::default() }
}

pub fn key(key: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.to_owned(), fingerprint: 1 })
}

/// Three times in the back-off: 1 s, 2 s, 4 s at most.
fn workload(name: &str, kind: Kind) -> Workload {
    Workload {
        name: label(name),
        kind,
        process: Process {
            run: vec!["serve".to_owned()],
            env: BTreeMap::new(),
            memory: Bytes::mib(100),
            cpu_reserved: CpuMillis(100),
            cpu_max: None,
            disk_max: None,
            pids_max: 10,
            ports: Vec::new(),
            working_directory: None,
            network: Network::None,
            files: Vec::new(),
            stdin: None,
            ready: None,
        },
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            delay: DurationMs(1000),
            delay_max: DurationMs(4000),
            reset_after: DurationMs(60_000),
            restarts_max: None,
        },
        stop: Stop { signal: 15, grace: DurationMs(1000) },
        constraints: Vec::new(),
        labels: BTreeMap::new(),
        surroundings: None,
    }
}

pub fn service(name: &str, replicas: u32) -> Workload {
    let replicas = Replicas::Count(replicas);
    workload(name, Kind::Service(ServiceSettings { replicas }))
}

pub fn service_everywhere(name: &str) -> Workload {
    let replicas = Replicas::EveryNode;
    workload(name, Kind::Service(ServiceSettings { replicas }))
}

pub fn session(name: &str, duration_max: Option<u64>) -> Workload {
    let duration_max = duration_max.map(DurationMs);
    workload(name, Kind::Session(SessionSettings { duration_max, ..SessionSettings::default() }))
}

/// A job that is tried twice, skips what overlaps and what is more than 10 s late.
pub fn job(name: &str, cron: &str, time_zone: &str) -> Workload {
    let schedule = (!cron.is_empty())
        .then(|| Schedule { cron: cron.to_owned(), time_zone: time_zone.to_owned() });
    let job = JobSettings {
        schedule,
        overlap: Overlap::Skip,
        missed: Missed::Skip,
        start_deadline: DurationMs(10_000),
        attempts_max: 2,
        timeout: None,
    };
    workload(name, Kind::Job(job))
}

/// What is asked for a session with this key.
pub fn keyed(key: &str) -> SessionTerms {
    SessionTerms { key: Some(label(key)), ..SessionTerms::default() }
}

pub fn session_settings(workload: &mut Workload) -> &mut SessionSettings {
    match &mut workload.kind {
        Kind::Session(session) => session,
        kind => panic!("{kind:?}"),
    }
}

pub fn job_settings(workload: &mut Workload) -> &mut JobSettings {
    match &mut workload.kind {
        Kind::Job(job) => job,
        kind => panic!("{kind:?}"),
    }
}
