//! Every limit, with its reason and what happens when it is reached.
//!
//! The relations between them are asserted at the end, at compile time.

use crate::quantity::{Bytes, CpuMillis, DurationMs};

/// Characters in a name: it becomes a DNS label (RFC 1035, section 2.3.4). Longer: refused.
pub const NAME_LENGTH_MAX: usize = 63;

/// Memory of an instance whose manifest names none: enough for a small server or a script, and
/// small enough that a laptop holds several. Reserved at placement and enforced.
pub const MEMORY_DEFAULT: Bytes = Bytes::mib(512);

/// The least memory that may be asked for: below it not even a shell starts. Less: refused.
pub const MEMORY_MIN: Bytes = Bytes::mib(1);

/// The most memory that may be asked for (1 PiB): keeps every sum of reservations inside 64 bits.
pub const MEMORY_MAX: Bytes = Bytes(1 << 50);

/// Processor share reserved for an instance whose manifest names none. It is not a cap: such an
/// instance may use what is idle.
pub const CPU_RESERVED_DEFAULT: CpuMillis = CpuMillis(100);

/// The most processor share that may be asked for (10,000 cores). More: refused.
pub const CPU_MAX: CpuMillis = CpuMillis(10_000_000);

/// Processes and threads of an instance whose manifest names none: stops a fork bomb long before
/// the host notices. More: `fork` fails inside the instance.
pub const PIDS_DEFAULT: u32 = 1024;

/// The most processes that may be asked for: what Linux can number (`kernel.pid_max`, `proc(5)`).
pub const PIDS_MAX: u32 = 4_194_304;

/// Words in `run`; the kernel's own limit is on bytes, this one keeps records small. More: refused.
pub const RUN_WORDS_MAX: usize = 4096;

/// Bytes in `run` and `env` together: half of what `execve(2)` takes on Linux with an 8 MiB
/// stack. More: refused.
pub const RUN_AND_ENV_BYTES_MAX: usize = 1 << 20;

/// Bytes of all `files` of one workload: they travel in records and orders. More: refused.
pub const FILES_BYTES_MAX: usize = 1 << 20;

/// Ports of one workload. More: refused.
pub const PORTS_MAX: usize = 64;

/// What the environments of a node may take on disk if its configuration does not say: a few
/// images, on the disk of a small machine. Beyond it, those that are not in use go, the least
/// recently used first.
pub const ENVIRONMENTS_BYTES_DEFAULT: Bytes = Bytes(20 << 30);

/// Secrets in a cluster: each is small, and all are in each snapshot. More: refused.
pub const SECRETS_MAX: usize = 10_000;

/// Bytes of one secret: a key or a certificate chain, not a file. More: refused.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Labels of a workload or node, and constraints of a workload. More: refused.
pub const LABELS_MAX: usize = 64;

/// Characters in a label's key or value. More: refused.
pub const LABEL_LENGTH_MAX: usize = 255;

/// The largest user or group id inside an instance: a rootful sandbox maps 65,536 ids, and the last
/// one is "nobody" of many systems. Larger: refused.
pub const USER_ID_MAX: u32 = 65_534;

/// Volumes, secrets, devices or mounts of one workload, each: every one is a mount or a file that
/// delays each start. More: refused.
pub const SURROUNDINGS_MAX: usize = 64;

/// Rules, or names, of the egress of one workload: they are compared one after the other. More:
/// refused.
pub const EGRESS_RULES_MAX: usize = 256;

/// Sandboxes that one workload keeps ready on each node: each holds namespaces and memory without
/// doing anything. More: refused.
pub const WARM_MAX: u32 = 256;

/// Packages that a recipe names, of Debian or of Python, each. What they depend on is not counted.
/// More: refused.
pub const RECIPE_PACKAGES_MAX: usize = 1000;

/// Files and folders that a recipe puts into an environment, each a step of its own. More:
/// refused; a folder may hold many.
pub const RECIPE_FILES_MAX: usize = 256;

/// Commands of a recipe's `build`: each is a layer, and a root filesystem is mounted from all of
/// its layers at once. More: refused.
pub const RECIPE_BUILD_MAX: usize = 64;

/// Packages or requirements in one lock, with all that they depend on. More: refused.
pub const LOCK_ENTRIES_MAX: usize = 20_000;

/// Bytes of a lock file: all the entries of a few large environments. A larger one is refused.
pub const LOCK_BYTES_MAX: usize = 16 << 20;

