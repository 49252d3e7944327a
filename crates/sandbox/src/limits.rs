//! Every bound of this crate, each with its reason.

/// Version of the launcher protocol. A launcher answers a `Hello` of another major version
/// with `Refused`, because an agent may be upgraded while an older launcher lives on.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest frame on the launcher's socket, in bytes. A start request carries the files of an
/// instance inline, which the manifest limits to far less; the bound protects the launcher.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of unsent replies and events that a connection may have before it is closed. An
/// agent that reads so slowly asks again by `List` after it has reconnected.
pub const CONNECTION_BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// Connections served at once: the agent, a doctor, a few tests.
pub const CONNECTIONS_MAX: usize = 32;

/// Largest payload of one log record, in bytes: one full pipe.
pub const LOG_RECORD_BYTES_MAX: usize = 64 * 1024;

/// Segments that a log is divided into; the oldest is dropped as a whole.
pub const LOG_SEGMENTS: u64 = 4;

/// Default size limit of a process's log in bytes.
pub const LOG_BYTES_MAX_DEFAULT: u64 = 16 * 1024 * 1024;

/// Least size limit of a log: each segment must hold one record of the largest size.
pub const LOG_BYTES_MIN: u64 = LOG_SEGMENTS * (LOG_RECORD_BYTES_MAX as u64 + 64);

/// Bytes of the last output that an exit report repeats.
pub const LAST_OUTPUT_BYTES_MAX: usize = 2 * 1024;

/// Output bytes read from one pipe before the other pipes get their turn: one full pipe, so
/// that a flood is throttled by its own pipe and never delays others by more.
pub const OUTPUT_BYTES_PER_TURN: usize = 64 * 1024;

/// Longest instance id, in bytes; it is also a folder's name.
pub const INSTANCE_ID_BYTES_MAX: usize = 64;

/// Processes of one instance, over its whole life, that keep a log: each has a folder.
pub const PROCESSES_MAX: u32 = 100_000;

/// Bytes of the words of a further process that are kept for lists.
pub const PROCESS_WORDS_BYTES_MAX: usize = 4 * 1024;

/// Processes that one list holds, the latest ones: with their words and their last output they fit
/// into a frame.
pub const PROCESSES_LISTED_MAX: usize = 1000;

/// Requests for files that are served at once in one sandbox: each is a process, which counts to the
/// sandbox's own.
pub const FILE_REQUESTS_MAX: usize = 32;

/// Folders that one request watches: each takes about a kilobyte of the kernel's memory, and the
/// system has some ten thousand for each user.
pub const FOLDERS_WATCHED_MAX: usize = 1024;

/// Milliseconds in which news of watched files are gathered before they are told.
pub const WATCH_GATHER_MS: u64 = 10;

/// Milliseconds until a process is looked at again whose time was over before it ran.
pub const START_POLL_MS: u64 = 10;

/// Bytes of the user of a further process: as long as names may be (`useradd(8)`), twice.
pub const USER_BYTES_MAX: usize = 65;

/// Looks for processes that appeared while a tree of them was being killed: each finds what one
/// generation of forks made meanwhile, and more than some only a fork bomb makes.
pub const KILL_ROUNDS_MAX: usize = 16;

/// Default size of `/tmp`, in bytes. It is counted to the memory of the instance.
pub const TMP_BYTES_MAX_DEFAULT: u64 = 256 * 1024 * 1024;

/// Bytes of the size of `/tmp` for each file that may be there: each takes about a kilobyte of the
/// kernel's memory, which the size does not count, so files alone can use up a quarter more.
pub const TMP_BYTES_PER_FILE: u64 = 4 * 1024;

/// Files that even the smallest `/tmp` may have.
pub const TMP_FILES_MIN: u64 = 1024;

/// Soft limit of open files: programs that use `select` break above 1024 (see `select(2)`).
pub const OPEN_FILES_SOFT: u64 = 1024;

/// Hard limit of open files: what systemd gives its services (512 Ki) doubled, as Docker
/// does; a program that wants more than the soft limit raises it itself.
pub const OPEN_FILES_HARD: u64 = 1024 * 1024;

