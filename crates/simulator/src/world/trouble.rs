//! Machines come, and faults happen, until everything heals.

use super::{Happening, World, trace};
use crate::generate;
use crate::launcher::Launcher;
use crate::machine::{Link, Machine};
use crate::swarm::Fault;
use spawnery_cluster::SecretHash;
use spawnery_model::{NodeId, NodeStatus};

/// How long a machine whose node was told to stop takes to be back.
const RESTART_MS_MAX: u64 = 30_000;

/// How much longer than others some partitions last.
const PARTITION_MS_LONG: u64 = 40_000;

/// The farthest that the controller's clock is set back at once: what a time service corrects.
const CLOCK_BACK_MS_MAX: u64 = 400;

/// The farthest that the controller's clock is set forward at once.
const CLOCK_FORWARD_MS_MAX: u64 = 20_000;

impl World {
    /// A machine that will join within so many milliseconds.
    pub(super) fn add_machine(&mut self, within_ms: u64) {
        let machine = self.machines.len();
        let (labels, capacity) = generate::machine(&mut self.random);
        self.machines.push(Machine {
            name: generate::numbered("node", machine as u64),
            labels,
            capacity,
            clock_ahead_ms: 1_700_000_000_000 + self.random.below(1 << 36),
            node: None,
            token: SecretHash([0; 32]),
            powered: true,
            restarts_soon: false,
            destroyed: false,
            launcher: Launcher::new(),
            agent: None,
            agent_generation: 0,
            link: Link::default(),
        });
        let delay = self.random.below(within_ms + 1);
        self.after(delay, Happening::MachineJoins { machine });
    }

    /// A fault happens, and the next of its kind some time later.
    pub(super) fn fault(&mut self, fault: Fault, mean_ms: u64) {
        if self.healed_at.is_some() {
            return;
        }
        self.promises.coverage.count(fault.name());
        self.fault_now(fault);
        let delay = self.random.around(mean_ms);
        self.after(delay, Happening::Fault(fault, mean_ms));
    }

    fn fault_now(&mut self, fault: Fault) {
        trace!(self, "{}", fault.name());
        let machine = self.random.below(self.machines.len() as u64) as usize;
        let long = self.random.between(500, 40_000);
        // Some partitions last longer than a key's fence, which begins when the node is lost.
        let cut_off = if self.random.chance(500) { long + PARTITION_MS_LONG } else { long };
        let until = self.now + cut_off;
        let storage = &mut self.controller.storage;
        match fault {
            Fault::ControllerCrash => self.controller_dies(),
            Fault::JournalFull => storage.full_until = self.now + long / 2,
            Fault::JournalFails => storage.fails_next = true,
            Fault::JournalSlow => storage.slow_until = self.now + long / 4,
            Fault::AgentCrash => self.agent_dies(machine),
            Fault::LauncherCrash => self.launcher_dies(machine, "its launcher died"),
            Fault::MachineCrash => self.machine_dies(machine, long),
            Fault::MachineDestroyed => {
                let usable = self.machines.iter().filter(|m| !m.destroyed).count();
                if usable > 1 {
                    self.machines[machine].destroyed = true;
                    self.machine_dies(machine, 0);
                }
            }
            Fault::MachineChanged => {
                let (labels, capacity) = generate::machine(&mut self.random);
                let changed = &mut self.machines[machine];
                (changed.labels, changed.capacity) = (labels, capacity);
                self.agent_dies(machine);
            }
            Fault::LinkFlap => {
                let serial = self.machines[machine].link.serial;
                self.link_lost(machine, serial);
            }
            Fault::PartitionBoth => {
                let link = &mut self.machines[machine].link;
                link.to_controller_blocked_until = until;
                link.to_agent_blocked_until = until;
                self.partition_is_noticed(machine);
            }
            Fault::PartitionToController => {
                self.machines[machine].link.to_controller_blocked_until = until;
                self.partition_is_noticed(machine);
            }
            Fault::PartitionToAgent => {
                self.machines[machine].link.to_agent_blocked_until = until;
                self.partition_is_noticed(machine);
            }
            Fault::ClockForward => {
                let step = self.random.below(CLOCK_FORWARD_MS_MAX);
                self.controller.forward_ms += step;
                self.controller.steps_forward.push((self.now, step));
            }
            Fault::ClockBack => self.controller.back_ms += self.random.below(CLOCK_BACK_MS_MAX),
        }
    }

    /// A link that carries nothing breaks after a while, or is whole again before.
    fn partition_is_noticed(&mut self, machine: usize) {
        let serial = self.machines[machine].link.serial;
        let delay = self.random.between(200, 30_000);
        self.after(delay, Happening::PartitionNoticed { machine, serial });
    }

    /// The power goes. It comes back after `long`, unless the machine is destroyed.
    fn machine_dies(&mut self, machine: usize, long: u64) {
        if !self.machines[machine].powered {
            return;
        }
        self.agent_dies(machine);
        self.launcher_dies(machine, "its machine was restarted");
        self.machines[machine].powered = false;
        if !self.machines[machine].destroyed {
            self.after(long, Happening::MachineStarts { machine });
        }
    }

    pub(super) fn machine_starts(&mut self, machine: usize) {
        let found = &mut self.machines[machine];
        if found.powered || found.destroyed {
            return;
        }
        found.powered = true;
        found.launcher.alive = true;
        self.after(50, Happening::AgentStarts { machine });
    }

    /// A node was told to stop: its machine is shut down and started again, or only its agent is.
    pub(super) fn machine_will_restart(&mut self, node: NodeId) {
        let Some(machine) = self.machine_of(node) else {
            return;
        };
        if self.machines[machine].restarts_soon {
            return;
        }
        self.machines[machine].restarts_soon = true;
        let delay = self.random.between(1000, RESTART_MS_MAX);
        self.after(delay, Happening::MachineRestarts { machine });
    }

    pub(super) fn machine_restarts(&mut self, machine: usize) {
        self.machines[machine].restarts_soon = false;
        match self.random.chance(500) {
            true => self.machine_dies(machine, 5000),
            false => self.agent_dies(machine),
        }
    }

    /// A node was removed: what is on its machine is wiped, and it may join as a new node.
    pub(super) fn machine_is_wiped(&mut self, node: NodeId) {
        let Some(machine) = self.machine_of(node) else {
            return;
        };
        trace!(self, "{} is wiped", self.machines[machine].name);
        self.agent_dies(machine);
        let found = &mut self.machines[machine];
        found.node = None;
        found.launcher.wipe();
        if !found.destroyed {
            found.powered = true;
            let delay = self.random.between(100, 20_000);
            self.after(delay, Happening::MachineJoins { machine });
        }
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        trace!(self, "healed");
        self.healed_at = Some(self.now);
        if self.scale {
            self.converged = true;
            return;
        }
        self.swarm.heal();
        self.controller.storage.full_until = 0;
        self.controller.storage.slow_until = 0;
        self.controller.storage.fails_next = false;
        for machine in 0..self.machines.len() {
            let link = &mut self.machines[machine].link;
            link.to_controller_blocked_until = 0;
            link.to_agent_blocked_until = 0;
        }
        let stopping: Vec<NodeId> = self
            .promises
            .durable
            .nodes()
            .filter(|entry| entry.node.status == NodeStatus::Stopping)
            .map(|entry| entry.node.id)
            .collect();
        for node in stopping {
            self.machine_will_restart(node);
        }
        self.after(super::CONVERGENCE_CHECK_MS, Happening::CheckConvergence);
    }
}
