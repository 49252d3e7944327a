//! The task that drives the node's state machine.

use crate::clock::Clock;
use crate::prepare::{For, Preparer};
use crate::{notices, readiness};
use spawnery_model::{Exit, InstanceId, Notice, Report, StartOrder, Stop, Timestamp, WarmPool};
use spawnery_node::{Action, Check, Input as NodeInput, Node, Noted};
use spawnery_runtime::{
    Event, Events, OperationError, Prepared, Runtime, StartError, Started, Warm,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Inputs that wait for the driver. When it is full, their senders wait.
pub(crate) const INPUTS_WAITING_MAX: usize = 256;

/// Instances that are being started at once: a start takes milliseconds of the launcher's time,
/// so that more would only wait there.
const STARTS_AT_ONCE_MAX: usize = 64;

/// Time until an instance is told again to stop, when that failed.
const STOP_RETRY_DELAY: Duration = Duration::from_millis(250);

/// What the driver is told by other tasks.
pub(crate) enum Input {
    /// There is a link; what is to be reported goes here.
    LinkUp(mpsc::Sender<Box<Report>>),
    /// For the node.
    Node(NodeInput),
}

/// Drives the node.
pub(crate) struct Driver {
    node: Node,
    clock: Clock,
    runtime: Arc<dyn Runtime>,
    inputs: mpsc::Sender<Input>,
    reports: Option<mpsc::Sender<Box<Report>>>,
    work: JoinSet<()>,
    starts: Arc<Semaphore>,
    preparer: Preparer,
    /// Instances that were told to start and have not said how that went.
    preparing: BTreeMap<InstanceId, CancellationToken>,
    /// For each instance that was to be told something, when that is done.
    notifying: BTreeMap<InstanceId, oneshot::Receiver<()>>,
    /// The sandboxes that are to be kept ready.
    pools: Vec<WarmPool>,
    /// The task that sees to it.
    warming: Option<AbortHandle>,
    /// Told whenever the runtime has heard of a new instance.
    begun: watch::Sender<()>,
}

impl Driver {
    /// `inputs` is the sending end of what [`Driver::run`] takes.
    pub(crate) fn new(
        node: Node,
        clock: Clock,
        runtime: Arc<dyn Runtime>,
        inputs: mpsc::Sender<Input>,
        begun: watch::Sender<()>,
        preparer: Preparer,
    ) -> Driver {
        Driver {
            node,
            clock,
            runtime,
            inputs,
            reports: None,
            work: JoinSet::new(),
            starts: Arc::new(Semaphore::new(STARTS_AT_ONCE_MAX)),
            preparer,
            preparing: BTreeMap::new(),
            notifying: BTreeMap::new(),
            pools: Vec::new(),
            warming: None,
            begun,
        }
    }

    /// Runs until it is aborted. All work that it began ends with it.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, mut events: Events) {
        loop {
            while let Some(action) = self.node.poll_action() {
                self.carry_out(action);
            }
            let timeout = self.node.poll_timeout().map(|at| self.clock.instant(at));
            let sleep = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take_in(input),
                    None => return,
                },
                event = events.recv() => match event {
                    Some(event) => self.take_in_event(event),
                    None => return,
                },
                Some(done) = self.work.join_next(), if !self.work.is_empty() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "a task of the agent failed");
                    }
                }
                () = sleep => self.node.handle_timeout(self.clock.now()),
            }
        }
    }

    fn take_in(&mut self, input: Input) {
        let input = match input {
            Input::LinkUp(reports) => {
                self.reports = Some(reports);
                NodeInput::LinkUp
            }
            Input::Node(input) => {
                match &input {
                    NodeInput::LinkDown => self.reports = None,
                    NodeInput::Started { instance, .. } => _ = self.preparing.remove(instance),
                    NodeInput::Ended { instance, .. } => _ = self.preparing.remove(instance),
                    _ => {}
                }
                input
            }
        };
        self.node.handle(input, self.clock.now());
    }

    fn take_in_event(&mut self, event: Event) {
        match event {
            Event::Ended { instance, exit } => {
                tracing::debug!(%instance, code = exit.code, signal = exit.signal, "ended");
                self.preparer.in_use.give_back(instance);
                self.notifying.remove(&instance);
                self.node.handle(NodeInput::Ended { instance, exit }, self.clock.now());
            }
            Event::Disconnected { reason } => tracing::warn!(reason, "the launcher is gone"),
            Event::Reconnected => {
                tracing::info!("the launcher is there again");
                // It may be a new one.
                self.warm(self.pools.clone());
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { instance, order } => self.start(instance, order),
            Action::Probe { instance, check } => self.probe(instance, check),
            Action::Renew { sent_at } => self.renew(sent_at),
            Action::Note { instance, noted } => self.notify(instance, Vec::new(), noted),
            Action::Notify { instance, notices, noted } => self.notify(instance, notices, noted),
            Action::Warm { pools } => self.warm(pools),
            Action::Stop { instance, stop } => self.stop(instance, stop),
            Action::Abandon { instance } => self.abandon(instance),
            Action::Forget { instance } => self.forget(instance),
            Action::Send(report) => self.send(report),
        }
    }

    fn start(&mut self, instance: InstanceId, mut order: Box<StartOrder>) {
        let (starts, runtime) = (self.starts.clone(), self.runtime.clone());
        let (inputs, begun, clock) = (self.inputs.clone(), self.begun.clone(), self.clock);
        let (preparer, abandoned) = (self.preparer.clone(), CancellationToken::new());
        self.preparing.insert(instance, abandoned.clone());
        self.work.spawn(async move {
            let prepared = tokio::select! {
                prepared = prepare(&preparer, instance, &mut order, &inputs) => prepared,
                () = abandoned.cancelled() => Err("it was stopped before it started".to_owned()),
            };
            let result = match prepared {
                Err(message) => Err(StartError { message }),
                Ok(prepared) => {
                    let _permit = starts.acquire().await;
                    let start = runtime.start(instance, &order, prepared);
                    begun.send_replace(());
                    start.await
                }
            };
            if result.is_err() {
                preparer.in_use.give_back(instance);
            }
            tell(&inputs, started(instance, result, clock)).await;
        });
    }

    /// Gives up preparing an instance. If it is being started already, nothing.
    fn abandon(&mut self, instance: InstanceId) {
        if let Some(abandoned) = self.preparing.get(&instance) {
            abandoned.cancel();
        }
    }

    /// Keeps sandboxes ready, after what they need is there. The newest wish is what counts.
    fn warm(&mut self, pools: Vec<WarmPool>) {
        let (preparer, runtime) = (self.preparer.clone(), self.runtime.clone());
        self.pools.clone_from(&pools);
        if let Some(warming) = self.warming.take() {
            warming.abort();
        }
        self.warming = Some(self.work.spawn(async move {
            let mut ready = Vec::new();
            for WarmPool { mut order, count } in pools {
                let whom = For::Pool(order.workload.clone());
                match preparer.prepare(&whom, &mut order, |_| ()).await {
                    Ok(prepared) => ready.push(Warm { order, prepared, count }),
                    Err(reason) => {
                        let workload = &order.workload;
                        tracing::warn!(%workload, reason, "no sandboxes are kept ready for it");
                    }
                }
            }
            if let Err(error) = runtime.warm(ready).await {
                tracing::warn!(%error, "cannot keep sandboxes ready");
            }
        }));
    }

    /// Waits for the start of an instance that an agent before this one began with.
    pub(crate) fn resume(&mut self, instance: InstanceId) {
        let (runtime, inputs, clock) = (self.runtime.clone(), self.inputs.clone(), self.clock);
        self.work.spawn(async move {
            let result = runtime.resume(instance).await;
            tell(&inputs, started(instance, result, clock)).await;
        });
    }

    fn probe(&mut self, instance: InstanceId, check: Check) {
        let (runtime, inputs) = (self.runtime.clone(), self.inputs.clone());
        self.work.spawn(async move {
            // The end of an instance is told elsewhere.
            if readiness::wait(&*runtime, instance, &check).await.is_ok() {
                tell(&inputs, NodeInput::Ready { instance }).await;
            }
        });
    }

    fn renew(&mut self, sent_at: Timestamp) {
        // At once, because what is started next goes by it.
        self.runtime.heard(self.clock.boottime_ms(sent_at));
        let runtime = self.runtime.clone();
        self.work.spawn(async move {
            // The next confirmed report renews again.
            if let Err(error) = runtime.renew().await {
                tracing::warn!(%error, "cannot renew the leases of sessions");
            }
        });
    }

    /// Has something remembered and told to an instance, after what came before.
    fn notify(&mut self, instance: InstanceId, notices: Vec<Notice>, noted: Noted) {
        let (done, later) = oneshot::channel();
        let before = self.notifying.insert(instance, later);
        let runtime = self.runtime.clone();
        self.work.spawn(async move {
            if let Some(before) = before {
                // One that failed is over too.
                let _ = before.await;
            }
            notices::give(&*runtime, instance, notices, noted).await;
            drop(done);
        });
    }

    fn stop(&mut self, instance: InstanceId, stop: Stop) {
        let runtime = self.runtime.clone();
        self.work.spawn(async move {
            loop {
                match runtime.stop(instance, stop).await {
                    // Its end is told elsewhere.
                    Ok(()) | Err(OperationError::Unknown | OperationError::NotRunning) => return,
                    Err(error @ OperationError::Unavailable { .. }) => {
                        tracing::warn!(%instance, %error, "cannot stop it yet");
                    }
                    Err(error) => {
                        tracing::error!(%instance, %error, "cannot stop it");
                        return;
                    }
                }
                tokio::time::sleep(STOP_RETRY_DELAY).await;
            }
        });
    }

    fn forget(&mut self, instance: InstanceId) {
        let runtime = self.runtime.clone();
        self.work.spawn(async move {
            // What stays is found by the next agent, and its controller has it forgotten again.
            if let Err(error) = runtime.forget(instance).await {
                tracing::warn!(%instance, %error, "cannot remove its data");
            }
        });
    }

    /// A report that finds no place is as good as one that the network lost: what it said is said
    /// again.
    fn send(&mut self, report: Box<Report>) {
        let Some(reports) = &self.reports else {
            return;
        };
        if reports.try_send(report).is_err() {
            tracing::debug!("a report was not sent");
        }
    }
}

