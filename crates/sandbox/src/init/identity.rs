//! As whom the processes of a sandbox run, and what they may do.

use super::inside::Inside;
use super::{AtStep, StepError};
use crate::accounts::{self, Account};
use crate::kind::Kind;
use crate::limits::PASSWD_BYTES_MAX;
use crate::protections::Protections;
use crate::rootfs::Rootfs;
use crate::spec::UserSpec;

/// Bits of a capability set, `linux/capability.h`.
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_CHROOT: u64 = 1 << 18;
const SETFCAP: u64 = 1 << 31;

/// What user 0 may do inside its sandbox: what package managers and official images need, which
/// is what Docker gives but for devices, raw sockets, audit records and changing the own limits
/// of capabilities. All of it counts in the sandbox's user namespace only.
const OF_ROOT: u64 = CHOWN
    | DAC_OVERRIDE
    | FOWNER
    | FSETID
    | KILL
    | SETGID
    | SETUID
    | NET_BIND_SERVICE
    | SYS_CHROOT
    | SETFCAP;

/// What user 0 may do with files from outside: with those of other users of its sandbox too.
pub(super) const OF_FILES: u64 = CHOWN | DAC_OVERRIDE | FOWNER | FSETID;

/// What the init keeps for itself: to signal, to become the user, and to give the rest up.
const OF_INIT: u64 = KILL | SETGID | SETUID | SETPCAP;

/// As whom processes run.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) user: UserSpec,
    /// Whether the ids can be changed: a launcher that is not root maps one id only.
    pub(super) rootful: bool,
    /// The name, or the number where the root does not know it.
    pub(super) name: String,
    pub(super) home: String,
    /// What user 0 may do: nothing where the main process is not user 0.
    of_root: u64,
    /// What is on.
    pub(super) protections: Protections,
}

impl Identity {
    /// That of a kind of sandbox, not looked up yet.
    pub(super) fn new(kind: &Kind, rootfs: &Rootfs) -> Self {
        let Rootfs { rootful, protections, .. } = *rootfs;
        let (user, name) = (kind.user.clone(), kind.user.uid.to_string());
        let of_root = if user.uid == 0 { OF_ROOT } else { 0 };
        Self { user, rootful, name, home: "/".to_owned(), of_root, protections }
    }

    /// That of another user of the same sandbox, who may do no more than the first one.
    pub(super) fn of_another(&self, written: &str) -> Result<Self, StepError> {
        let inside = Inside::new().at("open the root")?;
        let read = |path: &str| {
            let bytes = inside.read(path, PASSWD_BYTES_MAX).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let failed = |reason| StepError { step: format!("find the user {written}"), reason };
        let found = accounts::resolve(written, &read("/etc/passwd"), &read("/etc/group"));
        let Account { user, name, home } = found.map_err(failed)?;
        if !self.rootful && (user.uid, user.gid) != (self.user.uid, self.user.gid) {
            let UserSpec { uid, gid, .. } = self.user;
            let reason = format!("its launcher has no root, so that {uid}:{gid} is its only user");
            return Err(failed(reason));
        }
        Ok(Self { user, name, home, ..self.clone() })
    }

    /// Looks the name and the home up in the root's `/etc/passwd` (`passwd(5)`).
    pub(super) fn look_up(&mut self, inside: &Inside) {
        let text = inside.read("/etc/passwd", PASSWD_BYTES_MAX).unwrap_or_default();
        if let Some((name, home)) = find_account(&text, self.user.uid) {
            (self.name, self.home) = (name, home);
        }
    }

    /// Capabilities of the processes.
    pub(super) fn capabilities(&self) -> u64 {
        if self.user.uid == 0 { self.of_root } else { 0 }
    }

    /// Capabilities of a process that serves files.
    pub(super) fn file_capabilities(&self) -> u64 {
        self.capabilities() & OF_FILES
    }

    /// Capabilities of the init once the sandbox is set up: its own, and what it hands on.
    pub(super) fn of_init(&self) -> u64 {
        OF_INIT | self.capabilities()
    }

    /// To whom files are given, where there is a choice.
    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        self.rootful.then_some((self.user.uid, self.user.gid))
    }

    /// The ids for system calls.
    pub(super) fn raw(&self) -> (rustix::fs::Uid, rustix::fs::Gid) {
        let (uid, gid) = (self.user.uid, self.user.gid);
        (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid))
    }
}

/// Name and home of the first account with this id whose home is an absolute path.
fn find_account(passwd: &[u8], uid: u32) -> Option<(String, String)> {
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields[..] else {
            return None;
        };
        let good = id.parse() == Ok(uid) && home.starts_with('/') && !line.contains('\0');
        good.then(|| (name.to_owned(), home.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accounts_are_found_by_their_id() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nrel:x:5:5::home:/x\nme:x:7:7::/h:\n";
        let found = |uid| find_account(passwd, uid).map(|(name, home)| format!("{name} {home}"));
        assert_eq!(found(0).as_deref(), Some("root /root"));
        assert_eq!(found(7).as_deref(), Some("me /h"));
        assert_eq!(found(5), None);
        assert_eq!(found(8), None);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some((_, home)) = find_account(&bytes, 0) {
                prop_assert!(home.starts_with('/'));
            }
        }
    }
}
