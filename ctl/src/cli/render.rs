//! Small pieces of text that several commands show.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::terminal::{Terminal, printable};
use crate::wire::problem::{Difference, PlanError};
use crate::wire::task::Task;

/// A moment, in local time on a terminal.
pub fn time(text: &str, local: bool) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) if local => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Ok(at) => format!("{at:.0}"),
        Err(_) => text.to_string(),
    }
}

/// The time of day, in local time on a terminal.
pub fn clock(text: &str, local: bool) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) if local => at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Ok(at) => format!("{at:.3}"),
        Err(_) => text.to_string(),
    }
}

/// The first lines about a task: what it is, its state, its comment.
pub fn head(task: &Task, terminal: &mut Terminal) -> std::io::Result<()> {
    let reason = task.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (plan, state) = (printable(&task.plan), terminal.state(&task.state));
    terminal.line(&format!("Task {} · {plan}@{} · {state}{reason}", task.id, task.revision))?;
    match &task.comment {
        Some(comment) => terminal.line(&format!("  {}", printable(comment))),
        None => Ok(()),
    }
}

/// From one moment to another, or until now.
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

/// Milliseconds, as long as they are worth.
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

/// "1 service", "2 services", "1 batch", "2 batches".
pub fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with("ch") => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

/// "3/5" of a task's services.
pub fn progress(task: &Task) -> String {
    let counts = &task.progress.deployments;
    format!("{}/{}", counts.succeeded, counts.total)
}

/// A difference in one line.
pub fn difference(it: &Difference) -> String {
    let by = match (it.task, &it.user) {
        (Some(task), user) => format!("by task {task} of {}", user.as_deref().unwrap_or("?")),
        (None, _) => "by hand".into(),
    };
    let place = format!("{}/{}", it.service, it.container);
    format!("  {place:20} {:12} {} → {}  {by}", it.what, it.expected, it.found)
}

/// A mistake in one line.
pub fn mistake(file: &str, error: &PlanError) -> String {
    let path = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
    let suggestion = error.suggestion.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
    printable(&format!("{file}:{}:{}: {path}{}{suggestion}", error.line, error.column, error.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many() {
        assert_eq!(count(1, "batch"), "1 batch");
        assert_eq!(count(0, "batch"), "0 batches");
        assert_eq!(count(5, "service"), "5 services");
    }

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
