//! What a controller and an agent say over their link.
//!
//! A link is one connection with many streams (yamux). The agent opens it and its first stream,
//! on which both sides introduce themselves ([`Hello`], [`Welcome`]) and then exchange
//! [`Up`] and [`Down`] messages. For everything that flows, such as logs, the controller opens a
//! stream of its own: a [`StreamRequest`], a [`StreamReply`], then what the request asks for. An
//! agent that needs something opens one too, with an [`AgentRequest`]; see there.

use crate::api::TerminalSize;
use minicbor::{Decode, Encode};
use spawnery_model::{
    ContentDigest, DurationMs, Environment, EnvironmentLock, Exit, InstanceId, Name, NodeId,
    Orders, Report, Timestamp,
};
use std::collections::BTreeMap;

/// The version of this protocol. Peers with another one are refused with both numbers.
pub const PROTOCOL_VERSION: u32 = 1;

/// The first message, from the agent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    #[n(0)]
    pub protocol: u32,
    /// Who it is.
    #[n(1)]
    pub identity: Identity,
}

/// Who an agent says that it is. Has no `Debug`, because it holds secrets.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Identity {
    /// A machine that has not joined yet.
    #[n(0)]
    Joining {
        /// The secret of a join token.
        #[n(0)]
        token: String,
        /// What it wants to be called.
        #[n(1)]
        name: Name,
    },
    /// A node that joined earlier.
    #[n(1)]
    Node {
        /// Its id.
        #[n(0)]
        node: NodeId,
        /// The secret that it was given.
        #[n(1)]
        credential: String,
    },
}

/// The answer to [`Hello`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Welcome {
    /// Come in.
    #[n(0)]
    Accepted {
        /// The node's id.
        #[n(0)]
        node: NodeId,
        /// The secret to show from now on, if it just joined.
        #[n(1)]
        credential: Option<String>,
    },
    /// Stay out.
    #[n(1)]
    Refused {
        /// Why, for the agent's operator.
        #[n(0)]
        reason: String,
        /// Whether trying again is of no use.
        #[n(1)]
        forever: bool,
    },
}

/// From the agent, on the first stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Up {
    /// What the node has and sees.
    #[n(0)]
    Report(#[n(0)] Box<Report>),
}

/// From the controller, on the first stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Down {
    /// What is wanted of the node.
    #[n(0)]
    Orders(#[n(0)] Box<Orders>),
}

