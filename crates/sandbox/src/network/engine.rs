//! The network process's event loop.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use smoltcp::wire::IpProtocol;

use super::device::{Framing, MTU_BYTES};
use super::dns;
use super::instance::{Instance, Key, is_gateway, is_own};
use super::link::{self, FromNetwork, ToNetwork};
use super::names::{self, Caller, Relay};
use super::netlink::Netlink;
use super::packet::{self, Packet};
use super::port::Port;
use super::resolver::{self, Asked, HostResolvers};
use super::tcp::{Clock, Fate, TcpFlow};
use super::udp::UdpFlow;
use crate::limits::{DNS_QUESTIONS_MAX, FLOWS_MAX, FLOWS_OF_NODE_MAX, TRANSFER_REPORT_MS};

/// Packets taken from one sandbox before others get their turn.
const PACKETS_PER_TURN: usize = 64;

/// What is watched of a connection over TCP: changes only.
const STREAM_EVENTS: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// The token of the launcher's socket; devices and flows have others.
const CONTROL: u64 = 0;

/// A connection of a sandbox, or a question.
struct Flow {
    number: u64,
    kind: Kind,
    /// When its timer is set.
    armed: Option<Instant>,
}

enum Kind {
    Tcp(Key, Box<TcpFlow>),
    Udp(Key, UdpFlow),
    Question(Asked),
    /// A program's connection to the resolver, and a question that came over one.
    Caller(Caller),
    Relay(Relay),
}

