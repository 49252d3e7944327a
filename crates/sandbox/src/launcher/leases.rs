//! Instances that end by themselves when nobody says for long that they may go on.
//!
//! Somebody else takes over what such an instance does, so it must not go on whatever happens to
//! those who look after it: its caller may be dead, stopped or cut off. The launcher outlives them.
//! All times are on the clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`,
//! `clock_gettime(2)`), which callers on the same machine share.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::core::Launcher;
use crate::clock::boottime_ms;
use crate::protocol::Reply;
use crate::spec::{LeaseSpec, LimitReached};

/// The leases of all living instances.
#[derive(Debug)]
pub(super) struct Leases {
    /// Becomes readable when a lease may have ended.
    pub(super) timer: OwnedFd,
    /// When it does, if it does.
    armed_ms: Option<u64>,
    /// The newest time up to which all callers have heard that instances may go on.
    heard_ms: u64,
    /// By the number of the sandbox.
    of: BTreeMap<u64, LeaseSpec>,
}

impl Leases {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { timer, armed_ms: None, heard_ms: 0, of: BTreeMap::new() })
    }

    /// When a lease ends.
    fn until_ms(&self, lease: &LeaseSpec) -> u64 {
        lease.heard_ms.max(self.heard_ms).saturating_add(lease.lasts_ms)
    }

    /// An instance is over.
    pub(super) fn remove(&mut self, number: u64) {
        self.of.remove(&number);
    }

    /// Takes out those that have ended.
    fn take_ended(&mut self, now_ms: u64) -> Vec<(u64, LeaseSpec)> {
        let ended = self.of.iter().filter(|(_, lease)| self.until_ms(lease) <= now_ms);
        let ended: Vec<_> = ended.map(|(number, lease)| (*number, lease.clone())).collect();
        ended.iter().for_each(|(number, _)| _ = self.of.remove(number));
        ended
    }

    /// Has the timer expire when the next lease ends, unless it expires before: renewals are many,
    /// and a look too early costs less than setting the timer for each.
    fn arm(&mut self) {
        let next = self.of.values().map(|lease| self.until_ms(lease)).min();
        let Some(next_ms) = next.filter(|next| self.armed_ms.is_none_or(|armed| *next < armed))
        else {
            return;
        };
        // A time that has passed expires at once; zero would disarm it.
        let at = timespec(next_ms.max(1));
        let timer = Itimerspec { it_interval: timespec(0), it_value: at };
        // A valid time on a timer of this process is not refused (`timerfd_settime(2)`).
        if timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer).is_ok() {
            self.armed_ms = Some(next_ms);
        }
    }
}

impl Launcher {
    /// From now on an instance needs renewals.
    pub(super) fn begin_lease(&mut self, number: u64, lease: Option<LeaseSpec>) {
        let Some(mut lease) = lease else {
            return;
        };
        // Nobody has heard anything in the future.
        lease.heard_ms = lease.heard_ms.min(boottime_ms());
        self.leases.of.insert(number, lease);
        self.leases.arm();
    }

    /// All instances may go on, counted from `heard_ms`.
    pub(super) fn renew(&mut self, heard_ms: u64) -> Reply {
        self.leases.heard_ms = self.leases.heard_ms.max(heard_ms.min(boottime_ms()));
        Reply::Done
    }

    /// Ends the instances whose leases are over.
    pub(super) fn end_leases(&mut self) {
        let mut expirations = [0; 8];
        let _ = rustix::io::read(self.leases.timer.as_fd(), &mut expirations);
        self.leases.armed_ms = None;
        for (number, lease) in self.leases.take_ended(boottime_ms()) {
            self.end_for_lease(number, &lease);
        }
        self.leases.arm();
    }

    fn end_for_lease(&mut self, number: u64, lease: &LeaseSpec) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let Some(instance) = sandbox.instance.clone() else {
            return;
        };
        let runs = sandbox.processes.get(&0).is_some_and(|main| main.pid.is_some());
        if !runs {
            let reason = "nobody said in time that it may go on".to_owned();
            return self.main_failed(number, "hold its lease".to_owned(), reason);
        }
        // One that is being stopped already ends for that.
        if sandbox.kill_at.is_none() {
            sandbox.limit.get_or_insert(LimitReached::KeyLease);
        }
        self.stop(&instance, lease.stop_signal, lease.grace_ms);
    }
}

fn timespec(ms: u64) -> Timespec {
    // Beyond what fits, the timer is set again when it expires.
    let fits = Duration::from_millis(ms.min(1000 * u64::from(i32::MAX.unsigned_abs())));
    fits.try_into().expect("so many seconds fit into every kind of time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(lasts_ms: u64, heard_ms: u64) -> LeaseSpec {
        LeaseSpec { lasts_ms, heard_ms, stop_signal: 15, grace_ms: 0 }
    }

    #[test]
    fn a_lease_is_counted_from_the_newest_time_at_which_its_caller_was_heard() {
        let mut leases = Leases::new().expect("a timer");
        leases.of.insert(1, lease(100, 1000));
        leases.of.insert(2, lease(100, 1050));
        leases.of.insert(3, lease(300, 900));
        let numbers = |ended: Vec<(u64, LeaseSpec)>| -> Vec<u64> {
            ended.into_iter().map(|(number, _)| number).collect()
        };
        assert!(leases.take_ended(1099).is_empty());
        assert_eq!(numbers(leases.take_ended(1100)), [1]);
        leases.heard_ms = 1120;
        assert!(leases.take_ended(1219).is_empty());
        assert_eq!(numbers(leases.take_ended(1220)), [2]);
        assert_eq!(numbers(leases.take_ended(1420)), [3]);
    }
}
