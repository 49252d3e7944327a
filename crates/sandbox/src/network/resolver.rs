//! The resolver of a sandbox: it passes questions on that may be asked, and remembers the
//! addresses that came back.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::address::canonical;
use super::dns::{self, Question};
use super::udp::socket_to;
use crate::limits::{
    DNS_ADDRESS_SECONDS, DNS_ADDRESSES_MAX, DNS_ANSWER_SECONDS_MAX, DNS_ATTEMPTS_MAX,
};

/// Port of the domain name system.
pub(crate) const PORT: u16 = 53;

/// The addresses that an instance may reach because of names, with the end of that.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    until: HashMap<IpAddr, Instant>,
}

impl Learned {
    /// Takes the addresses of an answer.
    pub(crate) fn add(&mut self, answer: &[u8], now: Instant) {
        for (address, seconds) in dns::addresses(answer) {
            let range = DNS_ADDRESS_SECONDS;
            let seconds = u64::from(seconds).clamp(*range.start(), *range.end());
            let until = now + Duration::from_secs(seconds);
            let kept = self.until.entry(canonical(address)).or_insert(until);
            *kept = until.max(*kept);
        }
        if self.until.len() > DNS_ADDRESSES_MAX {
            self.shrink(now);
        }
    }

    fn shrink(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        let mut ends: Vec<Instant> = self.until.values().copied().collect();
        ends.sort_unstable();
        if let Some(surplus) = ends.len().checked_sub(DNS_ADDRESSES_MAX).filter(|it| *it > 0) {
            let last = ends[surplus - 1];
            self.until.retain(|_, until| *until > last);
        }
    }

    /// Whether an address has been answered lately.
    pub(crate) fn has(&self, address: IpAddr, now: Instant) -> bool {
        self.until.get(&canonical(address)).is_some_and(|until| *until > now)
    }
}

/// A question that waits for an answer of the host's resolvers.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// Who asked, and the address that was asked.
    pub(crate) guest: SocketAddr,
    pub(crate) asked: SocketAddr,
    socket: OwnedFd,
    id: u16,
    attempts: usize,
    until: Instant,
}

impl Asked {
    /// Asks one of the resolvers, beginning with `attempts`, the next if it cannot be asked.
    pub(crate) fn begin(
        question: Question,
        guest: SocketAddr,
        asked: SocketAddr,
        resolvers: &[SocketAddr],
        mut attempts: usize,
        now: Instant,
    ) -> io::Result<Self> {
        loop {
            let resolver = resolvers.get(attempts % resolvers.len().max(1));
            let resolver = resolver.ok_or(io::ErrorKind::NotFound)?;
            attempts += 1;
            let mut id = [0; 2];
            rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
            let id = u16::from_ne_bytes(id);
            let sent = socket_to(*resolver).and_then(|socket| {
                send(&socket, &question.to_query(id), SendFlags::NOSIGNAL)?;
                Ok(socket)
            });
            match sent {
                Ok(socket) => {
                    let until = now + Duration::from_secs(DNS_ANSWER_SECONDS_MAX);
                    return Ok(Self { question, guest, asked, socket, id, attempts, until });
                }
                Err(error) if attempts >= DNS_ATTEMPTS_MAX => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Takes an answer, if one has come: what the host's resolver said, and the message for the
    /// program. An error means that this resolver will not answer.
    pub(crate) fn take_answer(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    let answer = self.question.to_answer(self.id, &buffer[..length], true);
                    if answer.is_some() {
                        return Ok(answer);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the next resolver; `None` if enough have been asked.
    pub(crate) fn again(self, resolvers: &[SocketAddr], now: Instant) -> Result<Self, Question> {
        if self.attempts >= DNS_ATTEMPTS_MAX {
            return Err(self.question);
        }
        let question = self.question.clone();
        Self::begin(self.question, self.guest, self.asked, resolvers, self.attempts, now)
            .map_err(|_| question)
    }

    /// When to ask the next.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }
}

impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where the host names its resolvers (`resolv.conf(5)`).
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The resolvers of the host as they are now: a machine that moves gets others.
#[derive(Debug)]
pub(crate) struct HostResolvers {
    path: PathBuf,
    changed_at: Option<SystemTime>,
    resolvers: Vec<SocketAddr>,
}

impl HostResolvers {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), changed_at: None, resolvers: Vec::new() }
    }

    /// The resolvers; none if the file cannot be read, or names none.
    pub(crate) fn now(&mut self) -> &[SocketAddr] {
        let changed_at = fs::metadata(&self.path).and_then(|it| it.modified()).ok();
        if changed_at != self.changed_at || changed_at.is_none() {
            self.changed_at = changed_at;
            self.resolvers = read_resolvers(&fs::read_to_string(&self.path).unwrap_or_default());
        }
        &self.resolvers
    }
}

/// The resolvers that a file in the format of `resolv.conf(5)` names.
fn read_resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().filter(|it| *it == "nameserver").and(words.next())?;
            // A zone, as in fe80::1%eth0, is none that another namespace could use.
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolvers_of_a_file_are_read() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 192.0.2.1\n\
            nameserver\nnameserver x\n  nameserver 2001:db8::1 \noptions edns0\n";
        let expected: [SocketAddr; 2] =
            [([192, 0, 2, 1], 53).into(), "[2001:db8::1]:53".parse().expect("an address")];
        assert_eq!(read_resolvers(text), expected);
    }

    #[test]
    fn the_resolvers_of_the_host_are_followed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("resolv.conf");
        let mut host = HostResolvers::new(&path);
        assert!(host.now().is_empty());
        for (second, address) in [(1, [192, 0, 2, 1]), (2, [192, 0, 2, 2])] {
            let [a, b, c, d] = address;
            fs::write(&path, format!("nameserver {a}.{b}.{c}.{d}\n")).expect("written");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).expect("set");
            assert_eq!(host.now(), [(address, PORT).into()]);
        }
        fs::remove_file(&path).expect("removed");
        assert!(host.now().is_empty());
    }

    #[test]
    fn addresses_that_end_soonest_are_dropped_first() {
        let now = Instant::now();
        let mut learned = Learned::default();
        for number in 0..DNS_ADDRESSES_MAX as u32 + 10 {
            let address = IpAddr::from((0xc633_0000 + number).to_be_bytes());
            learned.until.insert(address, now + Duration::from_secs(u64::from(number) + 1));
        }
        learned.shrink(now);
        assert_eq!(learned.until.len(), DNS_ADDRESSES_MAX);
        assert!(!learned.has(IpAddr::from(0xc633_0000u32.to_be_bytes()), now));
        assert!(learned.has(IpAddr::from(0xc633_000au32.to_be_bytes()), now));
    }
}
