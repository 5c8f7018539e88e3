//! Moments and durations as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment, in local time when `local`.
pub fn time(text: &str, local: bool) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) if local => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Ok(at) => format!("{at:.0}"),
        Err(_) => text.to_string(),
    }
}

/// The time of day, in local time when `local`.
pub fn clock(text: &str, local: bool) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) if local => at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Ok(at) => format!("{at:.3}"),
        Err(_) => text.to_string(),
    }
}

/// From one moment to another, or until now; empty when nothing has begun.
pub fn duration(from: Option<&str>, to: Option<&str>) -> String {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    let Some(from) = from.and_then(parse) else { return String::new() };
    let to = match to {
        Some(to) => parse(to),
        None => Some(Timestamp::now()),
    };
    let Some(to) = to else { return String::new() };
    span(to.duration_since(from).as_secs_f64().max(0.0))
}

/// From one moment to another; empty until the second one has come.
pub fn took(from: Option<&str>, to: Option<&str>) -> String {
    to.map(|to| duration(from, Some(to))).unwrap_or_default()
}

/// Milliseconds, with as many digits as they are worth.
pub fn millis(millis: u64) -> String {
    span(std::time::Duration::from_millis(millis).as_secs_f64())
}

fn span(seconds: f64) -> String {
    if seconds < 0.1 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and whole seconds are meant"
    )]
    let whole = seconds as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_long_as_they_are_worth() {
        let from = Some("2026-01-01T00:00:00Z");
        let cases = [
            ("2026-01-01T00:00:00.0123Z", "12 ms"),
            ("2026-01-01T00:00:01.26Z", "1.3 s"),
            ("2026-01-01T00:01:05Z", "1 min 5 s"),
            ("2026-01-01T02:03:04Z", "2 h 3 min"),
        ];
        for (to, expected) in cases {
            assert_eq!(duration(from, Some(to)), expected);
        }
        assert_eq!(duration(None, None), "");
    }
}
