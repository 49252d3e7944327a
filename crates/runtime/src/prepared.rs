//! What was made ready on the node for the start of one instance.

use spawnery_model::StartOrder;
pub use spawnery_sandbox::spec::{MountSpec, RootSpec, SecretFile, UserSpec};

/// Sandboxes that are kept ready for starts to come.
pub struct Warm {
    /// How an instance would be started.
    pub order: Box<StartOrder>,
    /// What was made ready for it, without volumes and secrets.
    pub prepared: Prepared,
    /// How many are kept ready.
    pub count: u32,
}

/// What was made ready on the node for the start of one instance. The default is an instance with
/// the view of the host and nothing else.
///
/// What an environment says of variables, program and working directory is not here: it is merged
/// into the order beforehand, so that processes started later find it too.
#[derive(Clone, Default)]
pub struct Prepared {
    /// The layers of its root; without, the view of the host.
    pub root: Option<RootSpec>,
    /// As whom it runs; without, the default of the root.
    pub user: Option<UserSpec>,
    /// Volumes and folders of the node.
    pub mounts: Vec<MountSpec>,
    /// Secrets given as files in memory.
    pub secret_files: Vec<SecretFile>,
    /// Secrets given as environment variables.
    pub secret_env: Vec<(String, String)>,
}