/// How much likelier than others a sandboxed process is chosen when memory is short
/// (`oom_score_adj`, `proc(5)`), so that the init of the sandbox survives to report it.
pub const OOM_SCORE_ADJ: i32 = 500;

/// Milliseconds after which a dial that got no answer fails.
pub const DIAL_MS_MAX: u64 = 5_000;

/// Dials that wait at once in one sandbox; above, they are refused at once.
pub const DIALS_MAX: usize = 256;

/// Milliseconds that a sandbox's setup may take before it is killed.
pub const SETUP_MS_MAX: u64 = 20_000;

/// Milliseconds between looks at private layers that nothing else limits: a fast disk writes some
/// hundred megabytes in that time, and a look at many files takes as long.
pub const DISK_POLL_MS: u64 = 250;

/// Bytes of a private layer for each file or folder in it, where that is accounted: what a small
/// file takes on most disks.
pub const DISK_BYTES_PER_INODE: u64 = 4096;

/// Files and folders that the smallest private layer may hold.
pub const DISK_INODES_MIN: u64 = 1024;

/// Bytes of an image besides what it may hold and a share for its tables.
pub const DISK_EXTRA_BYTES: u64 = 2 * 1024 * 1024;

/// Bytes that a private layer can be limited to at least: less does not hold an empty layer.
pub const DISK_BYTES_MIN: u64 = 1024 * 1024;

/// Empty images that are kept, one for each size: a node sees few sizes, and each takes some
/// hundred kilobytes.
pub const DISK_TEMPLATES_MAX: usize = 16;

/// First of the project ids that launchers give to private layers: far above those that people
/// write into `/etc/projects`, and below 2^31, which some tools take for negative.
pub const PROJECT_IDS_FIRST: u32 = 0x5350_0000;

/// Project ids for private layers: many times the sandboxes of one file system.
pub const PROJECT_IDS_COUNT: u32 = 1 << 20;

/// Project ids that are tried for one layer: kept layers and other launchers may have some, but
/// each try takes the kernel a look at the file system's table.
pub const PROJECT_TRIES_MAX: u32 = 4096;

/// Bytes left in a private layer below which it counts as full when a process fails.
pub const DISK_FULL_BYTES: u64 = 64 * 1024;

/// Milliseconds between looks at the memory of an instance that no control group limits.
pub const MEMORY_POLL_MS: u64 = 100;

/// First user id on the host of the range that the ids of rootful sandboxes are mapped to.
/// 0x7000_0000: above what `useradd` hands out in `/etc/subuid` (from 100,000 upwards), above
/// systemd's container ranges (524,288 to 1,879,048,191) and below its foreign-image range
/// and the sign bit.
pub const HOST_ID_BASE: u32 = 1_879_048_192;

/// User ids in a rootful sandbox: what programs expect to exist.
pub const HOST_ID_COUNT: u32 = 65_536;

/// User id and group id of the workload inside its sandbox.
pub const USER_ID: u32 = 1000;

/// Milliseconds that a tool which isolates by itself gets to end what it started elsewhere, such as
/// a container of an engine, before it is killed.
pub const TOOL_END_MS_MAX: u64 = 10_000;

/// Milliseconds that such a tool gets to start its process. Less than an agent waits for an answer;
/// more than a sandbox gets, because an engine may have to take in a root filesystem first.
pub const TOOL_START_MS_MAX: u64 = 55_000;

/// Prepared sandboxes that a launcher keeps waiting, so that a start needs no new namespaces.
pub const SPARES_DEFAULT: u32 = 2;

/// Prepared sandboxes kept at most after starts that found none; each costs about as much
/// memory as a small shell.
pub const SPARES_MAX: u32 = 64;

/// Kinds of sandboxes that are kept ready besides the plain one.
pub const POOLS_MAX: usize = 64;

/// Sandboxes kept ready in all pools together: each has some file descriptors of the launcher
/// and about half a megabyte of memory, most of it the kernel's.
pub const POOLED_MAX: u32 = 256;

/// Sandboxes in which nothing runs any more and that wait to be ended until there is time: as many
/// as a burst leaves, and each costs what a prepared one does.
pub const HUSKS_MAX: usize = 256;

