//! What the launcher has, as far as requests need it.

use crate::log::LogProgress;
use crate::process::spec;
use crate::runtime::OperationError;
use spawnery_model::{Exit, InstanceId, StartOrder};
use spawnery_sandbox::protocol::{Event, InstanceInfo, InstanceState, ProcessInfo};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// All instances that the launcher has or was asked to start.
#[derive(Default)]
pub(super) struct Index {
    instances: BTreeMap<InstanceId, Instance>,
}

struct Instance {
    /// Whether it ends if it is not renewed.
    has_lease: bool,
    surroundings: Surroundings,
    life: Life,
    processes: BTreeMap<u32, Process>,
}

/// What the main process of an instance was started with.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) env: Vec<(String, String)>,
    pub(super) working_directory: Option<String>,
    pub(super) run: Vec<String>,
}

/// What is known here of a main process.
pub(super) struct Main {
    pub(super) run: Vec<String>,
    /// Its end, if the launcher has not told it in words of its own.
    pub(super) exit: Option<Exit>,
}

/// How far an instance is.
enum Life {
    /// Its start was asked for, and the answer is not here.
    Starting,
    Running,
    /// Its start failed.
    Failed,
    Ended,
}

enum Process {
    /// The sender is made when somebody reads the log.
    Running(Option<watch::Sender<LogProgress>>),
    /// `last_output` is left out: it is in the log.
    Ended(Box<Exit>),
}

impl Process {
    fn new(exit: Option<Exit>) -> Self {
        exit.map_or(Process::Running(None), |exit| Process::Ended(Box::new(exit)))
    }

    /// Whether this changed anything.
    fn end(&mut self, exit: &Exit) -> bool {
        let Process::Running(watchers) = self else {
            return false;
        };
        let exit = Exit { last_output: String::new(), ..exit.clone() };
        if let Some(watchers) = watchers {
            watchers.send_modify(|progress| {
                progress.news += 1;
                progress.exit = Some(exit.clone());
            });
        }
        *self = Process::Ended(Box::new(exit));
        true
    }

    fn tell_news(&self) {
        if let Process::Running(Some(watchers)) = self {
            watchers.send_modify(|progress| progress.news += 1);
        }
    }

    fn watch(&mut self) -> watch::Receiver<LogProgress> {
        match self {
            Process::Running(Some(watchers)) => watchers.subscribe(),
            Process::Running(none) => {
                let (sender, receiver) = watch::channel(LogProgress::default());
                *none = Some(sender);
                receiver
            }
            Process::Ended(exit) => {
                let exit = Some((**exit).clone());
                watch::channel(LogProgress { news: 1, exit }).1
            }
        }
    }
}

impl Index {
    /// Notes that a start is asked for; false if the id was used before.
    pub(super) fn begin(&mut self, instance: InstanceId, order: &StartOrder) -> bool {
        if self.instances.contains_key(&instance) {
            return false;
        }
        self.instances.insert(instance, Instance::new(instance, order));
        true
    }

    pub(super) fn started(&mut self, instance: InstanceId) {
        if let Some(known) = self.instances.get_mut(&instance)
            && matches!(known.life, Life::Starting)
        {
            known.life = Life::Running;
        }
    }