/// Replicas of one service. More: refused.
pub const REPLICAS_MAX: u32 = 10_000;

/// Bytes of one manifest. A larger one is refused before it is parsed.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Workloads in a cluster: keeps state and snapshots of a size that a person can reason about.
/// More: refused.
pub const WORKLOADS_MAX: usize = 100_000;

/// Instances that live or wait at once. More: creating one is refused with this reason.
pub const INSTANCES_LIVE_MAX: usize = 1_000_000;

/// Ended instances that stay in memory for each workload, so that `instances` can show what went
/// wrong lately. Older ones go to history.
pub const ENDED_KEPT_PER_WORKLOAD_MAX: usize = 16;

/// Ended sessions of one template that stay in memory, however long their stale period is. Older ones
/// are in history only.
pub const SESSIONS_ENDED_KEPT_MAX: usize = 4096;

/// Ended sessions that were created inline (each is its own workload) that stay in memory.
pub const ENDED_INLINE_KEPT_MAX: usize = 1024;

/// Bytes of an instance's last output that travel with its end. Older output stays in its log.
pub const LAST_OUTPUT_BYTES_MAX: usize = 2048;

/// How long a node may be silent before it is lost. Long enough for a controller's restart and a
/// flaky network, short enough that a service is back within half a minute.
pub const LEASE: DurationMs = DurationMs(15_000);

/// How often an agent reports when nothing changes: five chances within one lease.
pub const HEARTBEAT: DurationMs = DurationMs(3_000);

/// When a report or an order that was not acknowledged is sent again.
pub const RESEND: DurationMs = DurationMs(2_000);

/// First delay before a restart when the manifest names none.
pub const RESTART_DELAY_DEFAULT: DurationMs = DurationMs(500);

/// Longest delay before a restart when the manifest names none.
pub const RESTART_DELAY_MAX_DEFAULT: DurationMs = DurationMs::from_secs(60);

/// How long an instance must run for its failures to be forgotten, when the manifest names none.
pub const RESTART_RESET_AFTER_DEFAULT: DurationMs = DurationMs::from_secs(600);

/// Time between the stop signal and the kill when the manifest names none.
pub const STOP_GRACE_DEFAULT: DurationMs = DurationMs::from_secs(10);

/// The longest grace that may be asked for: a drain must end some time.
pub const STOP_GRACE_MAX: DurationMs = DurationMs::from_secs(3600);

/// The longest delay, duration or deadline in a manifest: ten years.
pub const DURATION_MAX: DurationMs = DurationMs::from_secs(10 * 366 * 86_400);

/// How long before a session's longest duration it is warned, when its template names no time: ten
/// minutes to save one's work.
pub const WARNING_BEFORE_DURATION_DEFAULT: DurationMs = DurationMs::from_secs(600);

/// How long before a session is ended for being idle it is warned, when its template names no
/// time. Whoever is there needs one click, not ten minutes.
pub const WARNING_BEFORE_IDLE_DEFAULT: DurationMs = DurationMs::from_secs(60);

/// How long a client that lost its connection keeps its place in a session when the template names
/// no time: a page that is loaded again, a change of networks.
pub const CLIENT_GRACE_DEFAULT: DurationMs = DurationMs::from_secs(30);

/// How long a session waits for room when neither it nor its template names a time. Later: it ends
/// with that reason.
pub const QUEUE_DEADLINE_DEFAULT: DurationMs = DurationMs::from_secs(300);

/// Sessions that wait for room at once. More: creating one is refused with this reason.
pub const SESSIONS_QUEUED_MAX: usize = 100_000;

/// How long an ended session stays listed when its template names no time. Then it is in history.
pub const STALE_PERIOD_DEFAULT: DurationMs = DurationMs::from_secs(3600);

/// How long a session with a key goes on while its node hears nothing of the controller, when its
/// template names no time: longer than an upgrade or a restart takes. Its key is free for another
/// node only after it.
pub const KEY_LEASE_DEFAULT: DurationMs = DurationMs::from_secs(600);

/// The shortest lease of a key: several reports of the node must fit into it.
pub const KEY_LEASE_MIN: DurationMs = DurationMs::from_secs(20);

/// Time beyond a key's lease that the controller waits before another node gets it: clocks run
/// apart, and what ends needs a moment to be gone.
pub const KEY_LEASE_MARGIN: DurationMs = DurationMs::from_secs(5);

