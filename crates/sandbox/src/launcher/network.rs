//! The launcher's side of private networks: keeps the network process running, hands it the
//! devices of sandboxes, and takes down what they transfer.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::core::{Launcher, Source, epoll_add};
use super::tool;
use crate::limits::FLOWS_MAX;
use crate::network::COMMAND;
use crate::network::device::{ADDRESS, ADDRESS_6};
use crate::network::link::{self, FromNetwork, Member, Orphan, ToNetwork, Transfer};
use crate::network::resolver::{self, HostResolvers};
use crate::protections::{Protection, Protections};
use crate::spec::{EgressRule, EgressSpec, LimitReached};

/// `/etc/resolv.conf` of a sandbox with a private network: the gateway's address.
pub(crate) const RESOLV_CONF: &str = "nameserver 192.0.0.1\n";

/// Pause before the network process is started again after it died, doubled each time up to the
/// longest. One that dies at once must not keep the machine busy.
const RESTART_AFTER: Duration = Duration::from_millis(10);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(5);
/// A network process that lived so long died by accident; the next is not delayed for it.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The private network of one sandbox.
#[derive(Debug)]
pub(crate) struct PrivateNetwork {
    egress: EgressSpec,
    /// The outer end of its interface, once that is made, and whether it is an Ethernet.
    device: Option<(OwnedFd, bool)>,
    /// Whether a network process has been told of it before.
    was_carried: bool,
    /// The last figures that the network process has reported.
    pub(crate) transfer: Transfer,
}

impl PrivateNetwork {
    pub(super) fn new(egress: Option<EgressSpec>, protections: Protections) -> Self {
        let mut egress = egress.unwrap_or_default();
        if !protections.has(Protection::EgressRules) {
            let open =
                |block: &str| EgressRule { allow: true, block: block.to_owned(), ports: None };
            // By name, because a rule for the whole internet opens no special range.
            egress.rules = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"].map(open).to_vec();
        }
        if !protections.has(Protection::TransferLimit) {
            egress.transfer_bytes_max = None;
        }
        Self { egress, device: None, was_carried: false, transfer: Transfer::default() }
    }
}

/// What the launcher knows of the network process.
#[derive(Debug)]
pub(super) struct Networks {
    resolvers: Vec<SocketAddr>,
    host: HostResolvers,
    process: Option<NetworkProcess>,
    /// Sandboxes that it has not been told of, or of whose end.
    unsent: BTreeSet<u64>,
    left: BTreeSet<u64>,
    restart_at: Option<Instant>,
    restart_after: Duration,
}

#[derive(Debug)]
struct NetworkProcess {
    child: Child,
    socket: OwnedFd,
    token: u64,
    started_at: Instant,
    /// Whether there is something to send that did not fit.
    wants_out: bool,
}

impl Networks {
    pub(super) fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self {
            resolvers,
            host: HostResolvers::new(resolver::RESOLV_CONF),
            process: None,
            unsent: BTreeSet::new(),
            left: BTreeSet::new(),
            restart_at: None,
            restart_after: RESTART_AFTER,
        }
    }

    /// When the network process is to be started again.
    pub(super) fn restart_at(&self) -> Option<Instant> {
        self.restart_at
    }

    /// Those configured, or those of the host as they are now.
    fn resolvers(&mut self) -> Vec<String> {
        let given = !self.resolvers.is_empty();
        let resolvers = if given { &self.resolvers[..] } else { self.host.now() };
        resolvers.iter().map(ToString::to_string).collect()
    }
}

impl Launcher {
    /// The init of a sandbox has made the interface.
    pub(super) fn take_device(&mut self, number: u64, ethernet: bool, fds: Vec<OwnedFd>) {
        let network = self.sandboxes.get_mut(&number).and_then(|it| it.network.as_mut());
        let (Some(network), Some(device)) = (network, fds.into_iter().next()) else {
            return;
        };
        network.device = Some((device, ethernet));
        self.networks.unsent.insert(number);
        if self.networks.process.is_none()
            && self.networks.restart_at.is_none()
            && let Err(error) = self.start_network()
        {
            self.main_failed(number, "start the network process".into(), error.to_string());
        }
        self.send_to_network();
    }

    /// A sandbox with a private network has ended.
    pub(super) fn leave_network(&mut self, number: u64) {
        if !self.networks.unsent.remove(&number) && self.networks.process.is_some() {
            self.networks.left.insert(number);
            self.send_to_network();
        }
    }

    /// Runs this program once more, as the network process.
    fn start_network(&mut self) -> io::Result<()> {
        let family = AddressFamily::UNIX;
        let (ours, theirs) = socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("spawnery").arg(COMMAND).current_dir("/").env_clear();
        command.stdin(theirs).stdout(Stdio::null());
        let child = command.spawn()?;
        let token = self.token();
        epoll_add(&self.epoll, ours.as_fd(), token)?;
        self.sources.insert(token, Source::Network);
        let started_at = Instant::now();
        self.networks.process =
            Some(NetworkProcess { child, socket: ours, token, started_at, wants_out: false });
        Ok(())
    }

