//! What the launcher does for each request.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::core::{Ending, Launcher};
use super::disk;
use super::sandbox::{Asker, Phase, Process, Sandbox};
use super::{store, tool};
use crate::cgroup;
use crate::init::control::{self, ToInit};
use crate::init::terminal;
use crate::limits::NOTE_BYTES_MAX;
use crate::protections::Protection;
use crate::protocol::{
    Description, InstanceInfo, InstanceState, ListeningSocket, ProcessInfo, Reply, Request,
};
use crate::rootfs::UsrView;
use crate::spec::{WindowSize, is_instance_id};
use crate::sys;

/// Last output in a list, in bytes, so that the list of very many instances still is a frame.
/// What is left out can be read from the log.
const LIST_OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Grace that a shutdown gives to instances.
const SHUTDOWN_GRACE_MS: u64 = 5_000;

impl Launcher {
    /// Carries a request out; `None` if the answer comes later.
    pub(super) fn handle_request(&mut self, asker: Asker, request: Request) -> Option<Reply> {
        match request {
            Request::Start { instance, spec } => self.start(asker, instance, *spec),
            Request::Exec { instance, exec, spec } => self.exec(asker, &instance, exec, spec),
            Request::Signal { instance, process, signal } => {
                Some(self.signal(&instance, process, signal))
            }
            Request::Stop { instance, signal, grace_ms } => {
                Some(self.stop(&instance, signal, grace_ms))
            }
            Request::List => Some(self.list()),
            Request::Dial { instance, port } => self.dial(asker, &instance, port),
            Request::Listening { instance, ports } => Some(self.listening(&instance, &ports)),
            Request::Usage { instance } => Some(self.usage(&instance)),
            Request::Forget { instance } => Some(self.forget(&instance)),
            Request::WriteStdin { instance, process, bytes, eof } => {
                Some(self.write_stdin(&instance, process, &bytes, eof))
            }
            Request::Shutdown { stop_all } => self.shutdown(asker, stop_all),
            Request::Describe => Some(self.describe()),
            Request::Warm { pools } => Some(self.warm(pools)),
            Request::Pools => Some(self.pool_infos()),
            Request::Renew { heard_ms } => Some(self.renew(heard_ms)),
            Request::Note { instance, note } => Some(self.note(&instance, note)),
            Request::Resize { instance, process, size } => {
                Some(self.resize(&instance, process, size))
            }
            Request::Processes { instance } => Some(self.processes(&instance)),
            Request::Sockets { instance } => Some(self.sockets(&instance)),
            Request::Files { instance } => self.files(asker, &instance),
        }
    }

    pub(super) fn find(&mut self, instance: &str) -> Option<(u64, &mut Sandbox)> {
        let number = *self.running.get(instance)?;
        self.sandboxes.get_mut(&number).map(|sandbox| (number, sandbox))
    }

    // Ends.

    fn signal(&mut self, instance: &str, process: u32, signal: i32) -> Reply {
        if !(1..=64).contains(&signal) {
            return Reply::Refused { reason: format!("{signal} is no signal: 1 to 64") };
        }
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let lives = |it: &Process| it.pid.is_some() && it.status.is_none();
        if !sandbox.processes.get(&process).is_some_and(lives) {
            return Reply::NotFound;
        }
        // An engine has no way to send a signal to a further process; its main one, it ends.
        let of_host = sandbox.processes.get(&process).and_then(|it| it.of_host.as_ref());
        if let Some(of_host) = of_host.filter(|_| process != 0) {
            return match sys::send_signal(of_host, signal) {
                Ok(()) => Reply::Done,
                Err(error) => refused("send the signal", &error),
            };
        }
        let signal = tool::substitute(sandbox, signal);
        match control::send(&sandbox.control, &ToInit::Signal { process, signal }, &[]) {
            Ok(()) => Reply::Done,
            Err(error) => refused("reach the sandbox", &error),
        }
    }

    pub(super) fn stop(&mut self, instance: &str, signal: i32, grace_ms: u64) -> Reply {
        let kills = self.workshop.rootfs.protections.has(Protection::KillAfterGrace);
        let Some((_, sandbox)) = self.find(instance) else {
            return if store::exists(instance) { Reply::Done } else { Reply::NotFound };
        };
        let until = Instant::now() + Duration::from_millis(grace_ms);
        let runs = sandbox.processes.get(&0).is_some_and(|main| main.pid.is_some());
        let signal = ToInit::Signal { process: 0, signal: tool::substitute(sandbox, signal) };
        let sent = runs && control::send(&sandbox.control, &signal, &[]).is_ok();
        if !sent || grace_ms == 0 {
            tool::end(sandbox);
        } else if kills {
            // A second stop may shorten the grace, never lengthen it.
            sandbox.kill_at = Some(sandbox.kill_at.map_or(until, |at| at.min(until)));
        }
        Reply::Done
    }

    fn shutdown(&mut self, asker: Asker, stop_all: bool) -> Option<Reply> {
        if !stop_all && !self.running.is_empty() {
            let count = self.running.len();
            return Some(Reply::Refused { reason: format!("{count} instances run") });
        }
        self.stop_all(Some(asker));
        None
    }

