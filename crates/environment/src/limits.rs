//! All limits of this crate, each with its reason.

/// Longest path inside a tree, a layer or an archive, in bytes: `PATH_MAX` of Linux, beyond which
/// a program inside could not open it.
pub const PATH_BYTES_MAX: usize = 4096;

/// Longest name of one file or folder, in bytes: `NAME_MAX` of the file systems in use.
pub const NAME_BYTES_MAX: usize = 255;

/// Most entries of one tree: more files than any source tree has that belongs beside a manifest.
/// A listing of them has about 100 MB, which still fits into memory.
pub const TREE_ENTRIES_MAX: usize = 1_000_000;

/// Most bytes of one tree's files together: 64 GiB, so that a wrong path such as `/` ends early.
pub const TREE_BYTES_MAX: u64 = 64 << 30;

/// Largest encoded tree that is read, in bytes: [`TREE_ENTRIES_MAX`] entries of 256 bytes.
pub const TREE_ENCODED_BYTES_MAX: usize = 256 << 20;

/// Most symbolic links that are followed for one path, as in Linux (`path_resolution(7)`).
pub const LINKS_FOLLOWED_MAX: usize = 40;

/// Size of the buffers by which files are copied and hashed, in bytes: big enough that system
/// calls do not count, small enough for a second-level cache.
pub const COPY_BUFFER_BYTES: usize = 256 << 10;

/// Largest file of metadata (of a layer or an environment) that is read, in bytes: a lock with
/// tens of thousands of packages fits.
pub const METADATA_BYTES_MAX: u64 = 64 << 20;

/// Most layers of one environment: what the sandbox stacks (see `RootSpec`).
pub const LAYERS_MAX: usize = 128;

/// Folders whose attributes are remembered while a layer is written, at most: with more, a layer
/// is refused. Bounds memory to about 1 GB for a hostile layer.
pub const LAYER_FOLDERS_MAX: usize = 2_000_000;
