//! The users: what they ask for, and what they do with the answers.

use super::{Happening, World, trace};
use crate::controller::{Inbound, Ticket};
use crate::coverage;
use crate::generate::{self, Scene};
use crate::options::Sabotage;
use crate::requests::{Request, word};
use crate::swarm::Wish;
use spawnery_cluster::{Command, IdempotencyKey, Ids, Rejection, Reply, SecretHash};
use spawnery_model::{Bytes, CpuMillis, DurationMs, Kind, Name, Replicas, Schedule, limits};

/// How long a client waits for an answer before it asks again.
const ANSWER_MS_MAX: u64 = 3000;

/// How often a client asks before it gives up.
const ATTEMPTS_MAX: u32 = 8;

/// How long join tokens can be used here: some expire before they are used.
const TOKEN_LIFE: DurationMs = DurationMs(20_000);

impl World {
    /// A user wishes for something, and the next one soon after.
    pub(super) fn wish(&mut self) {
        if self.swarm.wishes.is_empty() {
            return;
        }
        let wish = *self.random.pick(&self.swarm.wishes);
        match wish {
            Wish::JoinMore if self.machines.len() < 8 => self.add_machine(1),
            Wish::JoinMore => {}
            Wish::Query => {
                let delay = self.random.below(20);
                let query = self.requests.len();
                self.after(delay, Happening::Arrives(Inbound::Query(query)));
            }
            Wish::TokenFlood => self.flood_tokens(),
            Wish::Use => self.use_session(),
            wish => {
                let scene = Scene { state: &self.promises.durable, sessions: &self.sessions };
                if let Some(command) = generate::command(wish, &scene, &mut self.random) {
                    self.ask(command, None);
                }
            }
        }
        let delay = self.random.around(self.swarm.wish_ms);
        self.after(delay, Happening::Wish);
    }

    fn flood_tokens(&mut self) {
        for _ in 0..=limits::JOIN_TOKENS_MAX {
            let command = self.create_token();
            let request = self.add_request(command, false, None);
            // Nobody waits for the answers.
            self.requests[request].given_up = true;
            self.after(1, Happening::Arrives(Inbound::Request(request)));
        }
    }

    fn create_token(&mut self) -> Command {
        Command::CreateJoinToken { hash: self.secret(), life: TOKEN_LIFE, by: "tester".to_owned() }
    }

    fn secret(&mut self) -> SecretHash {
        let mut hash = [0; 32];
        let bits = self.random.fresh().bits().to_be_bytes();
        hash[..16].copy_from_slice(&bits);
        SecretHash(hash)
    }

    /// Sends a request, with a key for most of them, so that it can be sent again.
    pub(super) fn ask(&mut self, command: Command, machine: Option<usize>) {
        let keyed = machine.is_some() || self.random.chance(800);
        let request = self.add_request(command, keyed, machine);
        trace!(self, "request {request}: {}", word(&self.requests[request].command));
        self.send_request(request);
        // A careless client uses its key for something else.
        if keyed && self.random.chance(10) {
            let key = self.requests[request].key.clone();
            let key = key.map(|key| IdempotencyKey { fingerprint: key.fingerprint + 1, ..key });
            let command = self.create_token();
            let careless = self.add_request(command, false, None);
            self.requests[careless].key = key;
            self.requests[careless].given_up = true;
            self.after(30, Happening::Arrives(Inbound::Request(careless)));
        }
    }

    fn add_request(&mut self, command: Command, keyed: bool, machine: Option<usize>) -> usize {
        let request = self.requests.len();
        let key = keyed
            .then(|| IdempotencyKey { key: format!("key-{request}"), fingerprint: request as u64 });
        self.requests.push(Request {
            command,
            key,
            attempts: 0,
            answer: None,
            given_up: false,
            machine,
        });
        request
    }

    fn send_request(&mut self, request: usize) {
        let found = &mut self.requests[request];
        found.attempts += 1;
        let attempt = found.attempts;
        if self.sabotage == Some(Sabotage::DropIdempotencyKeys)
            && attempt > 1
            && let Some(key) = &mut found.key
        {
            key.key = format!("{} again", key.key);
        }
        let keyed = found.key.is_some();
        if !self.random.chance(self.swarm.requests_lost) {
            let delay = self.random.below(20);
            self.after(delay, Happening::Arrives(Inbound::Request(request)));
        }
        if keyed && self.random.chance(self.swarm.requests_lost) {
            let delay = self.random.below(2000);
            self.after(delay, Happening::Arrives(Inbound::Request(request)));
        }
        let delay = self.random.between(200, ANSWER_MS_MAX);
        self.after(delay, Happening::RequestTimesOut { request, attempt });
    }

    pub(super) fn request_times_out(&mut self, request: usize, attempt: u32) {
        let healed = self.healed_at.is_some();
        let found = &mut self.requests[request];
        if !found.is_open() || found.attempts != attempt {
            return;
        }
        if found.key.is_none() || (attempt >= ATTEMPTS_MAX && !healed && found.machine.is_none()) {
            found.given_up = true;
            return;
        }
        trace!(self, "request {request} again");
        self.promises.coverage.count("request: again");
        self.send_request(request);
    }

