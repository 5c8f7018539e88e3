//! The time that a picture of a task shows, and where moments lie in it.

use jiff::Timestamp;

use crate::wire::report::{Deployment, Report};

/// A span of time as a line from 0 to 100.
pub struct Scale {
    from: Timestamp,
    to: Timestamp,
}

/// A piece of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Where it begins, in percent.
    pub left: f64,
    /// How long it is, in percent.
    pub width: f64,
}

impl Scale {
    /// From the task's start to its end, or to its last event while it runs.
    pub fn of(report: &Report) -> Option<Self> {
        let end = report.task.finished_at.as_deref().or_else(|| last(report))?;
        let (from, to): (Timestamp, Timestamp) = (report.task.started_at.parse().ok()?, end.parse().ok()?);
        // Show a forecast that lies a little later than the end, too.
        let marks = report.deployments.iter().filter_map(|it| Some(usual_ends(it)?.1));
        let edge = to + to.duration_since(from) / 4;
        let to = marks.filter(|mark| *mark <= edge).fold(to, Timestamp::max);
        Some(Self { from, to })
    }

    /// Where a moment lies, in percent.
    pub fn place(&self, at: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64();
        let share = at.duration_since(self.from).as_secs_f64() / whole;
        if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 }
    }

    /// Whether the line is long enough to show a moment.
    pub fn shows(&self, at: Timestamp) -> bool {
        at <= self.to
    }

    /// What has not ended reaches to the edge; `None` when nothing has begun.
    pub fn bar(&self, from: Option<&str>, to: Option<&str>) -> Option<Bar> {
        let from = from?.parse().ok()?;
        let to = to.and_then(|at| at.parse().ok()).unwrap_or(self.to);
        let (left, right) = (self.place(from), self.place(to));
        Some(Bar { left, width: (right - left).max(0.0) })
    }

    /// How far the quarters lie from the start, in milliseconds.
    pub fn quarters(&self) -> [u64; 4] {
        let whole = self.to.duration_since(self.from);
        [0, 1, 2, 3].map(|quarter| u64::try_from((whole * quarter / 4).as_millis()).unwrap_or(0))
    }
}

/// The last moment that the report knows.
pub fn last(report: &Report) -> Option<&str> {
    report.events.last().map(|event| &*event.at)
}

/// When a deployment should have ended: the median and the 90th percentile of earlier runs.
pub fn usual_ends(it: &Deployment) -> Option<(Timestamp, Timestamp)> {
    let (usual, begun) = (it.usual?, it.started_at.as_deref()?.parse::<Timestamp>().ok()?);
    let after = |millis: u64| Some(begun + jiff::SignedDuration::from_millis(i64::try_from(millis).ok()?));
    after(usual.p50).zip(after(usual.p90))
}
