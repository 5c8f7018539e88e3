//! What the live view knows: a report, the events that came after it, and what the daemon says now and then.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::wire::event::Event;
use crate::wire::report::{Deployment, Failure, Operation, Report};
use crate::wire::task::{Task, TaskStatus, Waiting};

/// A task as far as it is known.
pub struct View {
    /// The task.
    pub task: Task,
    /// Its deployments, batch after batch.
    pub deployments: Vec<Deployment>,
    /// What those that are going on do just now, by service.
    pub waiting: HashMap<u64, Waiting>,
    /// How fast downloads are, by service.
    rates: HashMap<u64, Rate>,
    /// The last event that was taken in.
    pub last: u64,
    /// Since when the daemon does not answer.
    pub lost: Option<Timestamp>,
    places: HashMap<(i64, u64), usize>,
}

/// How fast a download is.
struct Rate {
    bytes: u64,
    at: Timestamp,
    per_second: Option<f64>,
}

/// What has to be done about an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is taken in.
    Known,
    /// The task itself has changed: its report says into what.
    ReadAnew,
}

impl View {
    /// A view that begins with a report.
    pub fn new(report: Report) -> Self {
        let mut view = Self {
            task: report.task.clone(),
            deployments: Vec::new(),
            waiting: HashMap::new(),
            rates: HashMap::new(),
            last: 0,
            lost: None,
            places: HashMap::new(),
        };
        view.renew(report);
        view
    }

    /// Takes in a report: it holds all that happened up to its last event.
    pub fn renew(&mut self, report: Report) {
        let last = report.events.last().map_or(0, |event| event.seq);
        if last < self.last {
            return;
        }
        self.last = last;
        let place = |(index, it): (usize, &Deployment)| ((it.priority, it.service_id), index);
        self.places = report.deployments.iter().enumerate().map(place).collect();
        (self.task, self.deployments) = (report.task, report.deployments);
    }

    /// Takes in an event; what is known already changes nothing.
    pub fn event(&mut self, event: &Event) -> Effect {
        self.lost = None;
        if event.seq <= self.last {
            return Effect::Known;
        }
        self.last = event.seq;
        let text = |key: &str| event.details.get(key).and_then(Value::as_str);
        if event.kind.starts_with("task.") {
            if let Some(state) = text("state") {
                self.task.state = state.to_string();
            }
            return Effect::ReadAnew;
        }
        let number = |key: &str| event.details.get(key);
        let place =
            number("priority").and_then(Value::as_i64).zip(number("serviceId").and_then(Value::as_u64));
        if let Some(&index) = place.and_then(|place| self.places.get(&place)) {
            apply(&mut self.deployments[index], event);
        }
        Effect::Known
    }

    /// Takes in what the daemon says about the task now.
    pub fn status(&mut self, status: TaskStatus, now: Timestamp) {
        self.lost = None;
        self.waiting = status.waiting_for.into_iter().map(|it| (it.service_id, it)).collect();
        self.rates.retain(|service, _| self.waiting.contains_key(service));
        for (&service, waiting) in &self.waiting {
            let download = waiting.preparation.as_ref().filter(|it| it.stage == "download");
            match download {
                Some(it) => measure(self.rates.entry(service), it.bytes, now),
                None => drop(self.rates.remove(&service)),
            }
        }
    }

    /// Bytes in a second.
    pub fn rate(&self, service: u64) -> Option<f64> {
        self.rates.get(&service)?.per_second
    }

    /// Whether the task has come to rest.
    pub fn is_resting(&self) -> bool {
        !matches!(&*self.task.state, "RUNNING" | "STOPPING" | "PAUSING")
    }
}

fn measure(rate: std::collections::hash_map::Entry<'_, u64, Rate>, bytes: u64, now: Timestamp) {
    let rate = rate.or_insert(Rate { bytes, at: now, per_second: None });
    let seconds = now.duration_since(rate.at).as_secs_f64();
    if bytes < rate.bytes {
        // It was begun anew.
        *rate = Rate { bytes, at: now, per_second: None };
    } else if seconds >= 0.2 {
        #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
        let fresh = (bytes - rate.bytes) as f64 / seconds;
        // Half of what was: a moment without a byte is no standstill.
        let per_second = rate.per_second.map_or(fresh, |before| f64::midpoint(before, fresh));
        *rate = Rate { bytes, at: now, per_second: Some(per_second) };
    }
}

fn apply(it: &mut Deployment, event: &Event) {
    let text = |key: &str| event.details.get(key).and_then(Value::as_str).map(str::to_string);
    let error = || -> Option<Failure> {
        event.details.get("error").and_then(|error| serde_json::from_value(error.clone()).ok())
    };
    match &*event.kind {
        "deployment.begun" => {
            it.state = "RUNNING".into();
            it.started_at.get_or_insert_with(|| event.at.clone());
        }
        "deployment.releasePrepared" => it.release = text("release"),
        "deployment.cut" => {
            it.state = "INTERRUPTED".into();
            turn(&mut it.operations, "RUNNING", "INTERRUPTED");
        }
        "deployment.ended" => {
            it.state = text("state").unwrap_or_default();
            it.finished_at = Some(event.at.clone());
            it.error = error();
            turn(&mut it.operations, "PENDING", "SKIPPED");
        }
        "operation.begun" | "operation.ended" => {
            let name = text("container").unwrap_or_default();
            let Some(operation) = it.operations.iter_mut().find(|at| at.container == name) else { return };
            if event.kind == "operation.begun" {
                operation.state = "RUNNING".into();
                operation.started_at.get_or_insert_with(|| event.at.clone());
                (operation.from_release, operation.to_release) = (text("fromRelease"), text("toRelease"));
            } else {
                operation.state = text("state").unwrap_or_default();
                operation.finished_at = Some(event.at.clone());
                operation.detail = text("detail").unwrap_or_default();
                operation.error = error();
            }
        }
        _ => {}
    }
}

fn turn(operations: &mut [Operation], from: &str, to: &str) {
    for operation in operations.iter_mut().filter(|operation| operation.state == from) {
        operation.state = to.into();
    }
}
