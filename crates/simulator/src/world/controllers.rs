//! The controller's shell: it starts, takes things in, appends, lets things out, and dies.

use super::{Happening, World, trace};
use crate::activity::Activity;
use crate::controller::{Inbound, Process, Ticket};
use crate::coverage;
use crate::options::Sabotage;
use crate::promises::{Consequence, broken};
use spawnery_cluster::{Command, Input, Output, Sequencer};
use spawnery_model::{NodeId, Orders, Report};
use std::collections::VecDeque;

/// Inputs that wait while an append is under way; further ones are dropped, as by a full socket.
const INBOX_MAX: usize = 8192;

/// How long the operating system needs to start the controller anew.
const RESTART_MS_MAX: u64 = 6000;

/// Records that sabotage takes from the durable journal.
const RECORDS_LOST: usize = 3;

impl World {
    pub(super) fn controller_starts(&mut self) {
        if self.controller.process.is_some() {
            return;
        }
        let recovered = match self.controller.storage.recover(&mut self.random) {
            Ok(recovered) => recovered,
            Err(error) => return self.check(broken("a record can be read back", error)),
        };
        self.controller.generation += 1;
        let position = recovered.state.position();
        trace!(
            self,
            "controller {} starts at {position}, snapshot {}, torn {}",
            self.controller.generation,
            recovered.snapshot,
            recovered.torn
        );
        if recovered.torn {
            self.promises.coverage.count("journal: torn tail");
        }
        if recovered.snapshot > 0 {
            self.promises.coverage.count("journal: from snapshot");
        }
        let result = self.promises.recovered(&recovered.state);
        self.check(result);
        let now = self.controller.clock(self.now);
        let mut sequencer = Sequencer::new(recovered.state, now);
        let reign =
            Input::Command { ticket: Ticket::Itself, command: Command::BeginReign, key: None };
        sequencer.handle(reign, now, &mut self.ids);
        self.controller.process = Some(Process {
            sequencer,
            activity: Activity::new(now),
            inbox: VecDeque::new(),
            appending: false,
            wake_at: None,
        });
        self.controller_turns();
    }

    pub(super) fn controller_wakes(&mut self, generation: u64) {
        if generation != self.controller.generation {
            return;
        }
        if let Some(process) = &mut self.controller.process
            && process.wake_at.is_some_and(|at| at <= self.now)
        {
            process.wake_at = None;
            self.controller_turns();
        }
    }

    pub(super) fn controller_receives(&mut self, inbound: Inbound) {
        let Some(process) = &mut self.controller.process else {
            return;
        };
        if process.inbox.len() >= INBOX_MAX {
            self.promises.coverage.count("controller: inbox full");
            return;
        }
        process.inbox.push_back(inbound);
        self.controller_turns();
    }

    /// One round of the controller's loop, as the sequencer's documentation lays it down.
    fn controller_turns(&mut self) {
        let now = self.controller.clock(self.now);
        let Some(process) = &mut self.controller.process else {
            return;
        };
        if !process.appending || self.swarm.pipelined {
            while let Some(inbound) = process.inbox.pop_front() {
                let input = match inbound {
                    Inbound::Request(request) => Input::Command {
                        ticket: Ticket::Request(request),
                        command: self.requests[request].command.clone(),
                        key: self.requests[request].key.clone(),
                    },
                    Inbound::Query(request) => Input::Query { ticket: Ticket::Request(request) },
                    Inbound::Report(report) => Input::Report(report),
                    Inbound::Seen { session, active_at } => Input::Command {
                        ticket: Ticket::Idle(session),
                        command: Command::SessionSeen { instance: session, active_at },
                        key: None,
                    },
                };
                process.sequencer.handle(input, now, &mut self.ids);
            }
        }
        if !process.appending
            && let Some(batch) = process.sequencer.poll_batch(now, &mut self.ids)
        {
            process.appending = true;
            let (first, count) = (batch.first_position, batch.records.len());
            self.controller.storage.begin(&batch.records);
            trace!(self, "controller appends {count} at {first}");
            let slow = if self.now < self.controller.storage.slow_until {
                2000
            } else {
                self.swarm.append_ms_max
            };
            let delay = self.random.between(0, slow);
            let generation = self.controller.generation;
            self.after(delay, Happening::Appended { generation });
            if self.sabotage == Some(Sabotage::ReleaseBeforeDurable) {
                let process = self.controller.process.as_mut().expect("it runs");
                process.sequencer.appended(now);
            }
        }
        self.let_out();
        self.controller_sleeps();
    }

