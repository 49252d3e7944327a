//! Which expressions are understood, and what is said of the others.

use proptest::prelude::*;
use spawnery_model::Timestamp;
use spawnery_schedule::Cron;

/// The occurrences after a Saturday, 2025-03-01T00:00:00Z, in UTC.
fn check(expression: &str, expected: &[&str]) {
    let cron = Cron::parse(expression, "UTC").unwrap_or_else(|error| panic!("{error}"));
    let start: jiff::Timestamp = "2025-03-01T00:00:00Z".parse().unwrap();
    let start = Timestamp(start.as_millisecond() as u64);
    let found = cron.between(start, Timestamp(u64::MAX), expected.len());
    let shown = found.times.iter().map(|time| {
        let time = jiff::Timestamp::from_millisecond(time.0 as i64).unwrap();
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected, "{expression}");
}

#[test]
fn the_fields_mean_what_crontab_says() {
    check("0 3 * * *", &["2025-03-01 03:00:00", "2025-03-02 03:00:00"]);
    check("*/20 * * * *", &["2025-03-01 00:20:00", "2025-03-01 00:40:00"]);
    check("15 */12 * * *", &["2025-03-01 00:15:00", "2025-03-01 12:15:00"]);
    check("30 0 3 * * *", &["2025-03-01 03:00:30", "2025-03-02 03:00:30"]);
    check("*/30 * * * * *", &["2025-03-01 00:00:30", "2025-03-01 00:01:00"]);
    check("0 9-17/4 * * *", &["2025-03-01 09:00:00", "2025-03-01 13:00:00", "2025-03-01 17:00:00"]);
    check("5,1 0 * * *", &["2025-03-01 00:01:00", "2025-03-01 00:05:00"]);
    check("0 0 1 jan,Jul *", &["2025-07-01 00:00:00", "2026-01-01 00:00:00"]);
    check(
        "0 0 * * mon-wed",
        &[
            "2025-03-03 00:00:00",
            "2025-03-04 00:00:00",
            "2025-03-05 00:00:00",
            "2025-03-10 00:00:00",
        ],
    );
    check(
        "0 0 * * FRI-SUN",
        &["2025-03-02 00:00:00", "2025-03-07 00:00:00", "2025-03-08 00:00:00"],
    );
    check("0 1 * * 0", &["2025-03-02 01:00:00", "2025-03-09 01:00:00"]);
    check("0 1 * * 7", &["2025-03-02 01:00:00", "2025-03-09 01:00:00"]);
    check("0 0 29 2 *", &["2028-02-29 00:00:00", "2032-02-29 00:00:00"]);
    check("0 0 31 * *", &["2025-03-31 00:00:00", "2025-05-31 00:00:00"]);
    check("  0   0 ? * 1 ", &["2025-03-03 00:00:00"]);
    check("0 0 L * ?", &["2025-03-31 00:00:00", "2025-04-30 00:00:00"]);
    check("0 0 LW * *", &["2025-03-31 00:00:00", "2025-04-30 00:00:00", "2025-05-30 00:00:00"]);
    check("0 12 1W * *", &["2025-03-03 12:00:00", "2025-04-01 12:00:00"]);
    check("0 0 31W 8 *", &["2025-08-29 00:00:00"]);
    check("0 0 * * 5#2", &["2025-03-14 00:00:00", "2025-04-11 00:00:00"]);
    check("0 0 * * fri#5", &["2025-05-30 00:00:00", "2025-08-29 00:00:00"]);
    check("0 0 * * 5L", &["2025-03-28 00:00:00", "2025-04-25 00:00:00"]);
    // Either day will do, unless one of the fields starts with `*`.
    check("0 0 13 * 5", &["2025-03-07 00:00:00", "2025-03-13 00:00:00", "2025-03-14 00:00:00"]);
    check("0 0 */2 * 1", &["2025-03-03 00:00:00", "2025-03-17 00:00:00", "2025-03-31 00:00:00"]);
    // A leap day at a weekend.
    check("0 0 29 2 */6", &["2032-02-29 00:00:00", "2048-02-29 00:00:00"]);
}

#[test]
fn nicknames_stand_for_expressions() {
    check("@hourly", &["2025-03-01 01:00:00", "2025-03-01 02:00:00"]);
    check("@daily", &["2025-03-02 00:00:00", "2025-03-03 00:00:00"]);
    check("@Midnight", &["2025-03-02 00:00:00"]);
    check("@weekly", &["2025-03-02 00:00:00", "2025-03-09 00:00:00"]);
    check("@monthly", &["2025-04-01 00:00:00", "2025-05-01 00:00:00"]);
    check("@yearly", &["2026-01-01 00:00:00"]);
    check("@annually", &["2026-01-01 00:00:00"]);
}

#[test]
fn an_error_names_the_field_and_the_mend() {
    let check = |expression: &str, said: &str| {
        let error = Cron::parse(expression, "UTC").expect_err(expression);
        assert_eq!(error.to_string(), said);
    };
    let empty = "a cron expression has five or six fields, this one is empty; write for example \
                 `0 3 * * *` or `@daily`";
    check("", empty);
    check(" \t ", empty);
    let four = "a cron expression has five fields (minute, hour, day of month, month, day of \
                week) or six (second first), this one has 4";
    check("* * * *", four);
    check("0 * * * * * 2025", &four.replace("has 4", "has 7"));
    check(&"1,".repeat(300), "a cron expression has at most 512 characters, this one has 600");
    check("@dialy", "`@dialy` is not a schedule; did you mean `@daily`?");
    check(
        "@reboot",
        "`@reboot` is not a schedule; what is to run whenever a machine is up is a service",
    );
    check("60 * * * *", "minute: 60 is out of range; write 0 to 59");
    check("* 24 * * *", "hour: 24 is out of range; write 0 to 23");
    check("* * 0 * *", "day of month: 0 is out of range; write 1 to 31");
    check("* * * 13 *", "month: 13 is out of range; write 1 to 12");
    check("* * * * 8", "day of week: 8 is out of range; write 0 to 7");
    check("60 * * * * *", "second: 60 is out of range; write 0 to 59");
    check(
        "99999999999999999999 * * * *",
        "minute: 99999999999999999999 is out of range; write 0 to 59",
    );
    check("x * * * *", "minute: `x` is not a value; write 0 to 59");
    check("-5 * * * *", "minute: `` is not a value; write 0 to 59");
    check("+5 * * * *", "minute: `+5` is not a value; write 0 to 59");
    check("0 0 * * TEU", "day of week: `TEU` is not a value; did you mean `TUE`?");
    check("0 0 * jna *", "month: `jna` is not a value; did you mean `JAN`?");
    check("0 0 * MON *", "month: `MON` is not a value; write 1 to 12, or JAN to DEC");
    check("0 0 * * montag", "day of week: `montag` is not a value; write 0 to 7, or SUN to SAT");
    check(
        "1,,2 * * * *",
        "minute: `1,,2` has nothing on one side of a comma; remove the comma or add a value",
    );
    check(
        ", * * * *",
        "minute: `,` has nothing on one side of a comma; remove the comma or add a value",
    );
    check(
        "*/90 * * * *",
        "minute: the step of `*/90` must be a number from 1 to 59; any larger one would leave only the first value",
    );
    check(
        "* */24 * * *",
        "hour: the step of `*/24` must be a number from 1 to 23; any larger one would leave only the first value",
    );
    check(
        "*/0 * * * *",
        "minute: the step of `*/0` must be a number from 1 to 59; any larger one would leave only the first value",
    );
    check(
        "10-20/15 * * * *",
        "minute: the step of `10-20/15` must be a number from 1 to 10; any larger one would leave only the first value",
    );
    check(
        "*/ * * * *",
        "minute: the step of `*/` must be a number from 1 to 59; any larger one would leave only the first value",
    );
    check("5/15 * * * *", "minute: `5/15` has a step but no range; write `5-59/15`");
    check("* 22-2 * * *", "hour: the range `22-2` ends before it starts; write `22-23,0-2`");
    check(
        "* * * * FRI-MON",
        "day of week: the range `FRI-MON` ends before it starts; write `FRI-6,0-MON`",
    );
    check(
        "* * * * L",
        "day of week: `L` is not a value; write the day before it: `5L` is the last Friday of the month",
    );
    check(
        "* * * * 5#6",
        "day of week: `5#6` is not a value; after `#` write 1 to 5: which one in the month",
    );
    check("* L * * *", "hour: `L` is not a value; write 0 to 23");
    check("* * 1,? * *", "day of month: `?` is not a value; write 1 to 31");
    check(
        "0 0 30 2 *",
        "`0 0 30 2 *` never occurs: no year has such a day; check day of month and month",
    );
    check(
        "0 0 31 4,6,9,11 ?",
        "`0 0 31 4,6,9,11 ?` never occurs: no year has such a day; check day of month and month",
    );
}

#[test]
fn an_unknown_time_zone_is_answered_with_the_nearest() {
    let check = |name: &str, mend: Option<&str>| {
        let said = Cron::parse("@daily", name).err().map(|error| error.to_string());
        let expected = mend.map(|mend| format!("`{name}` is not a time zone; {mend}"));
        assert_eq!(said, expected);
    };
    check("UTC", None);
    check("Europe/Zurich", None);
    check("europe/zurich", None);
    check("Europe/Zürich", Some("did you mean `Europe/Zurich`?"));
    check("Zurich", Some("did you mean `Europe/Zurich`?"));
    check("New York", Some("did you mean `America/New_York`?"));
    check("America/New_Yrok", Some("did you mean `America/New_York`?"));
    let example = "write `UTC` or a name such as `Europe/Zurich` or `America/New_York`";
    check("", Some(example));
    check("here", Some(example));
}

proptest! {
    #[test]
    fn rubbish_is_refused_or_occurs(expression: String, zone: String) {
        if let Ok(cron) = Cron::parse(&expression, &zone) {
            prop_assert!(cron.next_after(Timestamp(0)).is_some());
        }
    }

    #[test]
    fn near_rubbish_is_refused_or_occurs(expression in "[@0-9A-Z*/,#LW? -]{1,6}( [0-9*/,#LW?-]{1,4}){4,5}") {
        if let Ok(cron) = Cron::parse(&expression, "Europe/Zurich") {
            prop_assert!(cron.next_after(Timestamp(0)).is_some());
        }
    }
}
