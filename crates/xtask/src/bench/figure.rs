//! What was measured, and how it is written.

use std::time::Duration;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// How long something took, each time.
    Times {
        /// Half of them took no longer.
        p50: Duration,
        /// 99 of 100 took no longer.
        p99: Duration,
        /// How often it was measured.
        count: usize,
    },
    /// How many in a second.
    Rate {
        /// How many.
        per_second: f64,
        /// How many there were in all.
        count: usize,
    },
    /// Bytes of memory.
    Memory {
        /// How many.
        bytes: u64,
        /// Of how many things.
        count: usize,
    },
    /// How many times as fast as something else.
    Factor {
        /// How many.
        times: f64,
        /// How often it was measured.
        count: usize,
    },
}

impl Figure {
    /// The percentiles of measured times.
    pub fn times(mut times: Vec<Duration>) -> Figure {
        times.sort();
        Figure::Times {
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
            count: times.len(),
        }
    }

    /// What happened so often in so long.
    pub fn rate(count: usize, time: Duration) -> Figure {
        Figure::Rate { per_second: count as f64 / time.as_secs_f64(), count }
    }

    /// How often it was measured.
    pub fn count(&self) -> usize {
        match self {
            Figure::Times { count, .. }
            | Figure::Rate { count, .. }
            | Figure::Memory { count, .. }
            | Figure::Factor { count, .. } => *count,
        }
    }

    /// The number that goals are about: the median in milliseconds, the rate, the bytes, the
    /// factor.
    pub fn main(&self) -> f64 {
        match self {
            Figure::Times { p50, .. } => milliseconds(*p50),
            Figure::Rate { per_second, .. } => *per_second,
            Figure::Memory { bytes, .. } => *bytes as f64,
            Figure::Factor { times, .. } => *times,
        }
    }

    /// The 99th percentile in milliseconds, where there is one.
    pub fn p99_ms(&self) -> Option<f64> {
        match self {
            Figure::Times { p99, .. } => Some(milliseconds(*p99)),
            _ => None,
        }
    }

    /// The main number, with its unit.
    pub fn main_text(&self) -> String {
        match self {
            Figure::Times { p50, .. } => time_text(*p50),
            Figure::Rate { per_second, .. } => format!("{} /s", thousands(*per_second)),
            Figure::Memory { bytes, .. } => memory_text(*bytes),
            Figure::Factor { times, .. } => format!("{} ×", thousands(*times)),
        }
    }

    /// The 99th percentile, or a dash.
    pub fn p99_text(&self) -> String {
        match self {
            Figure::Times { p99, .. } => time_text(*p99),
            _ => "-".to_owned(),
        }
    }
}

/// The smallest of the sorted values that so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn time_text(time: Duration) -> String {
    let ms = milliseconds(time);
    match ms {
        _ if ms < 0.1 => format!("{:.1} µs", ms * 1000.0),
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

fn memory_text(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    if kib < 1024.0 { format!("{kib:.2} KiB") } else { format!("{:.1} MiB", kib / 1024.0) }
}

/// A number with a mark at each thousand.
fn thousands(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let figure = Figure::times(times);
        assert_eq!(figure.main(), 100.0);
        assert_eq!(figure.p99_ms(), Some(198.0));
        assert_eq!(figure.count(), 200);
        assert_eq!(Figure::times(vec![Duration::from_millis(7)]).p99_ms(), Some(7.0));
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(Figure::rate(1_234_567, Duration::from_secs(1)).main_text(), "1,234,567 /s");
        assert_eq!(Figure::Memory { bytes: 1536, count: 1 }.main_text(), "1.50 KiB");
        assert_eq!(Figure::Memory { bytes: 20 << 20, count: 1 }.main_text(), "20.0 MiB");
        assert_eq!(Figure::Factor { times: 1.5, count: 1 }.main_text(), "1.50 ×");
        let time = |ms: f64| Figure::times(vec![Duration::from_secs_f64(ms / 1000.0)]).main_text();
        assert_eq!((time(0.05), time(2.5)), ("50.0 µs".to_owned(), "2.50 ms".to_owned()));
    }
}
