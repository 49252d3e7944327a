//! The agents' shells: they carry out what their node state machines say.

use super::{Happening, World, trace};
use crate::launcher::{Fate, ProcessState, failure};
use crate::machine::{Agent, Machine};
use crate::options::Sabotage;
use crate::promises::broken;
use spawnery_model::{InstanceId, NodeId, Orders, Report};
use spawnery_node::{Action, Input, Node};

/// How long an agent waits between two tries to reach the controller.
const RECONNECT_MS_MAX: u64 = 2500;

impl World {
    pub(super) fn agent_starts(&mut self, machine: usize) {
        let found = &self.machines[machine];
        if !found.powered || found.agent.is_some() {
            return;
        }
        let Some(node) = found.node else {
            return;
        };
        if !found.launcher.alive {
            return self.after(300, Happening::AgentStarts { machine });
        }
        let clock = found.clock(self.now);
        let machine_found = &mut self.machines[machine];
        machine_found.agent_generation += 1;
        let generation = machine_found.agent_generation;
        // The clock in milliseconds; the generation keeps it growing.
        let incarnation = clock.0 + generation;
        let node = Node::new(node, machine_found.introduction(incarnation));
        machine_found.agent = Some(Agent { node, incarnation, wake_at: None });
        if self.sabotage == Some(Sabotage::StartTwice) {
            machine_found.launcher.lose_notes();
        }
        let found = self.machines[machine].launcher.found();
        let name = &self.machines[machine].name;
        trace!(self, "agent of {name} starts, {} found", found.len());
        self.tell_agent(machine, Input::Found(found));
        let delay = self.random.between(1, 100);
        self.after(delay, Happening::LinkTried { machine, generation });
    }

    pub(super) fn agent_wakes(&mut self, machine: usize, generation: u64) {
        let found = &mut self.machines[machine];
        if generation != found.agent_generation {
            return;
        }
        let clock = found.clock(self.now);
        let Some(agent) = &mut found.agent else {
            return;
        };
        if agent.wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        agent.wake_at = None;
        agent.node.handle_timeout(clock);
        self.carry_out(machine);
    }

    /// Hands something to the agent's state machine, if there is an agent, and carries out what
    /// it says.
    pub(super) fn tell_agent(&mut self, machine: usize, input: Input) {
        let found = &mut self.machines[machine];
        let clock = found.clock(self.now);
        if let Some(agent) = &mut found.agent {
            agent.node.handle(input, clock);
            self.carry_out(machine);
        }
    }

    fn carry_out(&mut self, machine: usize) {
        while let Some(action) = self.next_action(machine) {
            if self.random.chance(self.swarm.agent_dies_acting) {
                self.promises.coverage.count("fault: agent dies acting");
                return self.agent_dies(machine);
            }
            match action {
                Action::Start { instance, order } => self.start(machine, instance, order),
                Action::Probe { instance, .. } => self.probe(machine, instance),
                Action::Stop { instance, stop } => self.stop(machine, instance, stop),
                // No simulated instance is prepared for long, or ahead of time.
                Action::Abandon { .. } | Action::Warm { .. } => {}
                Action::Renew { sent_at } => self.renew(machine, sent_at.0),
                Action::Note { instance, noted } => {
                    self.machines[machine].launcher.note(instance, noted);
                }
                Action::Notify { instance, notices, noted } => {
                    self.notify(machine, instance, &notices, noted);
                }
                Action::Forget { instance } => {
                    trace!(self, "{} forgets {instance}", self.machines[machine].name);
                    if !self.machines[machine].launcher.forget(instance) {
                        let what = format!("{instance} still runs");
                        self.check(broken("only what has ended is forgotten", what));
                    }
                }
                Action::Send(report) => self.send(machine, &report),
            }
        }
        self.agent_sleeps(machine);
    }

    fn next_action(&mut self, machine: usize) -> Option<Action> {
        self.machines[machine].agent.as_mut()?.node.poll_action()
    }

