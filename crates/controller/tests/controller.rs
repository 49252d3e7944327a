//! The controller on a real journal: what it acknowledges is there after a restart, and what it
//! refuses changed nothing.

use spawnery_agent::link::{Session, Stream, read_frame, write_frame};
use spawnery_cluster::{Command, Rejection, Reply, SessionSource};
use spawnery_controller::{
    Config, Controller, EventItem, EventStart, Secret, StreamError, SubmitError,
};
use spawnery_journal::FaultyJournal;
use spawnery_model::{
    Bytes, Capacity, CpuMillis, DurationMs, InstanceId, Introduction, Kind, Name, Network, NodeId,
    Observation, Observed, Orders, Phase, Process, Report, Restart, RestartPolicy, SessionSettings,
    Stop, Want, Workload,
};
use spawnery_wire::link::{
    Down, Hello, Identity, LogFrame, LogStart, PROTOCOL_VERSION, RefusalKind, StreamReply,
    StreamRequest, Up, Welcome,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn session_workload() -> Workload {
    Workload {
        name: name("shell"),
        kind: Kind::Session(SessionSettings::default()),
        process: Process {
            run: vec!["sh".to_owned()],
            env: BTreeMap::new(),
            memory: Bytes::mib(64),
            cpu_reserved: CpuMillis(100),
            cpu_max: None,
            disk_max: None,
            pids_max: 100,
            ports: Vec::new(),
            working_directory: None,
            network: Network::None,
            files: Vec::new(),
            stdin: None,
            ready: None,
        },
        restart: Restart {
            policy: RestartPolicy::Never,
            delay: DurationMs(500),
            delay_max: DurationMs(60_000),
            reset_after: DurationMs(600_000),
            restarts_max: None,
        },
        stop: Stop { signal: 15, grace: DurationMs(1000) },
        constraints: Vec::new(),
        labels: BTreeMap::new(),
        surroundings: None,
    }
}

fn create_session() -> Command {
    let source = SessionSource::Inline(Box::new(session_workload()));
    Command::CreateSession { source, owner: "test".to_owned(), terms: Box::default() }
}

async fn start(folder: &Path) -> Controller {
    let config = Config::in_folder(folder);
    Controller::start(config).await.unwrap()
}

async fn session(controller: &Controller) -> InstanceId {
    match controller.submit(create_session(), None).await.unwrap() {
        Reply::Session(instance) => instance,
        other => panic!("{other:?}"),
    }
}

async fn phase(controller: &Controller, instance: InstanceId) -> Option<Phase> {
    controller.query(move |state| state.instance(instance).map(|i| i.phase)).await.unwrap()
}

/// An agent of which the test says what it does.
struct FakeAgent {
    node: NodeId,
    credential: String,
    stream: Stream,
    incoming: Receiver<Stream>,
    _session: Session,
    sequence: u64,
    epoch: u64,
    reign: u64,
}

impl FakeAgent {
    async fn connect(controller: &Controller, identity: Identity) -> Result<FakeAgent, String> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let serving = controller.clone();
        tokio::spawn(async move { serving.serve_link(far).await });
        let (session, incoming) = Session::client(near);
        let mut stream = session.open().await.unwrap();
        let hello = Hello { protocol: PROTOCOL_VERSION, identity };
        write_frame(&mut stream, &hello).await.unwrap();
        match read_frame(&mut stream).await.unwrap() {
            Welcome::Refused { reason, .. } => Err(reason),
            Welcome::Accepted { node, credential } => Ok(FakeAgent {
                node,
                credential: credential.unwrap_or_default(),
                stream,
                incoming,
                _session: session,
                sequence: 0,
                epoch: 0,
                reign: 0,
            }),
        }
    }

    async fn join(controller: &Controller) -> FakeAgent {
        let token = Secret::generate();
        let life = DurationMs(60_000);
        let command = Command::CreateJoinToken { hash: token.hash(), life, by: "test".to_owned() };
        controller.submit(command, None).await.unwrap();
        let joining = || Identity::Joining { token: token.reveal().to_owned(), name: name("one") };
        let agent = FakeAgent::connect(controller, joining()).await.unwrap();
        let again = FakeAgent::connect(controller, joining()).await;
        assert!(again.is_err_and(|reason| reason.contains("unknown, used or expired")));
        agent
    }

    async fn introduce(&mut self, observed: Vec<Observed>) -> Orders {
        let capacity = Capacity { memory: Bytes::mib(1024), cpu: CpuMillis(2000) };
        let introduction = Introduction {
            name: name("one"),
            labels: BTreeMap::new(),
            capacity,
            version: "test".to_owned(),
            incarnation: 1,
            allowances: None,
        };
        self.report(Some(introduction), observed).await;
        let orders = self.orders().await;
        assert!(orders.full);
        (self.epoch, self.reign) = (orders.epoch, orders.reign);
        orders
    }

    async fn report(&mut self, introduction: Option<Introduction>, observed: Vec<Observed>) {
        self.sequence += 1;
        let report = Report {
            node: self.node,
            epoch: self.epoch,
            reign: self.reign,
            sequence: self.sequence,
            received: Vec::new(),
            introduction,
            observed,
        };
        write_frame(&mut self.stream, &Up::Report(Box::new(report))).await.unwrap();
    }

    async fn orders(&mut self) -> Orders {
        let Down::Orders(orders) = read_frame(&mut self.stream).await.unwrap();
        *orders
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path()).await;
    let instance = session(&controller).await;
    let before = controller.query(|state| state.hash()).await.unwrap();
    controller.stop().await;
    let stopped = controller.submit(create_session(), None).await;
    assert!(matches!(stopped, Err(SubmitError::Stopped)));
    drop(controller);

    let controller = start(folder.path()).await;
    assert_eq!(phase(&controller, instance).await, Some(Phase::Pending));
    let (hash, reign) = controller.query(|s| (s.hash(), s.reign())).await.unwrap();
    assert_ne!(hash, before, "a new reign is a new fact");
    assert_eq!(reign, 2);
    controller.stop().await;
}

