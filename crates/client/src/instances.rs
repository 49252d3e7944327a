//! Instances and sessions: what runs, and what can be done with it.

use crate::attach::Attachment;
use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use crate::stream::{EventStream, LogQuery, LogStream};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Bytes, Frame};
use spawnery_model::InstanceId;
use spawnery_wire::api::{
    ExecReply, ExecRequest, ExtendReply, ExtendRequest, InstanceProcessView, InstanceView,
    OpenPortView, Page, PastInstanceView, SessionCreated, SessionRequest, SignalRequest, UsageView,
};
use std::io;
use std::time::Duration;

/// Which instances are asked for: those that meet all that is given.
#[derive(Debug, Clone, Default)]
pub struct InstanceQuery {
    /// Of this workload.
    pub workload: Option<String>,
    /// Of this kind: `service`, `job` or `session`.
    pub kind: Option<String>,
    /// In this phase, or `live`: in any but ended.
    pub state: Option<String>,
    /// On this node, by its id or name.
    pub node: Option<String>,
    /// Attempts at this run.
    pub run: Option<String>,
}

/// Instances of a list.
pub type Instances = Vec<InstanceView>;

fn instance_target(instance: &str, rest: &str) -> Target {
    let target = Target::new("/v1/instances").segment(instance);
    Target::new(&format!("{}{rest}", target.as_str()))
}

impl Client {
    /// The instances that meet `query`.
    pub async fn instances(&self, query: &InstanceQuery) -> Result<Instances, ClientError> {
        let target = Target::new("/v1/instances")
            .query("workload", query.workload.as_deref())
            .query("kind", query.kind.as_deref())
            .query("state", query.state.as_deref())
            .query("node", query.node.as_deref())
            .query("run", query.run.as_deref());
        self.list(&target).await
    }

    /// One instance, by its id or the beginning of it.
    pub async fn instance(&self, instance: &str) -> Result<InstanceView, ClientError> {
        self.get(&instance_target(instance, "")).await
    }

    /// What an instance uses now, as its node sees it.
    pub async fn usage(&self, instance: &str) -> Result<UsageView, ClientError> {
        self.get(&instance_target(instance, "/usage")).await
    }

    /// What has ended, the latest end first: at most `limit`.
    pub async fn history(
        &self,
        workload: Option<&str>,
        owner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PastInstanceView>, ClientError> {
        let target = Target::new("/v1/history").query("workload", workload);
        let target = target.query("owner", owner).query("limit", Some(limit));
        let page: Page<PastInstanceView> = self.get(&target).await?;
        Ok(page.items)
    }

    /// Ends an instance. A replica of a service is then replaced.
    pub async fn end_instance(&self, instance: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &instance_target(instance, "")).await
    }

    /// Starts a session.
    pub async fn create_session(
        &self,
        request: &SessionRequest,
    ) -> Result<SessionCreated, ClientError> {
        self.create(&Target::new("/v1/sessions"), request).await
    }

    /// The sessions.
    pub async fn sessions(&self) -> Result<Instances, ClientError> {
        self.list(&Target::new("/v1/sessions")).await
    }

    /// Says that a session is used, so that it is not ended for being idle.
    pub async fn keep_session_alive(&self, session: &str) -> Result<(), ClientError> {
        let target = Target::new("/v1/sessions").segment(session);
        let target = Target::new(&format!("{}/keep-alive", target.as_str()));
        self.call(Method::POST, &target).await
    }

    /// Lets a session live longer by `time`.
    pub async fn extend_session(
        &self,
        session: &str,
        time: Duration,
    ) -> Result<ExtendReply, ClientError> {
        let target = Target::new("/v1/sessions").segment(session);
        let target = Target::new(&format!("{}/extend", target.as_str()));
        let by_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.send(Method::POST, &target, &ExtendRequest { by_ms }).await
    }

    /// Attaches to a session as `client`, and follows what happens to it, for as long as the
    /// stream is kept. Connects at its first `next`.
    pub fn attach_client(&self, session: &str, client: &str) -> EventStream {
        let target = Target::new("/v1/sessions").segment(session);
        let target = Target::new(&format!("{}/attach", target.as_str()));
        EventStream::new(self.clone(), target.query("client", Some(client)))
    }

    /// Ends a session.
    pub async fn end_session(&self, session: &str) -> Result<(), ClientError> {
        let target = Target::new("/v1/sessions").segment(session);
        self.call(Method::DELETE, &target).await
    }

    /// Starts a further process in an instance. It is not repeated when the connection breaks.
    pub async fn exec(
        &self,
        instance: &str,
        request: &ExecRequest,
    ) -> Result<ExecReply, ClientError> {
        let target = instance_target(instance, "/exec");
        self.send(Method::POST, &target, request).await
    }

    /// The processes of an instance, the main one and those that were started by `exec`.
    pub async fn processes(&self, instance: &str) -> Result<Vec<InstanceProcessView>, ClientError> {
        self.get(&instance_target(instance, "/processes")).await
    }

    /// The TCP ports on which something in an instance listens.
    pub async fn ports(&self, instance: &str) -> Result<Vec<OpenPortView>, ClientError> {
        self.get(&instance_target(instance, "/ports")).await
    }

    /// Attaches to a process: its output from the sequence number `from` on, and a way to write or
    /// type. Goes on by itself when the connection breaks. Connects at once, in the background.
    pub fn attach(&self, instance: &str, process: u32, from: u64) -> Attachment {
        let target = instance_target(instance, "/processes");
        let target = target.segment(&process.to_string());
        let target = Target::new(&format!("{}/attach", target.as_str()));
        Attachment::new(self.clone(), target, from)
    }

    /// Sends a signal to a process of an instance; 0 is its main one.
    pub async fn signal(
        &self,
        instance: &str,
        process: u32,
        signal: i32,
    ) -> Result<(), ClientError> {
        let target = instance_target(instance, "/signal");
        let request = SignalRequest { process, signal };
        self.tell(Method::POST, &target, &request).await
    }

    /// Writes to the standard input of a process until `input` ends, and then closes it.
    pub async fn stdin(
        &self,
        instance: &str,
        process: u32,
        input: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        let target = instance_target(instance, "/stdin").query("process", Some(process));
        let body = StreamBody::new(input.map(|piece| piece.map(Frame::data)));
        self.upload(Method::POST, &target, body.boxed_unsync()).await
    }

    /// The output of a process, as a stream that goes on by itself when the connection breaks.
    /// Connects at its first `next`.
    pub fn logs(&self, instance: InstanceId, query: &LogQuery) -> LogStream {
        let target = instance_target(&instance.to_string(), "/logs");
        LogStream::new(self.clone(), query.target(target))
    }

    /// What happens in the cluster: from now on, after the event `after`, or from the `oldest` that
    /// is remembered. A stream that goes on by itself when the connection breaks. Connects at its
    /// first `next`.
    pub fn events(&self, after: Option<&str>) -> EventStream {
        let target = Target::new("/v1/events").query("after", after);
        EventStream::new(self.clone(), target)
    }
}
