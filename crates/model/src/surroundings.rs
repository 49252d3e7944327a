//! What an instance finds around its process: its root filesystem, and what of its node it may
//! use.

use crate::environment::Environment;
use crate::id::Name;
use crate::quantity::Bytes;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// What an instance finds around its process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Surroundings {
    /// The recipe of its root filesystem; without, the view of the host.
    #[n(0)]
    pub environment: Option<Box<Environment>>,
    /// How it is isolated.
    #[n(1)]
    pub runtime: RuntimeKind,
    /// User and group id inside; without, what the environment says.
    #[n(2)]
    pub user: Option<User>,
    /// Folders that are kept between instances.
    #[n(3)]
    pub volumes: Vec<VolumeMount>,
    /// Secrets that it is given.
    #[n(4)]
    pub secrets: Vec<SecretUse>,
    /// Device nodes of the node, which its configuration must list.
    #[n(5)]
    pub devices: Vec<String>,
    /// Folders of the node, which its configuration must list.
    #[n(6)]
    pub mounts: Vec<HostMount>,
    /// What a private network can reach.
    #[n(7)]
    pub egress: Egress,
    /// How many sandboxes are kept ready for it on each node that it may run on.
    #[n(8)]
    pub warm: u32,
}

/// How an instance is isolated.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum RuntimeKind {
    /// By Spawnery's own sandbox.
    #[default]
    #[n(0)]
    Process,
    /// By an OCI runtime: the one that the node's configuration names, without it `runc`.
    #[n(1)]
    Oci,
    /// By a Docker engine.
    #[n(2)]
    Docker,
}

impl RuntimeKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            RuntimeKind::Process => "process",
            RuntimeKind::Oci => "oci",
            RuntimeKind::Docker => "docker",
        }
    }
}

/// As whom a process runs inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct User {
    /// User id.
    #[n(0)]
    pub uid: u32,
    /// Group id.
    #[n(1)]
    pub gid: u32,
}

/// A folder that is kept between instances, on the node where it was first used.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume's name, unique in the cluster.
    #[n(0)]
    pub name: Name,
    /// Absolute path inside; `/srv/NAME` unless said otherwise.
    #[n(1)]
    pub path: String,
    /// Whether only one instance at a time may use it.
    #[n(2)]
    pub exclusive: bool,
    /// Whether it cannot be written through this mount.
    #[n(3)]
    pub read_only: bool,
}

/// A secret that an instance is given.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SecretUse {
    /// The secret's name.
    #[n(0)]
    pub name: Name,
    /// The environment variable that holds it; without, it is the file `/run/secrets/NAME`.
    #[n(1)]
    pub variable: Option<String>,
}

/// A folder of the node that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct HostMount {
    /// Absolute path on the node.
    #[n(0)]
    pub from: String,
    /// Absolute path inside.
    #[n(1)]
    pub to: String,
    /// Whether it cannot be written.
    #[n(2)]
    pub read_only: bool,
}

/// What a private network can reach. Private, link-local, loopback, multicast and reserved ranges
/// and the node itself cannot be reached unless a rule allows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Egress {
    /// Looked through in order; the first that matches decides. One that allows the whole internet,
    /// such as `0.0.0.0/0`, opens neither those ranges nor the node.
    #[n(0)]
    pub rules: Vec<EgressRule>,
    /// Names that may be resolved, and whose addresses may be reached; `*.example.org` covers
    /// what is below. Without, all names.
    #[n(1)]
    pub names: Option<Vec<String>>,
    /// Whether what no rule and no name allows is refused.
    #[n(2)]
    pub deny_by_default: bool,
    /// The most bytes in both directions together, over the life of an instance.
    #[n(3)]
    pub transfer_max: Option<Bytes>,
}

/// One rule about addresses.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EgressRule {
    /// Whether it allows; else it denies.
    #[n(0)]
    pub allow: bool,
    /// A block of addresses in CIDR notation.
    #[n(1)]
    pub block: String,
    /// First and last port; without, all.
    #[n(2)]
    pub ports: Option<(u16, u16)>,
}

/// What a node lets instances use of it, by its configuration. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Allowances {
    /// Whether instances may share the node's network.
    #[n(0)]
    pub host_network: bool,
    /// Device nodes that instances may use.
    #[n(1)]
    pub devices: Vec<String>,
    /// Folders that instances may see, with what is below.
    #[n(2)]
    pub mounts: Vec<String>,
    /// Runtimes that work on the node besides `process`.
    #[n(3)]
    pub runtimes: Vec<RuntimeKind>,
}
