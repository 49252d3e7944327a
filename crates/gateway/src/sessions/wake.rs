//! Wakes sessions: one task for each key that somebody waits for.

use super::live::{Key, Live, is_about};
use crate::refusal::Refusal;
use spawnery_cluster::{Command, Reply, SessionSource, State};
use spawnery_controller::{Controller, EventStart, EventStream, SubmitError};
use spawnery_model::{Instance, InstanceId, Name, OwnerLimits, Phase, SessionTerms};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long a start that failed is remembered, for the page that waits for it.
const FAILED_KEPT: Duration = Duration::from_secs(10);

/// How often a session is asked for anew because the one before it ended: one that was ending when
/// somebody came, and a few that end as soon as they are ready.
const GONE_MAX: usize = 4;

/// How often a session is looked at though nothing was heard of it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a session may take to become ready before nobody looks at it any more. The core ends
/// what waits for room for too long; this is for starts that never end.
const WAKE_TIME_MAX: Duration = Duration::from_secs(3600);

/// Where a start is.
#[derive(Debug, Clone)]
pub(super) enum Waking {
    /// It waits, and for what.
    Starting(String),
    Ready(Arc<Instance>),
    Failed(Refusal),
}

/// Who wakes a session, and becomes its owner if there is none yet.
#[derive(Debug, Clone)]
pub(super) struct Waker {
    pub(super) owner: String,
    pub(super) allowed: OwnerLimits,
    /// Whether whoever comes may use sessions of others.
    pub(super) of_others: bool,
}

type Starts = Mutex<BTreeMap<(Key, String), watch::Receiver<Waking>>>;

/// The starts that somebody waits for.
pub(super) struct Wakes {
    starts: Arc<Starts>,
    runtime: Handle,
    controller: Controller,
    live: Arc<Live>,
}

impl Wakes {
    pub(super) fn new(runtime: Handle, controller: Controller, live: Arc<Live>) -> Wakes {
        Wakes { starts: Arc::default(), runtime, controller, live }
    }

    /// Finds the session of a key or creates it, and follows it until it is ready. Everybody with
    /// the same name who asks meanwhile gets the same.
    pub(super) fn wake(&self, key: &Key, waker: Waker) -> watch::Receiver<Waking> {
        let mut starts = self.starts.lock().expect("no holder panics");
        let place = (key.clone(), waker.owner.clone());
        if let Some(start) = starts.get(&place)
            && matches!(*start.borrow(), Waking::Starting(_))
            && start.has_changed().is_ok()
        {
            return start.clone();
        }
        let (sender, receiver) = watch::channel(Waking::Starting("asked for".to_owned()));
        starts.insert(place.clone(), receiver.clone());
        let starting = Starting {
            controller: self.controller.clone(),
            live: self.live.clone(),
            key: key.clone(),
            waker,
            told: sender,
        };
        let starts = Arc::downgrade(&self.starts);
        self.runtime.spawn(async move {
            let told = starting.run().await;
            if matches!(*told.borrow(), Waking::Failed(_)) {
                tokio::time::sleep(FAILED_KEPT).await;
            }
            remove(&starts, &place, &told);
        });
        receiver
    }

    /// The start that is under way for somebody, or that failed a moment ago.
    pub(super) fn under_way(&self, key: &Key, owner: &str) -> Option<Waking> {
        let starts = self.starts.lock().expect("no holder panics");
        let start = starts.get(&(key.clone(), owner.to_owned()))?;
        Some(start.borrow().clone())
    }
}

/// Removes a start that is over, unless another one has taken its place.
fn remove(starts: &Weak<Starts>, place: &(Key, String), own: &watch::Sender<Waking>) {
    let Some(starts) = starts.upgrade() else {
        return;
    };
    let mut starts = starts.lock().expect("no holder panics");
    if starts.get(place).is_some_and(|it| it.same_channel(&own.subscribe())) {
        starts.remove(place);
    }
}

struct Starting {
    controller: Controller,
    live: Arc<Live>,
    key: Key,
    waker: Waker,
    told: watch::Sender<Waking>,
}

/// What a session is to somebody who waits for it.
enum Seen {
    Waits(String),
    Ready(Box<Instance>),
    Failed(String),
    /// The key names another one by now, or none.
    Gone,
}

