//! Values in words.

/// `p` for 1 / (1 - quantile).
#[must_use]
pub fn percentile(odds: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / odds);
    let nines = (odds.log10().floor().max(0.0) as usize).saturating_sub(1);
    let shown = format!("{percent:.nines$}");
    match shown.contains('.') {
        true => format!("{}%", shown.trim_end_matches('0').trim_end_matches('.')),
        false => format!("{shown}%"),
    }
}

/// Microseconds in the unit that reads best.
#[must_use]
pub fn micros(us: f64) -> String {
    let (value, unit) = match us {
        ..1e3 => (us, "\u{b5}s"),
        1e3..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    format!("{} {unit}", short(value))
}

/// Three digits that say something.
#[must_use]
pub fn short(value: f64) -> String {
    let text = match value.abs() {
        100.0.. => return grouped(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A whole number with a thin space between its thousands.
#[must_use]
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.char_indices() {
        let left = digits.len() - index;
        if index > 0 && left.is_multiple_of(3) && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes in MiB.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Seconds since 1970 as a date and a time. By days from civil, as Howard Hinnant gives it.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600, rest / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// Text as it stands in a page.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        assert_eq!(micros(148.2), "148 \u{b5}s");
        assert_eq!(micros(1_480.0), "1.48 ms");
        assert_eq!(micros(2_000_000.0), "2 s");
        assert_eq!(percentile(1.0), "0%");
        assert_eq!(percentile(10.0), "90%");
        assert_eq!(percentile(100.0), "99%");
        assert_eq!(percentile(10_000.0), "99.99%");
        assert_eq!(percentile(2.0), "50%");
        assert_eq!(grouped(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(-123.0), "-123");
        assert_eq!(utc(0), "1970-01-01 00:00");
        assert_eq!(utc(1_709_210_096), "2024-02-29 12:34");
    }
}