/// The network process.
pub(crate) struct Engine {
    control: OwnedFd,
    epoll: OwnedFd,
    netlink: Netlink,
    clock: Clock,
    /// By the launcher's numbers.
    instances: HashMap<u64, Instance>,
    /// Which sandbox has the device with this token.
    devices: HashMap<u64, u64>,
    flows: HashMap<u64, Flow>,
    timers: BTreeSet<(Instant, u64)>,
    next_token: u64,
    /// Sandboxes whose transfer the launcher has not been told.
    unreported: BTreeSet<u64>,
    report_at: Option<Instant>,
    closer: Sender<Port>,
    host: HostResolvers,
    buffer: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(control: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&control, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &control, EventData::new_u64(CONTROL), EventFlags::IN)?;
        Ok(Self {
            control,
            epoll,
            netlink: Netlink::open()?,
            clock: Clock::begin(),
            instances: HashMap::new(),
            devices: HashMap::new(),
            flows: HashMap::new(),
            timers: BTreeSet::new(),
            next_token: CONTROL,
            unreported: BTreeSet::new(),
            report_at: None,
            closer: start_closer(),
            host: HostResolvers::new(resolver::RESOLV_CONF),
            // The largest datagram is larger than the largest packet.
            buffer: vec![0; 1 << 16],
        })
    }

    /// Serves until the launcher is gone.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                _ => {}
            }
            self.clock = self.clock.at(Instant::now());
            for event in &events {
                let token = event.data.u64();
                if token == CONTROL {
                    if !self.handle_control()? {
                        return Ok(());
                    }
                } else if let Some(number) = self.devices.get(&token).copied() {
                    self.handle_device(token, number);
                } else {
                    self.with_flow(token, Self::flow_ready);
                }
            }
            self.run_timers();
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let next = self.timers.first().map(|(at, _)| *at);
        let next = next.into_iter().chain(self.report_at).min()?;
        let left = next.saturating_duration_since(Instant::now());
        left.try_into().ok()
    }

    fn run_timers(&mut self) {
        let now = self.clock.now;
        while let Some((at, token)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, token));
            if let Some(flow) = self.flows.get_mut(&token) {
                flow.armed = None;
            }
            self.with_flow(token, Self::flow_timeout);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report();
        }
    }

    // The launcher.

    /// Takes a message of the launcher; false if it is gone.
    fn handle_control(&mut self) -> io::Result<bool> {
        match link::recv(&self.control) {
            Ok(Some((ToNetwork::Add(member), Some(device)))) => {
                let number = member.number;
                // The launcher has checked the rules; what it says is understood.
                if let Ok(mut instance) = Instance::new(&member, device) {
                    for orphan in &member.orphans {
                        if let (Ok(guest), Ok(remote)) =
                            (orphan.guest.parse(), orphan.remote.parse())
                        {
                            instance.port.send(&packet::challenge(remote, guest));
                        }
                    }
                    let token = self.token();
                    let data = EventData::new_u64(token);
                    epoll::add(&self.epoll, &instance.port, data, EventFlags::IN)?;
                    self.devices.insert(token, number);
                    self.instances.insert(number, instance);
                }
                Ok(true)
            }
            Ok(Some((ToNetwork::Remove { number }, _))) => {
                self.stop(number);
                if let Some(instance) = self.instances.remove(&number) {
                    // Without that thread it is closed here, which takes longer.
                    let _ = self.closer.send(instance.port);
                }
                self.unreported.remove(&number);
                Ok(true)
            }
            Ok(Some(_)) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends all connections of a sandbox and listens to it no longer.
    fn stop(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        instance.is_stopped = true;
        // The launcher has the same open file, so closing ours would not end the watching.
        let _ = epoll::delete(&self.epoll, &instance.port);
        let flows = std::mem::take(&mut instance.flows).into_values();
        let tokens: Vec<u64> = flows.chain(std::mem::take(&mut instance.questions)).collect();
        self.devices.retain(|_, of| *of != number);
        for token in tokens {
            if let Some(at) = self.flows.remove(&token).and_then(|flow| flow.armed) {
                self.timers.remove(&(at, token));
            }
        }
    }

    fn note_transfer(&mut self, number: u64) {
        self.unreported.insert(number);
        let due = self.clock.now + Duration::from_millis(TRANSFER_REPORT_MS);
        self.report_at.get_or_insert(due);
        if self.instances.get(&number).is_some_and(|it| it.port.is_over() && !it.is_stopped) {
            self.stop(number);
            self.report();
        }
    }

    fn report(&mut self) {
        self.report_at = None;
        while let Some(number) = self.unreported.first().copied() {
            if let Some(instance) = self.instances.get_mut(&number) {
                let (transfer, is_over) = (instance.port.transfer, instance.port.is_over());
                let message = FromNetwork::Transferred { number, transfer, is_over };
                if instance.reported != transfer
                    && link::send(&self.control, &message, None).is_err()
                {
                    // The launcher is busy, or gone, which its socket tells.
                    let due = self.clock.now + Duration::from_millis(TRANSFER_REPORT_MS);
                    self.report_at = Some(due);
                    return;
                }
                instance.reported = transfer;
            }
            self.unreported.remove(&number);
        }
    }

    // Packets.

    fn handle_device(&mut self, token: u64, number: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize((MTU_BYTES + Framing::BYTES_MAX).max(1 << 16), 0);
        for _ in 0..PACKETS_PER_TURN {
            let Some(instance) = self.instances.get(&number).filter(|it| !it.is_stopped) else {
                break;
            };
            match instance.port.read(&mut buffer) {
                Ok(Some(bytes)) => self.handle_packet(number, bytes),
                Ok(None) => break,
                Err(_) => {
                    // The namespace of the interface is gone.
                    let _ = epoll::delete(&self.epoll, &instance.port);
                    self.devices.remove(&token);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn handle_packet(&mut self, number: u64, bytes: &[u8]) {
        let Some(packet) = Packet::parse(bytes).filter(|it| is_own(it.source)) else {
            return;
        };
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let goes_on = instance.port.count_out(packet.whole.len());
        if goes_on {
            match packet.protocol {
                IpProtocol::Tcp => self.handle_tcp(number, &packet),
                IpProtocol::Udp => self.handle_udp(number, &packet),
                _ if is_gateway(packet.to) => {
                    if let Some(answer) = packet::echo(&packet) {
                        instance.port.send(&answer);
                    }
                }
                _ => {}
            }
        }
        self.note_transfer(number);
    }

    fn handle_tcp(&mut self, number: u64, packet: &Packet<'_>) {
        let (Some((guest, remote)), Some(instance)) =
            (packet.ends(), self.instances.get_mut(&number))
        else {
            return;
        };
        let key = Key { protocol: IpProtocol::Tcp, guest, remote };
        if let Some(token) = instance.flows.get(&key).copied() {
            let whole = packet.whole;
            self.with_flow(token, |engine, flow| engine.flow_packet(flow, whole));
            return;
        }
        let has_room = instance.flows.len() < FLOWS_MAX && self.flows.len() < FLOWS_OF_NODE_MAX;
        let now = self.clock.now;
        let begun = if !packet.begins() || !has_room {
            None
        } else if is_gateway(remote.ip()) && remote.port() == resolver::PORT {
            self.begin_caller(number, remote, packet.whole)
        } else if instance.may_reach(remote, &self.netlink, now) {
            TcpFlow::begin(remote, packet.whole, now).ok()
        } else {
            None
        };
        match begun {
            Some(flow) => {
                self.add_flow(number, Kind::Tcp(key, Box::new(flow)), STREAM_EVENTS);
            }
            None => {
                let instance = self.instances.get_mut(&number);
                if let (Some(answer), Some(instance)) = (packet::reset(packet), instance) {
                    instance.port.send(&answer);
                }
            }
        }
    }

    /// A connection to the resolver, whose other end is a socket of this process.
    fn begin_caller(&mut self, number: u64, remote: SocketAddr, syn: &[u8]) -> Option<TcpFlow> {
        let now = self.clock.now;
        let instance = self.instances.get(&number)?;
        if instance.questions.len() >= DNS_QUESTIONS_MAX {
            return None;
        }
        let (caller, host) = Caller::begin(now).ok()?;
        self.add_flow(number, Kind::Caller(caller), EventFlags::IN);
        Some(TcpFlow::over(host, remote, syn, now))
    }

    fn handle_udp(&mut self, number: u64, packet: &Packet<'_>) {
        let (Some((guest, remote)), Some(datagram), Some(instance)) =
            (packet.ends(), packet.datagram(), self.instances.get_mut(&number))
        else {
            return;
        };
        if is_gateway(remote.ip()) && remote.port() == resolver::PORT {
            return self.handle_question(number, guest, remote, datagram);
        }
        let key = Key { protocol: IpProtocol::Udp, guest, remote };
        let now = self.clock.now;
        let known = instance.flows.get(&key).and_then(|token| self.flows.get_mut(token));
        if let Some(Flow { kind: Kind::Udp(_, flow), .. }) = known {
            return flow.handle_datagram(datagram, now);
        }
        let has_room = instance.flows.len() < FLOWS_MAX && self.flows.len() < FLOWS_OF_NODE_MAX;
        let begun = (has_room && instance.may_reach(remote, &self.netlink, now))
            .then(|| UdpFlow::begin(guest, remote, now))
            .and_then(Result::ok);
        match begun {
            Some(mut flow) => {
                flow.handle_datagram(datagram, now);
                self.add_flow(number, Kind::Udp(key, flow), EventFlags::IN);
            }
            None => {
                if let Some(answer) = packet::unreachable(guest, remote) {
                    instance.port.send(&answer);
                }
            }
        }
    }

    fn handle_question(
        &mut self,
        number: u64,
        guest: SocketAddr,
        asked: SocketAddr,
        message: &[u8],
    ) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let Some(question) = dns::parse_query(message) else {
            if let Some(refusal) = dns::refuse_unread(message) {
                instance.port.send(&packet::udp(asked, guest, &refusal));
            }
            return;
        };
        if !question.is_harmless() || !instance.policy.resolves(&question.name) {
            let refusal = question.to_failure(dns::REFUSED);
            return instance.port.send(&packet::udp(asked, guest, &refusal));
        }
        if instance.questions.len() >= DNS_QUESTIONS_MAX || self.flows.len() >= FLOWS_OF_NODE_MAX {
            return;
        }
        let failure = question.to_failure(dns::SERVER_FAILURE);
        let resolvers = self.resolvers(number);
        match Asked::begin(question, guest, asked, &resolvers, 0, self.clock.now) {
            Ok(asked) => self.add_flow(number, Kind::Question(asked), EventFlags::IN),
            Err(_) => {
                if let Some(instance) = self.instances.get_mut(&number) {
                    instance.port.send(&packet::udp(asked, guest, &failure));
                }
            }
        }
    }

    /// The resolvers to ask for a sandbox.
    fn resolvers(&mut self, number: u64) -> Vec<SocketAddr> {
        let Some(instance) = self.instances.get(&number) else {
            return Vec::new();
        };
        match self.host.now() {
            // This process may read less than the launcher.
            [_, ..] if instance.follows_host => self.host.now().to_vec(),
            _ => instance.resolvers.clone(),
        }
    }

    // Flows.

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn add_flow(&mut self, number: u64, kind: Kind, flags: EventFlags) {
        let token = self.token();
        let flow = Flow { number, kind, armed: None };
        let added = epoll::add(&self.epoll, flow.as_fd(), EventData::new_u64(token), flags);
        let Some(instance) = self.instances.get_mut(&number).filter(|_| added.is_ok()) else {
            return;
        };
        match &flow.kind {
            Kind::Tcp(key, _) | Kind::Udp(key, _) => {
                instance.flows.insert(*key, token);
            }
            Kind::Question(_) | Kind::Caller(_) | Kind::Relay(_) => instance.questions.push(token),
        }
        self.keep(token, flow);
    }

    /// Does something with a flow, which afterwards lives on or not.
    fn with_flow(&mut self, token: u64, work: impl FnOnce(&mut Self, Flow) -> Option<Flow>) {
        let Some(flow) = self.flows.remove(&token) else {
            return;
        };
        let (number, armed) = (flow.number, flow.armed);
        let key = match &flow.kind {
            Kind::Tcp(key, _) | Kind::Udp(key, _) => Some(*key),
            Kind::Question(_) | Kind::Caller(_) | Kind::Relay(_) => None,
        };
        match work(self, flow) {
            Some(flow) => self.keep(token, flow),
            None => {
                if let Some(at) = armed {
                    self.timers.remove(&(at, token));
                }
                if let Some(instance) = self.instances.get_mut(&number) {
                    match key {
                        Some(key) => drop(instance.flows.remove(&key)),
                        None => instance.questions.retain(|it| *it != token),
                    }
                }
            }
        }
        self.note_transfer(number);
    }

    /// Keeps a flow, with its timer set no later than it wants. An earlier one does no harm.
    fn keep(&mut self, token: u64, mut flow: Flow) {
        let wanted = match &mut flow.kind {
            Kind::Tcp(_, tcp) => tcp.poll_timeout(self.clock),
            Kind::Udp(_, udp) => udp.idle_end(),
            Kind::Question(asked) => asked.until(),
            Kind::Caller(caller) => caller.idle_end(),
            Kind::Relay(relay) => relay.until(),
        };
        // Never in this round again.
        let wanted = wanted.max(self.clock.now + Duration::from_millis(1));
        if flow.armed.is_none_or(|at| wanted < at) {
            if let Some(at) = flow.armed {
                self.timers.remove(&(at, token));
            }
            self.timers.insert((wanted, token));
            flow.armed = Some(wanted);
        }
        self.flows.insert(token, flow);
    }

    fn flow_packet(&mut self, mut flow: Flow, packet: &[u8]) -> Option<Flow> {
        let instance = self.instances.get_mut(&flow.number)?;
        let fate = match &mut flow.kind {
            Kind::Tcp(_, tcp) => tcp.handle_packet(packet, self.clock, &mut instance.port),
            _ => Fate::Lives,
        };
        (fate == Fate::Lives).then_some(flow)
    }

    fn flow_ready(&mut self, mut flow: Flow) -> Option<Flow> {
        let instance = self.instances.get_mut(&flow.number)?;
        let fate = match &mut flow.kind {
            Kind::Tcp(_, tcp) => tcp.handle_ready(self.clock, &mut instance.port),
            Kind::Udp(_, udp) => {
                udp.handle_ready(&mut self.buffer, self.clock.now, &mut instance.port);
                Fate::Lives
            }
            Kind::Question(asked) => match asked.take_answer(&mut self.buffer) {
                Ok(None) => Fate::Lives,
                Ok(Some(answer)) => {
                    if instance.policy.opens_named() {
                        instance.learned.add(&answer, self.clock.now);
                    }
                    instance.port.send(&packet::udp(asked.asked, asked.guest, &answer));
                    Fate::Ended
                }
                Err(_) => return self.ask_again(flow),
            },
            Kind::Caller(_) => return self.caller_ready(flow),
            Kind::Relay(relay) => match relay.advance(&mut self.buffer) {
                Ok(None) => Fate::Lives,
                Ok(Some(answer)) => {
                    if instance.policy.opens_named() {
                        instance.learned.add(&answer, self.clock.now);
                    }
                    Fate::Ended
                }
                Err(_) => return self.ask_again(flow),
            },
        };
        (fate == Fate::Lives).then_some(flow)
    }

    fn flow_timeout(&mut self, mut flow: Flow) -> Option<Flow> {
        let now = self.clock.now;
        let instance = self.instances.get_mut(&flow.number)?;
        let lives = match &mut flow.kind {
            Kind::Tcp(_, tcp) => tcp.handle_timeout(self.clock, &mut instance.port) == Fate::Lives,
            Kind::Udp(_, udp) => udp.idle_end() > now,
            Kind::Question(asked) if asked.until() > now => true,
            Kind::Question(_) => return self.ask_again(flow),
            Kind::Caller(caller) => caller.idle_end() > now,
            Kind::Relay(relay) if relay.until() > now => true,
            Kind::Relay(_) => return self.ask_again(flow),
        };
        lives.then_some(flow)
    }

    /// Takes the questions of a program that came over TCP.
    fn caller_ready(&mut self, mut flow: Flow) -> Option<Flow> {
        let now = self.clock.now;
        let Kind::Caller(caller) = &mut flow.kind else {
            return Some(flow);
        };
        loop {
            let message = match caller.take_message(&mut self.buffer, now) {
                Ok(Some(message)) => message,
                Ok(None) => return Some(flow),
                Err(_) => return None,
            };
            let question = dns::parse_query(&message)?;
            let back = caller.way_back().ok()?;
            let instance = self.instances.get_mut(&flow.number)?;
            if !question.is_harmless() || !instance.policy.resolves(&question.name) {
                names::refuse(&back, &question, dns::REFUSED);
                continue;
            }
            if instance.questions.len() >= DNS_QUESTIONS_MAX
                || self.flows.len() >= FLOWS_OF_NODE_MAX
            {
                return None;
            }
            let resolvers = self.resolvers(flow.number);
            match Relay::begin(question, resolvers, back, now) {
                Ok(relay) => self.add_flow(flow.number, Kind::Relay(relay), STREAM_EVENTS),
                Err(question) => {
                    names::refuse(caller.as_fd(), &question, dns::SERVER_FAILURE);
                }
            }
        }
    }

    /// Asks the next resolver, as another flow, or tells that none answers.
    fn ask_again(&mut self, flow: Flow) -> Option<Flow> {
        let asked = match flow.kind {
            Kind::Question(asked) => asked,
            Kind::Relay(relay) => {
                if let Some(relay) = relay.again(self.clock.now) {
                    self.add_flow(flow.number, Kind::Relay(relay), STREAM_EVENTS);
                }
                return None;
            }
            _ => return Some(flow),
        };
        let (guest, server, number) = (asked.guest, asked.asked, flow.number);
        let resolvers = self.resolvers(number);
        match asked.again(&resolvers, self.clock.now) {
            Ok(asked) => self.add_flow(number, Kind::Question(asked), EventFlags::IN),
            Err(question) => {
                let failure = question.to_failure(dns::SERVER_FAILURE);
                let instance = self.instances.get_mut(&number)?;
                instance.port.send(&packet::udp(server, guest, &failure));
            }
        }
        None
    }
}

/// Starts the thread that closes devices: the last close of one makes the kernel remove its
/// interface, and wait some ten milliseconds until nobody can be using it.
fn start_closer() -> Sender<Port> {
    let (sender, receiver) = channel();
    let work = move || receiver.into_iter().for_each(drop::<Port>);
    // Without a thread the receiver is gone, and who sends keeps what it could not send.
    let _ = std::thread::Builder::new().name("closer".into()).spawn(work);
    sender
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(_, tcp) => tcp.as_fd(),
            Kind::Udp(_, udp) => udp.as_fd(),
            Kind::Question(asked) => asked.as_fd(),
            Kind::Caller(caller) => caller.as_fd(),
            Kind::Relay(relay) => relay.as_fd(),
        }
    }
}
