//! Properties of schedules, and agreement with another implementation.

use croner::parser::CronParser;
use jiff::Timestamp as Instant;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use proptest::sample::select;
use spawnery_model::Timestamp;
use spawnery_schedule::Cron;
use std::collections::BTreeSet;

/// Zones with changes of all kinds: none, an hour, half an hour, two hours, at midnight, odd
/// offsets, and against the seasons.
const ZONES: [&str; 12] = [
    "UTC",
    "America/New_York",
    "Europe/Zurich",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Santiago",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Pacific/Apia",
];

/// 2050, in milliseconds: beyond the changes that the database lists one by one.
const LATEST_MS: u64 = 2_524_608_000_000;

/// Wall clock around the instants that are looked at one by one.
const WINDOW_SECS: i64 = 36 * 3600;

fn number_field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let value = min..=max;
    let range = (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    prop_oneof![
        2 => Just("*".to_owned()),
        2 => (1..max - min).prop_map(|step| format!("*/{step}")),
        3 => value.prop_map(|value| value.to_string()),
        1 => range,
        1 => proptest::collection::vec(min..=max, 1..4)
            .prop_map(|values| values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn day_field() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => number_field(1, 28),
        1 => select(vec!["L", "LW", "1W", "15W", "31W", "1,L"]).prop_map(str::to_owned),
    ]
}

fn weekday_field() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => number_field(0, 6),
        1 => select(vec!["7", "FRI-SUN", "1#1", "5#5", "5L", "0L", "mon,3#2"]).prop_map(str::to_owned),
    ]
}

prop_compose! {
    fn expression()(
        minute in number_field(0, 59),
        hour in number_field(0, 23),
        day in day_field(),
        month in prop_oneof![4 => Just("*".to_owned()), 1 => number_field(1, 12)],
        weekday in weekday_field(),
    ) -> [String; 5] {
        [minute, hour, day, month, weekday]
    }
}

/// Instants of all kinds, and many within a day and a half of a change of the zone.
fn instant(zone: &'static str) -> impl Strategy<Value = u64> {
    let near_change = (0..LATEST_MS, -WINDOW_SECS * 1000..WINDOW_SECS * 1000).prop_map(
        move |(time, distance)| {
            let time = Instant::from_millisecond(time as i64).unwrap();
            let zone = find(zone);
            let change = zone.following(time).next();
            let change = change.map_or(time, |change| change.timestamp());
            (change.as_millisecond() + distance).max(0) as u64
        },
    );
    prop_oneof![1 => 0..LATEST_MS, 3 => near_change]
}

fn find(zone: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(zone).unwrap()
}

/// What the other implementation makes of the expression; it needs to be told when both the day
/// of month and of week must match.
fn other(fields: &[String; 5]) -> croner::Cron {
    let both = fields[2].starts_with('*') || fields[4].starts_with('*');
    let parser = CronParser::builder().dom_and_dow(both).build();
    parser.parse(&fields.join(" ")).unwrap()
}

/// The occurrences within [`WINDOW_SECS`], found by looking at each minute of the wall clock.
fn by_hand(fields: &[String; 5], zone: &TimeZone, after: u64) -> BTreeSet<Timestamp> {
    let pattern = other(fields);
    let interval = fields[0].starts_with('*') || fields[1].starts_with('*');
    let start = Instant::from_millisecond(after as i64).unwrap();
    let day = jiff::SignedDuration::from_hours(24);
    let end = start + jiff::SignedDuration::from_secs(WINDOW_SECS);
    let mut found = BTreeSet::new();
    let mut wall =
        zone.to_datetime(start - 2 * day).with().second(0).subsec_nanosecond(0).build().unwrap();
    let last = zone.to_datetime(end + 2 * day);
    while wall < last {
        if pattern.is_time_matching(&wall).unwrap() {
            let at = |offset: jiff::tz::Offset| offset.to_timestamp(wall).unwrap();
            match zone.to_ambiguous_timestamp(wall).offset() {
                AmbiguousOffset::Unambiguous { offset } => found.extend([at(offset)]),
                AmbiguousOffset::Fold { before, after } if interval => {
                    found.extend([at(before), at(after)]);
                }
                AmbiguousOffset::Fold { before, .. } => found.extend([at(before)]),
                AmbiguousOffset::Gap { .. } if interval => {}
                // Read with the offset after the change, it is before the change.
                AmbiguousOffset::Gap { after, .. } => {
                    found.extend(zone.following(at(after)).next().map(|change| change.timestamp()));
                }
            }
        }
        wall = wall.checked_add(jiff::SignedDuration::from_mins(1)).unwrap();
    }
    let within = found.into_iter().filter(|time| start < *time && *time <= end);
    within.map(|time| Timestamp(time.as_millisecond() as u64)).collect()
}

