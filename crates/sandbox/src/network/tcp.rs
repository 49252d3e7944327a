//! A TCP connection of a sandbox: it ends here, in a stack of its own, and a socket of the host
//! goes on with it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, send,
    shutdown, socket_with, sockopt,
};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};

use super::packet::{self, Packet};
use super::port::{Port, Wire};
use crate::limits::{FLOW_BUFFER_BYTES, TCP_CLOSING_SECONDS_MAX, TCP_IDLE_SECONDS_MAX};

/// One connection.
pub(crate) struct TcpFlow {
    remote: SocketAddr,
    /// The socket of the host, which never blocks.
    host: OwnedFd,
    /// Whether it may have something to read, or room to write, as far as is known.
    readable: bool,
    writable: bool,
    /// Whether the remote end has nothing more to say.
    remote_done: bool,
    /// Whether the sandbox has nothing more to say, and the remote end has been told.
    guest_done: bool,
    phase: Phase,
    last_packet: Instant,
}

enum Phase {
    /// The host's socket is connecting; then the sandbox's first packet is answered.
    Connecting(Vec<u8>),
    Open(Box<Stack>),
}

/// A stack with one socket, which has the remote end's address.
struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    Ended,
}

impl TcpFlow {
    /// Begins to connect to `remote` for the sandbox's first packet.
    pub(crate) fn begin(remote: SocketAddr, syn: &[u8], now: Instant) -> io::Result<Self> {
        Ok(Self::over(connect_to(remote)?, remote, syn, now))
    }

    /// The same with a socket that is connected, or about to be.
    pub(crate) fn over(host: OwnedFd, remote: SocketAddr, syn: &[u8], now: Instant) -> Self {
        Self {
            remote,
            host,
            readable: false,
            writable: false,
            remote_done: false,
            guest_done: false,
            phase: Phase::Connecting(syn.to_vec()),
            last_packet: now,
        }
    }

    /// Takes a packet from the sandbox.
    pub(crate) fn handle_packet(&mut self, packet: &[u8], clock: Clock, port: &mut Port) -> Fate {
        self.last_packet = clock.now;
        match self.phase {
            // Only the same first packet again can come, as the sandbox has had no answer.
            Phase::Connecting(_) => Fate::Lives,
            Phase::Open(_) => self.advance(Some(packet), clock, port),
        }
    }

    /// Takes news of the host's socket.
    pub(crate) fn handle_ready(&mut self, clock: Clock, port: &mut Port) -> Fate {
        if let Phase::Connecting(syn) = &mut self.phase {
            if !matches!(sockopt::socket_error(&self.host), Ok(Ok(()))) {
                if let Some(reset) = Packet::parse(syn).and_then(|it| packet::reset(&it)) {
                    port.send(&reset);
                }
                return Fate::Ended;
            }
            if rustix::net::getpeername(&self.host).is_err() {
                return Fate::Lives;
            }
            let syn = std::mem::take(syn);
            let Some(stack) = Stack::new(self.remote, clock, port) else {
                return Fate::Ended;
            };
            self.phase = Phase::Open(Box::new(stack));
            (self.readable, self.writable) = (true, true);
            return self.advance(Some(&syn), clock, port);
        }
        (self.readable, self.writable) = (true, true);
        self.advance(None, clock, port)
    }

    /// Looks at the time: sends again what is due, ends what is too old.
    pub(crate) fn handle_timeout(&mut self, clock: Clock, port: &mut Port) -> Fate {
        if self.idle_end() <= clock.now {
            let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
            return Fate::Ended;
        }
        self.advance(None, clock, port)
    }

    /// When to call [`TcpFlow::handle_timeout`].
    pub(crate) fn poll_timeout(&mut self, clock: Clock) -> Instant {
        let idle = self.idle_end();
        let Phase::Open(stack) = &mut self.phase else {
            return idle;
        };
        match stack.interface.poll_at(clock.for_stack(), &stack.sockets) {
            Some(at) => idle.min(clock.time_of(at)),
            None => idle,
        }
    }

    fn idle_end(&self) -> Instant {
        let closing =
            (self.remote_done && self.guest_done) || matches!(self.phase, Phase::Connecting(_));
        let seconds = if closing { TCP_CLOSING_SECONDS_MAX } else { TCP_IDLE_SECONDS_MAX };
        self.last_packet + Duration::from_secs(seconds)
    }