/// Prepares an instance, and tells what takes long.
async fn prepare(
    preparer: &Preparer,
    instance: InstanceId,
    order: &mut StartOrder,
    inputs: &mpsc::Sender<Input>,
) -> Result<Prepared, String> {
    let (progress, mut told) = watch::channel(None);
    let whom = For::Instance(instance);
    let preparing = preparer.prepare(&whom, order, |text| _ = progress.send_replace(Some(text)));
    tokio::pin!(preparing);
    loop {
        tokio::select! {
            prepared = &mut preparing => return prepared,
            Ok(()) = told.changed() => {
                let text = told.borrow_and_update().clone();
                tell(inputs, NodeInput::Progress { instance, text }).await;
            }
        }
    }
}

fn started(instance: InstanceId, result: Result<Started, StartError>, clock: Clock) -> NodeInput {
    match result {
        Ok(Started { pid }) => NodeInput::Started { instance, pid },
        Err(StartError { message }) => {
            tracing::warn!(%instance, message, "cannot start");
            let failure = Some(message);
            let exit = Exit { failure, at: clock.now(), ..Exit::default() };
            NodeInput::Ended { instance, exit }
        }
    }
}

/// The driver is gone only when the agent ends; then nobody needs to know.
async fn tell(inputs: &mpsc::Sender<Input>, input: NodeInput) {
    let _ = inputs.send(Input::Node(input)).await;
}