    /// Stops everything; the loop ends when nothing runs any more.
    pub(super) fn stop_all(&mut self, asker: Option<Asker>) {
        for instance in self.running.keys().cloned().collect::<Vec<_>>() {
            self.stop(&instance, libc::SIGTERM, SHUTDOWN_GRACE_MS);
        }
        self.ending = Some(Ending { asker });
    }

    fn forget(&mut self, instance: &str) -> Reply {
        if self.running.contains_key(instance) {
            return Reply::Refused { reason: "it runs; stop it first".into() };
        }
        if !is_instance_id(instance) || !store::exists(instance) {
            return Reply::NotFound;
        }
        self.discard(&store::instance_dir(instance));
        Reply::Done
    }

    fn note(&mut self, instance: &str, note: Vec<u8>) -> Reply {
        if note.len() > NOTE_BYTES_MAX {
            let reason = format!("a note of {} bytes is above {NOTE_BYTES_MAX}", note.len());
            return Reply::Refused { reason };
        }
        let Some((number, _)) = self.find(instance) else {
            return Reply::NotFound;
        };
        self.notes.insert(number, note);
        Reply::Done
    }

    // Questions.

    fn list(&self) -> Reply {
        let on_disk = match store::instances() {
            Ok(names) => names,
            Err(error) => return refused("read the folder of the instances", &error),
        };
        let ended = on_disk.into_iter().filter(|name| !self.running.contains_key(name));
        let mut all: BTreeMap<String, InstanceInfo> =
            ended.map(|name| (name.clone(), store::info(&name))).collect();
        for (name, number) in &self.running {
            if let Some(sandbox) = self.sandboxes.get(number) {
                let note = self.notes.get(number).cloned();
                all.insert(name.clone(), InstanceInfo { note, ..info(name, sandbox) });
            }
        }
        keep_within(&mut all, LIST_OUTPUT_BYTES_MAX);
        Reply::Instances { instances: all.into_values().collect() }
    }

    fn dial(&mut self, asker: Asker, instance: &str, port: u16) -> Option<Reply> {
        let id = self.token();
        let Some((_, sandbox)) = self.find(instance) else {
            return Some(Reply::NotFound);
        };
        if !matches!(sandbox.phase, Phase::Assigned) {
            return Some(Reply::NotFound);
        }
        match control::send(&sandbox.control, &ToInit::Dial { id, port }, &[]) {
            Ok(()) => {
                sandbox.dials.insert(id, asker);
                None
            }
            Err(error) => Some(refused("reach the sandbox", &error)),
        }
    }

    fn files(&mut self, asker: Asker, instance: &str) -> Option<Reply> {
        let id = self.token();
        let Some((_, sandbox)) = self.find(instance) else {
            return Some(Reply::NotFound);
        };
        let Some(pid) = sandbox.processes.get(&0).and_then(|main| main.pid) else {
            return Some(Reply::NotFound);
        };
        let (container, namespaces) = match sandbox.tool.is_some().then(|| tool::container(pid)) {
            None => (None, Vec::new()),
            Some(Ok((container, namespaces))) => (Some(container), namespaces),
            Some(Err(reason)) => return Some(Reply::Refused { reason }),
        };
        let attached: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
        match control::send(&sandbox.control, &ToInit::Files { id, container }, &attached) {
            Ok(()) => {
                sandbox.dials.insert(id, asker);
                None
            }
            Err(error) => Some(refused("reach the sandbox", &error)),
        }
    }