    pub(super) fn append_done(&mut self, generation: u64) {
        if generation != self.controller.generation || self.controller.process.is_none() {
            return;
        }
        let now = self.controller.clock(self.now);
        let storage = &mut self.controller.storage;
        if std::mem::take(&mut storage.fails_next) {
            trace!(self, "append fails");
            return self.controller_dies();
        }
        let process = self.controller.process.as_mut().expect("it runs");
        process.appending = false;
        if self.now < storage.full_until {
            storage.give_up();
            trace!(self, "append refused");
            self.promises.coverage.count("journal: batch refused");
            let reason = "no space left on device".to_owned();
            process.sequencer.refused(reason, now);
            return self.controller_turns();
        }
        let (first, records) = storage.complete();
        trace!(self, "append done, {} durable", storage.position());
        self.take_in_durable(first, &records);
        let process = self.controller.process.as_mut().expect("it runs");
        process.sequencer.appended(now);
        let result = self.promises.live_state(process.sequencer.state());
        self.check(result);
        self.maybe_snapshot();
        self.let_out();
        self.controller_turns();
    }

    /// Checks what became durable, and lets the machines live with it.
    fn take_in_durable(&mut self, first: u64, records: &[Vec<u8>]) {
        match self.promises.records(first, records) {
            Ok(consequences) => {
                for consequence in consequences {
                    match consequence {
                        Consequence::NodeRemoved(node) => self.machine_is_wiped(node),
                        Consequence::NodeStopping(node) => self.machine_will_restart(node),
                        Consequence::EndedIdle(session) => self.check_idle(session),
                    }
                }
            }
            Err(error) => self.check(Err(error)),
        }
    }

    fn maybe_snapshot(&mut self) {
        let Some(process) = &self.controller.process else {
            return;
        };
        let state = process.sequencer.state();
        let durable = state.position() == self.controller.storage.position();
        if durable && self.random.chance(self.swarm.snapshots) {
            self.controller.storage.save_snapshot(state);
        }
    }

    /// Lets out what the sequencer releases, checking each thing.
    fn let_out(&mut self) {
        while let Some(output) = self.next_output() {
            match output {
                Output::Reply { ticket: Ticket::Idle(session), .. } => self.idle_decided(session),
                Output::Reply { ticket, result } => self.answered(ticket, result),
                Output::Query { ticket, refused } => {
                    trace!(self, "query {ticket:?} refused {}", refused.is_some());
                    if let Some(rejection) = refused {
                        let what = coverage::rejection(&rejection);
                        self.promises.coverage.count(what);
                        continue;
                    }
                    let process = self.controller.process.as_ref().expect("it just spoke");
                    let result = self.promises.query(process.sequencer.state());
                    self.check(result);
                }
                Output::Orders { node, orders } => self.orders_leave(node, orders),
                Output::AskIdle { instance } => self.asked_idle(instance),
                Output::Event(event) => {
                    let result = self.promises.event(&event);
                    self.check(result);
                }
            }
        }
    }

    fn next_output(&mut self) -> Option<Output<Ticket>> {
        self.controller.process.as_mut()?.sequencer.poll_output()
    }

    fn orders_leave(&mut self, node: NodeId, orders: Orders) {
        let result = self.promises.orders(node, &orders);
        self.check(result);
        let mut machines = self.machines.iter();
        let Some(machine) = machines.position(|machine| machine.node == Some(node)) else {
            return;
        };
        let Orders { epoch, sequence, full, introduce, .. } = &orders;
        let (count, received) = (orders.orders.len(), &orders.received);
        let name = &self.machines[machine].name;
        trace!(
            self,
            "orders {sequence} epoch {epoch} to {name}: {count} full {full} introduce {introduce} \
             received {received:?}"
        );
        let link = &self.machines[machine].link;
        if !link.up || self.now < link.to_agent_blocked_until {
            return;
        }
        let serial = link.serial;
        for delay in self.journeys() {
            let orders = through_the_wire(&orders);
            let arrives = Happening::OrdersArrive { machine, serial, orders: Box::new(orders) };
            self.after(delay, arrives);
        }
    }

