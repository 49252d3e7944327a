//! Sees to it that nodes which want the same environment at the same time build it once.
//!
//! Nothing here is durable: who builds is known by the stream that it holds open, and what was
//! built is known by the nodes that have it.

use spawnery_model::{ContentDigest, NodeId};
use spawnery_wire::link::EnvironmentMade;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// The builds that are under way.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    builds: Mutex<BTreeMap<ContentDigest, watch::Receiver<News>>>,
}

/// How far a build is.
#[derive(Debug, Clone)]
enum News {
    Progress(String),
    Made { by: NodeId, made: EnvironmentMade },
    Failed(String),
}

/// What a node that wants an environment is told.
pub(crate) enum Answer {
    /// Another node builds it, and is so far.
    Progress(String),
    /// A node has it.
    Made { by: NodeId, made: EnvironmentMade },
    /// The node that built it could not.
    Failed(String),
    /// The one who asked has to build it.
    Build(Ticket),
}

/// The right to build an environment. Dropped without a word, it goes to one who waits.
pub(crate) struct Ticket {
    broker: Arc<Broker>,
    wanted: ContentDigest,
    node: NodeId,
    news: watch::Sender<News>,
}

/// A node that wants an environment.
pub(crate) struct Waiting {
    broker: Arc<Broker>,
    wanted: ContentDigest,
    node: NodeId,
    news: Option<watch::Receiver<News>>,
}

impl Broker {
    /// A node wants an environment that no node has.
    pub(crate) fn ask(self: &Arc<Broker>, wanted: &ContentDigest, node: NodeId) -> Waiting {
        Waiting { broker: self.clone(), wanted: wanted.clone(), node, news: None }
    }

    /// The build under way, or the right to begin one.
    fn join(
        self: &Arc<Broker>,
        wanted: &ContentDigest,
        node: NodeId,
    ) -> Result<watch::Receiver<News>, Ticket> {
        let mut builds = self.builds();
        if let Some(news) = builds.get(wanted) {
            return Ok(news.clone());
        }
        let (sender, receiver) = watch::channel(News::Progress("building environment".to_owned()));
        builds.insert(wanted.clone(), receiver);
        Err(Ticket { broker: self.clone(), wanted: wanted.clone(), node, news: sender })
    }

    fn builds(&self) -> MutexGuard<'_, BTreeMap<ContentDigest, watch::Receiver<News>>> {
        self.builds.lock().expect("no holder panics")
    }
}

impl Waiting {
    /// The next thing that the node is to be told. After anything but progress there is nothing
    /// more.
    pub(crate) async fn next(&mut self) -> Answer {
        loop {
            let Some(news) = &mut self.news else {
                match self.broker.join(&self.wanted, self.node) {
                    Err(ticket) => return Answer::Build(ticket),
                    Ok(mut news) => {
                        let first = news.borrow_and_update().clone();
                        self.news = Some(news);
                        return answer(first);
                    }
                }
            };
            match news.changed().await {
                Ok(()) => return answer(news.borrow_and_update().clone()),
                // The builder has gone without a word: who waits takes its place.
                Err(_) => self.news = None,
            }
        }
    }
}

fn answer(news: News) -> Answer {
    match news {
        News::Progress(text) => Answer::Progress(text),
        News::Made { by, made } => Answer::Made { by, made },
        News::Failed(reason) => Answer::Failed(reason),
    }
}

impl Ticket {
    /// The build is so far.
    pub(crate) fn progress(&self, text: String) {
        self.news.send_replace(News::Progress(text));
    }

    /// It is built.
    pub(crate) fn made(self, made: EnvironmentMade) {
        self.news.send_replace(News::Made { by: self.node, made });
    }

    /// It cannot be built.
    pub(crate) fn failed(self, reason: String) {
        self.news.send_replace(News::Failed(reason));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.broker.builds().remove(&self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;

    fn node(number: u128) -> NodeId {
        NodeId(Id::from_bits(number))
    }

    fn wanted() -> ContentDigest {
        ContentDigest::from_bytes([7; 32])
    }

    fn made() -> EnvironmentMade {
        EnvironmentMade { digest: wanted(), record: vec![1], layers: Vec::new() }
    }

    async fn ticket(waiting: &mut Waiting) -> Ticket {
        match waiting.next().await {
            Answer::Build(ticket) => ticket,
            _ => panic!("the first one builds"),
        }
    }

    #[tokio::test]
    async fn the_second_follows_the_first() {
        let broker = Arc::new(Broker::default());
        let ticket = ticket(&mut broker.ask(&wanted(), node(1))).await;
        let mut second = broker.ask(&wanted(), node(2));
        assert!(matches!(second.next().await, Answer::Progress(_)));
        ticket.progress("step 2 of 3".to_owned());
        assert!(matches!(second.next().await, Answer::Progress(text) if text == "step 2 of 3"));
        ticket.made(made());
        assert!(matches!(second.next().await, Answer::Made { by, .. } if by == node(1)));
    }

    #[tokio::test]
    async fn who_waits_takes_the_place_of_a_builder_that_is_gone() {
        let broker = Arc::new(Broker::default());
        let first = ticket(&mut broker.ask(&wanted(), node(1))).await;
        let mut second = broker.ask(&wanted(), node(2));
        assert!(matches!(second.next().await, Answer::Progress(_)));
        drop(first);
        assert!(matches!(second.next().await, Answer::Build(_)));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_and_the_next_one_may_try_again() {
        let broker = Arc::new(Broker::default());
        let first = ticket(&mut broker.ask(&wanted(), node(1))).await;
        let mut second = broker.ask(&wanted(), node(2));
        assert!(matches!(second.next().await, Answer::Progress(_)));
        first.failed("no such package".to_owned());
        assert!(matches!(second.next().await, Answer::Failed(text) if text == "no such package"));
        assert!(matches!(broker.ask(&wanted(), node(2)).next().await, Answer::Build(_)));
    }
}
