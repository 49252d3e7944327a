//! Reading and checking everything, and choosing the snapshot to start from.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::chain::Link;
use crate::entries::View;
use crate::head::Head;
use crate::report::{Problem, SnapshotStat, Stat, Verification, Warning};
use crate::snapshot::{self, Loaded, Snapshot};
use crate::{Position, ReadError};

/// How many entries are checked at once: bounds the memory, not the result.
const PAGE_COUNT: usize = 1_000;

impl View<'_> {
    /// See [`Journal::verify`](crate::Journal::verify). `head` is the file as it was found, and
    /// must have been read before the view's moment.
    pub fn verify(&self, head: Head) -> Result<Verification, ReadError> {
        let mut report = Verification { last_position: self.last, ..Verification::default() };
        self.verify_structure(&mut report);
        self.verify_entries(&mut report)?;
        self.verify_head(head, &mut report)?;
        self.verify_snapshots(&mut report)?;
        self.report_acceptances(&mut report);
        Ok(report)
    }

    fn verify_structure(&self, report: &mut Verification) {
        let lines = self.db.prepare("PRAGMA integrity_check").and_then(|mut statement| {
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        });
        match lines {
            Ok(lines) => report
                .problems
                .extend(lines.into_iter().filter(|line| line != "ok").map(Problem::Structure)),
            Err(error) => report.problems.push(Problem::Structure(error.to_string())),
        }
    }

    fn verify_entries(&self, report: &mut Verification) -> Result<(), ReadError> {
        let checked = self.base().and_then(|base| {
            report.first_position = base.position + 1;
            let mut link = base;
            while link.position < self.last {
                let (entries, next) = self.read_after(link, PAGE_COUNT)?;
                report.entries_count += entries.len() as u64;
                link = next;
            }
            Ok(())
        });
        match checked {
            Err(ReadError::Corrupt { position, found, expected }) => {
                report.problems.push(Problem::Corrupt { position, found, expected });
                Ok(())
            }
            other => other,
        }
    }

    fn verify_head(&self, head: Head, report: &mut Verification) -> Result<(), ReadError> {
        match head {
            Head::Missing | Head::Damaged => report.warnings.extend(head.warning(self.last)),
            Head::Sound(link) if link.position > self.last => {
                report.problems.push(Problem::Truncated {
                    journal_last: self.last,
                    acknowledged: link.position,
                });
            }
            Head::Sound(link) => match self.check_witness(link) {
                Err(ReadError::Corrupt { position, found, expected }) => {
                    report.problems.push(Problem::Corrupt { position, found, expected });
                }
                other => other?,
            },
        }
        Ok(())
    }

    /// Checks that the journal still holds what was acknowledged as `link`.
    pub fn check_witness(&self, link: Link) -> Result<(), ReadError> {
        if link.position < self.base()?.position {
            return Ok(());
        }
        let stored = self.link_at(link.position)?;
        if stored == link {
            return Ok(());
        }
        Err(ReadError::Corrupt {
            position: link.position,
            found: format!("hash {}", stored.hash),
            expected: format!("hash {}, as acknowledged", link.hash),
        })
    }

    fn verify_snapshots(&self, report: &mut Verification) -> Result<(), ReadError> {
        for position in self.snapshot_positions()? {
            match self.load_snapshot_at(position)? {
                Ok(_) => report.snapshots.push(self.snapshot_stat(position)?),
                // Nobody can save a snapshot of what was never acknowledged.
                Err(_) if self.is_sound_beyond_end(position)? => {
                    report.problems.push(Problem::Truncated {
                        journal_last: self.last,
                        acknowledged: position,
                    });
                }
                Err(reason) => {
                    report.warnings.push(Warning::SnapshotDamaged { position, reason });
                }
            }
        }
        if report.first_position > 1 && report.snapshots.is_empty() {
            report.problems.push(Problem::NoSnapshot { first: report.first_position });
        }
        Ok(())
    }

    fn is_sound_beyond_end(&self, position: Position) -> Result<bool, ReadError> {
        Ok(position > self.last && snapshot::load(self.folder, position)?.is_ok())
    }

    fn report_acceptances(&self, report: &mut Verification) {
        let found = self
            .db
            .prepare("SELECT accepted_at, journal_last, acknowledged FROM acceptances")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| {
                        Ok(Warning::LossAccepted {
                            accepted_at: row.get(0)?,
                            journal_last: row.get::<_, i64>(1)?.cast_unsigned(),
                            acknowledged: row.get::<_, i64>(2)?.cast_unsigned(),
                        })
                    })?
                    .collect::<Result<Vec<_>, _>>()
            });
        match found {
            Ok(warnings) => report.warnings.extend(warnings),
            Err(error) => report.problems.push(Problem::Structure(error.to_string())),
        }
    }

    /// See [`Journal::load_snapshot`](crate::Journal::load_snapshot).
    pub fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError> {
        let mut damage = Vec::new();
        for position in self.snapshot_positions()? {
            match self.load_snapshot_at(position)? {
                Ok(loaded) => {
                    return Ok(Some(Snapshot { position, state: loaded.state }));
                }
                Err(reason) => damage.push(format!("{position}: {reason}")),
            }
        }
        match self.base()?.position {
            0 => Ok(None),
            pruned => Err(ReadError::NoSnapshot {
                first: pruned + 1,
                damage: if damage.is_empty() {
                    "there is none".to_owned()
                } else {
                    damage.join("; ")
                },
            }),
        }
    }

    /// Loads a snapshot that fits this journal. The inner `Err` says why it cannot be used.
    pub fn load_snapshot_at(
        &self,
        position: Position,
    ) -> Result<Result<Loaded, String>, ReadError> {
        let loaded = match snapshot::load(self.folder, position)? {
            Ok(loaded) => loaded,
            Err(reason) => return Ok(Err(reason)),
        };
        let base = self.base()?.position;
        if position > self.last || position < base {
            let reason = format!("it is outside the journal ({} to {})", base + 1, self.last);
            return Ok(Err(reason));
        }
        match self.check_witness(loaded.link) {
            Ok(()) => Ok(Ok(loaded)),
            Err(ReadError::Corrupt { found, expected, .. }) => {
                Ok(Err(format!("the journal has {found} there, it has {expected}")))
            }
            Err(error) => Err(error),
        }
    }

    /// The positions of all snapshot files, newest first.
    pub fn snapshot_positions(&self) -> Result<Vec<Position>, ReadError> {
        snapshot::list(self.folder).map_err(|error| ReadError::io(&self.folder.path, error))
    }

    fn snapshot_stat(&self, position: Position) -> Result<SnapshotStat, ReadError> {
        let size_bytes = snapshot::size_bytes(self.folder, position)
            .map_err(|error| ReadError::io(&self.folder.path, error))?;
        Ok(SnapshotStat { position, size_bytes })
    }

    /// See [`Stat`].
    pub fn stat(&self, head: Head) -> Result<Stat, ReadError> {
        let size = |path: PathBuf| match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(ReadError::io(&path, error)),
        };
        let first_position = self.base()?.position + 1;
        let snapshots = self.snapshot_positions()?.into_iter();
        Ok(Stat {
            first_position,
            last_position: self.last,
            entries_count: self.last + 1 - first_position,
            acknowledged: match head {
                Head::Sound(link) => Some(link.position),
                Head::Missing | Head::Damaged => None,
            },
            database_size_bytes: size(self.folder.database())?,
            wal_size_bytes: size(self.folder.wal())?,
            snapshots: snapshots.map(|at| self.snapshot_stat(at)).collect::<Result<_, _>>()?,
        })
    }
}
