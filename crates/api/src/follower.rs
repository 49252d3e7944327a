//! The output of a process, from before its start to its end.

use crate::app::App;
use crate::failure::{Failure, code};
use crate::limits::END_TIME_MAX;
use crate::views;
use spawnery_cluster::Rejection;
use spawnery_controller::{EventItem, EventStart, EventStream, LogStream, StreamError};
use spawnery_model::{Exit, InstanceId, NodeId, NodeStatus, Phase};
use spawnery_wire::api::{EndView, ExitedView, GapView, OutputStream, Problem};
use spawnery_wire::link::{LogFrame, LogStart};

/// Which output is wanted.
pub(crate) struct Wanted {
    pub(crate) instance: InstanceId,
    pub(crate) process: u32,
    pub(crate) start: LogStart,
    /// Whether to go on until the process has ended.
    pub(crate) follow: bool,
    /// The path of the request, for problems.
    pub(crate) path: String,
}

/// A piece of news about a process.
pub(crate) enum News {
    Output {
        sequence: u64,
        at_ms: u64,
        stream: OutputStream,
        bytes: Vec<u8>,
    },
    Gap(GapView),
    /// It has ended, and this was all.
    Exited(ExitedView),
    /// This was all for now.
    End,
    /// There is nothing more from here.
    Problem(Problem),
}

/// Reads the output of one process, from before it starts until the reason of its end is known.
pub(crate) struct Follower {
    app: App,
    events: EventStream,
    instance: InstanceId,
    process: u32,
    follow: bool,
    path: String,
    /// From where to read next.
    start: LogStart,
    stage: Stage,
}

enum Stage {
    /// The log is not open yet.
    Opening,
    /// Output comes.
    Flowing(LogStream),
    /// The main process has ended so; the instance's end is awaited.
    Ending(Exit),
    /// All is told.
    Over,
}

/// What came of trying to open a log.
enum Opened {
    Log(LogStream),
    /// There is none yet.
    NotYet,
    /// There is none any more, or never was: the instance has ended.
    Ended(EndView),
}

/// What the controller knows of the instance.
struct Look {
    phase: Phase,
    node: Option<NodeId>,
    end: Option<EndView>,
    is_node_gone: bool,
}

impl Follower {
    /// Begins, without asking anything yet.
    pub(crate) fn new(app: App, wanted: Wanted) -> Follower {
        let Wanted { instance, process, start, follow, path } = wanted;
        // Before the state is looked at, so that no news in between is missed.
        let events = app.controller.events(EventStart::Now);
        Follower { app, events, instance, process, follow, path, start, stage: Stage::Opening }
    }

