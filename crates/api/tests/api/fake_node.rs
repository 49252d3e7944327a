//! A node that runs nothing: it reports what the test says and streams what the test wrote.

use crate::common::{Api, FINGERPRINT};
use spawnery_agent::link::{Session, Stream, read_frame, write_frame};
use spawnery_model::{
    Bytes, Capacity, CpuMillis, Exit, InstanceId, Introduction, Name, NodeId, Observation,
    Observed, Report, Timestamp, Want,
};
use spawnery_wire::link::{
    Down, Hello, Identity, LogFrame, LogStart, PROTOCOL_VERSION, RefusalKind, StreamReply,
    StreamRequest, Up, UsageReport, Welcome,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, WriteHalf};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

pub(crate) struct FakeNode {
    pub(crate) id: NodeId,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    node: NodeId,
    writer: Mutex<Writer>,
    /// What each instance wrote, and how it ended.
    logs: watch::Sender<BTreeMap<InstanceId, Vec<LogFrame>>>,
    /// What was asked of processes, in words, and what was written to their input.
    asked: watch::Sender<Vec<String>>,
}

struct Writer {
    stream: WriteHalf<Stream>,
    sequence: u64,
    epoch: u64,
    reign: u64,
    received: Vec<u64>,
    revisions: BTreeMap<InstanceId, u64>,
}