    fn listening(&mut self, instance: &str, ports: &[u16]) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let mut open: Vec<u16> = Vec::new();
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/{}/net/{table}", sandbox.init_pid);
            let text = fs::read_to_string(path).unwrap_or_default();
            open.extend(listening_sockets(&text).map(|(port, _)| port));
        }
        Reply::Listening { ports: ports.iter().copied().filter(|it| open.contains(it)).collect() }
    }

    fn sockets(&mut self, instance: &str) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let mut found: BTreeMap<u16, bool> = BTreeMap::new();
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/{}/net/{table}", sandbox.init_pid);
            let text = fs::read_to_string(path).unwrap_or_default();
            for (port, loopback_only) in listening_sockets(&text) {
                *found.entry(port).or_insert(true) &= loopback_only;
            }
        }
        let socket = |(port, loopback_only)| ListeningSocket { port, loopback_only };
        Reply::Sockets { sockets: found.into_iter().map(socket).collect() }
    }

    fn processes(&self, instance: &str) -> Reply {
        if !is_instance_id(instance) || !store::exists(instance) {
            return Reply::NotFound;
        }
        Reply::Processes { processes: store::describe_processes(instance) }
    }

    fn resize(&mut self, instance: &str, process: u32, size: WindowSize) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let Some(found) = sandbox.processes.get(&process).filter(|it| it.status.is_none()) else {
            return Reply::NotFound;
        };
        let Some(terminal) = &found.terminal else {
            return Reply::Refused { reason: "it has no terminal".into() };
        };
        match rustix::termios::tcsetwinsize(terminal, terminal::of_kernel(size)) {
            Ok(()) => Reply::Done,
            Err(error) => refused("change the size of its terminal", &error.into()),
        }
    }

    fn describe(&self) -> Reply {
        let rootfs = &self.workshop.rootfs;
        let description = Description {
            rootful: rootfs.rootful,
            usr_writable: rootfs.usr == UsrView::Writable,
            usr_reason: rootfs.usr_reason.clone(),
            controllers: self.workshop.cgroups.describe(),
            disk_limit: Some(disk::describe(
                self.workshop.projects.is_some(),
                self.workshop.images,
            )),
        };
        Reply::Description { description }
    }

    fn usage(&mut self, instance: &str) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let main = sandbox.processes.get(&0).and_then(|main| main.pid).filter(|pid| *pid != 0);
        let mut usage = match main.filter(|_| sandbox.tool.is_some()) {
            Some(pid) => cgroup::usage_of(pid),
            None => sandbox.group.as_ref().map(|group| group.usage()).unwrap_or_default(),
        };
        if let Some(network) = &sandbox.network {
            usage.network_bytes_in = Some(network.transfer.in_bytes);
            usage.network_bytes_out = Some(network.transfer.out_bytes);
        }
        Reply::Usage { usage }
    }

    fn write_stdin(&mut self, instance: &str, process: u32, bytes: &[u8], eof: bool) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return Reply::NotFound;
        };
        // A terminal stays open: the end of input is a character there.
        let eof = eof && found.terminal.is_none();
        let Some(stdin) = found.terminal.as_ref().or(found.stdin.as_ref()) else {
            return Reply::Refused { reason: "its standard input is closed".into() };
        };
        let mut accepted = 0;
        while accepted < bytes.len() {
            match rustix::io::write(stdin, &bytes[accepted..]) {
                Ok(written) => accepted += written,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    found.stdin = None;
                    return refused("write to its standard input", &error.into());
                }
            }
        }
        if eof && accepted == bytes.len() {
            found.stdin = None;
        }
        Reply::Accepted { bytes: accepted as u64 }
    }
}

/// The answer when a step fails.
pub(super) fn refused(step: &str, error: &io::Error) -> Reply {
    Reply::Refused { reason: format!("cannot {step}: {error}") }
}

/// Leaves the last output out from where the sum is above `bytes_max`.
fn keep_within(instances: &mut BTreeMap<String, InstanceInfo>, bytes_max: usize) {
    let mut bytes = 0;
    for instance in instances.values_mut() {
        let of_processes = instance.processes.iter_mut().filter_map(|it| it.exit.as_mut());
        let of_state = match &mut instance.state {
            InstanceState::Ended { exit } => Some(exit),
            _ => None,
        };
        for exit in of_processes.chain(of_state) {
            bytes += exit.last_output.len();
            if bytes > bytes_max {
                exit.last_output = Vec::new();
            }
        }
    }
}

fn info(name: &str, sandbox: &Sandbox) -> InstanceInfo {
    let on_disk = store::info(name);
    let pid = sandbox.processes.get(&0).and_then(|main| main.pid).unwrap_or(0);
    let processes: Vec<ProcessInfo> = on_disk.processes;
    InstanceInfo {
        instance: name.to_owned(),
        tag: sandbox.tag.clone(),
        started_ms: sandbox.started_ms,
        state: InstanceState::Running { init_pid: sandbox.init_pid, pid },
        processes,
        note: None,
    }
}

/// Local ports in state LISTEN of a table in the format of `/proc/net/tcp` (`proc_net(5)`), each
/// with whether its address is one of loopback.
fn listening_sockets(table: &str) -> impl Iterator<Item = (u16, bool)> {
    const LISTEN: &str = "0A";
    table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (address, port) = local.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (state == LISTEN).then(|| (port, is_loopback(address)))
    })
}

/// Whether an address is one of loopback: each word of it is written as this machine has it in
/// memory, in hexadecimal.
fn is_loopback(address: &str) -> bool {
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let Some(words) = words.collect::<Option<Vec<_>>>() else {
        return false;
    };
    match words[..] {
        [v4] => Ipv4Addr::from(v4).is_loopback(),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_mut(4).zip([a, b, c, d]) {
                to.copy_from_slice(&from);
            }
            let address = Ipv6Addr::from(bytes);
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|it| it.is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1F91 0100007F:1234 01 00000000:00000000\n\
            2: 00000000:0050 00000000:0000 0A 00000000:00000000\n\
            rubbish\n 2: x y 0A\n";
        let found: Vec<_> = listening_sockets(table).collect();
        assert_eq!(found, [(8080, true), (80, false)]);
        let table = "0: 00000000000000000000000001000000:0051 0:0 0A\n\
            1: 00000000000000000000000000000000:0052 0:0 0A\n\
            2: 0000000000000000FFFF00000100007F:0053 0:0 0A\n";
        let found: Vec<_> = listening_sockets(table).collect();
        assert_eq!(found, [(81, true), (82, false), (83, true)]);
    }
}
