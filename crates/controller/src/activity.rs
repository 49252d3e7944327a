//! Who uses which session right now, and the answers to the core's question whether one is idle.
//!
//! A session that is found idle is closed for new uses until the core has taken that in, so that
//! none is ended in the moment in which somebody comes.

use crate::handle::Controller;
use crate::secret::now;
use spawnery_cluster::Command;
use spawnery_model::{DurationMs, InstanceId, Phase, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Clients that one session may have when nobody limits them: each is a map entry and a stream.
const CLIENTS_MAX: usize = 100_000;

/// When a session that is in use was used last: not before any time that the core may take for now.
const IN_USE: Timestamp = Timestamp(u64::MAX);

/// How often uses of sessions that have ended are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The uses of all sessions. Cheap to clone.
#[derive(Clone)]
pub struct Activity {
    inner: Arc<Inner>,
}

struct Inner {
    sessions: Mutex<BTreeMap<InstanceId, Use>>,
    /// Nothing is known of the time before: all sessions count as used then.
    since: Timestamp,
    /// Changes when a session that was closed is open again, or ends.
    opened: watch::Sender<()>,
}

#[derive(Debug)]
struct Use {
    /// Requests, streams and attached clients.
    in_flight: u64,
    used_at: Timestamp,
    standing: Standing,
    /// The core asked whether it is idle, and that is being answered.
    asked: bool,
    clients: BTreeMap<String, Client>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    /// It was found idle, and the core has not said yet what follows.
    Closed,
    /// It is being ended for that.
    Ending,
}

#[derive(Debug)]
struct Client {
    connections: u64,
    gone_at: Option<Instant>,
}

/// The session is being ended because it was idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is being ended, because nobody used it")]
pub struct Ending;

/// A client cannot attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The session is being ended.
    #[error(transparent)]
    Ending(#[from] Ending),
    /// There are as many clients as may be.
    #[error("{limit} clients use this session, which is its limit")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// A use of a session, for as long as it is held.
#[derive(Debug)]
pub struct Using {
    instance: InstanceId,
    client: Option<String>,
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activity").finish_non_exhaustive()
    }
}

impl Activity {
    pub(crate) fn new() -> Activity {
        let inner =
            Inner { sessions: Mutex::default(), since: now(), opened: watch::channel(()).0 };
        Activity { inner: Arc::new(inner) }
    }

    /// Begins a use of a session: a request, or a stream. It lasts until what is returned is
    /// dropped. Waits while it is being decided whether the session is ended.
    pub async fn begin(&self, instance: InstanceId) -> Result<Using, Ending> {
        self.open(instance).await?;
        Ok(Using { instance, client: None, inner: self.inner.clone() })
    }

    /// Attaches the client that calls itself `client`. It may have several connections, and keeps
    /// its place for `grace` after the last of them.
    pub async fn attach(
        &self,
        instance: InstanceId,
        client: &str,
        clients_max: Option<u32>,
        grace: DurationMs,
    ) -> Result<Using, AttachError> {
        let mut using = self.begin(instance).await?;
        let limit = clients_max.map_or(CLIENTS_MAX, |limit| limit as usize);
        let grace = Duration::from_millis(grace.0);
        self.inner.change(instance, |session| {
            session.clients.retain(|_, it| it.gone_at.is_none_or(|at| at.elapsed() < grace));
            if !session.clients.contains_key(client) && session.clients.len() >= limit {
                return Err(AttachError::Full { limit });
            }
            let new = || Client { connections: 0, gone_at: None };
            let found = session.clients.entry(client.to_owned()).or_insert_with(new);
            found.connections += 1;
            found.gone_at = None;
            Ok(())
        })?;
        using.client = Some(client.to_owned());
        Ok(using)
    }

    /// The clients of a session that are attached now, by name.
    pub fn clients(&self, instance: InstanceId) -> Vec<String> {
        self.inner.change(instance, |session| {
            let attached = session.clients.iter().filter(|(_, client)| client.connections > 0);
            attached.map(|(name, _)| name.clone()).collect()
        })
    }

    /// A session was used just now.
    pub fn touch(&self, instance: InstanceId) {
        self.inner.change(instance, |session| session.used_at = now());
    }

    /// Requests, streams and clients of a session right now.
    pub fn in_flight(&self, instance: InstanceId) -> u64 {
        self.inner.change(instance, |session| session.in_flight)
    }

    async fn open(&self, instance: InstanceId) -> Result<(), Ending> {
        let mut opened = self.inner.opened.subscribe();
        loop {
            opened.mark_unchanged();
            let begun = self.inner.change(instance, |session| match session.standing {
                Standing::Open => {
                    session.in_flight += 1;
                    Some(Ok(()))
                }
                Standing::Closed => None,
                Standing::Ending => Some(Err(Ending)),
            });
            match begun {
                Some(begun) => return begun,
                // The sender lives as long as this handle.
                None => drop(opened.changed().await),
            }
        }
    }

    /// Whether this question is to be answered. The core asks again when it waits for long: of two
    /// answers at once the first would open the session while it is closed for the second.
    fn begin_answer(&self, instance: InstanceId) -> bool {
        self.inner.change(instance, |session| !std::mem::replace(&mut session.asked, true))
    }

    fn end_answer(&self, instance: InstanceId) {
        self.inner.change(instance, |session| session.asked = false);
    }

    /// When a session that nobody uses was used last. It is closed until [`reopen`](Self::reopen).
    /// `None` if it is in use.
    fn close(&self, instance: InstanceId, grace: DurationMs) -> Option<Timestamp> {
        let grace = Duration::from_millis(grace.0);
        self.inner.change(instance, |session| {
            let waits = |it: &Client| it.gone_at.is_some_and(|at| at.elapsed() < grace);
            if session.in_flight > 0 || session.clients.values().any(waits) {
                return None;
            }
            session.standing = Standing::Closed;
            Some(session.used_at)
        })
    }

    fn reopen(&self, instance: InstanceId, ending: bool) {
        let standing = if ending { Standing::Ending } else { Standing::Open };
        self.inner.change(instance, |session| session.standing = standing);
        self.inner.opened.send_replace(());
    }
}

impl Inner {
    fn change<R>(&self, instance: InstanceId, change: impl FnOnce(&mut Use) -> R) -> R {
        let mut sessions = self.sessions.lock().expect("no holder panics");
        let since = self.since;
        let new = || Use {
            in_flight: 0,
            used_at: since,
            standing: Standing::Open,
            asked: false,
            clients: BTreeMap::new(),
        };
        change(sessions.entry(instance).or_insert_with(new))
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let client = self.client.take();
        self.inner.change(self.instance, |session| {
            session.in_flight -= 1;
            session.used_at = now();
            let client = client.and_then(|name| session.clients.get_mut(&name));
            if let Some(client) = client {
                client.connections -= 1;
                if client.connections == 0 {
                    client.gone_at = Some(Instant::now());
                }
            }
        });
    }
}

impl Controller {
    /// Who uses which session right now.
    pub fn activity(&self) -> &Activity {
        &self.inner.activity
    }

    /// Answers whether a session is idle, if that is not being answered already.
    async fn answer_idle(&self, instance: InstanceId) {
        if self.activity().begin_answer(instance) {
            self.answer(instance).await;
            self.activity().end_answer(instance);
        }
    }

    async fn answer(&self, instance: InstanceId) {
        let activity = self.activity();
        let busy = activity.in_flight(instance) > 0
            // A node that cannot be asked may have something running.
            || self.activity_of(instance).await.map_or(true, |report| report.execs_running > 0);
        let grace = self.query(move |state| {
            let found = state.instance(instance);
            found.map(|found| spawnery_cluster::terms::clients_of(state, found).1)
        });
        let grace = grace.await.ok().flatten().unwrap_or(DurationMs(0));
        let idle_since = if busy { None } else { activity.close(instance, grace) };
        let active_at = idle_since.unwrap_or(IN_USE);
        let seen = self.submit(Command::SessionSeen { instance, active_at }, None).await;
        if let Err(error) = seen {
            tracing::debug!(%instance, "whether it is idle could not be said: {error}");
        }
        if idle_since.is_some() {
            let ending = self.query(move |state| {
                state.instance(instance).is_none_or(|found| found.stop_cause.is_some())
            });
            activity.reopen(instance, ending.await.unwrap_or(false));
        }
    }
}

/// Answers the core's questions until the controller is gone.
pub(crate) async fn answer_asked(
    controller: impl Fn() -> Option<Controller>,
    mut asked: mpsc::UnboundedReceiver<InstanceId>,
) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            instance = asked.recv() => {
                let (Some(instance), Some(controller)) = (instance, controller()) else { return };
                tokio::spawn(async move { controller.answer_idle(instance).await });
            }
            _ = sweep.tick() => {
                let Some(controller) = controller() else { return };
                forget_ended(&controller).await;
            }
        }
    }
}