    pub(super) fn failed(&mut self, instance: InstanceId, message: &str) {
        if let Some(known) = self.instances.get_mut(&instance) {
            let failure = Some(message.to_owned());
            known.end_processes(&Exit { failure, ..Exit::default() });
            known.life = Life::Failed;
        }
    }

    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
    }

    /// The number for a further process of an instance, which is taken by this.
    pub(super) fn add_process(&mut self, instance: InstanceId) -> Result<u32, OperationError> {
        let known = self.living(instance)?;
        let number = known.processes.keys().next_back().map_or(1, |last| last + 1);
        known.processes.insert(number, Process::new(None));
        Ok(number)
    }

    /// Takes back the number of a process that could not be started.
    pub(super) fn remove_process(&mut self, instance: InstanceId, process: u32, reason: &str) {
        let Some(known) = self.instances.get_mut(&instance) else {
            return;
        };
        // The number stays used, because the launcher may know it.
        if let Some(process) = known.processes.get_mut(&process) {
            let failure = Some(reason.to_owned());
            process.end(&Exit { failure, ..Exit::default() });
        }
    }

    /// What a further process of an instance shares with its main one.
    pub(super) fn surroundings(
        &mut self,
        instance: InstanceId,
    ) -> Result<Surroundings, OperationError> {
        Ok(self.living(instance)?.surroundings.clone())
    }

    /// How many further processes of a living instance have not ended.
    pub(super) fn execs_running(&mut self, instance: InstanceId) -> Result<u32, OperationError> {
        let further = self.living(instance)?.processes.range(1..);
        let running = further.filter(|(_, process)| matches!(process, Process::Running(_)));
        Ok(u32::try_from(running.count()).unwrap_or(u32::MAX))
    }

    /// Whether instances live that end if they are not renewed.
    pub(super) fn has_leases(&self) -> bool {
        let lives = |known: &Instance| matches!(known.life, Life::Starting | Life::Running);
        self.instances.values().any(|known| known.has_lease && lives(known))
    }

    /// The main process of an instance.
    pub(super) fn main(&self, instance: InstanceId) -> Result<Main, OperationError> {
        let known = self.instances.get(&instance).ok_or(OperationError::Unknown)?;
        let exit = known.processes.get(&0).and_then(|process| match process {
            Process::Running(_) => None,
            Process::Ended(exit) => Some((**exit).clone()),
        });
        Ok(Main { run: known.surroundings.run.clone(), exit })
    }

    /// How far the log of a process is, now and later.
    pub(super) fn watch(
        &mut self,
        instance: InstanceId,
        process: u32,
    ) -> Result<watch::Receiver<LogProgress>, OperationError> {
        let known = self.instances.get_mut(&instance);
        let process = known.and_then(|known| known.processes.get_mut(&process));
        Ok(process.ok_or(OperationError::Unknown)?.watch())
    }

    /// Why the launcher says that there is no such instance or process.
    pub(super) fn why_not_found(
        &self,
        instance: InstanceId,
        process: Option<u32>,
    ) -> OperationError {
        let Some(known) = self.instances.get(&instance) else {
            return OperationError::Unknown;
        };
        match process {
            Some(process) if !known.processes.contains_key(&process) => OperationError::Unknown,
            _ => OperationError::NotRunning,
        }
    }

    /// Takes in an event. If an instance is over by it, gives which one and how.
    pub(super) fn event(&mut self, event: &Event) -> Option<(InstanceId, Exit)> {
        match event {
            Event::Output { instance, process, .. } => {
                let known = self.instances.get(&instance.parse().ok()?)?;
                known.processes.get(process)?.tell_news();
                None
            }
            Event::Exited { instance, process, exit } => {
                let instance = instance.parse().ok()?;
                let known = self.instances.get_mut(&instance)?;
                let exit = spec::exit(exit);
                if *process == 0 {
                    return known.end(&exit).then_some((instance, exit));
                }
                known.processes.get_mut(process)?.end(&exit);
                None
            }
        }
    }

    /// Takes in what a launcher has after a new connection, and gives which instances are over
    /// since the last one. Instances whose start is being asked for may be missing from it.
    pub(super) fn reconcile(&mut self, infos: &[InstanceInfo]) -> Vec<(InstanceId, Exit)> {
        let mut ended = Vec::new();
        let mut unseen: Vec<InstanceId> = self.instances.keys().copied().collect();
        for info in infos {
            let Some((instance, order)) = spec::order(info) else {
                continue;
            };
            unseen.retain(|unseen| *unseen != instance);
            let known = self.instances.entry(instance);
            let known = known.or_insert_with(|| Instance::new(instance, &order));
            ended.extend(known.reconcile(info).map(|exit| (instance, exit)));
        }
        for instance in unseen {
            let known = self.instances.get_mut(&instance).expect("its key was just read");
            let exit = spec::lost();
            if matches!(known.life, Life::Running) && known.end(&exit) {
                ended.push((instance, exit));
            }
        }
        ended
    }

    fn living(&mut self, instance: InstanceId) -> Result<&mut Instance, OperationError> {
        let known = self.instances.get_mut(&instance).ok_or(OperationError::Unknown)?;
        match known.life {
            Life::Starting | Life::Running => Ok(known),
            Life::Failed | Life::Ended => Err(OperationError::NotRunning),
        }
    }
}

impl Instance {
    fn new(instance: InstanceId, order: &StartOrder) -> Self {
        Self {
            has_lease: order.session.as_ref().is_some_and(|session| session.lease.is_some()),
            surroundings: Surroundings {
                env: spec::environment(instance, order),
                working_directory: order.process.working_directory.clone(),
                run: order.process.run.clone(),
            },
            life: Life::Starting,
            processes: BTreeMap::from([(0, Process::new(None))]),
        }
    }

    /// Whether this changed anything.
    fn end(&mut self, exit: &Exit) -> bool {
        if matches!(self.life, Life::Ended | Life::Failed) {
            return false;
        }
        self.life = Life::Ended;
        if exit.lost {
            self.end_processes(exit);
        } else if let Some(main) = self.processes.get_mut(&0) {
            main.end(exit);
        }
        true
    }

    fn end_processes(&mut self, exit: &Exit) {
        for process in self.processes.values_mut() {
            process.end(exit);
        }
    }

    /// How it ended, if that is news.
    fn reconcile(&mut self, info: &InstanceInfo) -> Option<Exit> {
        let is_over = !matches!(info.state, InstanceState::Running { .. });
        for ProcessInfo { process, exit } in &info.processes {
            let known = self.processes.entry(*process).or_insert_with(|| Process::new(None));
            known.tell_news();
            match exit {
                Some(exit) => _ = known.end(&spec::exit(exit)),
                None if is_over && *process != 0 => _ = known.end(&spec::lost()),
                None => {}
            }
        }
        match &info.state {
            // 0: it is still being started.
            InstanceState::Running { pid: 0, .. } => None,
            InstanceState::Running { .. } => {
                self.life = Life::Running;
                None
            }
            InstanceState::Failed { .. } => {
                self.end_processes(&spec::state_exit(&info.state)?);
                self.life = Life::Failed;
                None
            }
            state => {
                let exit = spec::state_exit(state)?;
                self.end(&exit).then_some(exit)
            }
        }
    }
}