impl FakeNode {
    /// Joins by a token of the API. Each instance that it is given runs at once.
    pub(crate) async fn join(api: &Api, name: &str) -> FakeNode {
        let reply = api.post("/v1/join-tokens", "").await.expect(201);
        let token = reply["token"].as_str().unwrap();
        let secret = token.strip_suffix(FINGERPRINT).unwrap().strip_suffix('.').unwrap();

        let (near, far) = tokio::io::duplex(1 << 20);
        let controller = api.controller.clone();
        tokio::spawn(async move { controller.serve_link(far).await });
        let (session, mut incoming) = Session::client(near);
        let mut stream = session.open().await.unwrap();
        let name = Name::new(name).unwrap();
        let identity = Identity::Joining { token: secret.to_owned(), name: name.clone() };
        let hello = Hello { protocol: PROTOCOL_VERSION, identity };
        write_frame(&mut stream, &hello).await.unwrap();
        let welcome = read_frame::<Welcome, _>(&mut stream).await.unwrap();
        let Welcome::Accepted { node, .. } = welcome else {
            panic!("the token is taken");
        };

        let (mut reader, writer) = tokio::io::split(stream);
        let writer = Writer {
            stream: writer,
            sequence: 0,
            epoch: 0,
            reign: 0,
            received: Vec::new(),
            revisions: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            node,
            writer: Mutex::new(writer),
            logs: watch::channel(BTreeMap::new()).0,
            asked: watch::channel(Vec::new()).0,
        });
        shared.report(Some(introduction(name)), Vec::new()).await;
        let at_work = shared.clone();
        let task = tokio::spawn(async move {
            // The link lasts as long as its session.
            let _session = session;
            loop {
                tokio::select! {
                    down = read_frame::<Down, _>(&mut reader) => match down {
                        Ok(down) => at_work.obey(down).await,
                        Err(_) => return,
                    },
                    stream = incoming.recv() => match stream {
                        Some(stream) => drop(tokio::spawn(at_work.clone().answer(stream))),
                        None => return,
                    },
                }
            }
        });
        FakeNode { id: node, shared, task }
    }

    /// Writes a line to the standard output of an instance.
    pub(crate) fn write(&self, instance: &str, sequence: u64, text: &str) {
        let frame = LogFrame::Record {
            sequence,
            at_ms: 1000 + sequence,
            stream: 1,
            bytes: text.as_bytes().to_vec(),
        };
        self.tell(instance, frame);
    }

    /// Puts any frame into the log of an instance.
    pub(crate) fn tell(&self, instance: &str, frame: LogFrame) {
        let instance = instance.parse().unwrap();
        self.shared.logs.send_modify(|logs| logs.entry(instance).or_default().push(frame));
    }

    /// Ends an instance: its log says so, and then its node. Not before the node was told to run
    /// it: what a node says before it knows its epoch is refused, and this one says nothing twice.
    pub(crate) async fn exit(&self, instance: &str, code: i32) {
        self.was_asked(&format!("run {instance}")).await;
        let exit = Exit {
            code: Some(code),
            at: Timestamp(5000),
            last_output: "bye".to_owned(),
            ..Exit::default()
        };
        self.tell(instance, LogFrame::Exited { exit: exit.clone() });
        self.shared.observe(instance.parse().unwrap(), Observation::Ended { exit }).await;
    }

    /// Waits until something was asked that begins so.
    pub(crate) async fn was_asked(&self, beginning: &str) -> String {
        let mut asked = self.shared.asked.subscribe();
        let found = |asked: &Vec<String>| asked.iter().any(|asked| asked.starts_with(beginning));
        let wait = tokio::time::timeout(crate::common::DEADLINE, asked.wait_for(found)).await;
        let asked = wait.unwrap_or_else(|_| panic!("{beginning} was never asked")).unwrap();
        asked.iter().find(|asked| asked.starts_with(beginning)).unwrap().clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn introduction(name: Name) -> Introduction {
    Introduction {
        name,
        labels: BTreeMap::new(),
        capacity: Capacity { memory: Bytes(64 << 30), cpu: CpuMillis(64_000) },
        version: "0.0.0".to_owned(),
        incarnation: 1,
        allowances: None,
    }
}

impl Shared {
    async fn report(&self, introduction: Option<Introduction>, observed: Vec<Observed>) {
        let mut writer = self.writer.lock().await;
        writer.sequence += 1;
        let report = Report {
            node: self.node,
            epoch: writer.epoch,
            reign: writer.reign,
            sequence: writer.sequence,
            received: std::mem::take(&mut writer.received),
            introduction,
            observed,
        };
        // The test may have ended.
        let _ = write_frame(&mut writer.stream, &Up::Report(Box::new(report))).await;
    }

    async fn observe(&self, instance: InstanceId, observation: Observation) {
        let mut writer = self.writer.lock().await;
        let revision = writer.revisions.entry(instance).or_default();
        *revision += 1;
        let observed = Observed { instance, revision: *revision, observation };
        drop(writer);
        self.report(None, vec![observed]).await;
    }

    async fn obey(&self, down: Down) {
        let Down::Orders(orders) = down;
        {
            let mut writer = self.writer.lock().await;
            (writer.epoch, writer.reign) = (orders.epoch, orders.reign);
            writer.received.push(orders.sequence);
        }
        for order in orders.orders {
            let instance = order.instance;
            match order.want {
                Want::Run(_) => {
                    self.observe(instance, Observation::Ready { pid: 42 }).await;
                    self.note(format!("run {instance}"));
                }
                Want::Stop => {
                    let exit = Exit { signal: Some(15), at: Timestamp(6000), ..Exit::default() };
                    self.observe(instance, Observation::Ended { exit }).await;
                }
                Want::Forget => {
                    self.logs.send_modify(|logs| drop(logs.remove(&instance)));
                }
            }
        }
    }

    async fn answer(self: Arc<Shared>, mut stream: Stream) {
        let Ok(request) = read_frame::<StreamRequest, _>(&mut stream).await else {
            return;
        };
        match request {
            StreamRequest::Logs { instance, start, follow, process } => {
                self.stream_log(stream, (instance, process), start, follow).await;
            }
            StreamRequest::Exec {
                run,
                env,
                working_directory,
                stdin,
                user,
                terminal,
                timeout,
                ..
            } => {
                self.note(format!("exec {run:?} {env:?} {working_directory:?} {stdin}"));
                let terminal = terminal.map(|size| (size.columns, size.rows));
                let timeout = timeout.map(|timeout| timeout.0);
                self.note(format!("by {user:?} on {terminal:?} for {timeout:?}"));
                let reply = match run[0].as_str() {
                    "missing" => StreamReply::Refused {
                        kind: RefusalKind::Failed,
                        reason: "no such program: missing".to_owned(),
                    },
                    _ => StreamReply::Started { process: 3 },
                };
                let _ = write_frame(&mut stream, &reply).await;
            }
            StreamRequest::Signal { process, signal, .. } => {
                self.note(format!("signal {signal} to {process}"));
                let _ = write_frame(&mut stream, &StreamReply::Accepted).await;
            }
            StreamRequest::Stdin { process, .. } => {
                let _ = write_frame(&mut stream, &StreamReply::Accepted).await;
                let mut text = String::new();
                let _ = stream.read_to_string(&mut text).await;
                self.note(format!("input of {process}: {text}"));
            }
            StreamRequest::Usage { instance } => {
                self.note(format!("usage of {instance}"));
                let usage = UsageReport {
                    memory_bytes: Some(1 << 20),
                    pids: Some(2),
                    network_bytes_in: Some(84),
                    network_bytes_out: Some(0),
                    ..UsageReport::default()
                };
                let _ = write_frame(&mut stream, &StreamReply::Accepted).await;
                let _ = write_frame(&mut stream, &usage).await;
            }
            // What it keeps beside instances, it does not say.
            _ => {}
        }
    }

    fn note(&self, what: String) {
        self.asked.send_modify(|asked| asked.push(what));
    }

    async fn stream_log(
        &self,
        mut stream: Stream,
        (instance, process): (InstanceId, u32),
        start: LogStart,
        follow: bool,
    ) {
        let mut logs = self.logs.subscribe();
        let known = logs.borrow_and_update().get(&instance).cloned();
        let Some(mut frames) = known.filter(|_| process == 0) else {
            let reason = format!("there is no process {process} of {instance}");
            let reply = StreamReply::Refused { kind: RefusalKind::Unknown, reason };
            let _ = write_frame(&mut stream, &reply).await;
            return;
        };
        let _ = write_frame(&mut stream, &StreamReply::Accepted).await;
        let mut told = 0;
        loop {
            for frame in &frames[told..] {
                let is_wanted = match (frame, start) {
                    (LogFrame::Record { sequence, .. }, LogStart::Sequence(from)) => {
                        *sequence >= from
                    }
                    (LogFrame::Gap { to, .. }, LogStart::Sequence(from)) => *to >= from,
                    _ => true,
                };
                if is_wanted && write_frame(&mut stream, frame).await.is_err() {
                    return;
                }
                if matches!(frame, LogFrame::Exited { .. }) {
                    return;
                }
            }
            told = frames.len();
            if !follow {
                let _ = write_frame(&mut stream, &LogFrame::End).await;
                return;
            }
            if logs.changed().await.is_err() {
                return;
            }
            frames = logs.borrow_and_update().get(&instance).cloned().unwrap_or_default();
        }
    }
}
