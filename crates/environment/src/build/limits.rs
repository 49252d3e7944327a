//! All limits of building, each with its reason.

use std::time::Duration;

/// Memory of one step, in bytes: compilers of large programs fit, and a node with less is
/// protected by what it has.
pub const STEP_MEMORY_BYTES_MAX: u64 = 8 << 30;

/// CPU of one step, in thousandths of a core: all of a large machine, since somebody waits.
pub const STEP_CPU_MILLIS_MAX: u32 = 64_000;

/// Processes and threads of one step: a parallel build on many cores fits, a fork bomb does not.
pub const STEP_PIDS_MAX: u32 = 8192;

/// What one step may write, in bytes: the largest sets of libraries for machine learning fit.
pub const STEP_DISK_BYTES_MAX: u64 = 32 << 30;

/// How long one step may take: what compiles longer belongs into an image.
pub const STEP_DURATION_MAX: Duration = Duration::from_secs(2 * 3600);

/// Size of `/tmp` in a step, in bytes. It is memory, and compilers put their files there.
pub const STEP_TMP_BYTES_MAX: u64 = 2 << 30;

/// Output of one step that is kept with the environment, in bytes; of more, the end.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Output that an error repeats, in bytes: its last lines, which say what was wrong.
pub const LAST_OUTPUT_BYTES_MAX: usize = 4096;

/// Output of a step that answers a question, such as what an image's packages are, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How often it is looked whether a running step was cancelled or took too long.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Version of what the steps do. To be raised with every change of it, so that layers of before
/// are not taken for those of now.
pub const BUILDER_VERSION: u32 = 1;

/// Time of modification of everything that a step makes, in seconds since 1970: the second day of
/// 1980, since archives of the ZIP format cannot hold earlier times in any time zone.
pub const MODIFIED_SECONDS: i64 = 315_619_200;