    fn agent_sleeps(&mut self, machine: usize) {
        let found = &mut self.machines[machine];
        let (ahead, clock) = (found.clock_ahead_ms, found.clock(self.now));
        let generation = found.agent_generation;
        let Some(agent) = &mut found.agent else {
            return;
        };
        let Some(timeout) = agent.node.poll_timeout() else {
            return;
        };
        if timeout <= clock {
            let what = format!("agent: {timeout:?} was due at {clock:?}");
            return self.check(broken("no timer is left behind", what));
        }
        let at = timeout.0 - ahead;
        if agent.wake_at.is_none_or(|wake_at| wake_at > at) {
            agent.wake_at = Some(at);
            let wakes = Happening::AgentWakes { machine, generation };
            self.after(at - self.now, wakes);
        }
    }

    fn send(&mut self, machine: usize, report: &Report) {
        let found = &self.machines[machine];
        let incarnation = found.agent.as_ref().map_or(0, |agent| agent.incarnation);
        let (serial, blocked) = (found.link.serial, found.link.to_controller_blocked_until);
        if self.now < blocked {
            return;
        }
        for delay in self.journeys() {
            let bytes = minicbor::to_vec(report).expect("writing to memory does not fail");
            let arrives = Happening::ReportArrives { machine, incarnation, serial, bytes };
            self.after(delay, arrives);
        }
    }

    pub(super) fn orders_arrive(&mut self, machine: usize, serial: u64, orders: Box<Orders>) {
        let old = self.machines[machine].link.serial != serial;
        if old && !self.swarm.network.outlive_links {
            return;
        }
        trace!(
            self,
            "{} hears orders {} epoch {}",
            self.machines[machine].name,
            orders.sequence,
            orders.epoch
        );
        self.tell_agent(machine, Input::Orders(orders));
    }

    fn start(
        &mut self,
        machine: usize,
        instance: InstanceId,
        order: Box<spawnery_model::StartOrder>,
    ) {
        trace!(self, "{} starts {instance}", self.machines[machine].name);
        let node = self.machines[machine].node.expect("its agent runs");
        let found = &mut self.machines[machine];
        if !found.launcher.alive {
            let exit = failure("the launcher does not answer", false, self.now);
            return self.tell_agent(machine, Input::Ended { instance, exit });
        }
        if found.launcher.has_started(instance) {
            let what = format!("{instance} on {}", found.name);
            return self.check(broken("no instance is started twice", what));
        }
        let trouble = &self.swarm.runtime;
        let fates =
            found.launcher.start(instance, order.clone(), self.now, trouble, &mut self.random);
        let generation = found.launcher.generation;
        let result = self.promises.starts(machine, node, instance, &order);
        self.check(result);
        self.check_key(machine, instance);
        self.watch_lease(machine, instance);
        for (delay, fate) in fates {
            let process = Happening::Process { machine, generation, instance, fate };
            self.after(delay, process);
        }
    }

    fn probe(&mut self, machine: usize, instance: InstanceId) {
        let found = &self.machines[machine];
        let generation = found.agent_generation;
        let process = found.launcher.instances.get(&instance);
        let Some(listens_at) = process.and_then(|process| process.listens_at) else {
            return;
        };
        let delay = listens_at.saturating_sub(self.now) + 1;
        let probed = Happening::Probed { machine, generation, instance };
        self.after(delay, probed);
    }

    pub(super) fn probed(&mut self, machine: usize, generation: u64, instance: InstanceId) {
        if generation == self.machines[machine].agent_generation {
            self.tell_agent(machine, Input::Ready { instance });
        }
    }

    fn stop(&mut self, machine: usize, instance: InstanceId, stop: spawnery_model::Stop) {
        trace!(self, "{} stops {instance}", self.machines[machine].name);
        let trouble = &self.swarm.runtime;
        let launcher = &mut self.machines[machine].launcher;
        if !launcher.alive {
            return;
        }
        let generation = launcher.generation;
        let ends = launcher.stop(instance, stop, self.now, trouble, &mut self.random);
        if let Some((delay, fate)) = ends {
            let process = Happening::Process { machine, generation, instance, fate };
            self.after(delay, process);
        }
    }

