//! Instances that have ended, kept in a table for those who look back.
//!
//! The journal decides what is true; this is a projection of it. A row is written when an instance
//! ends, long before the core forgets it, and rows are written again at each start for all that the
//! state still holds, so that a crash in between loses none.

use crate::events::{EventItem, EventStart};
use crate::handle::Controller;
use rusqlite::{Connection, params, params_from_iter};
use spawnery_cluster::State;
use spawnery_model::{Instance, InstanceId, Origin, Phase};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Rows that are kept: at 1 KiB each about a gigabyte. Beyond it the oldest ends go.
const ROWS_MAX: i64 = 1_000_000;

/// How many rows are written before the oldest are looked for.
const ROWS_BETWEEN_SWEEPS: u64 = 10_000;

/// Events that are taken together, for one transaction.
const EVENTS_AT_ONCE_MAX: usize = 1000;

/// The table could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the history {path}: {source}")]
pub struct HistoryError {
    path: String,
    source: rusqlite::Error,
}

/// The ended instances. Cheap to clone.
#[derive(Clone)]
pub struct History {
    connection: Arc<Mutex<Connection>>,
    path: Arc<str>,
}

/// One ended instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastInstance {
    /// Its id.
    pub id: String,
    /// The workload.
    pub workload: String,
    /// `service`, `job` or `session`.
    pub kind: String,
    /// Of a session: whose it was.
    pub owner: Option<String>,
    /// Of a session: the key that named it.
    pub key: Option<String>,
    /// The name of its node.
    pub node: Option<String>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When its process started.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: u64,
    /// Why, in words.
    pub reason: String,
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The end of its output.
    pub last_output: Option<String>,
}

/// Which ended instances are asked for: those that meet all that is given.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    /// Of this workload.
    pub workload: Option<String>,
    /// Of this owner.
    pub owner: Option<String>,
    /// That ended before this one, as a page before said.
    pub before: Option<(u64, String)>,
    /// At most so many.
    pub limit: usize,
}

