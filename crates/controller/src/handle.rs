//! The handle through which everything else talks to the engine.

use crate::activity::{Activity, answer_asked};
use crate::broker::Broker;
use crate::content::sweep_content;
use crate::engine::{Core, Engine, EngineFailure, Message, QUEUE_MAX};
use crate::events::{EventHub, EventStart, EventStream};
use crate::history::{History, follow_ends};
use crate::links::Links;
use crate::recovery::{StartError, recover};
use crate::statistics::{Counters, Statistics};
use crate::vault::Vault;
use spawnery_cluster::{Command, IdempotencyKey, Rejection, Reply, State};
use spawnery_environment::Content;
use spawnery_journal::{Journal, SqliteJournal, SqliteOptions};
use spawnery_model::{InstanceId, NodeId, Report};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// How a controller is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the journal.
    pub journal_dir: PathBuf,
    /// Go on although the journal lost something that it acknowledged.
    pub accept_loss: bool,
    /// The folder of what clients send by content.
    pub content_dir: PathBuf,
    /// The file with the table of what has ended.
    pub history: PathBuf,
    /// The file with the key of the secrets. It is made with the first secret.
    pub secrets_key: PathBuf,
}

impl Config {
    /// All in one folder, as the server does it.
    pub fn in_folder(folder: &Path) -> Config {
        Config {
            journal_dir: folder.join("journal"),
            accept_loss: false,
            content_dir: folder.join("content"),
            history: folder.join("history.sqlite"),
            secrets_key: folder.join("secrets.key"),
        }
    }
}

/// A command or query was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// It was refused; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Too much is waiting; nothing was changed, and it may be tried again.
    #[error("the controller has {QUEUE_MAX} requests waiting: try again in a moment")]
    Busy,
    /// The controller is stopping. Whether the command was carried out is unknown.
    #[error("the controller is stopping")]
    Stopped,
}

/// A handle to a running controller. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    inbox: SyncSender<Message>,
    events: Arc<EventHub>,
    links: Arc<Links>,
    counters: Arc<Counters>,
    failure: watch::Receiver<Option<EngineFailure>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    vault: Vault,
    content: Content,
    broker: Arc<Broker>,
    pub(crate) activity: Activity,
    pub(crate) history: History,
}

impl Controller {
    /// Opens the journal, replays it and begins to rule.
    pub async fn start(config: Config) -> Result<Controller, StartError> {
        let options =
            SqliteOptions { accept_truncation: config.accept_loss, ..SqliteOptions::default() };
        let journal = SqliteJournal::open(&config.journal_dir, &options)?;
        Controller::start_with(Box::new(journal), config).await
    }

    /// The same with a journal that is open already.
    pub async fn start_with(
        journal: Box<dyn Journal>,
        config: Config,
    ) -> Result<Controller, StartError> {
        let content = Content::open(&config.content_dir)?;
        let history = History::open(&config.history)?;
        let events = EventHub::new();
        let state = recover(journal.as_ref(), &events)?;
        let (inbox, inbox_out) = sync_channel(QUEUE_MAX);
        let links = Links::new();
        let counters = Arc::new(Counters::default());
        let (failure, failed) = watch::channel(None);
        let (asked, asked_out) = tokio::sync::mpsc::unbounded_channel();
        let engine = Engine {
            snapshot_position: state.position(),
            sequencer: Core::new(state),
            journal,
            inbox: inbox_out,
            events: events.clone(),
            links: links.clone(),
            counters: counters.clone(),
            asked,
            failure,
        };
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || engine.run())
            .map_err(StartError::Thread)?;
        let inner = Inner {
            inbox,
            events,
            links,
            counters,
            failure: failed,
            thread: Mutex::new(Some(thread)),
            vault: Vault::new(config.secrets_key),
            content,
            broker: Arc::default(),
            activity: Activity::new(),
            history: history.clone(),
        };
        let controller = Controller { inner: Arc::new(inner) };
        let began = controller.submit(Command::BeginReign, None).await;
        began.map_err(|error| StartError::Reign(error.to_string()))?;
        tokio::spawn(sweep_content(controller.while_it_lives()));
        tokio::spawn(follow_ends(controller.while_it_lives(), history));
        tokio::spawn(answer_asked(controller.while_it_lives(), asked_out));
        Ok(controller)
    }

    /// Asks for something. The answer comes when it is durable.
    pub async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<Reply, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command { command, key, reply })?;
        Ok(answer.await.map_err(|_| SubmitError::Stopped)??)
    }

    /// Reads the state. `read` runs on the engine's thread: it should take what it needs and go.
    pub async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> R + Send + 'static,
    ) -> Result<R, SubmitError> {
        let (answer, result) = oneshot::channel();
        self.send(Message::Query(Box::new(move |state| {
            // Whoever asked may have gone away.
            let _ = answer.send(state.map(read));
        })))?;
        Ok(result.await.map_err(|_| SubmitError::Stopped)??)
    }

    /// Follows what happens.
    pub fn events(&self, start: EventStart) -> EventStream {
        self.inner.events.follow(start)
    }

    /// What has happened since the controller started.
    pub fn statistics(&self) -> Statistics {
        self.inner.counters.read(self.inner.links.up())
    }

    /// Waits until the journal fails. Then the process must stop.
    pub async fn failed(&self) -> EngineFailure {
        let mut failure = self.inner.failure.clone();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                // It stopped as it was told to: that is no failure, and never becomes one.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops ruling: writes what is under way and a snapshot. Instances go on running.
    pub async fn stop(&self) {
        // If the queue is full or the engine gone, joining it is all that is left.
        let inbox = self.inner.inbox.clone();
        let thread = self.inner.thread.lock().expect("no holder panics").take();
        let joined = tokio::task::spawn_blocking(move || {
            let _ = inbox.send(Message::Stop);
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        });
        if joined.await.is_err() {
            tracing::error!("the engine could not be stopped");
        }
    }

    pub(crate) fn content_store(&self) -> &Content {
        &self.inner.content
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.inner.broker
    }

    /// Gives the handle again for as long as somebody else has one.
    pub(crate) fn while_it_lives(&self) -> impl Fn() -> Option<Controller> + Send + use<> {
        let inner = Arc::downgrade(&self.inner);
        move || inner.upgrade().map(|inner| Controller { inner })
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.inner.links
    }

    pub(crate) fn report(&self, report: Report) {
        // A report that is dropped here is sent again by its agent.
        let _ = self.send(Message::Report(Box::new(report)));
    }

    pub(crate) async fn node_of(
        &self,
        instance: InstanceId,
    ) -> Result<Option<NodeId>, SubmitError> {
        let found = self.query(move |state| state.instance(instance).map(|found| found.node));
        found.await?.ok_or(SubmitError::Rejected(Rejection::InstanceUnknown { instance }))
    }

    fn send(&self, message: Message) -> Result<(), SubmitError> {
        self.inner.inbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }
}