    /// The controller lets an answer out: from now on it is promised.
    pub(super) fn answered(&mut self, ticket: Ticket, result: Result<Reply, Rejection>) {
        let Ticket::Request(request) = ticket else {
            if let Err(rejection) = &result {
                trace!(self, "the controller refused itself: {rejection}");
            }
            return;
        };
        match &result {
            Ok(reply) => {
                trace!(self, "request {request} answered: {reply:?}");
                let (answers, durable) = self.promises.answers();
                let checked = answers.released(&self.requests[request], reply, durable);
                self.check(checked);
            }
            Err(rejection) => {
                trace!(self, "request {request} refused: {}", rejection.code());
                let what = coverage::rejection(rejection);
                self.promises.coverage.count(what);
            }
        }
        if self.random.chance(self.swarm.requests_lost) {
            return;
        }
        let found = &mut self.requests[request];
        if found.is_open() {
            found.answer = Some(result);
            let delay = self.random.below(20);
            self.after(delay, Happening::AnswerArrives { request });
        }
    }

    pub(super) fn answer_arrives(&mut self, request: usize) {
        let found = &mut self.requests[request];
        let full = matches!(found.answer, Some(Err(Rejection::JournalFull { .. })));
        if full && found.key.is_some() {
            // It says to try again when there is space.
            found.answer = None;
            let attempt = found.attempts;
            return self.after(1500, Happening::RequestTimesOut { request, attempt });
        }
        if let Some(Ok(Reply::Session(session) | Reply::SessionFound(session))) = found.answer {
            self.sessions.push(session);
        }
        if let Some(machine) = found.machine {
            self.join_goes_on(machine, request);
        }
    }

    /// A machine wants to join: somebody makes a token for it.
    pub(super) fn machine_joins(&mut self, machine: usize) {
        let hash = self.secret();
        self.machines[machine].token = hash;
        let command = Command::CreateJoinToken { hash, life: TOKEN_LIFE, by: "tester".to_owned() };
        self.ask(command, Some(machine));
    }

    fn join_goes_on(&mut self, machine: usize, request: usize) {
        let answer = self.requests[request].answer.clone();
        let found = &self.machines[machine];
        if found.destroyed || found.node.is_some() {
            return;
        }
        match answer {
            Some(Ok(Reply::JoinToken { .. })) => {
                let (token, name) = (found.token, found.name.clone());
                let credential = self.secret();
                let command = Command::Join { token, name, credential };
                // At times whoever has the token takes a while.
                self.ask(command.clone(), Some(machine));
                if self.random.chance(100) {
                    // A token that has been seen is tried by somebody else.
                    self.ask(command, None);
                }
            }
            // It was removed before it heard that it had joined.
            Some(Ok(Reply::Joined(node))) if self.promises.durable.node(node).is_none() => {
                self.after(500, Happening::MachineJoins { machine });
            }
            Some(Ok(Reply::Joined(node))) => {
                trace!(self, "{} joined as {node}", self.machines[machine].name);
                self.machines[machine].node = Some(node);
                self.after(1, Happening::AgentStarts { machine });
            }
            Some(Err(Rejection::NodeNameTaken { .. })) => {
                let number = self.random.below(1_000_000);
                let name = format!("node-{machine}-{number}");
                self.machines[machine].name = Name::new(name).expect("it is a label");
                self.after(500, Happening::MachineJoins { machine });
            }
            // The token was used by another, or there are too many tokens.
            Some(Err(_)) => self.after(2000, Happening::MachineJoins { machine }),
            _ => {}
        }
    }

    /// What a large cluster runs, asked for at once in portions.
    pub(super) fn apply_many(&mut self) {
        let mut workloads = Vec::new();
        for number in 0..1000 {
            let (kind, mut workload) = match number % 10 {
                0..6 => ("service", generate::service(false, &mut self.random)),
                6..9 => ("job", generate::job(&mut self.random)),
                _ => ("template", generate::template(&mut self.random)),
            };
            workload.name = generate::numbered(kind, number);
            workload.process.memory = Bytes::mib(64);
            workload.process.cpu_reserved = CpuMillis(50);
            workload.constraints.clear();
            match &mut workload.kind {
                Kind::Service(service) => {
                    // Most run somewhere, two run everywhere.
                    service.replicas = match number {
                        0 | 10 => Replicas::EveryNode,
                        _ => Replicas::Count(self.random.between(1, 3) as u32),
                    };
                    workload.process.run.truncate(1);
                }
                Kind::Job(job) => {
                    job.schedule = Some(Schedule {
                        cron: format!("{} */5 * * * *", number % 60),
                        time_zone: "UTC".to_owned(),
                    });
                }
                Kind::Session(_) => {}
            }
            workloads.push(workload);
        }
        for portion in workloads.chunks(100) {
            let command = Command::Apply { workloads: portion.to_vec(), by: "tester".to_owned() };
            let request = self.add_request(command, true, None);
            self.send_request(request);
        }
    }
}