    /// The next piece of news; none after the last.
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            let told = match &mut self.stage {
                Stage::Over => return None,
                Stage::Opening => self.open().await,
                Stage::Flowing(log) => {
                    let frame = log.next().await;
                    Ok(self.tell(frame))
                }
                Stage::Ending(exit) => {
                    let exit = exit.clone();
                    let end = tokio::time::timeout(END_TIME_MAX, self.end()).await;
                    end.unwrap_or(Ok(None)).map(|end| Some(self.exited(Some(&exit), end)))
                }
            };
            match told {
                Ok(None) => {}
                Ok(Some(news)) => return Some(news),
                Err(failure) => return Some(self.problem(failure)),
            }
        }
    }

    /// Opens the log, or waits for news that may bring it.
    async fn open(&mut self) -> Result<Option<News>, Failure> {
        match self.try_open().await? {
            Opened::Log(log) => self.stage = Stage::Flowing(log),
            Opened::Ended(end) => return Ok(Some(self.exited(None, Some(end)))),
            Opened::NotYet if self.follow => self.news().await?,
            Opened::NotYet => return Ok(Some(self.end_for_now())),
        }
        Ok(None)
    }

    async fn try_open(&self) -> Result<Opened, Failure> {
        let Look { phase, node, end, is_node_gone } = self.look().await?;
        match self.log(node).await {
            Ok(log) => Ok(Opened::Log(log)),
            Err(
                error @ (StreamError::Unknown(_)
                | StreamError::NotRunning(_)
                | StreamError::NotPlaced { .. }),
            ) => match end {
                Some(end) => Ok(Opened::Ended(end)),
                // Only the main process is there to come; others were started before they have
                // a number.
                None if self.process == 0 || phase < Phase::Running => Ok(Opened::NotYet),
                None => Err(error.into()),
            },
            Err(error) => match (error, end) {
                // Nobody can say whether its log comes back; how it ended is known.
                (StreamError::NodeAway { .. }, Some(end)) if is_node_gone => Ok(Opened::Ended(end)),
                (error, _) => Err(error.into()),
            },
        }
    }

    async fn log(&self, node: Option<NodeId>) -> Result<LogStream, StreamError> {
        let node = node.ok_or(StreamError::NotPlaced { instance: self.instance })?;
        let Follower { instance, process, start, follow, .. } = *self;
        self.app.controller.logs_on(node, instance, process, start, follow).await
    }

    async fn look(&self) -> Result<Look, Failure> {
        let instance = self.instance;
        let found = self.app.query(move |state| {
            let found = state.instance(instance)?;
            let node = found.node.and_then(|node| state.node(node));
            Some(Look {
                phase: found.phase,
                node: found.node,
                end: found.end.as_ref().map(views::end),
                is_node_gone: node.is_none_or(|entry| entry.node.status == NodeStatus::Lost),
            })
        });
        let found = found.await?;
        found.ok_or_else(|| Rejection::InstanceUnknown { instance }.into())
    }

    /// Waits until something happens to the instance.
    async fn news(&mut self) -> Result<(), Failure> {
        loop {
            match self.events.next().await {
                Some(EventItem::Event(_, event)) if event.instance != Some(self.instance) => {}
                Some(_) => return Ok(()),
                None => return Err(Failure::new(code::STOPPING, "the controller is stopping")),
            }
        }
    }

    /// Waits until the instance has ended, and says how.
    async fn end(&mut self) -> Result<Option<EndView>, Failure> {
        loop {
            if let Some(end) = self.look().await?.end {
                return Ok(Some(end));
            }
            self.news().await?;
        }
    }

    fn tell(&mut self, frame: Option<Result<LogFrame, StreamError>>) -> Option<News> {
        match frame {
            Some(Ok(LogFrame::Record { sequence, at_ms, stream, bytes })) => {
                self.start = LogStart::Sequence(sequence.saturating_add(1));
                let stream = match stream {
                    2 => OutputStream::Stderr,
                    _ => OutputStream::Stdout,
                };
                Some(News::Output { sequence, at_ms, stream, bytes })
            }
            Some(Ok(LogFrame::Gap { from, to })) => {
                self.start = LogStart::Sequence(to.saturating_add(1));
                Some(News::Gap(GapView { from, to }))
            }
            Some(Ok(LogFrame::Exited { exit })) if self.process == 0 => {
                self.stage = Stage::Ending(exit);
                None
            }
            Some(Ok(LogFrame::Exited { exit })) => Some(self.exited(Some(&exit), None)),
            Some(Ok(LogFrame::End)) => Some(self.end_for_now()),
            Some(Err(error)) => Some(self.problem(broken(error.to_string()))),
            None => Some(self.problem(broken("the log broke off".to_owned()))),
        }
    }

    fn exited(&mut self, exit: Option<&Exit>, end: Option<EndView>) -> News {
        self.stage = Stage::Over;
        News::Exited(ExitedView { process: self.process, exit: exit.map(views::exit), end })
    }

    fn end_for_now(&mut self) -> News {
        self.stage = Stage::Over;
        News::End
    }

    fn problem(&mut self, failure: Failure) -> News {
        self.stage = Stage::Over;
        News::Problem(failure.into_problem(&self.path))
    }
}

/// A log broke in the middle: its node went away, and may come back with all of it.
fn broken(detail: String) -> Failure {
    Failure::new(code::NODE_AWAY, detail).hint("connect again with Last-Event-ID")
}