/// What the controller opens a stream for. Process 0 of an instance is its main one, others were
/// started by [`StreamRequest::Exec`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum StreamRequest {
    /// The output of a process: [`LogFrame`]s follow the reply.
    #[n(0)]
    Logs {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
        /// From where.
        #[n(2)]
        start: LogStart,
        /// Go on until the process has ended and all its output is told.
        #[n(3)]
        follow: bool,
    },
    /// Start a further process in an instance: the reply holds its number.
    #[n(1)]
    Exec {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// The program and its arguments.
        #[n(1)]
        run: Vec<String>,
        /// Environment variables beside those of the instance.
        #[n(2)]
        env: BTreeMap<String, String>,
        /// Where it starts.
        #[n(3)]
        working_directory: Option<String>,
        /// Whether its standard input is kept open.
        #[n(4)]
        stdin: bool,
        /// As whom it runs: `USER` or `USER:GROUP`, names or numbers; without, as the main process.
        #[n(5)]
        user: Option<String>,
        /// The size of its terminal, if it is to have one.
        #[n(6)]
        terminal: Option<TerminalSize>,
        /// How long it may run.
        #[n(7)]
        timeout: Option<DurationMs>,
    },
    /// Send a signal to a process.
    #[n(2)]
    Signal {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
        /// The signal's number.
        #[n(2)]
        signal: i32,
    },
    /// Write to the standard input of a process: raw bytes follow the reply, and the end of the
    /// stream closes it.
    #[n(3)]
    Stdin {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
    },
    /// Connect to a port inside an instance: raw bytes follow the reply in both directions.
    #[n(4)]
    Dial {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which port.
        #[n(1)]
        port: u16,
    },
    /// Build an environment, or find it built: [`BuildFrame`]s follow the reply.
    #[n(5)]
    Build {
        /// The recipe, with its lock if there is one.
        #[n(0)]
        recipe: Box<Environment>,
        /// The secrets that the recipe names.
        #[n(1)]
        secrets: Vec<SecretValue>,
        /// Whether what the lock leaves open is to be looked up again.
        #[n(2)]
        resolve: bool,
    },
    /// What environments the node has: one [`EnvironmentList`] follows the reply.
    #[n(6)]
    Environments,
    /// Remove environments that are not in use: one [`Pruned`] follows the reply.
    #[n(7)]
    Prune {
        /// The bytes that may stay; without, the node's own limit.
        #[n(0)]
        bytes_max: Option<u64>,
    },
    /// An environment as one archive: raw bytes follow the reply.
    #[n(8)]
    Export {
        /// Its digest.
        #[n(0)]
        digest: ContentDigest,
        /// Whether as an OCI image; else as a plain tar of the root.
        #[n(1)]
        oci: bool,
    },
    /// One layer, packed for another node: its record, as the crate `environment` encodes it, and raw
    /// bytes follow the reply.
    #[n(9)]
    Layer {
        /// Its key.
        #[n(0)]
        key: ContentDigest,
    },
    /// What an environment is made of, by the digest of recipe and lock: one [`EnvironmentMade`]
    /// follows the reply. Refused as unknown if the node does not have it.
    #[n(10)]
    Made {
        /// The digest of recipe and lock.
        #[n(0)]
        wanted: ContentDigest,
    },
    /// What volumes the node has: one [`VolumeList`] follows the reply.
    #[n(11)]
    Volumes,
    /// Remove a volume that no instance uses, with all that is in it.
    #[n(12)]
    RemoveVolume {
        /// Its name.
        #[n(0)]
        name: Name,
    },
    /// What an instance uses now: one [`UsageReport`] follows the reply.
    #[n(13)]
    Usage {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
    },
    /// What goes on in an instance that no request shows: one [`ActivityReport`] follows the
    /// reply.
    #[n(14)]
    Activity {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
    },
    /// Steer a process, for as long as somebody is attached to it: [`InputFrame`]s follow the
    /// reply. The end of the stream changes nothing.
    #[n(15)]
    Input {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
    },
    /// Which processes an instance has and had: one [`ProcessList`] follows the reply.
    #[n(16)]
    Processes {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
    },
    /// Read or write files of an instance: the reply is followed by one request and what it brings, in
    /// both directions, as the node's launcher speaks it.
    #[n(18)]
    Files {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
    },
    /// On which TCP ports something in an instance listens: one [`SocketList`] follows the reply.
    #[n(17)]
    Sockets {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
    },
}

/// A secret in clear. It travels over the link only, and has no `Debug`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SecretValue {
    /// Its name.
    #[n(0)]
    pub name: Name,
    /// The secret.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// What an agent opens a stream for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AgentRequest {
    /// Some content that a client sent: [`AgentReply::Content`], then so many raw bytes.
    #[n(0)]
    Content {
        /// The SHA-256 of it.
        #[n(0)]
        digest: ContentDigest,
    },
    /// The secrets of an instance that is placed on this node: [`AgentReply::Secrets`].
    #[n(1)]
    InstanceSecrets {
        /// The instance.
        #[n(0)]
        instance: InstanceId,
    },
    /// The secrets of a workload that this node keeps sandboxes ready for:
    /// [`AgentReply::Secrets`].
    #[n(2)]
    WorkloadSecrets {
        /// The workload.
        #[n(0)]
        workload: Name,
    },
    /// An environment that this node lacks. [`AgentReply::Progress`] while another node builds
    /// it; then [`AgentReply::Fetch`] if one has it. Or [`AgentReply::Build`]: this node builds
    /// it, and says what came of it by a [`BuildOutcome`] on the same stream; no other node begins
    /// meanwhile.
    #[n(3)]
    Environment {
        /// The digest of recipe and lock.
        #[n(0)]
        wanted: ContentDigest,
    },
    /// A layer of an environment that another node has: [`AgentReply::Accepted`], then what follows
    /// the answer to [`StreamRequest::Layer`].
    #[n(4)]
    Layer {
        /// The node that has it.
        #[n(0)]
        from: NodeId,
        /// The layer's key.
        #[n(1)]
        key: ContentDigest,
    },
}

/// The answer to an [`AgentRequest`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum AgentReply {
    /// What was asked for follows.
    #[n(0)]
    Accepted,
    /// It cannot be had.
    #[n(1)]
    Refused {
        /// Why.
        #[n(0)]
        reason: String,
    },
    /// The content follows.
    #[n(2)]
    Content {
        /// How much it is.
        #[n(0)]
        size_bytes: u64,
    },
    /// The secrets.
    #[n(3)]
    Secrets {
        /// Each of them once.
        #[n(0)]
        secrets: Vec<SecretValue>,
    },
    /// Another node builds the environment.
    #[n(4)]
    Progress {
        /// How far it is.
        #[n(0)]
        text: String,
    },
    /// This node has to build the environment.
    #[n(5)]
    Build,
    /// Another node has the environment.
    #[n(6)]
    Fetch {
        /// Which node.
        #[n(0)]
        from: NodeId,
        /// What it is made of.
        #[n(1)]
        made: EnvironmentMade,
    },
}

