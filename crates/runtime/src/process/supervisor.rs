//! Keeps the connection to the launcher, and a launcher at its other end.

use crate::process::connection::{Call, Connection};
use crate::process::index::Index;
use crate::process::{ConnectError, Launcher, lock, tell};
use crate::runtime::Event;
use spawnery_model::{Exit, InstanceId};
use spawnery_sandbox::launcher;
use spawnery_sandbox::protocol::InstanceInfo;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Requests that wait for the connection's task.
const CALLS_WAITING_MAX: usize = 64;

/// Time before the second try to reach the launcher; doubled for each further one.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The longest that it grows to.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Whether requests can be sent.
#[derive(Debug)]
pub(super) enum Link {
    Up { calls: mpsc::Sender<Call> },
    Down { reason: String },
}

pub(super) struct Supervisor {
    launcher: Launcher,
    index: Arc<Mutex<Index>>,
    events: mpsc::UnboundedSender<Event>,
    /// Whether a launcher that ends is to be replaced.
    keep_alive: watch::Receiver<bool>,
}

impl Supervisor {
    pub(super) fn new(
        launcher: Launcher,
        index: Arc<Mutex<Index>>,
        events: mpsc::UnboundedSender<Event>,
        keep_alive: watch::Receiver<bool>,
    ) -> Self {
        Self { launcher, index, events, keep_alive }
    }

    /// Connects to the launcher; starts one if none answers.
    pub(super) async fn reach(&self) -> Result<(Connection, Vec<InstanceInfo>), ConnectError> {
        match Connection::open(&self.launcher.data).await {
            Ok(reached) => return Ok(reached),
            // Nobody is there, or nobody any more.
            Err(ConnectError::Socket(_)) => {}
            Err(error) => return Err(error),
        }
        let Launcher { data, program, .. } = self.launcher.clone();
        let config = launcher::Config::new(data);
        let spawned = tokio::task::spawn_blocking(move || {
            launcher::spawn_detached(&program, &config).map(|_pid| ())
        });
        spawned.await.map_err(|error| ConnectError::Refused { reason: error.to_string() })??;
        Connection::open(&self.launcher.data).await
    }

    /// Carries requests over `connection` and over those that follow it.
    pub(super) async fn run(mut self, mut connection: Connection, link: watch::Sender<Link>) {
        loop {
            let (calls, mut calls_out) = mpsc::channel(CALLS_WAITING_MAX);
            link.send_replace(Link::Up { calls });
            self.sweep();
            let Some(error) = self.serve(&mut connection, &mut calls_out).await else {
                return;
            };
            // Who waits for an answer hears that none comes.
            drop((connection, calls_out));
            let reason = error.to_string();
            link.send_replace(Link::Down { reason: reason.clone() });
            tell(&self.events, Event::Disconnected { reason });
            let infos;
            (connection, infos) = self.reach_again(&link).await;
            let ended = lock(&self.index).reconcile(&infos);
            tell(&self.events, Event::Reconnected);
            ended.into_iter().for_each(|(instance, exit)| self.tell_end(instance, exit));
        }
    }

    /// Ends what instances of launchers that died have left in an engine.
    fn sweep(&self) {
        #[cfg(feature = "docker")]
        {
            let engine = self.launcher.runtimes.docker.clone();
            tokio::spawn(async move {
                // Without an engine there is nothing to end.
                if let Ok(docker) = crate::docker::connect(&engine).await {
                    crate::docker::sweep(&docker).await;
                }
            });
        }
    }

    async fn serve(
        &self,
        connection: &mut Connection,
        calls: &mut mpsc::Receiver<Call>,
    ) -> Option<std::io::Error> {
        let on_event = |event| {
            let ended = lock(&self.index).event(&event);
            if let Some((instance, exit)) = ended {
                self.tell_end(instance, exit);
            }
        };
        connection.run(calls, on_event).await
    }

    fn tell_end(&self, instance: InstanceId, exit: Exit) {
        tell(&self.events, Event::Ended { instance, exit });
    }

    async fn reach_again(&mut self, link: &watch::Sender<Link>) -> (Connection, Vec<InstanceInfo>) {
        let mut delay = RETRY_DELAY;
        loop {
            // When it was ended on purpose, nothing is done until that is taken back; its sender
            // lives as long as this task.
            let _ = self.keep_alive.wait_for(|keep_alive| *keep_alive).await;
            match self.reach().await {
                Ok(reached) => return reached,
                Err(error) => link.send_replace(Link::Down { reason: error.to_string() }),
            };
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }
}