    /// Carries in both directions what can be carried now.
    fn advance(&mut self, packet: Option<&[u8]>, clock: Clock, port: &mut Port) -> Fate {
        let Phase::Open(stack) = &mut self.phase else {
            return Fate::Lives;
        };
        let now = clock.for_stack();
        let mut wire = Wire { incoming: packet, port };
        if packet.is_some() {
            stack.interface.poll_ingress_single(now, &mut wire, &mut stack.sockets);
        }
        let socket = stack.sockets.get_mut::<Socket<'_>>(stack.handle);
        let mut ways = Ways {
            host: &self.host,
            readable: &mut self.readable,
            writable: &mut self.writable,
            remote_done: &mut self.remote_done,
            guest_done: &mut self.guest_done,
        };
        if ways.carry_out(socket).is_err()
            || ways.carry_in(socket, clock, &mut self.last_packet).is_err()
        {
            socket.abort();
        }
        // Each call sends one packet; what the buffer and the window hold bounds them.
        while stack.interface.poll_egress(now, &mut wire, &mut stack.sockets)
            == PollResult::SocketStateChanged
        {}
        let socket = stack.sockets.get_mut::<Socket<'_>>(stack.handle);
        match socket.state() {
            // Listening again is what follows a reset before the connection was open.
            State::Closed | State::Listen | State::TimeWait if socket.recv_queue() == 0 => {
                if !(self.remote_done && self.guest_done) {
                    let _ = sockopt::set_socket_linger(&self.host, Some(Duration::ZERO));
                }
                Fate::Ended
            }
            _ => Fate::Lives,
        }
    }
}

impl AsFd for TcpFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}

/// A socket of the host that is connecting to `remote`, and never blocks.
pub(crate) fn connect_to(remote: SocketAddr) -> io::Result<OwnedFd> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The two directions of a connection.
struct Ways<'a> {
    host: &'a OwnedFd,
    readable: &'a mut bool,
    writable: &'a mut bool,
    remote_done: &'a mut bool,
    guest_done: &'a mut bool,
}

impl Ways<'_> {
    fn carry_out(&mut self, socket: &mut Socket<'_>) -> Result<(), Errno> {
        while *self.writable && socket.can_recv() {
            let sent = socket.recv(|bytes| match send(self.host, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => (sent, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Err(Errno::AGAIN)) => *self.writable = false,
                Ok(Err(Errno::INTR) | Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        let said_all = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if said_all && socket.recv_queue() == 0 && !*self.guest_done {
            *self.guest_done = true;
            let _ = shutdown(self.host, Shutdown::Write);
        }
        Ok(())
    }

    fn carry_in(
        &mut self,
        socket: &mut Socket<'_>,
        clock: Clock,
        last_packet: &mut Instant,
    ) -> Result<(), Errno> {
        while *self.readable && !*self.remote_done && socket.can_send() {
            let received = socket.send(|room| match recv(self.host, room, RecvFlags::empty()) {
                Ok((received, _)) => (received, Ok(received)),
                Err(error) => (0, Err(error)),
            });
            match received {
                Ok(Ok(0)) => {
                    *self.remote_done = true;
                    socket.close();
                }
                Ok(Ok(_)) => *last_packet = clock.now,
                Ok(Err(Errno::AGAIN)) => *self.readable = false,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

impl Stack {
    fn new(remote: SocketAddr, clock: Clock, port: &mut Port) -> Option<Self> {
        let mut config = Config::new(HardwareAddress::Ip);
        let mut seed = [0; 8];
        // What the numbers of a connection begin with, which only the sandbox itself sees.
        let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
        config.random_seed = u64::from_ne_bytes(seed);
        let mut wire = Wire { incoming: None, port };
        let mut interface = Interface::new(config, &mut wire, clock.for_stack());
        let bits = if remote.is_ipv4() { 32 } else { 128 };
        let mut has_room = false;
        interface.update_ip_addrs(|addresses| {
            has_room = addresses.push(IpCidr::new(remote.ip().into(), bits)).is_ok();
        });
        let buffer = || SocketBuffer::new(vec![0; FLOW_BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let endpoint = IpListenEndpoint { addr: Some(remote.ip().into()), port: remote.port() };
        socket.listen(endpoint).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        has_room.then_some(Self { interface, sockets, handle })
    }
}

/// What time it is, for us and for the stacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// When the network process began.
    pub(crate) start: Instant,
    pub(crate) now: Instant,
}

impl Clock {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { start: now, now }
    }

    /// The same clock now.
    pub(crate) fn at(self, now: Instant) -> Self {
        Self { now, ..self }
    }

    fn for_stack(self) -> StackInstant {
        let since = self.now.saturating_duration_since(self.start);
        StackInstant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn time_of(self, at: StackInstant) -> Instant {
        self.start + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
    }
}
