//! Users and groups: inside a sandbox, and on the host's disk.

use spawnery_sandbox::limits::{HOST_ID_BASE, HOST_ID_COUNT};

/// How ids inside a sandbox are written to the disk; see `RootSpec` of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// As root: the id inside plus [`HOST_ID_BASE`].
    Shifted,
    /// As any other user, who cannot give files away: its own id for all, which are 0 inside.
    Own,
}

/// An id cannot be had inside a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the user or group id {0} is beyond those of a sandbox, which are 0 to {max}", max = HOST_ID_COUNT - 1)]
pub struct IdError(pub u64);

impl Ids {
    /// What this process can do.
    pub fn of_this_process() -> Ids {
        if rustix::process::geteuid().is_root() { Ids::Shifted } else { Ids::Own }
    }

    /// The id on the host, or `None` if files keep the id of this process.
    ///
    /// # Errors
    ///
    /// When a sandbox has no such id; also where owners are not kept, so that a layer is refused
    /// on all nodes or on none.
    pub fn to_host(self, inside: u64) -> Result<Option<u32>, IdError> {
        match u32::try_from(inside) {
            Ok(id) if id < HOST_ID_COUNT => Ok((self == Ids::Shifted).then_some(HOST_ID_BASE + id)),
            _ => Err(IdError(inside)),
        }
    }

    /// The permission bits on the disk. Without root the owner keeps access to all, or a layer
    /// could be neither hashed nor removed; inside, the owner is user 0, who has access anyway.
    pub fn mode_on_disk(self, mode: u32, is_folder: bool) -> u32 {
        match (self, is_folder) {
            (Ids::Shifted, _) => mode,
            (Ids::Own, true) => mode | 0o700,
            (Ids::Own, false) => mode | 0o400,
        }
    }

    /// The id inside of a file's owner. What does not belong to the sandbox is root's inside, as
    /// files of the host's own folders are.
    pub fn to_inside(self, host: u32) -> u32 {
        match self {
            Ids::Shifted => match host.checked_sub(HOST_ID_BASE) {
                Some(id) if id < HOST_ID_COUNT => id,
                _ => 0,
            },
            Ids::Own => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_those_beyond_are_refused() {
        for inside in [0, 1, 1000, 65_535] {
            let host = Ids::Shifted.to_host(inside).expect("in range").expect("shifted");
            assert_eq!(u64::from(Ids::Shifted.to_inside(host)), inside);
            assert_eq!(Ids::Own.to_host(inside), Ok(None));
        }
        for beyond in [65_536, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(Ids::Shifted.to_host(beyond), Err(IdError(beyond)));
            assert_eq!(Ids::Own.to_host(beyond), Err(IdError(beyond)));
        }
        assert_eq!(Ids::Shifted.to_inside(0), 0, "the host's root is root inside");
    }
}
