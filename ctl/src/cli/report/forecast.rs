//! What was usual when a task began, against what it came to.

use jiff::Timestamp;

use super::super::render;
use crate::wire::report::{Deployment, Report};

/// How long a deployment took, in milliseconds; `None` while it goes on.
pub fn took(it: &Deployment) -> Option<u64> {
    between(it.started_at.as_deref()?, it.finished_at.as_deref()?)
}

fn between(from: &str, to: &str) -> Option<u64> {
    let (from, to): (Timestamp, Timestamp) = (from.parse().ok()?, to.parse().ok()?);
    u64::try_from(to.duration_since(from).as_millis()).ok()
}

/// " (usually 3.0 s)"
pub fn usually(it: &Deployment) -> String {
    it.usual.map(|usual| format!(" (usually {})", render::millis(usual.p50))).unwrap_or_default()
}

/// One sentence about a deployment; `None` when it was never seen before.
pub fn in_words(it: &Deployment) -> Option<String> {
    let usual = it.usual?;
    let (half, most) = (render::millis(usual.p50), render::millis(usual.p90));
    let seen =
        format!("usually {half}, 9 of 10 times within {most} ({} seen before this task)", usual.samples);
    let came = took(it).map(|took| format!("; it took {}", against(took, usual.p50))).unwrap_or_default();
    Some(seen + &came)
}

/// "4.0 s, 1.0 s more"
fn against(took: u64, usual: u64) -> String {
    let (whole, apart) = (render::millis(took), render::millis(took.abs_diff(usual)));
    match took.cmp(&usual) {
        std::cmp::Ordering::Greater => format!("{whole}, {apart} more"),
        std::cmp::Ordering::Less => format!("{whole}, {apart} less"),
        std::cmp::Ordering::Equal => format!("{whole}, as usual"),
    }
}

/// The whole task: the longest of each batch after one another, as far as all of them were seen before.
pub fn whole(report: &Report) -> Option<String> {
    let mut expected = 0;
    for batch in report.deployments.chunk_by(|a, b| a.priority == b.priority) {
        let usual: Option<Vec<u64>> = batch.iter().map(|it| it.usual.map(|usual| usual.p50)).collect();
        expected += usual?.into_iter().max().unwrap_or(0);
    }
    let begun = &report.task.started_at;
    let took = report.task.finished_at.as_deref().and_then(|end| between(begun, end));
    let is_whole = report.deployments.iter().all(|it| it.state == "SUCCEEDED");
    let came = took.filter(|_| is_whole).map(|took| format!("; it took {}", against(took, expected)));
    Some(format!(
        "{} by the slowest of each batch, as known when it began{}",
        render::millis(expected),
        came.unwrap_or_default()
    ))
}
