//! A controller that does what a test says, and an agent with a real launcher.
#![allow(dead_code)] // Each test program uses a part of it.

use spawnery_agent::link::{Session, Stream, read_frame, write_frame};
use spawnery_agent::{Agent, CapacityGiven, Config, Connect, Local};
use spawnery_model::{
    Bytes, CpuMillis, DurationMs, Exit, Id, InstanceId, Introduction, Name, Network, NodeId,
    Observation, Order, Orders, Port, Process, Report, StartOrder, Stop, Want, limits,
};
use spawnery_sandbox::client::Client;
use spawnery_wire::link::{
    Down, Hello, Identity, LogFrame, LogStart, PROTOCOL_VERSION, StreamReply, StreamRequest, Up,
    Welcome,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

pub const SECRET: &str = "join-secret";
pub const CREDENTIAL: &str = "node-credential";

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(DEADLINE, future).await;
    within.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub fn node() -> NodeId {
    NodeId(Id::from_bits(77))
}

pub fn instance(number: u128) -> InstanceId {
    InstanceId(Id::from_bits(number))
}

pub fn start_order(run: &[&str]) -> StartOrder {
    StartOrder {
        workload: Name::new("web").expect("a name"),
        epoch: 1,
        process: Process {
            run: run.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            memory: Bytes::mib(256),
            cpu_reserved: CpuMillis(100),
            cpu_max: None,
            disk_max: None,
            pids_max: 64,
            ports: Vec::new(),
            working_directory: None,
            network: Network::None,
            files: Vec::new(),
            stdin: None,
            ready: None,
        },
        stop: Stop { signal: 15, grace: DurationMs(10_000) },
        surroundings: None,
        session: None,
    }
}

pub fn with_port(mut order: StartOrder, port: u16) -> StartOrder {
    let name = Name::new("http").expect("a name");
    order.process.ports.push(Port { name, port });
    order
}

/// The data folder of a node. Its launcher, if one runs, is ended with it.
pub struct Data(TempDir);

impl Data {
    pub fn new() -> Data {
        Data(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn config(&self) -> Config {
        Config {
            data_dir: self.path().to_owned(),
            name: Name::new("node-1").expect("a name"),
            labels: BTreeMap::new(),
            capacity: CapacityGiven { memory: Some(Bytes::mib(4096)), cpu: Some(CpuMillis(2000)) },
            launcher_exe: PathBuf::from(env!("CARGO_BIN_EXE_agent-test-launcher")),
            version: "0.0.0".to_owned(),
            allowances: spawnery_model::Allowances::default(),
            build: spawnery_agent::BuildSettings::default(),
            runtimes: spawnery_agent::Runtimes::default(),
            environments_bytes_max: limits::ENVIRONMENTS_BYTES_DEFAULT.0,
        }
    }

    pub fn launcher_pid(&self) -> Option<u32> {
        let client = Client::connect(&self.path().join("launcher"));
        client.ok().map(|client| client.launcher_pid())
    }

    pub fn signal_launcher(&self, signal: rustix::process::Signal) {
        let pid = self.launcher_pid().expect("a launcher runs");
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it is ours");
    }
}

impl Drop for Data {
    /// Ends the launcher in order, so that nothing of it stays on the machine.
    fn drop(&mut self) {
        if self.launcher_pid().is_none() {
            return;
        }
        self.signal_launcher(rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(20);
        while self.launcher_pid().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The controller's side of connections within this process.
pub struct Controller {
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    connector: Arc<dyn Connect>,
    epoch: u64,
}

impl Controller {
    pub fn new() -> Controller {
        let (sender, connections) = mpsc::unbounded_channel();
        let connector = Local::new(move |far| sender.send(far).map_err(std::io::Error::other));
        Controller { connections, connector: Arc::new(connector), epoch: 0 }
    }

    pub fn connector(&self) -> Arc<dyn Connect> {
        self.connector.clone()
    }

    /// Starts an agent and welcomes it; lets it join if it has not.
    pub async fn start(&mut self, data: &Data) -> (Agent, Link) {
        let is_new = !data.path().join("node.json").exists();
        let secret = Some(SECRET.to_owned());
        let agent = tokio::spawn(Agent::start(data.config(), self.connector(), secret));
        if is_new {
            let (_, identity, mut stream, session) = self.greeted().await;
            assert!(matches!(identity, Identity::Joining { token, .. } if token == SECRET));
            let credential = Some(CREDENTIAL.to_owned());
            let welcome = Welcome::Accepted { node: node(), credential };
            write_frame(&mut stream, &welcome).await.expect("sent");
            drop(session);
        }
        let agent = soon("the agent", agent).await.expect("no panic").expect("it starts");
        assert_eq!(agent.node_id(), node());
        let link = self.accept().await;
        (agent, link)
    }

    /// Welcomes the next connection and takes the introduction.
    pub async fn accept(&mut self) -> Link {
        let (incoming, identity, mut stream, session) = self.greeted().await;
        assert!(identity == known_identity());
        let welcome = Welcome::Accepted { node: node(), credential: None };
        write_frame(&mut stream, &welcome).await.expect("sent");
        self.epoch += 1;
        Link::introduced(stream, session, incoming, self.epoch).await
    }

    /// Refuses the next connection.
    pub async fn refuse(&mut self, reason: &str, forever: bool) {
        let (_incoming, _, mut stream, _session) = self.greeted().await;
        let welcome = Welcome::Refused { reason: reason.to_owned(), forever };
        write_frame(&mut stream, &welcome).await.expect("sent");
        // Until the agent has read it.
        let _ = read_frame::<Up, _>(&mut stream).await;
    }

    async fn greeted(&mut self) -> (mpsc::Receiver<Stream>, Identity, Stream, Session) {
        let connection = soon("a connection", self.connections.recv()).await;
        greet(connection.expect("the connector lives")).await
    }
}

/// An agent in a process of its own, which is killed when it is dropped.
pub struct AgentProcess(std::process::Child);

impl AgentProcess {
    /// Starts one, and welcomes it at `listener`, which listens on `socket`.
    pub async fn start(data: &Data, socket: &Path, listener: &UnixListener) -> (Self, Link) {
        let program = env!("CARGO_BIN_EXE_agent-test-launcher");
        let mut command = std::process::Command::new(program);
        command.arg("--data").arg(data.path()).arg("--socket").arg(socket);
        let process = AgentProcess(command.args(["--token", SECRET]).spawn().expect("it runs"));
        loop {
            let (connection, _) = soon("the agent", listener.accept()).await.expect("accepted");
            let (incoming, identity, mut stream, session) = greet(connection).await;
            let is_new = matches!(identity, Identity::Joining { .. });
            let credential = is_new.then(|| CREDENTIAL.to_owned());
            let welcome = Welcome::Accepted { node: node(), credential };
            write_frame(&mut stream, &welcome).await.expect("sent");
            if !is_new {
                return (process, Link::introduced(stream, session, incoming, 1).await);
            }
        }
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it is our child");
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn known_identity() -> Identity {
    Identity::Node { node: node(), credential: CREDENTIAL.to_owned() }
}

/// Reads the introduction of an agent.
pub async fn greet<T>(connection: T) -> (mpsc::Receiver<Stream>, Identity, Stream, Session)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, mut incoming) = Session::server(connection);
    let stream = soon("a stream", incoming.recv()).await;
    let mut stream = stream.expect("the agent opens a stream");
    let hello: Hello = soon("a hello", read_frame(&mut stream)).await.expect("a hello");
    assert_eq!(hello.protocol, PROTOCOL_VERSION);
    (incoming, hello.identity, stream, session)
}

/// A link to an agent.
pub struct Link {
    pub introduction: Introduction,
    /// What was observed of each instance last.
    pub seen: BTreeMap<InstanceId, Observation>,
    stream: Stream,
    session: Session,
    _incoming: mpsc::Receiver<Stream>,
    epoch: u64,
    sequence: u64,
}

impl Link {
    async fn introduced(
        mut stream: Stream,
        session: Session,
        incoming: mpsc::Receiver<Stream>,
        epoch: u64,
    ) -> Link {
        let report = read_report(&mut stream).await;
        let introduction = report.introduction.clone().expect("a new link begins with it");
        let seen = BTreeMap::new();
        let mut link =
            Link { introduction, seen, stream, session, _incoming: incoming, epoch, sequence: 0 };
        link.take_in(report);
        link
    }

    /// Says all that is wanted.
    pub async fn want_only(&mut self, orders: Vec<Order>) {
        self.send(Vec::new(), true, orders).await;
    }

    /// Says what is wanted of one instance.
    pub async fn want(&mut self, instance: InstanceId, want: Want) {
        let revision = self.sequence + 1;
        self.send(Vec::new(), false, vec![Order { instance, revision, want }]).await;
    }

    pub async fn run(&mut self, instance: InstanceId, order: StartOrder) {
        self.want(instance, Want::Run(Box::new(order))).await;
    }

    /// Reads reports, and says that they were received, until one holds what is expected.
    pub async fn until(
        &mut self,
        what: &str,
        instance: InstanceId,
        expected: impl Fn(&Observation) -> bool,
    ) -> Observation {
        let seen = async {
            loop {
                let seen = self.seen.get(&instance).filter(|seen| expected(seen));
                if let Some(observation) = seen {
                    return observation.clone();
                }
                let report = read_report(&mut self.stream).await;
                let received = report.sequence;
                self.take_in(report);
                self.send(vec![received], false, Vec::new()).await;
            }
        };
        soon(what, seen).await
    }

    pub async fn until_ready(&mut self, instance: InstanceId) -> u32 {
        let ready = |seen: &Observation| matches!(seen, Observation::Ready { .. });
        match self.until("ready", instance, ready).await {
            Observation::Ready { pid } => pid,
            other => panic!("{other:?}"),
        }
    }

    pub async fn until_ended(&mut self, instance: InstanceId) -> Exit {
        let ended = |seen: &Observation| matches!(seen, Observation::Ended { .. });
        match self.until("the end", instance, ended).await {
            Observation::Ended { exit } => exit,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a stream and reads the reply.
    pub async fn open(&self, request: &StreamRequest) -> (StreamReply, Stream) {
        let mut stream = self.session.open().await.expect("the link is up");
        write_frame(&mut stream, request).await.expect("sent");
        let reply = soon("a reply", read_frame(&mut stream)).await.expect("a reply");
        (reply, stream)
    }

    pub async fn logs(&self, instance: InstanceId, start: LogStart, follow: bool) -> LogStream {
        let process = 0;
        let request = StreamRequest::Logs { instance, process, start, follow };
        let (reply, stream) = self.open(&request).await;
        assert_eq!(reply, StreamReply::Accepted);
        LogStream { stream }
    }

    fn take_in(&mut self, report: Report) {
        for observed in report.observed {
            self.seen.insert(observed.instance, observed.observation);
        }
    }

    async fn send(&mut self, received: Vec<u64>, full: bool, orders: Vec<Order>) {
        self.sequence += 1;
        let orders = Orders {
            reign: 1,
            epoch: self.epoch,
            sequence: self.sequence,
            received,
            lease: limits::LEASE,
            incarnation: self.introduction.incarnation,
            introduce: false,
            full,
            orders,
            pools: None,
        };
        let down = Down::Orders(Box::new(orders));
        write_frame(&mut self.stream, &down).await.expect("sent");
    }
}

/// An order to go on with an instance that was started before.
pub fn run_again(instance: InstanceId, order: StartOrder) -> Order {
    Order { instance, revision: 1, want: Want::Run(Box::new(order)) }
}

async fn read_report(stream: &mut Stream) -> Report {
    let Up::Report(report) = soon("a report", read_frame(stream)).await.expect("a report");
    *report
}

/// The output of a process, as it comes.
pub struct LogStream {
    stream: Stream,
}

impl LogStream {
    pub fn of(stream: Stream) -> LogStream {
        LogStream { stream }
    }

    pub async fn next(&mut self) -> LogFrame {
        soon("output", read_frame(&mut self.stream)).await.expect("a frame")
    }

    /// Reads until the output so far ends with `text`; gives the sequence number of the last.
    pub async fn until(&mut self, text: &str) -> u64 {
        let mut output = String::new();
        loop {
            match self.next().await {
                LogFrame::Record { sequence, bytes, .. } => {
                    output += &String::from_utf8_lossy(&bytes);
                    if output.ends_with(text) {
                        return sequence;
                    }
                }
                other => panic!("{other:?} after {output:?}"),
            }
        }
    }

    /// All that comes, and the frame that says that it is all.
    pub async fn rest(&mut self) -> (String, LogFrame) {
        let mut output = Vec::new();
        loop {
            match self.next().await {
                LogFrame::Record { bytes, .. } => output.extend(bytes),
                LogFrame::Gap { .. } => output.extend(b"[gap]"),
                last => return (String::from_utf8_lossy(&output).into_owned(), last),
            }
        }
    }
}
