//! What the launcher and the init of a sandbox say to each other, over a socket pair that
//! keeps messages apart. Both ends are always of the same binary, so there is no version.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use minicbor::{Decode, Encode};

use crate::fd_passing::{recv_with_fds, send_with_fds};
use crate::limits::CONTROL_BYTES_MAX;
use crate::protocol::DialError;
use crate::spec::{FileSpec, SecretFile, UserSpec, WindowSize};

/// From the launcher to the init. Without `Debug`, because it may hold secrets.
#[derive(Encode, Decode)]
pub(crate) enum ToInit {
    /// The ids are mapped; the setup may go on.
    #[n(0)]
    Mapped,
    /// Run a process. Its three standard streams are attached, and then what is mounted.
    #[n(1)]
    Run(#[n(0)] Box<Run>),
    /// Send a signal.
    #[n(2)]
    Signal {
        #[n(0)]
        process: u32,
        #[n(1)]
        signal: i32,
    },
    /// Connect to a port.
    #[n(3)]
    Dial {
        #[n(0)]
        id: u64,
        #[n(1)]
        port: u16,
    },
    /// The real message is in the attached memory file, which comes first.
    #[n(4)]
    InMemoryFile,
    /// Enter the attached network namespace.
    #[n(5)]
    JoinNetwork,
    /// Serve a request for files; in a container elsewhere, if one is given, whose namespaces are
    /// attached. Answered as `Dial` is.
    #[n(7)]
    Files {
        #[n(0)]
        id: u64,
        #[n(1)]
        container: Option<Container>,
    },
    /// Kill a process and all that it has started.
    #[n(6)]
    KillTree {
        #[n(0)]
        process: u32,
    },
}

/// A container that a tool has made.
#[derive(Debug, Encode, Decode)]
pub(crate) struct Container {
    /// Its user, as it is inside.
    #[n(0)]
    pub(crate) user: UserSpec,
    /// Device and number of its root folder.
    #[n(1)]
    pub(crate) root: (u64, u64),
}

/// A process to run.
#[derive(Encode, Decode)]
pub(crate) struct Run {
    #[n(0)]
    pub(crate) process: u32,
    #[n(1)]
    pub(crate) argv: Vec<String>,
    #[n(2)]
    pub(crate) env: Vec<(String, String)>,
    #[n(3)]
    pub(crate) working_directory: Option<String>,
    /// With the main process, and only with it.
    #[n(4)]
    pub(crate) personal: Option<Personal>,
    /// As whom it runs, if not as the main process.
    #[n(5)]
    pub(crate) user: Option<String>,
    /// The size of the terminal that takes the place of the attached streams.
    #[n(6)]
    pub(crate) terminal: Option<WindowSize>,
}

/// What makes a prepared sandbox that of one instance.
#[derive(Encode, Decode)]
pub(crate) struct Personal {
    #[n(0)]
    pub(crate) hostname: String,
    #[n(1)]
    pub(crate) files: Vec<FileSpec>,
    #[n(2)]
    pub(crate) tmp_bytes_max: u64,
    /// `RLIMIT_NPROC`, where no control group limits the processes.
    #[n(3)]
    pub(crate) processes_max: Option<u64>,
    /// Where the attached trees are mounted, in the same order.
    #[n(4)]
    pub(crate) mount_targets: Vec<String>,
    #[n(5)]
    pub(crate) secret_files: Vec<SecretFile>,
    /// Whether there is an interface besides that for the loopback.
    #[n(6)]
    pub(crate) private_network: bool,
}

/// From the init to the launcher.
#[derive(Debug, Encode, Decode)]
pub(crate) enum FromInit {
    /// The sandbox is set up.
    #[n(0)]
    Ready,
    /// The setup, or the start of a process, failed.
    #[n(1)]
    Failed {
        #[n(0)]
        process: u32,
        #[n(1)]
        step: String,
        #[n(2)]
        reason: String,
    },
    /// The process runs its program. A pidfd of it is attached, unless it has ended already.
    #[n(2)]
    Started {
        #[n(0)]
        process: u32,
        /// Its id as the launcher sees it, if it is no descendant of the init.
        #[n(1)]
        of_host: Option<u32>,
    },
    /// The process ended.
    #[n(3)]
    Exited {
        #[n(0)]
        process: u32,
        #[n(1)]
        code: Option<i32>,
        #[n(2)]
        signal: Option<i32>,
        /// Whether the private layer, which is in an image, was full.
        #[n(3)]
        disk_full: bool,
    },
    /// The connection is attached.
    #[n(4)]
    Dialed {
        #[n(0)]
        id: u64,
    },
    /// There is no connection.
    #[n(5)]
    DialFailed {
        #[n(0)]
        id: u64,
        #[n(1)]
        error: DialError,
        #[n(2)]
        reason: String,
    },
    /// The interface of a private network is made; its other end is attached.
    #[n(6)]
    Device {
        #[n(0)]
        ethernet: bool,
    },
    /// The terminal of a process is made; its other side is attached. Comes before `Started`.
    #[n(7)]
    Terminal {
        #[n(0)]
        process: u32,
    },
}

/// Sends one message with descriptors; a large one by a memory file.
pub(crate) fn send<M: Encode<()>>(
    socket: impl AsFd,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = minicbor::to_vec(message).expect("writing to a Vec cannot fail");
    if bytes.len() <= CONTROL_BYTES_MAX {
        send_with_fds(socket, &bytes, fds)?;
        return Ok(());
    }
    let file = rustix::fs::memfd_create("message", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    io::Write::write_all(&mut file, &bytes)?;
    io::Seek::rewind(&mut file)?;
    let notice = minicbor::to_vec(ToInit::InMemoryFile).expect("writing to a Vec cannot fail");
    let all: Vec<BorrowedFd<'_>> =
        std::iter::once(file.as_fd()).chain(fds.iter().copied()).collect();
    send_with_fds(socket, &notice, &all)?;
    Ok(())
}

/// Receives one message from the init; `None` when it is gone.
pub(crate) fn recv_from_init(socket: impl AsFd) -> io::Result<Option<(FromInit, Vec<OwnedFd>)>> {
    let mut buffer = [0; 4096];
    let (len, fds) = recv_with_fds(socket, &mut buffer)?;
    if len == 0 {
        return Ok(None);
    }
    Ok(Some((decode(&buffer[..len])?, fds)))
}

/// Receives one message from the launcher; `None` when it is gone.
pub(crate) fn recv_from_launcher(socket: impl AsFd) -> io::Result<Option<(ToInit, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; CONTROL_BYTES_MAX];
    let (len, mut fds) = recv_with_fds(socket, &mut buffer)?;
    if len == 0 {
        return Ok(None);
    }
    let message = decode(&buffer[..len])?;
    if !matches!(message, ToInit::InMemoryFile) {
        return Ok(Some((message, fds)));
    }
    if fds.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(fds.remove(0)), &mut bytes)?;
    Ok(Some((decode(&bytes)?, fds)))
}

fn decode<'b, M: Decode<'b, ()>>(bytes: &'b [u8]) -> io::Result<M> {
    minicbor::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