    /// The delays of a message's copies: none if it is lost, several if it is repeated.
    pub(super) fn journeys(&mut self) -> Vec<u64> {
        let network = &self.swarm.network;
        let mut copies = Vec::new();
        if self.random.chance(network.loss) {
            return copies;
        }
        let repeated = self.random.chance(network.repetition);
        for _ in 0..1 + u32::from(repeated) {
            let mut delay = self.random.between(0, network.delay_ms_max);
            if self.random.chance(network.held_up) {
                delay += self.random.below(12_000);
            }
            copies.push(delay);
        }
        copies
    }

    pub(super) fn report_arrives(
        &mut self,
        machine: usize,
        incarnation: u64,
        serial: u64,
        bytes: &[u8],
    ) {
        let link = &self.machines[machine].link;
        let old = link.serial != serial && !self.swarm.network.outlive_links;
        let Some(process) = self.controller.process.as_ref().filter(|_| !old) else {
            return;
        };
        let mut report: Report = match minicbor::decode(bytes) {
            Ok(report) => report,
            Err(error) => {
                return self.check(broken("a message can be read", error.to_string()));
            }
        };
        self.promises.report_arrived(&report, incarnation);
        let name = &self.machines[machine].name;
        let Report { epoch, sequence, .. } = report;
        let (seen, received) = (report.observed.len(), &report.received);
        let introduces = report.introduction.is_some();
        trace!(
            self,
            "report {sequence} epoch {epoch} of {name}: {seen} introduces {introduces} received \
             {received:?}"
        );
        if self.sabotage == Some(Sabotage::RewriteEpochs) && !introduces {
            let state = process.sequencer.state();
            if let Some(entry) = state.node(report.node) {
                report.epoch = entry.node.epoch;
                report.reign = state.reign();
            }
        }
        self.controller_receives(Inbound::Report(Box::new(report)));
    }

    /// Plans the next round, and sees to it that nothing is due already.
    fn controller_sleeps(&mut self) {
        let now = self.controller.clock(self.now);
        let Some(process) = &mut self.controller.process else {
            return;
        };
        if process.appending {
            return;
        }
        let Some(timeout) = process.sequencer.poll_timeout() else {
            return;
        };
        if timeout <= now && !process.inbox.is_empty() {
            return;
        }
        if timeout <= now {
            let what = format!("{timeout:?} was due at {now:?}");
            return self.check(broken("no timer is left behind", what));
        }
        let at = self.controller.simulated(timeout).max(self.now + 1);
        let process = self.controller.process.as_mut().expect("it runs");
        if process.wake_at.is_none_or(|wake_at| wake_at > at) {
            process.wake_at = Some(at);
            let generation = self.controller.generation;
            self.after(at - self.now, Happening::ControllerWakes { generation });
        }
    }

    /// The controller's process or machine dies; it is started again some time later.
    pub(super) fn controller_dies(&mut self) {
        if self.controller.process.take().is_none() {
            return;
        }
        trace!(self, "controller dies");
        let (first, records) = self.controller.storage.crash(&mut self.random);
        // A part of the last batch may be there, although nobody was told.
        self.take_in_durable(first, &records);
        if self.sabotage == Some(Sabotage::LoseAcknowledged) {
            self.controller.storage.lose(RECORDS_LOST);
        }
        for machine in 0..self.machines.len() {
            let serial = self.machines[machine].link.serial;
            if self.machines[machine].link.up {
                let delay = self.random.below(200);
                self.after(delay, Happening::LinkLost { machine, serial });
            }
        }
        let delay = match self.random.chance(200) {
            true => self.random.between(10_000, 40_000),
            false => self.random.between(10, RESTART_MS_MAX),
        };
        self.after(delay, Happening::ControllerStarts);
    }
}

fn through_the_wire(orders: &Orders) -> Orders {
    let bytes = minicbor::to_vec(orders).expect("writing to memory does not fail");
    minicbor::decode(&bytes).expect("what was written can be read")
}
