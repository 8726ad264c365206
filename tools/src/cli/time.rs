//! Points in time as a person types them: milliseconds since the Unix epoch, or RFC 3339; and
//! lengths of time.
//!
//! Leap seconds are refused, as the Unix epoch has none. Years are 1970 to 9999.

use std::time::SystemTime;

use millrace_model::Timestamp;

const SECOND_MS: i64 = 1_000;
const DAY_SECONDS: i64 = 86_400;

/// The time that `text` names: `1730000000000`, `2026-11-22T13:29:15Z` or
/// `2026-11-22T14:29:15.250+01:00`.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let ms = text
            .parse::<i64>()
            .map_err(|_| format!("'{text}' is too far in the future"))?;
        return Ok(Timestamp(ms));
    }
    rfc3339(text).map(Timestamp).ok_or_else(|| {
        format!(
            "'{text}' is no point in time; write milliseconds since 1970, or RFC 3339 as in \
             2026-11-22T13:29:15Z"
        )
    })
}

/// The milliseconds that `text` names: `90s`, `1d12h`, or `PT1H30M` (ISO 8601 without years, months and
/// weeks).
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let seconds = match text.strip_prefix('P') {
        None => seconds_of(text, "dhms"),
        Some(iso) => match iso.split_once('T') {
            None => seconds_of(&iso.to_ascii_lowercase(), "d"),
            Some(("", time)) => seconds_of(&time.to_ascii_lowercase(), "hms"),
            Some((days, time)) => seconds_of(&days.to_ascii_lowercase(), "d")
                .zip(seconds_of(&time.to_ascii_lowercase(), "hms"))
                .and_then(|(days, time)| days.checked_add(time)),
        },
    };
    seconds
        .and_then(|seconds| seconds.checked_mul(SECOND_MS))
        .ok_or_else(|| {
            format!("'{text}' is no length of time; write it as in 90s, 15m, 1d12h or PT1H30M")
        })
}

/// Seconds of numbers with units, each of `units` at most once and in their order.
fn seconds_of(text: &str, units: &str) -> Option<i64> {
    let (mut rest, mut units, mut sum) = (text, units, 0_i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = after.chars().next()?;
        units = &units[units.find(unit)? + unit.len_utf8()..];
        let seconds = match unit {
            'd' => DAY_SECONDS,
            'h' => 3_600,
            'm' => 60,
            _ => 1,
        };
        let seconds = number.parse::<i64>().ok()?.checked_mul(seconds)?;
        sum = sum.checked_add(seconds)?;
        rest = &after[unit.len_utf8()..];
    }
    Some(sum)
}

/// The present, in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

fn rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let seconds = days(date)? * DAY_SECONDS - zone_seconds(zone)?;
    let (clock, fraction_ms) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_ms(fraction)?),
        None => (clock, 0),
    };
    let [hour, minute, second] = fields::<3>(clock, ':', &[2, 2, 2])?;
    let valid = hour < 24 && minute < 60 && second < 60;
    let ms = (seconds + hour * 3_600 + minute * 60 + second) * SECOND_MS + fraction_ms;
    (valid && ms >= 0).then_some(ms)
}

/// Days since the Unix epoch (the algorithm `days_from_civil` of Howard Hinnant).
fn days(date: &str) -> Option<i64> {
    let [year, month, day] = fields::<3>(date, '-', &[4, 2, 2])?;
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn month_days(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn zone_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' | b'z' => return (zone.len() == 1).then_some(0),
        b'+' => 1,
        _ => -1,
    };
    let [hours, minutes] = fields::<2>(&zone[1..], ':', &[2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn fraction_ms(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    Some(digits.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')))
}

/// Exactly `N` numbers of exactly these widths.
fn fields<const N: usize>(text: &str, between: char, widths: &[usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == *width)?;
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        *number = digits.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_rfc_3339_are_understood() {
        let cases = [
            ("0", 0),
            ("1700000000123", 1_700_000_000_123),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2023-11-14T22:13:20.1239Z", 1_700_000_000_123),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
            ("2023-11-14 22:13:20.5-00:00", 1_700_000_000_500),
            ("9999-12-31T23:59:59z", 253_402_300_799_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_timestamp(text), Ok(Timestamp(ms)), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_understood() {
        let cases = [
            ("0s", 0),
            ("90s", 90_000),
            ("15m", 900_000),
            ("1d12h", 129_600_000),
            ("PT1H30M", 5_400_000),
            ("P1D", 86_400_000),
            ("P1DT1S", 86_401_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        let wrong = [
            "",
            "5",
            "s",
            "1m1h",
            "1s1s",
            "-1s",
            "1.5h",
            "P",
            "PT",
            "P1M",
            "P1DT",
            "PT1D",
            "1H",
            "99999999999999999999s",
            "9223372036854775807d",
            "1\u{e9}",
        ];
        for text in wrong {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let cases = [
            "",
            "-1",
            "yesterday",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20Z0",
            "2023-11-14T22:13:20+1:00",
            "1969-12-31T23:59:59Z",
            "99999999999999999999",
            "+023-11-14T22:13:20Z",
        ];
        for text in cases {
            assert!(parse_timestamp(text).is_err(), "{text}");
        }
    }
}