/// Milliseconds without a start after which the spares beyond the configured ones are ended.
pub const SPARES_SURPLUS_MS: u64 = 30_000;

/// Layers of one root: as many as Docker allows an image, and few enough that the options of the
/// overlay, about 20 bytes a layer, fit into the page that `mount(2)` reads.
pub const LAYERS_MAX: usize = 128;

/// Mounts and devices of one sandbox together: their descriptors travel in one message, of which
/// the kernel takes at most 253 (`unix(7)`).
pub const MOUNTS_MAX: usize = 64;

/// Further groups of a user: what one system call and a small message hold.
pub const GROUPS_MAX: usize = 64;

/// Bytes of all secret files of one sandbox together: they are in memory as long as it lives.
pub const SECRET_BYTES_MAX: u64 = 1024 * 1024;

/// Secret files of one sandbox.
pub const SECRET_FILES_MAX: usize = 256;

/// Largest `/etc/passwd` of a root that is looked into for a user's name and home: it is read at
/// each start.
pub const PASSWD_BYTES_MAX: u64 = 256 * 1024;

/// Largest note about an instance: what is kept there is a few words for each of a few warnings.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Largest message to the init of a sandbox that is sent inline; a larger one goes by memfd.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// Rules about addresses that one instance may have: with their text they must fit into one
/// message to the network process.
pub const EGRESS_RULES_MAX: usize = 1024;

/// Names that one instance may list, for the same reason. One with `*.` covers many.
pub const EGRESS_NAMES_MAX: usize = 256;

/// Connections over TCP and UDP that one instance has at once, above which new ones are refused.
/// A browser or a package manager has some dozens; each costs two buffers.
pub const FLOWS_MAX: usize = 512;

/// Connections of all instances of a node at once: each has a file descriptor.
pub const FLOWS_OF_NODE_MAX: usize = 8 * FLOWS_MAX;

/// Bytes that wait in one direction of a TCP connection between an instance and its peer, after
/// which the sender has to wait. Several packets of the largest size, so that both sides work.
pub const FLOW_BUFFER_BYTES: usize = 256 * 1024;

/// Seconds without a packet after which a TCP connection is dropped: RFC 5382 wants at least
/// two hours and four minutes, so that keep-alives come in time.
pub const TCP_IDLE_SECONDS_MAX: u64 = 7_440;

/// Seconds without a packet after which a TCP connection is dropped of which both sides are closed,
/// or which is not open yet: RFC 5382 wants four minutes.
pub const TCP_CLOSING_SECONDS_MAX: u64 = 240;

/// Seconds without a packet after which the way of UDP between two ports is forgotten: RFC 4787
/// wants two minutes.
pub const UDP_IDLE_SECONDS_MAX: u64 = 120;

/// Seconds until the next of the host's resolvers is asked the same.
pub const DNS_ANSWER_SECONDS_MAX: u64 = 2;

/// Times that a question is sent to any of the host's resolvers before it counts as failed.
pub const DNS_ATTEMPTS_MAX: usize = 4;

/// Questions of one instance that wait for an answer; more are dropped, and asked again by
/// whoever asked.
pub const DNS_QUESTIONS_MAX: usize = 128;

/// Addresses that one instance keeps from answers; those that end soonest are dropped first.
pub const DNS_ADDRESSES_MAX: usize = 4_096;

/// Least and most seconds that an address from an answer may be reached. Programs use an address
/// a little longer than its time to live; nobody needs one for more than a day without asking.
pub const DNS_ADDRESS_SECONDS: std::ops::RangeInclusive<u64> = 60..=86_400;

/// Milliseconds between two reports of transferred bytes by the network process. What it did not
/// report when it is killed is not counted.
pub const TRANSFER_REPORT_MS: u64 = 50;

/// User and group id of the network process of a launcher with root: that after the range of the
/// sandboxes, so that it is nobody's.
pub const NETWORK_ID: u32 = HOST_ID_BASE + HOST_ID_COUNT;

const _: () = assert!(OUTPUT_BYTES_PER_TURN <= LOG_RECORD_BYTES_MAX);
const _: () = assert!(HOST_ID_BASE as u64 + (HOST_ID_COUNT as u64) < i32::MAX as u64);
