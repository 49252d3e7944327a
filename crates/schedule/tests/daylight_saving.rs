//! What runs on the days on which clocks change, as tables.

use spawnery_model::Timestamp;
use spawnery_schedule::Cron;

/// The occurrences of one day of the wall clock, each with its offset from UTC.
fn check(zone: &str, day: &str, expression: &str, expected: &[&str]) {
    let cron = Cron::parse(expression, zone).unwrap();
    let zone = jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap();
    let day: jiff::civil::Date = day.parse().unwrap();
    let start = zone.to_zoned(day.at(0, 0, 0, 0)).unwrap().timestamp();
    let end = zone.to_zoned(day.tomorrow().unwrap().at(0, 0, 0, 0)).unwrap().timestamp();
    let shared = |time: jiff::Timestamp| Timestamp(time.as_millisecond() as u64 - 1);
    let found = cron.between(shared(start), shared(end), 100);
    let shown = found.times.iter().map(|time| {
        let time = jiff::Timestamp::from_millisecond(time.0 as i64).unwrap();
        let time = time.to_zoned(zone.clone());
        time.strftime("%H:%M %:z").to_string()
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected, "{expression} on {day}");
}

#[test]
fn new_york_puts_its_clocks_forward_at_two() {
    let check = |expression, expected: &[&str]| {
        check("America/New_York", "2025-03-09", expression, expected);
    };
    check("30 1 * * *", &["01:30 -05:00"]);
    check("0 2 * * *", &["03:00 -04:00"]);
    check("30 2 * * *", &["03:00 -04:00"]);
    check("0 3 * * *", &["03:00 -04:00"]);
    check("30 1,2,3 * * *", &["01:30 -05:00", "03:00 -04:00", "03:30 -04:00"]);
    check("0,30 2 * * *", &["03:00 -04:00"]);
    check("0 2,3 * * *", &["03:00 -04:00"]);
    check("30 2 9 3 *", &["03:00 -04:00"]);
    check("30 2 * * SUN", &["03:00 -04:00"]);
    check("30 2 8,10 * *", &[]);
    check("*/30 2 * * *", &[]);
    check("*/30 1-3 * * *", &["01:00 -05:00", "01:30 -05:00", "03:00 -04:00", "03:30 -04:00"]);
    check(
        "45 */2 1-9 3 *",
        &[
            "00:45 -05:00",
            "04:45 -04:00",
            "06:45 -04:00",
            "08:45 -04:00",
            "10:45 -04:00",
            "12:45 -04:00",
            "14:45 -04:00",
            "16:45 -04:00",
            "18:45 -04:00",
            "20:45 -04:00",
            "22:45 -04:00",
        ],
    );
}

#[test]
fn new_york_puts_its_clocks_back_at_two() {
    let check = |expression, expected: &[&str]| {
        check("America/New_York", "2025-11-02", expression, expected);
    };
    check("30 0 * * *", &["00:30 -04:00"]);
    check("0 1 * * *", &["01:00 -04:00"]);
    check("30 1 * * *", &["01:30 -04:00"]);
    check("0 2 * * *", &["02:00 -05:00"]);
    check("0,30 1,2 * * *", &["01:00 -04:00", "01:30 -04:00", "02:00 -05:00", "02:30 -05:00"]);

    check("0 0-3 * * *", &["00:00 -04:00", "01:00 -04:00", "02:00 -05:00", "03:00 -05:00"]);
    check("*/30 1 * * *", &["01:00 -04:00", "01:30 -04:00", "01:00 -05:00", "01:30 -05:00"]);
}

#[test]
fn zurich_changes_at_one_utc() {
    let forward = |expression, expected: &[&str]| {
        check("Europe/Zurich", "2025-03-30", expression, expected);
    };
    forward("30 2 * * *", &["03:00 +02:00"]);
    forward("30 3 * * *", &["03:30 +02:00"]);
    forward(
        "0 */2 30 3 0",
        &[
            "00:00 +01:00",
            "04:00 +02:00",
            "06:00 +02:00",
            "08:00 +02:00",
            "10:00 +02:00",
            "12:00 +02:00",
            "14:00 +02:00",
            "16:00 +02:00",
            "18:00 +02:00",
            "20:00 +02:00",
            "22:00 +02:00",
        ],
    );
    let back = |expression, expected: &[&str]| {
        check("Europe/Zurich", "2025-10-26", expression, expected);
    };
    back("30 2 * * *", &["02:30 +02:00"]);
    back("0 3 * * *", &["03:00 +01:00"]);
    back(
        "*/20 2 * * *",
        &[
            "02:00 +02:00",
            "02:20 +02:00",
            "02:40 +02:00",
            "02:00 +01:00",
            "02:20 +01:00",
            "02:40 +01:00",
        ],
    );
}

#[test]
fn lord_howe_changes_by_half_an_hour() {
    let forward = |expression, expected: &[&str]| {
        check("Australia/Lord_Howe", "2025-10-05", expression, expected);
    };
    forward("15 2 * * *", &["02:30 +11:00"]);
    forward("30 2 * * *", &["02:30 +11:00"]);
    forward("45 2 * * *", &["02:45 +11:00"]);
    forward("*/15 2 * * *", &["02:30 +11:00", "02:45 +11:00"]);
    let back = |expression, expected: &[&str]| {
        check("Australia/Lord_Howe", "2025-04-06", expression, expected);
    };
    back("15 1 * * *", &["01:15 +11:00"]);
    back("45 1 * * *", &["01:45 +11:00"]);
    back("0 2 * * *", &["02:00 +10:30"]);
    back(
        "*/15 1 * * *",
        &[
            "01:00 +11:00",
            "01:15 +11:00",
            "01:30 +11:00",
            "01:45 +11:00",
            "01:30 +10:30",
            "01:45 +10:30",
        ],
    );
}

#[test]
fn a_day_that_was_left_out_ends_no_schedule() {
    // Apia went from the 29th to the 31st of December 2011.
    let check = |expression, expected: &[&str]| {
        check("Pacific/Apia", "2011-12-31", expression, expected);
    };
    check("0 12 30 12 *", &["00:00 +14:00"]);
    check("0 12 * * *", &["00:00 +14:00", "12:00 +14:00"]);
    check("*/30 12 * * *", &["12:00 +14:00", "12:30 +14:00"]);
}
