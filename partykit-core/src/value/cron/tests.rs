use super::*;

/// The moments after `from`, in UTC.
fn moments(cron: &Cron, from: &str, count: usize) -> Vec<String> {
    let from: chrono::DateTime<chrono::Utc> = from.parse().unwrap();
    let mut last = Timestamp::from_millis(from.timestamp_millis() as u64);
    let mut moments = Vec::new();
    for _ in 0..count {
        let next = cron.next_after(last).expect("there is a next one");
        assert!(next > last);
        last = next;
        let next = chrono::DateTime::from_timestamp_millis(next.as_millis() as i64).unwrap();
        // "2026-03-29T01:00:00Z", less the year and the seconds.
        moments.push(format!("{next:?}")[5..16].replace('T', " "));
    }
    moments
}

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::new(expression).unwrap().zone(zone).unwrap()
}

#[test]
fn is_in_utc_or_at_a_fixed_offset() {
    let nine = moments(&Cron::new("0 9 * * MON-FRI").unwrap(), "2026-03-27T10:00:00Z", 2);
    assert_eq!(nine, ["03-30 09:00", "03-31 09:00"]);
    for (zone, first) in
        [("UTC", "07-01 09:00"), ("+05:30", "07-01 03:30"), ("-11:00", "07-01 20:00")]
    {
        assert_eq!(moments(&cron("0 9 * * *", zone), "2026-07-01T00:00:00Z", 1), [first], "{zone}");
    }
    for zone in ["", "utc+2", "+2:00", "+24:00", "+02:60", "+02", "+-2:00", "Mars/Olympus", "é2:00"]
    {
        let error = Cron::new("* * * * *").unwrap().zone(zone).unwrap_err().to_string();
        assert!(error.contains("no time zone"), "{zone}: {error}");
    }
}

#[cfg(feature = "cron-zones")]
#[test]
fn what_happens_when_clocks_go_forward_and_back() {
    const SPRING: &str = "2026-03-28T12:00:00Z";
    const AUTUMN: &str = "2026-10-24T12:00:00Z";
    let table: [(&str, &str, &str, &[&str]); 9] = [
        // 02:00 to 03:00 does not exist: once, at the first moment after the gap.
        ("30 2 * * *", "Europe/Berlin", SPRING, &["03-29 01:00", "03-30 00:30", "03-31 00:30"]),
        ("0 2 * * *", "Europe/Berlin", SPRING, &["03-29 01:00", "03-30 00:00"]),
        ("0 0 * * *", "Europe/Berlin", SPRING, &["03-28 23:00", "03-29 22:00", "03-30 22:00"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:15:00Z",
            &["03-29 00:30", "03-29 01:00", "03-29 01:30"],
        ),
        // 02:00 to 03:00 comes twice: a fixed time runs once, an interval in both hours.
        ("30 2 * * *", "Europe/Berlin", AUTUMN, &["10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ("0 0 * * *", "Europe/Berlin", AUTUMN, &["10-24 22:00", "10-25 23:00"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:40:00Z",
            &["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"],
        ),
        // Half an hour, and at midnight.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            &["10-03 15:30", "10-04 15:15"],
        ),
        ("0 0 * * *", "Asia/Beirut", "2026-03-27T22:30:00Z", &["03-28 22:00", "03-29 21:00"]),
    ];
    for (expression, zone, from, ought) in table {
        let is = moments(&cron(expression, zone), from, ought.len());
        assert_eq!(is, ought, "{expression} in {zone} from {from}");
    }
}

#[test]
fn seconds_have_to_be_asked_for() {
    let error = Cron::new("*/10 * * * * *").unwrap_err().to_string();
    assert!(error.contains("Cron::with_seconds"), "{error}");
    let often = Cron::with_seconds("*/10 * * * * *").unwrap();
    let next = often.next_after(Timestamp::from_millis(1_704_067_201_500)).unwrap();
    assert_eq!(next.as_millis(), 1_704_067_210_000);
    assert!(Cron::with_seconds("* * * * *").is_err());
}

#[test]
fn what_is_no_expression_is_refused_and_what_never_comes_has_no_next() {
    let long = "1,".repeat(200) + "1 * * * *";
    for expression in ["", "* * * *", "0/5 * * * *", "61 * * * *", "@every 5m", "a b c d e", &long]
    {
        assert!(Cron::new(expression).is_err(), "{expression}");
    }
    let never = Cron::new("0 0 30 2 *").unwrap();
    assert_eq!(never.next_after(Timestamp::from_millis(1_704_067_200_000)), None);
    let daily = Cron::new("@daily").unwrap();
    assert_eq!(daily.next_after(Timestamp::from_millis(u64::MAX)), None);
    // A moment between two milliseconds, seconds and minutes.
    let minutes = Cron::new("* * * * *").unwrap();
    let next = minutes.next_after(Timestamp::from_millis(1_704_067_199_999)).unwrap();
    assert_eq!(next.as_millis(), 1_704_067_200_000);
}