/// How long an ask whether a session is idle may take to be answered. Later it is asked again.
pub const IDLE_ANSWER: DurationMs = DurationMs::from_secs(10);

/// How long a session on a node that is drained must be idle to be ended early.
pub const DRAIN_IDLE: DurationMs = DurationMs::from_secs(10);

/// How long sessions may stay on a node that is drained when nobody says otherwise.
pub const DRAIN_DEADLINE_DEFAULT: DurationMs = DurationMs::from_secs(600);

/// Tags of a session, and subjects that it is shared with, each. More: refused.
pub const SESSION_TAGS_MAX: usize = 64;

/// Attempts of one run of a job, when its manifest restarts it on failure and names no number.
pub const RUN_ATTEMPTS_DEFAULT: u32 = 4;

/// Finished runs kept in memory for each job. Older ones go to history.
pub const RUNS_KEPT_PER_JOB_MAX: usize = 32;

/// How late an occurrence of a job may still start when its manifest does not say. Later: it is
/// recorded as missed, with the reason.
pub const JOB_START_DEADLINE_DEFAULT: DurationMs = DurationMs::from_secs(60);

/// Idempotency keys remembered at once. When it is full the oldest is forgotten.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;

/// How long an idempotency key is remembered: longer than any client retries.
pub const IDEMPOTENCY_KEY_LIFE: DurationMs = DurationMs::from_secs(24 * 3600);

/// Characters in an idempotency key. More: refused.
pub const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;

/// Join tokens that are out at once. More: refused until one is used or expires.
pub const JOIN_TOKENS_MAX: usize = 1000;

/// How long a join token can be used when nobody says otherwise.
pub const JOIN_TOKEN_LIFE_DEFAULT: DurationMs = DurationMs::from_secs(3600);

/// Tokens of users that were made here and have not expired. More: refused until some expire.
pub const TOKENS_MAX: usize = 10_000;

/// Revocations of tokens that have not expired. More: refused; a revocation of a subject stands
/// for all of its tokens.
pub const REVOCATIONS_MAX: usize = 100_000;

/// How long a token of a user can be used when nobody says otherwise: a working day.
pub const TOKEN_LIFE_DEFAULT: DurationMs = DurationMs::from_secs(24 * 3600);

/// The longest that a token of a user may live, wherever it was made: a revocation has to be
/// remembered for as long. Longer: refused.
pub const TOKEN_LIFE_MAX: DurationMs = DurationMs::from_secs(366 * 86_400);

/// How far clocks may be apart when the times in a token are looked at.
pub const TOKEN_LEEWAY: DurationMs = DurationMs::from_secs(30);

/// Nodes of a cluster; placement is measured with this many. More: joining is refused.
pub const NODES_MAX: usize = 10_000;

const _: () = {
    assert!(HEARTBEAT.0 * 4 <= LEASE.0, "four heartbeats must fit into a lease");
    assert!(RESEND.0 * 3 <= LEASE.0, "an order must be sent thrice before its node is lost");
    assert!(MEMORY_MIN.0 <= MEMORY_DEFAULT.0 && MEMORY_DEFAULT.0 <= MEMORY_MAX.0);
    assert!(STOP_GRACE_DEFAULT.0 <= STOP_GRACE_MAX.0 && STOP_GRACE_MAX.0 <= DURATION_MAX.0);
    assert!(RESTART_DELAY_DEFAULT.0 <= RESTART_DELAY_MAX_DEFAULT.0);
    // The sum of all reservations on one node cannot overflow.
    assert!((MEMORY_MAX.0 as u128) * (INSTANCES_LIVE_MAX as u128) < (1 << 70));
    assert!((CPU_MAX.0 as u64) * (INSTANCES_LIVE_MAX as u64) < u64::MAX / 2);
    assert!(LEASE.0 < KEY_LEASE_MIN.0 && KEY_LEASE_MIN.0 <= KEY_LEASE_DEFAULT.0);
    assert!(TOKEN_LIFE_DEFAULT.0 <= TOKEN_LIFE_MAX.0 && TOKEN_LEEWAY.0 < TOKEN_LIFE_DEFAULT.0);
    assert!(RUN_AND_ENV_BYTES_MAX + FILES_BYTES_MAX < MANIFEST_BYTES_MAX);
};
