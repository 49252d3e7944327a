//! Time zones by name, from the database that was built in.

use crate::error::CronError;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// How alike a name must be to be offered, from 0 to 1.
const LIKENESS_MIN: f64 = 0.85;

/// The time zone `name`; upper and lower case are the same.
pub(crate) fn find(name: &str) -> Result<TimeZone, CronError> {
    let database = TimeZoneDatabase::bundled();
    match database.get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(CronError::TimeZone {
            name: name.chars().take(64).collect(),
            mend: mend(&database, name),
        }),
    }
}

/// What could have been meant by `name`: compared with whole names and with their last part, since
/// people remember the city.
fn mend(database: &TimeZoneDatabase, name: &str) -> String {
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    let likeness = |known: &str| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        let whole = strsim::jaro_winkler(&known, &wanted);
        whole.max(strsim::jaro_winkler(city, &wanted))
    };
    let names: Vec<_> = database.available().collect();
    let nearest = names
        .iter()
        .map(|known| (likeness(known.as_str()), known.as_str()))
        // Of equally alike names the first by alphabet, so that the answer never changes.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    match nearest {
        Some((likeness, known)) if likeness >= LIKENESS_MIN => format!("did you mean `{known}`?"),
        _ => "write `UTC` or a name such as `Europe/Zurich` or `America/New_York`".to_owned(),
    }
}