#[tokio::test]
async fn a_full_journal_refuses_and_then_goes_on() {
    let journal = FaultyJournal::new();
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_folder(folder.path());
    let controller = Controller::start_with(Box::new(journal.clone()), config).await.unwrap();
    journal.set_full(true);
    // The first one waits for space; later ones are refused at once.
    let waiting = tokio::spawn({
        let controller = controller.clone();
        async move { session(&controller).await }
    });
    let refused = loop {
        if controller.statistics().journal_full.is_some() {
            break controller.submit(create_session(), None).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(
        matches!(refused, Err(SubmitError::Rejected(Rejection::JournalFull { .. }))),
        "{refused:?}"
    );
    journal.set_full(false);
    let instance = waiting.await.unwrap();
    assert_eq!(phase(&controller, instance).await, Some(Phase::Pending));
    let count = controller.query(|state| state.instances().count()).await.unwrap();
    assert_eq!(count, 1, "what was refused changed nothing");
    assert_eq!(controller.statistics().journal_full, None);
}

#[tokio::test]
async fn a_journal_that_fails_stops_the_controller() {
    let journal = FaultyJournal::new();
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_folder(folder.path());
    let controller = Controller::start_with(Box::new(journal.clone()), config).await.unwrap();
    journal.fail_next_append(false);
    let unanswered = controller.submit(create_session(), None).await;
    assert!(matches!(unanswered, Err(SubmitError::Stopped)), "{unanswered:?}");
    assert!(controller.failed().await.0.contains("journal"));
}

#[tokio::test]
async fn an_agent_joins_and_is_told_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path()).await;
    let mut events = controller.events(EventStart::Now);
    let instance = session(&controller).await;
    let mut agent = FakeAgent::join(&controller).await;
    let orders = agent.introduce(Vec::new()).await;
    assert_eq!(orders.orders[0].instance, instance);
    assert!(matches!(orders.orders[0].want, Want::Run(_)));
    let observation = Observation::Ready { pid: 7 };
    agent.report(None, vec![Observed { instance, revision: 1, observation }]).await;
    loop {
        let Some(EventItem::Event(_, event)) = events.next().await else { panic!("no gap") };
        if event.kind == "instance.ready" {
            break assert_eq!(event.instance, Some(instance));
        }
    }
    assert_eq!(phase(&controller, instance).await, Some(Phase::Ready));
}

#[tokio::test]
async fn an_agent_with_another_secret_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path()).await;
    let agent = FakeAgent::join(&controller).await;
    let identity =
        |credential: &str| Identity::Node { node: agent.node, credential: credential.to_owned() };
    let refused = FakeAgent::connect(&controller, identity("wrong")).await;
    assert!(refused.is_err_and(|reason| reason.contains("does not know this node")));
    assert!(FakeAgent::connect(&controller, identity(&agent.credential)).await.is_ok());
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path()).await;
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { controller.serve_link(far).await });
    let (session, _incoming) = Session::client(near);
    let mut stream = session.open().await.unwrap();
    let identity = Identity::Joining { token: String::new(), name: name("one") };
    write_frame(&mut stream, &Hello { protocol: 99, identity }).await.unwrap();
    match read_frame(&mut stream).await.unwrap() {
        Welcome::Refused { reason, forever: true } => assert!(reason.contains("99"), "{reason}"),
        _ => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_stream_goes_to_the_node_of_the_instance() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path()).await;
    let instance = session(&controller).await;
    let early = controller.logs(instance, 0, LogStart::Sequence(1), true).await;
    assert!(matches!(early, Err(StreamError::NotPlaced { .. })));
    let mut agent = FakeAgent::join(&controller).await;
    agent.introduce(Vec::new()).await;
    tokio::spawn(async move {
        let mut stream = agent.incoming.recv().await.unwrap();
        let request = read_frame::<StreamRequest, _>(&mut stream).await.unwrap();
        assert!(matches!(request, StreamRequest::Logs { follow: true, .. }));
        write_frame(&mut stream, &StreamReply::Accepted).await.unwrap();
        write_frame(&mut stream, &LogFrame::Gap { from: 1, to: 4 }).await.unwrap();
        write_frame(&mut stream, &LogFrame::End).await.unwrap();
        let mut stream = agent.incoming.recv().await.unwrap();
        read_frame::<StreamRequest, _>(&mut stream).await.unwrap();
        let refused =
            StreamReply::Refused { kind: RefusalKind::NotRunning, reason: "over".to_owned() };
        write_frame(&mut stream, &refused).await.unwrap();
        // The link stays up until the controller has read the answer.
        agent.incoming.recv().await;
    });
    let mut logs = controller.logs(instance, 0, LogStart::Sequence(1), true).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap(), LogFrame::Gap { from: 1, to: 4 });
    assert_eq!(logs.next().await.unwrap().unwrap(), LogFrame::End);
    assert!(logs.next().await.is_none());
    let refused = controller.dial(instance, 80).await;
    assert!(matches!(refused, Err(StreamError::NotRunning(reason)) if reason == "over"));
}
