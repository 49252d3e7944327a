//! The stages of a long command: a heading before each, its time after it.

use std::time::{Duration, Instant};

use crate::Failure;

/// The stages that have ended, in their order.
#[derive(Default)]
pub struct Stages {
    ended: Vec<(String, Duration)>,
}

impl Stages {
    /// Runs one stage, and says how long it took.
    ///
    /// # Errors
    ///
    /// What the stage answers, with its name.
    pub fn run(
        &mut self,
        name: &str,
        stage: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        println!("── {name}");
        let start = Instant::now();
        let result = stage();
        let time = start.elapsed();
        match result {
            Ok(()) => {
                println!("   {name}: done in {}\n", seconds(time));
                self.ended.push((name.to_owned(), time));
                Ok(())
            }
            Err(reason) => Err(format!("{name} failed after {}: {reason}", seconds(time))),
        }
    }

    /// One line with every stage and its time.
    pub fn summary(&self) -> String {
        let parts: Vec<String> =
            self.ended.iter().map(|(name, time)| format!("{name} {}", seconds(*time))).collect();
        let total = self.ended.iter().map(|(_, time)| *time).sum();
        format!("{}; in all {}", parts.join(", "), seconds(total))
    }
}

/// A time for a person: `3.1 s`, `2 min 05 s`.
fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}