impl Starting {
    async fn run(self) -> watch::Sender<Waking> {
        let found = tokio::time::timeout(WAKE_TIME_MAX, self.until_ready()).await;
        let waking = match found {
            Ok(Ok(instance)) => Waking::Ready(instance),
            Ok(Err(refusal)) => Waking::Failed(refusal),
            Err(_) => Waking::Failed(Refusal::StillStarting),
        };
        self.told.send_replace(waking);
        self.told
    }

    async fn until_ready(&self) -> Result<Arc<Instance>, Refusal> {
        let mut news = self.controller.events(EventStart::Now);
        let mut session = self.find_or_create().await?;
        let mut gone = 0;
        loop {
            match self.look(session).await? {
                Seen::Ready(instance) => {
                    let instance = Arc::from(instance);
                    if self.live.keep(&self.key, &instance, &mut news) {
                        return Ok(instance);
                    }
                }
                Seen::Failed(reason) => return Err(Refusal::StartFailed { reason }),
                Seen::Gone if gone == GONE_MAX => {
                    let reason = "it ended as soon as it was ready, again and again".to_owned();
                    return Err(Refusal::StartFailed { reason });
                }
                Seen::Gone => {
                    gone += 1;
                    let former = std::mem::replace(&mut session, self.find_or_create().await?);
                    if former == session {
                        wait_for_news(&mut news, &self.key.0).await;
                    }
                }
                Seen::Waits(why) => {
                    self.told.send_replace(Waking::Starting(why));
                    wait_for_news(&mut news, &self.key.0).await;
                }
            }
        }
    }

    async fn find_or_create(&self) -> Result<InstanceId, Refusal> {
        let (template, key) = self.key.clone();
        let found = self
            .controller
            .query(move |state| state.session_of_key(&template, &key).map(|instance| instance.id));
        if let Some(found) = found.await.map_err(refusal)? {
            return Ok(found);
        }
        let (template, key) = self.key.clone();
        let terms = SessionTerms {
            key: Some(key),
            allowed: self.waker.allowed.clone(),
            beyond_template: self.waker.of_others,
            ..SessionTerms::default()
        };
        let command = Command::CreateSession {
            source: SessionSource::Template(template),
            owner: self.waker.owner.clone(),
            terms: Box::new(terms),
        };
        match self.controller.submit(command, None).await.map_err(refusal)? {
            Reply::Session(id) | Reply::SessionFound(id) => Ok(id),
            _ => unreachable!("creating a session is answered with one"),
        }
    }

    async fn look(&self, session: InstanceId) -> Result<Seen, Refusal> {
        let (template, key) = self.key.clone();
        let seen = self.controller.query(move |state| see(state, session, &template, &key));
        seen.await.map_err(refusal)
    }
}

fn see(state: &State, session: InstanceId, template: &Name, key: &Name) -> Seen {
    let current = state.session_of_key(template, key);
    let Some(instance) = current.or_else(|| state.instance(session)) else {
        return Seen::Gone;
    };
    match instance.phase {
        Phase::Ready => Seen::Ready(Box::new(instance.clone())),
        Phase::Ended if instance.restarts_at.is_some() => {
            Seen::Waits(format!("starts again: {}", ending(instance)))
        }
        Phase::Ended if instance.ready_at.is_some() => Seen::Gone,
        Phase::Ended => Seen::Failed(ending(instance)),
        Phase::Stopping => Seen::Gone,
        Phase::Pending | Phase::Assigned | Phase::Starting | Phase::Running => Seen::Waits(
            instance.waits_for.clone().unwrap_or_else(|| words(instance.phase).to_owned()),
        ),
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "waits for a place",
        Phase::Assigned => "has a place",
        Phase::Starting => "is being prepared",
        Phase::Running => "runs, and is not ready yet",
        Phase::Ready => "is ready",
        Phase::Stopping => "is ending",
        Phase::Ended => "has ended",
    }
}

fn ending(instance: &Instance) -> String {
    instance.end.as_ref().map_or_else(|| "it ended".to_owned(), |end| end.reason.words())
}

/// Waits until something may have happened to a session of the template.
async fn wait_for_news(news: &mut EventStream, template: &Name) {
    let heard = async {
        loop {
            match news.next().await {
                Some(item) if !is_about(&item, template) => {}
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(LOOK_EVERY, heard).await;
}

fn refusal(error: SubmitError) -> Refusal {
    match error {
        SubmitError::Rejected(rejection) => Refusal::Rejected(Box::new(rejection)),
        SubmitError::Busy | SubmitError::Stopped => Refusal::ControllerAway,
    }
}