async fn forget_ended(controller: &Controller) {
    let known: Vec<InstanceId> = {
        let sessions = controller.activity().inner.sessions.lock().expect("no holder panics");
        let unused = sessions.iter().filter(|(_, session)| session.in_flight == 0);
        unused.map(|(instance, _)| *instance).collect()
    };
    let ended = controller.query(move |state| {
        let is_live = |id: &InstanceId| {
            state.instance(*id).is_some_and(|instance| instance.phase != Phase::Ended)
        };
        known.into_iter().filter(|id| !is_live(id)).collect::<Vec<_>>()
    });
    for instance in ended.await.unwrap_or_default() {
        let mut sessions = controller.activity().inner.sessions.lock().expect("no holder panics");
        if sessions.get(&instance).is_some_and(|session| session.in_flight == 0) {
            sessions.remove(&instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;

    const SESSION: InstanceId = InstanceId(Id::from_bits(7));
    const NO_GRACE: DurationMs = DurationMs(0);

    #[tokio::test]
    async fn a_session_that_is_used_cannot_be_closed() {
        let activity = Activity::new();
        let using = activity.begin(SESSION).await.unwrap();
        assert_eq!(activity.close(SESSION, NO_GRACE), None);
        drop(using);
        assert!(activity.close(SESSION, NO_GRACE).is_some());
    }

    #[tokio::test]
    async fn whoever_comes_while_it_is_decided_waits_for_the_decision() {
        let activity = Activity::new();
        activity.close(SESSION, NO_GRACE).unwrap();
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.begin(SESSION).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        activity.reopen(SESSION, false);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        activity.close(SESSION, NO_GRACE).unwrap();
        activity.reopen(SESSION, true);
        assert_eq!(activity.begin(SESSION).await.map(drop), Err(Ending));
    }

    #[tokio::test]
    async fn a_question_that_comes_again_is_not_answered_twice_at_once() {
        let activity = Activity::new();
        assert!(activity.begin_answer(SESSION));
        assert!(!activity.begin_answer(SESSION));
        activity.end_answer(SESSION);
        assert!(activity.begin_answer(SESSION));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_keeps_its_place_for_a_while() {
        let activity = Activity::new();
        let long = DurationMs::from_secs(600);
        let attach = |name: &'static str, grace| {
            let activity = activity.clone();
            async move { activity.attach(SESSION, name, Some(1), grace).await }
        };
        let first = attach("a", long).await.unwrap();
        let again = attach("a", long).await.unwrap();
        assert_eq!(attach("b", long).await.map(drop), Err(AttachError::Full { limit: 1 }));
        assert_eq!(activity.clients(SESSION), ["a"]);
        drop((first, again));
        assert_eq!(activity.clients(SESSION), Vec::<String>::new());
        assert_eq!(attach("b", long).await.map(drop), Err(AttachError::Full { limit: 1 }));
        assert_eq!(activity.close(SESSION, long), None);
        drop(attach("b", NO_GRACE).await.unwrap());
    }
}