    /// Tells the network process what it has not been told, as far as its socket takes it.
    fn send_to_network(&mut self) {
        let Some(process) = &mut self.networks.process else {
            return;
        };
        let socket = &process.socket;
        let mut is_full = false;
        while let Some(number) = self.networks.left.first().copied() {
            if link::send(socket, &ToNetwork::Remove { number }, None).is_err() {
                is_full = true;
                break;
            }
            self.networks.left.remove(&number);
        }
        let resolvers =
            if self.networks.unsent.is_empty() { Vec::new() } else { self.networks.resolvers() };
        let Some(process) = &mut self.networks.process else {
            return;
        };
        while let (false, Some(number)) = (is_full, self.networks.unsent.first().copied()) {
            let sandbox = self.sandboxes.get_mut(&number);
            let network = sandbox.and_then(|it| Some((it.init_pid, it.network.as_mut()?)));
            if let Some((init_pid, network)) = network
                && let Some((device, ethernet)) = &network.device
            {
                let orphans = if network.was_carried { connections(init_pid) } else { Vec::new() };
                let member = Member {
                    number,
                    ethernet: *ethernet,
                    egress: network.egress.clone(),
                    resolvers: resolvers.clone(),
                    follows_host: self.networks.resolvers.is_empty(),
                    transfer: network.transfer,
                    orphans,
                };
                let message = ToNetwork::Add(member);
                if link::send(&process.socket, &message, Some(device.as_fd())).is_err() {
                    is_full = true;
                    break;
                }
                network.was_carried = true;
            }
            self.networks.unsent.remove(&number);
        }
        if is_full != process.wants_out {
            process.wants_out = is_full;
            let out = if is_full { EventFlags::OUT } else { EventFlags::empty() };
            let data = EventData::new_u64(process.token);
            let _ = epoll::modify(&self.epoll, &process.socket, data, EventFlags::IN | out);
        }
    }

    /// Takes what the network process says.
    pub(super) fn serve_network(&mut self, token: u64) {
        /// Messages taken before others get their turn.
        const MESSAGES_PER_TURN: usize = 64;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(process) = self.networks.process.as_ref().filter(|it| it.token == token)
            else {
                return;
            };
            match link::recv(&process.socket) {
                Ok(Some((FromNetwork::Transferred { number, transfer, is_over }, _))) => {
                    self.note_transfer(number, transfer, is_over);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => return self.network_died(),
            }
        }
        self.send_to_network();
    }

    fn note_transfer(&mut self, number: u64, transfer: Transfer, is_over: bool) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        if let Some(network) = &mut sandbox.network {
            network.transfer = transfer;
        }
        if is_over {
            sandbox.limit.get_or_insert(LimitReached::Transfer);
            tool::end(sandbox);
        }
    }

    /// The network process has died, and with it all connections; another takes over.
    fn network_died(&mut self) {
        let Some(mut process) = self.networks.process.take() else {
            return;
        };
        self.sources.remove(&process.token);
        let _ = epoll::delete(&self.epoll, &process.socket);
        let _ = process.child.kill();
        let _ = process.child.wait();
        let networks = &mut self.networks;
        networks.left.clear();
        let with_device = self.sandboxes.iter().filter(|(_, sandbox)| {
            sandbox.network.as_ref().is_some_and(|network| network.device.is_some())
        });
        networks.unsent = with_device.map(|(number, _)| *number).collect();
        if process.started_at.elapsed() > STABLE_AFTER {
            networks.restart_after = RESTART_AFTER;
        }
        networks.restart_at = Some(Instant::now() + networks.restart_after);
        networks.restart_after = (networks.restart_after * 2).min(RESTART_AFTER_MAX);
    }

    /// Starts the network process again, if it is time and there is a use for it.
    pub(super) fn restart_network(&mut self, now: Instant) {
        if self.networks.restart_at.is_none_or(|at| at > now) {
            return;
        }
        self.networks.restart_at = None;
        if self.networks.unsent.is_empty() {
            return;
        }
        match self.start_network() {
            Ok(()) => self.send_to_network(),
            Err(_) => self.networks.restart_at = Some(now + RESTART_AFTER_MAX),
        }
    }
}

/// The TCP connections of a sandbox through its private network.
fn connections(init_pid: u32) -> Vec<Orphan> {
    let table = |name: &str| fs::read_to_string(format!("/proc/{init_pid}/net/{name}"));
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        found.extend(parse_connections(&table(name).unwrap_or_default()));
    }
    found.truncate(FLOWS_MAX);
    found
}

/// Reads a table in the format of `/proc/net/tcp` (`proc_net(5)`).
fn parse_connections(table: &str) -> Vec<Orphan> {
    let own = [IpAddr::from(ADDRESS), IpAddr::from(ADDRESS_6)];
    let connection = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (guest, remote) = (parse_end(fields.next()?)?, parse_end(fields.next()?)?);
        let is_ours = own.contains(&guest.ip()) && remote.port() != 0;
        is_ours.then(|| Orphan { guest: guest.to_string(), remote: remote.to_string() })
    };
    table.lines().filter_map(connection).collect()
}

/// An address in words of 32 bits, as they are in memory, and a port.
fn parse_end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        // A socket for both families shows the IPv4 address that it means.
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_through_the_network_are_found() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let (own, other) = (word([192, 0, 0, 2]), word([198, 51, 100, 1]));
        let mapped = word([0, 0, 0xff, 0xff]);
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n\
             1: {own}:1F91 {other}:0050 01 00000000:00000000\n\
             2: {other}:1F91 {own}:0050 01 00000000:00000000\n\
             3: 0000000000000000{mapped}{own}:0001 0000000000000000{mapped}{other}:0002 01\n\
             rubbish\n 4: x y 0A\n5: 0:1 0:2"
        );
        let orphan =
            |guest: &str, remote: &str| Orphan { guest: guest.into(), remote: remote.into() };
        let expected =
            [orphan("192.0.0.2:8081", "198.51.100.1:80"), orphan("192.0.0.2:1", "198.51.100.1:2")];
        assert_eq!(parse_connections(&table), expected);
    }
}
