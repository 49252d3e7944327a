//! One sandbox as the network process sees it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use smoltcp::wire::IpProtocol;

use super::device::{ADDRESS, ADDRESS_6, GATEWAY, GATEWAY_6};
use super::link::{Member, Transfer};
use super::netlink::Netlink;
use super::policy::{Known, Policy};
use super::port::Port;
use super::resolver::Learned;

/// What tells the connections of one sandbox apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) protocol: IpProtocol,
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// A sandbox.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) port: Port,
    pub(crate) policy: Policy,
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Whether those are the host's, as they were once.
    pub(crate) follows_host: bool,
    /// Tokens of its connections.
    pub(crate) flows: HashMap<Key, u64>,
    /// Tokens of its questions that wait.
    pub(crate) questions: Vec<u64>,
    pub(crate) learned: Learned,
    /// What the launcher has been told.
    pub(crate) reported: Transfer,
    /// Whether nothing goes through any more.
    pub(crate) is_stopped: bool,
}

impl Instance {
    pub(crate) fn new(member: &Member, device: OwnedFd) -> io::Result<Self> {
        let policy = Policy::new(&member.egress)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let limit = policy.transfer_bytes_max;
        Ok(Self {
            port: Port::new(device, member.framing(), member.transfer, limit),
            policy,
            resolvers: member.resolvers.iter().filter_map(|it| it.parse().ok()).collect(),
            follows_host: member.follows_host,
            flows: HashMap::new(),
            questions: Vec::new(),
            learned: Learned::default(),
            reported: member.transfer,
            is_stopped: false,
        })
    }

    /// Whether a connection to `remote` may be made. The host's addresses are looked at each time,
    /// because they change.
    pub(crate) fn may_reach(&self, remote: SocketAddr, netlink: &Netlink, now: Instant) -> bool {
        let address = remote.ip();
        let is_mapped = matches!(address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some());
        let is_one = match address {
            IpAddr::V4(it) => !(it.is_multicast() || it.is_broadcast() || it.is_unspecified()),
            IpAddr::V6(it) => !(it.is_multicast() || it.is_unspecified()),
        };
        if !is_one || is_mapped || is_gateway(address) || is_own(address) {
            return false;
        }
        self.policy.allows(address, remote.port(), || Known {
            is_host: !netlink.leads_elsewhere(address).unwrap_or(false),
            is_named: self.learned.has(address, now),
        })
    }
}

/// Whether it is the sandbox's own address.
pub(crate) fn is_own(address: IpAddr) -> bool {
    address == IpAddr::from(ADDRESS) || address == IpAddr::from(ADDRESS_6)
}

/// Whether it is the address of the gateway and resolver.
pub(crate) fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::from(GATEWAY) || address == IpAddr::from(GATEWAY_6)
}