fn zone_and_instant() -> impl Strategy<Value = (&'static str, u64)> {
    select(ZONES.as_slice()).prop_flat_map(|zone| (Just(zone), instant(zone)))
}

proptest! {
    #[test]
    fn occurrences_are_those_of_the_wall_clock(
        fields in expression(),
        (zone, after) in zone_and_instant(),
    ) {
        let Ok(cron) = Cron::parse(&fields.join(" "), zone) else { return Ok(()) };
        let until = Timestamp(after + WINDOW_SECS as u64 * 1000);
        let found = cron.between(Timestamp(after), until, usize::MAX);
        let expected: Vec<Timestamp> = by_hand(&fields, &find(zone), after).into_iter().collect();
        prop_assert_eq!(found.times, expected);
        prop_assert!(!found.more);
    }

    #[test]
    fn far_occurrences_agree_with_another_implementation(
        fields in expression(),
        after in 0..LATEST_MS,
    ) {
        let Ok(cron) = Cron::parse(&fields.join(" "), "UTC") else { return Ok(()) };
        let start = Instant::from_millisecond(after as i64).unwrap().to_zoned(TimeZone::UTC);
        let expected = other(&fields).find_next_occurrence(&start, false).unwrap();
        let found = cron.next_after(Timestamp(after));
        prop_assert_eq!(found, Some(Timestamp(expected.timestamp().as_second() as u64 * 1000)));
    }

    #[test]
    fn time_only_moves_forward_and_both_ways_of_asking_agree(
        second in number_field(0, 59),
        fields in expression(),
        (zone, after) in zone_and_instant(),
        count in 0..40usize,
    ) {
        let expression = format!("{second} {}", fields.join(" "));
        let Ok(cron) = Cron::parse(&expression, zone) else { return Ok(()) };
        let mut times = Vec::new();
        let mut last = Timestamp(after);
        for _ in 0..count {
            let Some(next) = cron.next_after(last) else { break };
            prop_assert!(next > last, "{:?} after {:?}", next, last);
            // Whatever lies between is asked for in vain.
            let middle = Timestamp(last.0 + (next.0 - last.0) / 2);
            prop_assert_eq!(cron.next_after(middle), Some(next));
            prop_assert_eq!(cron.next_after(Timestamp(next.0 - 1)), Some(next));
            times.push(next);
            last = next;
        }
        let more = cron.next_after(last).is_some();
        let at_once = cron.between(Timestamp(after), Timestamp(u64::MAX), count);
        prop_assert_eq!((&at_once.times, at_once.more), (&times, more));
        let until = cron.between(Timestamp(after), last, usize::MAX);
        prop_assert_eq!((until.times, until.more), (times, false));
    }

    #[test]
    fn any_instant_is_answered(after: u64, zone in select(ZONES.as_slice())) {
        let cron = Cron::parse("30 2 * * *", zone).unwrap();
        prop_assert!(cron.next_after(Timestamp(after)).is_none_or(|next| next.0 > after));
    }
}

#[test]
fn the_end_of_time_has_no_next_occurrence() {
    let cron = Cron::parse("* * * * * *", "UTC").unwrap();
    assert_eq!(cron.next_after(Timestamp(u64::MAX)), None);
    let last = Instant::MAX.as_second() as u64 * 1000;
    assert_eq!(cron.next_after(Timestamp(last)), None);
    assert_eq!(cron.next_after(Timestamp(last - 1)), Some(Timestamp(last)));
}
