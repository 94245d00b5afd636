//! Moments: `--since`, `--until` and the filters of that name, in all of docker's forms.
//!
//! A duration is so long ago (a negative one lies ahead). A date and a time may end early and may lack a zone: then it is
//! the zone of whoever types. What is neither is seconds since 1970, with up to nine digits behind a point.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::number;
use super::refused::Refused;
use crate::model::Timestamp;

/// A moment, seen from now.
pub fn moment(text: &str) -> Result<Timestamp, Refused> {
    at(text, Timestamp::now(), &TimeZone::system())
}

/// The moment as text, in the zone of whoever reads it, with all nine digits.
pub fn text(moment: Timestamp) -> String {
    let zoned = moment.to_zoned(TimeZone::system());
    let zone = match zoned.offset().seconds() {
        0 => "Z".to_owned(),
        _ => zoned.strftime("%:z").to_string(),
    };
    format!("{}{zone}", zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f"))
}

fn at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Refused> {
    let wrong = || Refused::text(format!("failed to parse value as time or duration: {text:?}"));
    // Nothing is no duration here, but the beginning of time.
    if let Ok(ago) = number::duration(text)
        && text != "0"
    {
        return now.checked_sub(jiff::SignedDuration::from_nanos(ago)).map_err(|_| wrong());
    }
    if let Some(moment) = date(text, zone) {
        return Ok(moment);
    }
    if text.contains('-') {
        return Err(wrong());
    }
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(part) || part.len() > 9 {
        return Err(wrong());
    }
    let nanoseconds = format!("{part:0<9}").parse().map_err(|_| wrong())?;
    let seconds = seconds.parse().map_err(|_| wrong())?;
    Timestamp::new(seconds, nanoseconds).map_err(|_| wrong())
}

/// `2006-01-02[T15[:04[:05[.999999999]]]][Z|+07:00]`.
fn date(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let date: Date = date.parse().ok()?;
    let (time, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let time: Time = match time.strip_prefix('T') {
        None if time.is_empty() => Time::midnight(),
        None => return None,
        Some(hour) if hour.len() == 2 => format!("{hour}:00:00").parse().ok()?,
        Some(time) => time.parse().ok()?,
    };
    let moment = date.to_datetime(time);
    match offset {
        None => zone.to_timestamp(moment).ok(),
        Some("Z" | "z") => TimeZone::UTC.to_timestamp(moment).ok(),
        Some(offset) => {
            let (sign, clock) = offset.split_at(1);
            let (hours, minutes) = clock.split_once(':')?;
            let two = |text: &str| text.parse::<i32>().ok().filter(|_| text.len() == 2);
            let seconds = two(hours)? * 3600 + two(minutes).filter(|minutes| *minutes < 60)? * 60;
            let offset = jiff::tz::Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()?;
            offset.to_timestamp(moment).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_durations_or_seconds() {
        let now: Timestamp = "2026-11-26T16:30:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("10", "1970-01-01T00:00:10Z"),
            ("10m", "2026-11-26T16:20:00Z"),
            ("-10m", "2026-11-26T16:40:00Z"),
            ("1.5h", "2026-11-26T15:00:00Z"),
            ("0s", "2026-11-26T16:30:00Z"),
            ("300ms", "2026-11-26T16:29:59.7Z"),
            ("2026-11-26", "2026-11-25T22:00:00Z"),
            ("2026-11-26Z", "2026-11-26T00:00:00Z"),
            ("2026-11-26T16", "2026-11-26T14:00:00Z"),
            ("2026-11-26T16:20", "2026-11-26T14:20:00Z"),
            ("2026-11-26T16:20:10", "2026-11-26T14:20:10Z"),
            ("2026-11-26T16:20:10.5", "2026-11-26T14:20:10.5Z"),
            ("2026-11-26T16:20:10.123456789Z", "2026-11-26T16:20:10.123456789Z"),
            ("2026-11-26T16:20Z", "2026-11-26T16:20:00Z"),
            ("2026-11-26T16:20:10+01:00", "2026-11-26T15:20:10Z"),
            ("2026-11-26T16-01:30", "2026-11-26T17:30:00Z"),
            ("1795710496.5", "2026-11-26T16:28:16.5Z"),
            ("1795710496.000000001", "2026-11-26T16:28:16.000000001Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(
                at(text, now, &zone).unwrap_or_else(|error| panic!("{text}: {error}")),
                expected,
                "{text}"
            );
        }
        for bad in [
            "",
            "bogus",
            "1h2",
            "1m1",
            "-5",
            "2026-13-01",
            "2026-11-26T",
            "2026-11-26X",
            "2026-11-26T16:20+1:00",
            "2026-11-26T16:20+01:99",
            "99999999999999999999",
            "1.0000000001",
            "9999999999999h",
            "é026-11-26",
        ] {
            let error = at(bad, now, &zone).unwrap_err().to_string();
            assert_eq!(error, format!("failed to parse value as time or duration: {bad:?}"));
        }
    }
}