/// What came of building an environment for the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BuildOutcome {
    /// It is under way.
    #[n(0)]
    Progress {
        /// How far it is.
        #[n(0)]
        text: String,
    },
    /// It is there.
    #[n(1)]
    Made(#[n(0)] EnvironmentMade),
    /// It could not be built.
    #[n(2)]
    Failed {
        /// Why, with the last of its output.
        #[n(0)]
        message: String,
    },
}

/// What an environment is made of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EnvironmentMade {
    /// The environment's digest.
    #[n(0)]
    pub digest: ContentDigest,
    /// The record of it, as the crate `environment` encodes it.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub record: Vec<u8>,
    /// The keys of its layers, the lowest first.
    #[n(2)]
    pub layers: Vec<ContentDigest>,
}

/// A piece of the news of a build.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BuildFrame {
    /// A step began: `step 3 of 5: python packages`.
    #[n(0)]
    Progress {
        /// Which one.
        #[n(0)]
        text: String,
    },
    /// A step wrote this.
    #[n(1)]
    Output {
        /// The bytes.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// It is built.
    #[n(2)]
    Done {
        /// What it is.
        #[n(0)]
        environment: Box<EnvironmentInfo>,
    },
    /// It could not be built.
    #[n(3)]
    Failed {
        /// The step and the reason.
        #[n(0)]
        message: String,
    },
}

/// An environment that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EnvironmentInfo {
    /// Its digest.
    #[n(0)]
    pub digest: ContentDigest,
    /// What people call it.
    #[n(1)]
    pub name: Option<Name>,
    /// The steps that made it, in words, the first one first.
    #[n(2)]
    pub steps: Vec<String>,
    /// The digests of what is in its layers, in the order of the steps.
    #[n(3)]
    pub layers: Vec<ContentDigest>,
    /// What it takes on disk, shared layers included.
    #[n(4)]
    pub size_bytes: u64,
    /// When an instance last used it, in milliseconds since 1970 by the node's clock.
    #[n(5)]
    pub used_at_ms: u64,
    /// How many live instances use it.
    #[n(6)]
    pub users: u32,
    /// What pins it.
    #[n(7)]
    pub lock: Option<EnvironmentLock>,
    /// What its build wrote, as far as it is kept.
    #[n(8)]
    pub output: Option<String>,
}

/// The environments of one node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EnvironmentList {
    /// By digest.
    #[n(0)]
    pub environments: Vec<EnvironmentInfo>,
    /// What the node's store takes on disk in all.
    #[n(1)]
    pub store_bytes: u64,
}

/// What pruning removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Pruned {
    /// How many environments.
    #[n(0)]
    pub environments: u32,
    /// How many bytes became free.
    #[n(1)]
    pub freed_bytes: u64,
    /// How many bytes are left.
    #[n(2)]
    pub left_bytes: u64,
}

/// The volumes of one node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VolumeList {
    /// By name.
    #[n(0)]
    pub volumes: Vec<VolumeInfo>,
}

/// A volume on a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VolumeInfo {
    /// Its name.
    #[n(0)]
    pub name: Name,
    /// What it takes on disk.
    #[n(1)]
    pub size_bytes: u64,
}

/// What an instance uses now; nothing where its node cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct UsageReport {
    /// Memory in bytes.
    #[n(0)]
    pub memory_bytes: Option<u64>,
    /// Processor time since its start, in microseconds.
    #[n(1)]
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    #[n(2)]
    pub pids: Option<u64>,
    /// Bytes of IP packets that a private network has brought in since the start.
    #[n(3)]
    pub network_bytes_in: Option<u64>,
    /// Bytes of IP packets that it has taken out.
    #[n(4)]
    pub network_bytes_out: Option<u64>,
}

/// What goes on in an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct ActivityReport {
    /// How many further processes, started by [`StreamRequest::Exec`], have not ended.
    #[n(0)]
    pub execs_running: u32,
}