    pub(super) fn process_happens(
        &mut self,
        machine: usize,
        generation: u64,
        instance: InstanceId,
        fate: Fate,
    ) {
        let launcher = &mut self.machines[machine].launcher;
        if launcher.generation != generation {
            return;
        }
        let input = match fate {
            Fate::Starts => launcher.started(instance).map(|pid| Input::Started { instance, pid }),
            Fate::Ends { ill: true, .. } if self.healed_at.is_some() => {
                // What could not start before can now.
                let starting = launcher.instances.get(&instance);
                let starting = starting.is_some_and(|p| matches!(p.state, ProcessState::Starting));
                let pid = starting.then(|| launcher.started(instance)).flatten();
                pid.map(|pid| Input::Started { instance, pid })
            }
            Fate::Ends { exit, .. } => {
                launcher.ended(instance, exit).map(|exit| Input::Ended { instance, exit })
            }
        };
        let Some(input) = input else {
            return;
        };
        if let Input::Ended { exit, .. } = &input {
            trace!(
                self,
                "{instance} ends on {}: {:?} {:?}",
                self.machines[machine].name,
                exit.code,
                exit.signal
            );
            if self.sabotage == Some(Sabotage::HideEnds) {
                return;
            }
        }
        self.tell_agent(machine, input);
    }

    pub(super) fn link_tried(&mut self, machine: usize, generation: u64) {
        let found = &self.machines[machine];
        if generation != found.agent_generation || found.agent.is_none() || found.link.up {
            return;
        }
        if self.controller.process.is_none() || found.link.is_blocked(self.now) {
            let delay = self.random.between(100, RECONNECT_MS_MAX);
            let tried = Happening::LinkTried { machine, generation };
            return self.after(delay, tried);
        }
        let link = &mut self.machines[machine].link;
        link.up = true;
        link.serial += 1;
        trace!(self, "link of {} is up", self.machines[machine].name);
        self.tell_agent(machine, Input::LinkUp);
    }

    pub(super) fn link_lost(&mut self, machine: usize, serial: u64) {
        let link = &mut self.machines[machine].link;
        if !link.up || link.serial != serial {
            return;
        }
        link.up = false;
        link.serial += 1;
        trace!(self, "link of {} is down", self.machines[machine].name);
        self.tell_agent(machine, Input::LinkDown);
        let generation = self.machines[machine].agent_generation;
        let delay = self.random.between(10, RECONNECT_MS_MAX);
        let tried = Happening::LinkTried { machine, generation };
        self.after(delay, tried);
    }

    /// The agent's process dies. Its launcher and its instances go on.
    pub(super) fn agent_dies(&mut self, machine: usize) {
        let found = &mut self.machines[machine];
        if found.agent.take().is_none() {
            return;
        }
        found.link.up = false;
        found.link.serial += 1;
        trace!(self, "agent of {} dies", self.machines[machine].name);
        let delay = self.random.between(10, 5000);
        self.after(delay, Happening::AgentStarts { machine });
    }

    /// The launcher dies, and all that it had started.
    pub(super) fn launcher_dies(&mut self, machine: usize, why: &str) {
        let found = &mut self.machines[machine];
        if !found.launcher.alive {
            return;
        }
        found.launcher.crash(why, self.now);
        trace!(self, "launcher of {} dies", self.machines[machine].name);
        let delay = self.random.between(10, 2000);
        self.after(delay, Happening::LauncherStarts { machine });
    }

    /// The launcher is back and tells an agent that is there what has become of its instances.
    pub(super) fn launcher_starts(&mut self, machine: usize) {
        let found = &mut self.machines[machine];
        if found.launcher.alive || !found.powered {
            return;
        }
        found.launcher.alive = true;
        let ended = found.launcher.found().into_iter();
        let ended: Vec<_> = ended.filter_map(|f| f.exit.map(|e| (f.instance, e))).collect();
        for (instance, exit) in ended {
            self.tell_agent(machine, Input::Ended { instance, exit });
        }
    }

    pub(super) fn machine_of(&self, node: NodeId) -> Option<usize> {
        let mut machines = self.machines.iter();
        machines.position(|machine: &Machine| machine.node == Some(node))
    }
}