const TABLE: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS instances (
        id TEXT PRIMARY KEY, workload TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT, key TEXT,
        node TEXT, created_at INTEGER NOT NULL, started_at INTEGER, ended_at INTEGER NOT NULL,
        reason TEXT NOT NULL, exit_code INTEGER, last_output TEXT
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_end ON instances (ended_at, id);
    CREATE INDEX IF NOT EXISTS by_workload ON instances (workload, ended_at, id);
    CREATE INDEX IF NOT EXISTS by_owner ON instances (owner, ended_at, id);
";

impl History {
    /// Opens the table in `path`, or makes it there.
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        let shown: Arc<str> = Arc::from(path.display().to_string());
        let wrong = |source| HistoryError { path: shown.to_string(), source };
        let connection = Connection::open(path).map_err(wrong)?;
        connection.execute_batch(TABLE).map_err(wrong)?;
        Ok(History { connection: Arc::new(Mutex::new(connection)), path: shown })
    }

    fn write(&self, rows: &[PastInstance]) -> Result<(), HistoryError> {
        let mut connection = self.connection.lock().expect("no holder panics");
        let written = (|| {
            let transaction = connection.transaction()?;
            for row in rows {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO instances VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                    )?
                    .execute(params![
                        row.id,
                        row.workload,
                        row.kind,
                        row.owner,
                        row.key,
                        row.node,
                        row.created_at_ms as i64,
                        row.started_at_ms.map(|at| at as i64),
                        row.ended_at_ms as i64,
                        row.reason,
                        row.exit_code,
                        row.last_output,
                    ])?;
            }
            transaction.commit()
        })();
        written.map_err(|source| self.wrong(source))
    }

    /// Removes the oldest ends beyond the limit.
    fn sweep(&self) -> Result<(), HistoryError> {
        let connection = self.connection.lock().expect("no holder panics");
        let swept = connection.execute(
            "DELETE FROM instances WHERE id IN (SELECT id FROM instances
             ORDER BY ended_at DESC, id DESC LIMIT -1 OFFSET ?)",
            params![ROWS_MAX],
        );
        swept.map(drop).map_err(|source| self.wrong(source))
    }

    /// The ended instances that were asked for, the latest end first. Reads a file: call it where
    /// that holds up nobody.
    pub fn list(&self, query: &HistoryQuery) -> Result<Vec<PastInstance>, HistoryError> {
        let mut sql = "SELECT id, workload, kind, owner, key, node, created_at, started_at, \
                       ended_at, reason, exit_code, last_output FROM instances WHERE 1"
            .to_owned();
        let mut values: Vec<rusqlite::types::Value> = Vec::new();
        if let Some(workload) = &query.workload {
            sql.push_str(" AND workload = ?");
            values.push(workload.clone().into());
        }
        if let Some(owner) = &query.owner {
            sql.push_str(" AND owner = ?");
            values.push(owner.clone().into());
        }
        if let Some((ended_at, id)) = &query.before {
            sql.push_str(" AND (ended_at, id) < (?, ?)");
            values.push((*ended_at as i64).into());
            values.push(id.clone().into());
        }
        sql.push_str(" ORDER BY ended_at DESC, id DESC LIMIT ?");
        values.push((query.limit as i64).into());
        let connection = self.connection.lock().expect("no holder panics");
        let listed: rusqlite::Result<Vec<PastInstance>> = (|| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), read)?;
            rows.collect()
        })();
        listed.map_err(|source| self.wrong(source))
    }

    fn wrong(&self, source: rusqlite::Error) -> HistoryError {
        HistoryError { path: self.path.to_string(), source }
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<PastInstance> {
    let time = |at: i64| u64::try_from(at).unwrap_or_default();
    Ok(PastInstance {
        id: row.get(0)?,
        workload: row.get(1)?,
        kind: row.get(2)?,
        owner: row.get(3)?,
        key: row.get(4)?,
        node: row.get(5)?,
        created_at_ms: time(row.get(6)?),
        started_at_ms: row.get::<_, Option<i64>>(7)?.map(time),
        ended_at_ms: time(row.get(8)?),
        reason: row.get(9)?,
        exit_code: row.get(10)?,
        last_output: row.get(11)?,
    })
}

/// What is kept of an instance that has ended; `None` of one that has not.
fn past(state: &State, instance: &Instance) -> Option<PastInstance> {
    let end = instance.end.as_ref()?;
    let (kind, owner) = match &instance.origin {
        Origin::Replica { .. } | Origin::NodeReplica { .. } => ("service", None),
        Origin::Attempt { .. } => ("job", None),
        Origin::Session { owner, .. } => ("session", Some(owner.clone())),
    };
    let node = instance.node.and_then(|node| state.node(node));
    let exit = end.exit.as_ref();
    Some(PastInstance {
        id: instance.id.to_string(),
        workload: instance.workload.to_string(),
        kind: kind.to_owned(),
        owner,
        key: instance.session.as_ref().and_then(|it| it.key.as_ref()).map(ToString::to_string),
        node: node.map(|entry| entry.node.name.to_string()),
        created_at_ms: instance.created_at.0,
        started_at_ms: instance.started_at.map(|at| at.0),
        ended_at_ms: end.at.0,
        reason: end.reason.words(),
        exit_code: exit.and_then(|exit| exit.code),
        last_output: exit.map(|exit| exit.last_output.clone()),
    })
}

/// Writes the history until the controller is gone.
pub(crate) async fn follow_ends(controller: impl Fn() -> Option<Controller>, history: History) {
    let Some(first) = controller() else { return };
    let mut events = first.events(EventStart::Now);
    let ended = first.query(|state| {
        let ended = state.instances().filter(|instance| instance.phase == Phase::Ended);
        ended.filter_map(|instance| past(state, instance)).collect::<Vec<_>>()
    });
    let mut rows = ended.await.unwrap_or_default();
    drop(first);
    let mut written: u64 = 0;
    loop {
        let (table, count) = (history.clone(), rows.len() as u64);
        let sweeps = (written + count) / ROWS_BETWEEN_SWEEPS > written / ROWS_BETWEEN_SWEEPS;
        written += count;
        let work = tokio::task::spawn_blocking(move || {
            table.write(&rows)?;
            if sweeps { table.sweep() } else { Ok(()) }
        });
        if let Ok(Err(error)) = work.await {
            tracing::warn!("{error}; what ended lately is not in it");
        }
        let mut ids = Vec::new();
        while ids.is_empty() {
            let Some(item) = events.next().await else { return };
            ids.extend(ended_in(item));
            while ids.len() < EVENTS_AT_ONCE_MAX
                && let Some(item) = events.ready()
            {
                ids.extend(ended_in(item));
            }
        }
        let Some(controller) = controller() else { return };
        let ended = controller.query(move |state| {
            let found = ids.into_iter().filter_map(|id| state.instance(id));
            found.filter_map(|instance| past(state, instance)).collect::<Vec<_>>()
        });
        rows = ended.await.unwrap_or_default();
    }
}

fn ended_in(item: EventItem) -> Option<InstanceId> {
    match item {
        EventItem::Event(_, event) if event.kind == "instance.ended" => event.instance,
        EventItem::Event(..) | EventItem::Gap { .. } => None,
    }
}

impl Controller {
    /// The instances that have ended.
    pub fn history(&self) -> &History {
        &self.inner.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, workload: &str, owner: Option<&str>, ended_at_ms: u64) -> PastInstance {
        PastInstance {
            id: id.to_owned(),
            workload: workload.to_owned(),
            kind: "session".to_owned(),
            owner: owner.map(str::to_owned),
            key: None,
            node: Some("a".to_owned()),
            created_at_ms: 1,
            started_at_ms: None,
            ended_at_ms,
            reason: "finished".to_owned(),
            exit_code: Some(0),
            last_output: None,
        }
    }

    #[test]
    fn ends_are_listed_from_the_latest_on_a_page_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let history = History::open(&path).unwrap();
        let rows = [
            row("a", "box", Some("ada"), 10),
            row("b", "box", Some("bob"), 20),
            row("c", "web", None, 20),
        ];
        history.write(&rows).unwrap();
        // The same rows again change nothing.
        history.write(&rows).unwrap();
        let check = |query: HistoryQuery, expected: &[&str]| {
            let found = History::open(&path).unwrap().list(&query).unwrap();
            let ids: Vec<&str> = found.iter().map(|row| row.id.as_str()).collect();
            assert_eq!(ids, expected, "{query:?}");
        };
        let query = || HistoryQuery { limit: 10, ..HistoryQuery::default() };
        check(query(), &["c", "b", "a"]);
        check(HistoryQuery { limit: 1, ..query() }, &["c"]);
        check(HistoryQuery { before: Some((20, "c".to_owned())), ..query() }, &["b", "a"]);
        check(HistoryQuery { workload: Some("box".to_owned()), ..query() }, &["b", "a"]);
        check(HistoryQuery { owner: Some("ada".to_owned()), ..query() }, &["a"]);
        assert_eq!(history.list(&query()).unwrap()[2], rows[0]);
    }
}
