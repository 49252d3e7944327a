//! What the HTTP API speaks: the JSON of every request and answer under `/v1`.
//!
//! Views show; they are not the state. Times are milliseconds since 1970 (`…_at_ms`), amounts carry
//! their unit in the name, ids and words are text. A reader must skip fields that it does not know
//! and take a word that it does not know for what it is, a word. No view holds a value of `env` or
//! the content of a file: both may be secrets.

mod attach;
mod environment;
mod file;
mod instance;
mod node;
mod page;
mod problem;
mod schemas;
mod session;
mod status;
mod stream;
mod token;
mod workload;

pub use attach::{
    AttachInput, AttachNews, AttachedOutput, InstanceProcessView, OpenPortView, TerminalSize,
};
pub use environment::{
    BuildOutputView, BuildProgressView, BuildRequest, EnvironmentView, EnvironmentsReply,
    MissingReply, MissingRequest, PruneReply, PruneRequest, PrunedView, SecretView, VolumeOnNode,
    VolumeView, build_event,
};
pub use file::{FileChangeRequest, FileEntryView, FileEventView, file_event};
pub use instance::{
    EndView, ExecReply, ExecRequest, ExitView, InstanceView, NodeReference, PastInstanceView,
    SignalRequest, UsageView,
};
pub use node::{DrainRequest, JoinTokenReply, JoinTokenRequest, NodeView};
pub use page::Page;
pub use problem::{FieldProblem, PROBLEM_TYPE_PREFIX, Problem};
pub use session::{
    ClientsView, ExtendReply, ExtendRequest, LimitsView, SessionCreated, SessionRequest,
    SessionTermsRequest, SessionView,
};
pub use status::{JournalView, NodeCounts, StatusView, WorkloadCounts};
pub use stream::{
    EventGapView, EventView, ExitedView, GapView, LogRecordView, OutputStream, stream_event,
};
pub use token::{
    CallerView, RevokeTokensReply, RevokeTokensRequest, TokenCreated, TokenRequest, TokenView,
};
pub use workload::{
    DifferenceView, FileView, JobView, ManifestReply, MissedView, PhaseCounts, PortView,
    ProcessView, RemoveReply, RemoveRequest, RestartView, RunCreated, RunOutcomeView, RunView,
    ScheduleView, ServiceView, SessionTemplateView, SlotView, StopView,
};
