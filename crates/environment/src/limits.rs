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

/// Most entries of one layer's archive: an image of a whole distribution with a desktop has a
/// quarter of this.
pub const ARCHIVE_ENTRIES_MAX: u64 = 4_000_000;

/// Most bytes that one layer's archive may unpack to: 128 GiB, beyond any image in use, and the
/// end of an archive that was made to fill the disk.
pub const ARCHIVE_BYTES_MAX: u64 = 128 << 30;

/// Largest extended header of an archive's entry, in bytes: paths and all extended attributes that
/// a file can have in ext4 fit several times.
pub const ARCHIVE_HEADER_BYTES_MAX: u64 = 1 << 20;

/// Most pieces of a sparse file in an archive: what fits into an extended header.
pub const ARCHIVE_PIECES_MAX: usize = 65_536;

/// Notes that are kept of one layer, such as about devices that were left out: enough to see what
/// it is about.
pub const ARCHIVE_NOTES_MAX: usize = 16;

/// Chunks of an archive between the thread that unpacks and the one that writes: together 4 MiB,
/// so that neither waits for a single slow read.
pub const ARCHIVE_CHUNKS_MAX: usize = 16;

/// Largest manifest or configuration of an image, in bytes: what registries accept (4 MiB).
pub const IMAGE_DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Layers that are downloaded at once: as other tools do; more only share the same line.
pub const IMAGE_DOWNLOADS_MAX: usize = 3;

/// Largest `/etc/passwd` or `/etc/group` of an image that is read, in bytes.
pub const IMAGE_USERS_BYTES_MAX: u64 = 4 << 20;

/// How long a connection to a registry may take to be made, in milliseconds.
pub const REGISTRY_CONNECT_MS_MAX: u64 = 10_000;

/// How long a registry may send nothing, in milliseconds: it may have to fetch from further away.
pub const REGISTRY_SILENCE_MS_MAX: u64 = 60_000;
