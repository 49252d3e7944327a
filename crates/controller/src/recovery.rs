//! From the journal to the state: the newest snapshot, and the records after it.

use crate::events::EventHub;
use spawnery_cluster::{Effect, Record, State, apply};
use spawnery_journal::{Journal, OpenError, ReadError};

/// Records that are read at once while replaying.
const READ_COUNT_MAX: usize = 10_000;

/// Why a controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A snapshot or record was written by a version that this one does not understand.
    #[error(
        "the {what} at position {position} cannot be understood ({reason}): it may be of a newer \
         version of Spawnery; start that version instead"
    )]
    Foreign {
        /// Snapshot or record.
        what: &'static str,
        /// Where.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder of what clients send cannot be used.
    #[error(transparent)]
    Content(#[from] spawnery_environment::ContentError),
    /// The table of what has ended cannot be used.
    #[error(transparent)]
    History(#[from] crate::history::HistoryError),
    /// The engine's thread could not be started.
    #[error("the engine could not be started: {0}")]
    Thread(std::io::Error),
    /// The engine failed before it had begun.
    #[error("the reign could not begin: {0}")]
    Reign(String),
}

/// Rebuilds the state. The events of the replayed records are published again.
pub(crate) fn recover(journal: &dyn Journal, events: &EventHub) -> Result<State, StartError> {
    let state = match journal.load_snapshot()? {
        Some(snapshot) => State::decode(&snapshot.state).map_err(|error| StartError::Foreign {
            what: "snapshot",
            position: snapshot.position,
            reason: error.to_string(),
        })?,
        None => State::default(),
    };
    // What led to a snapshot is not told again.
    events.begin_after(state.position());
    replay(journal, events, state)
}

fn replay(journal: &dyn Journal, events: &EventHub, mut state: State) -> Result<State, StartError> {
    loop {
        let entries = journal.read_from(state.position() + 1, READ_COUNT_MAX)?;
        if entries.is_empty() {
            return Ok(state);
        }
        for entry in entries {
            let record: Record =
                minicbor::decode(&entry.payload).map_err(|error| StartError::Foreign {
                    what: "record",
                    position: entry.position,
                    reason: error.to_string(),
                })?;
            let effects = apply(&mut state, &record);
            assert_eq!(state.position(), entry.position, "the journal has no gap");
            let news = effects.into_iter().filter_map(|effect| match effect {
                Effect::Event(event) => Some(*event),
                _ => None,
            });
            events.publish(news.collect());
        }
    }
}
