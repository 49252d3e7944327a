//! The table: one row for each number.

use serde_json::{Value, json};

use super::figure::Figure;

/// A number, its peer and its goal.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Ours.
    pub ours: Figure,
    /// What a user would pick instead, by name, in the same run.
    pub peer: Option<(String, Figure)>,
    /// What must hold.
    pub goal: Goal,
    /// What else there is to say, such as why there is no peer.
    pub note: Option<String>,
}

/// What must hold.
#[derive(Clone, Copy)]
pub enum Goal {
    /// Nothing: the row is there to compare.
    None,
    /// The main number at least this.
    AtLeast(f64),
    /// The main number, bytes, at most this.
    BytesAtMost(f64),
    /// The main number, the median in milliseconds, at most this.
    MsAtMost(f64),
    /// The 99th percentile in milliseconds at most this.
    P99MsAtMost(f64),
    /// The main number, a time, at most so many seconds.
    SecondsAtMost(f64),
    /// The main number at most so many times the peer's.
    OfPeerAtMost(f64),
    /// The main number at least so many times the peer's.
    OfPeerAtLeast(f64),
}

impl Row {
    /// A row without a peer.
    pub fn new(what: impl Into<String>, ours: Figure, goal: Goal) -> Row {
        Row { what: what.into(), ours, peer: None, goal, note: None }
    }

    /// The row with its peer.
    pub fn beside(mut self, name: impl Into<String>, figure: Figure) -> Row {
        self.peer = Some((name.into(), figure));
        self
    }

    /// The row with a remark.
    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = Some(note.into());
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer.as_ref()?;
        Some(self.ours.main() / peer.main())
    }

    /// Whether the goal is held; `None` if there is none, or nothing to compare with.
    fn held(&self) -> Option<bool> {
        let ours = &self.ours;
        match self.goal {
            Goal::None => None,
            Goal::AtLeast(least) => Some(ours.main() >= least),
            Goal::BytesAtMost(most) => Some(ours.main() <= most),
            Goal::MsAtMost(most) => Some(ours.main() <= most),
            Goal::P99MsAtMost(most) => Some(ours.p99_ms()? <= most),
            Goal::SecondsAtMost(most) => match ours {
                Figure::Times { p50, .. } => Some(p50.as_secs_f64() <= most),
                _ => None,
            },
            Goal::OfPeerAtMost(most) => Some(self.ratio()? <= most),
            Goal::OfPeerAtLeast(least) => Some(self.ratio()? >= least),
        }
    }

    fn cells(&self) -> [String; 9] {
        let dash = || "-".to_owned();
        let ours = &self.ours;
        let peer = self.peer.as_ref();
        [
            self.what.clone(),
            ours.main_text(),
            ours.p99_text(),
            ours.count().to_string(),
            peer.map_or_else(dash, |(name, it)| format!("{name}: {}", it.main_text())),
            peer.map_or_else(dash, |(_, it)| it.p99_text()),
            self.ratio().map_or_else(dash, |ratio| format!("{ratio:.2}")),
            self.goal.text(),
            match self.held() {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => dash(),
            },
        ]
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Goal::None => "-".to_owned(),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::BytesAtMost(most) if most < 1048576.0 => format!("≤ {} KiB", most / 1024.0),
            Goal::BytesAtMost(most) => format!("≤ {} MiB", most / 1048576.0),
            Goal::MsAtMost(most) => format!("p50 ≤ {most} ms"),
            Goal::P99MsAtMost(most) => format!("p99 ≤ {most} ms"),
            Goal::SecondsAtMost(most) => format!("≤ {most} s"),
            Goal::OfPeerAtMost(most) => format!("≤ {most} × the peer"),
            Goal::OfPeerAtLeast(least) => format!("≥ {least} × the peer"),
        }
    }
}

const HEADINGS: [&str; 9] =
    ["what", "ours (p50)", "p99", "count", "peer (p50)", "p99", "ratio", "goal", "held"];

/// The rows as an aligned table, with the remarks below.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADINGS.len()).filter_map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let space = " ".repeat(width - cell.chars().count());
            // Numbers line up at their end.
            if (1..=3).contains(&column) || (5..=6).contains(&column) {
                format!("{space}{cell}")
            } else {
                format!("{cell}{space}")
            }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    for row in rows {
        if let Some(note) = &row.note {
            text.push_str(&format!("\n{}: {note}", row.what));
        }
    }
    text
}

/// The rows for programs.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows.iter().map(row_json).collect();
    format!("{:#}", Value::Array(rows))
}

fn row_json(row: &Row) -> Value {
    let figure = |figure: &Figure| match figure {
        Figure::Times { .. } => json!({
            "p50_ms": figure.main(), "p99_ms": figure.p99_ms(), "count": figure.count(),
        }),
        Figure::Rate { .. } => json!({"per_second": figure.main(), "count": figure.count()}),
        Figure::Memory { .. } => json!({"bytes": figure.main(), "count": figure.count()}),
        Figure::Factor { .. } => json!({"times": figure.main(), "count": figure.count()}),
    };
    let goal = row.goal.text();
    json!({
        "what": row.what,
        "ours": figure(&row.ours),
        "peer": row.peer.as_ref().map(|(name, it)| json!({"name": name, "figure": figure(it)})),
        "ratio": row.ratio(),
        "goal": (goal != "-").then_some(goal),
        "held": row.held(),
        "note": row.note,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(per_second: f64) -> Figure {
        Figure::Rate { per_second, count: 1 }
    }

    #[test]
    fn a_goal_is_held_or_not() {
        let check = |row: Row, held: Option<bool>| assert_eq!(row.held(), held, "{}", row.what);
        check(Row::new("fast enough", rate(10.0), Goal::AtLeast(10.0)), Some(true));
        check(Row::new("too slow", rate(9.0), Goal::AtLeast(10.0)), Some(false));
        let times = Figure::times(vec![Duration::from_millis(3); 5]);
        check(Row::new("in time", times.clone(), Goal::MsAtMost(3.0)), Some(true));
        check(Row::new("late", times.clone(), Goal::P99MsAtMost(2.0)), Some(false));
        let beside = |most| {
            Row::new("beside", times.clone(), Goal::OfPeerAtMost(most))
                .beside("peer", Figure::times(vec![Duration::from_millis(2); 5]))
        };
        check(beside(1.5), Some(true));
        check(beside(1.4), Some(false));
        check(Row::new("alone", times.clone(), Goal::OfPeerAtMost(2.0)), None);
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            Row::new("a", rate(1.0), Goal::None),
            Row::new("longer ×", rate(12345.0), Goal::AtLeast(1.0)).note("remark"),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        let ends = |line: &str| line.find("/s").map(|at| line[..at].chars().count());
        assert_eq!(ends(lines[1]), ends(lines[2]));
        assert_eq!(lines[lines.len() - 1], "longer ×: remark");
    }
}
