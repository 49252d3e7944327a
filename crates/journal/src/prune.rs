//! Dropping entries that snapshots have made unnecessary.

use rusqlite::Connection;

use crate::chain::Link;
use crate::entries::{View, set_base, to_sql};
use crate::snapshot::KEPT_COUNT;
use crate::{Position, ReadError};

/// How many entries one call drops at most: a transaction of a few megabytes, so that the
/// batches that wait behind it wait some milliseconds.
const PRUNE_COUNT_MAX: u64 = 10_000;

/// A sensible `tail_count` for [`Journal::prune`](crate::Journal::prune): enough to look back at
/// what led to the present state, some megabytes.
pub const TAIL_COUNT_DEFAULT: u64 = 10_000;

/// What a call of [`Journal::prune`](crate::Journal::prune) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many entries were dropped.
    pub entries_count: u64,
    /// The first entry that is kept (one more than the last if there is none).
    pub first_position: Position,
    /// Whether a further call would drop more.
    pub more: bool,
}

impl Pruned {
    /// Decides how much to drop, given the link before the first entry and how far to go.
    pub(crate) fn decide(base: Position, floor: Option<Position>, tail_count: u64) -> Pruned {
        let floor = floor.map_or(base, |floor| floor.saturating_sub(tail_count).max(base));
        let end = floor.min(base + PRUNE_COUNT_MAX);
        Pruned { entries_count: end - base, first_position: end + 1, more: end < floor }
    }
}

/// What to drop, and the new base of the chain.
pub(crate) struct Plan {
    base: Link,
    /// Up to where snapshots replace the entries.
    pub floor: Option<Position>,
    pub outcome: Pruned,
}

pub(crate) fn plan(
    view: View<'_>,
    floor: Option<Position>,
    tail_count: u64,
) -> Result<Plan, ReadError> {
    let outcome = Pruned::decide(view.base()?.position, floor, tail_count);
    Ok(Plan { base: view.link_at(outcome.first_position - 1)?, floor, outcome })
}

pub(crate) fn execute(db: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    if plan.outcome.entries_count == 0 {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    transaction
        .prepare_cached("DELETE FROM entries WHERE position <= ?1")?
        .execute([to_sql(plan.base.position)])?;
    set_base(&transaction, plan.base)?;
    transaction.commit()
}

/// Divides the snapshots, newest first, into the valid ones to keep and those older than them.
pub(crate) fn sort_snapshots(view: View<'_>) -> Result<(Vec<Position>, Vec<Position>), ReadError> {
    let (mut kept, mut needless) = (Vec::new(), Vec::new());
    for position in view.snapshot_positions()? {
        if kept.len() == KEPT_COUNT {
            needless.push(position);
        } else if view.load_snapshot_at(position)?.is_ok() {
            kept.push(position);
        }
    }
    Ok((kept, needless))
}

/// The position up to which entries may be dropped. None while there are fewer than two valid
/// snapshots: one damaged file must never be the end of the state.
pub(crate) fn floor(kept: &[Position]) -> Option<Position> {
    kept.get(KEPT_COUNT - 1).copied()
}