/// What somebody who is attached to a process does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum InputFrame {
    /// Writes to its standard input, or types into its terminal.
    #[n(0)]
    Bytes(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// Changes the size of its terminal.
    #[n(1)]
    Resize(#[n(0)] TerminalSize),
    /// Closes its standard input; a terminal stays open.
    #[n(2)]
    End,
}

/// The processes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProcessList {
    /// By number.
    #[n(0)]
    pub processes: Vec<ProcessEntry>,
}

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProcessEntry {
    /// 0 is the main one.
    #[n(0)]
    pub process: u32,
    /// The program and its arguments; a very long list is cut off.
    #[n(1)]
    pub run: Vec<String>,
    /// Whether it has a terminal.
    #[n(2)]
    pub terminal: bool,
    /// When it was started, by the node's clock.
    #[n(3)]
    pub started_at: Timestamp,
    /// How it ended, if it did.
    #[n(4)]
    pub exit: Option<Exit>,
}

/// What listens in an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SocketList {
    /// By port.
    #[n(0)]
    pub sockets: Vec<SocketEntry>,
}

/// A TCP port on which something listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SocketEntry {
    /// The port.
    #[n(0)]
    pub port: u16,
    /// Whether on loopback addresses only.
    #[n(1)]
    pub loopback_only: bool,
}

/// From where a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LogStart {
    /// From this sequence number on; 1 is the beginning.
    #[n(0)]
    Sequence(#[n(0)] u64),
    /// The last so many lines.
    #[n(1)]
    Tail(#[n(0)] u64),
    /// What was written at or after this time, in milliseconds since 1970 by the node's clock.
    #[n(2)]
    Since(#[n(0)] u64),
}

/// The answer to a [`StreamRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StreamReply {
    /// What was asked for follows, or is done.
    #[n(0)]
    Accepted,
    /// A process was started.
    #[n(1)]
    Started {
        /// Its number in the instance.
        #[n(0)]
        process: u32,
    },
    /// It cannot be done.
    #[n(2)]
    Refused {
        /// Which kind of obstacle.
        #[n(0)]
        kind: RefusalKind,
        /// The obstacle in words.
        #[n(1)]
        reason: String,
    },
}

/// Which kind of obstacle a stream met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusalKind {
    /// The node does not have the instance or the process.
    #[n(0)]
    Unknown,
    /// The instance or the process does not run.
    #[n(1)]
    NotRunning,
    /// The program cannot be started, or nothing listens on the port.
    #[n(2)]
    Failed,
}

/// One piece of a process's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogFrame {
    /// What was written.
    #[n(0)]
    Record {
        /// Grows by one with each record of this process.
        #[n(0)]
        sequence: u64,
        /// When, in milliseconds since 1970 by the node's clock.
        #[n(1)]
        at_ms: u64,
        /// 1 for standard output, 2 for standard error.
        #[n(2)]
        stream: u8,
        /// The bytes.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// These records were dropped because the log reached its limit.
    #[n(1)]
    Gap {
        /// The first of them.
        #[n(0)]
        from: u64,
        /// The last of them.
        #[n(1)]
        to: u64,
    },
    /// The process has ended, and this was all.
    #[n(2)]
    Exited {
        /// How it ended.
        #[n(0)]
        exit: Exit,
    },
    /// This was all for now; sent only when not following.
    #[n(3)]
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn a_frame_reads_back() {
        let sent = LogFrame::Gap { from: 3, to: 9 };
        let bytes = frame::encode(&sent);
        let head = bytes[..4].try_into().unwrap();
        assert_eq!(frame::length(head).unwrap(), bytes.len() - 4);
        assert_eq!(frame::decode::<LogFrame>(&bytes[4..]).unwrap(), sent);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_head() {
        assert!(frame::length([255; 4]).is_err());
    }

    #[test]
    fn an_unknown_field_is_skipped() {
        // A `Gap` as a later version might write it: with a third field.
        let bytes = [0x82, 0x01, 0x83, 0x03, 0x09, 0x63, b'n', b'e', b'w'];
        let gap = LogFrame::Gap { from: 3, to: 9 };
        assert_eq!(frame::decode::<LogFrame>(&bytes).unwrap(), gap);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _ = frame::decode::<Hello>(&bytes);
            let _ = frame::decode::<Up>(&bytes);
            let _ = frame::decode::<Down>(&bytes);
            let _ = frame::decode::<StreamRequest>(&bytes);
            let _ = frame::decode::<LogFrame>(&bytes);
            let _ = frame::decode::<AgentRequest>(&bytes);
            let _ = frame::decode::<AgentReply>(&bytes);
            let _ = frame::decode::<BuildFrame>(&bytes);
            let _ = frame::decode::<UsageReport>(&bytes);
            let _ = frame::decode::<ActivityReport>(&bytes);
            let _ = frame::decode::<InputFrame>(&bytes);
            let _ = frame::decode::<ProcessList>(&bytes);
            let _ = frame::decode::<SocketList>(&bytes);
        }
    }
}
