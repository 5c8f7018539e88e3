//! An event in words.

use serde_json::Value;

use super::render;
use super::terminal::printable;
use crate::wire::event::Event;

/// One line about an event; `None` when there is nothing to say to people.
pub fn in_words(event: &Event) -> Option<String> {
    let text = |key: &str| event.details.get(key).and_then(Value::as_str).unwrap_or_default();
    let by = || event.details.get("by").and_then(|by| by.get("user")?.as_str()).unwrap_or("deployd");
    let service = || format!("{} ({})", text("service"), text("deployment"));
    let container = || format!("{}/{}", text("service"), text("container"));
    let words = match &*event.kind {
        "task.started" => {
            let count = |key: &str| event.details.get(key).and_then(Value::as_u64).unwrap_or(0);
            let services = render::count(count("deployments"), "service");
            let batches = render::count(count("batches"), "batch");
            format!("task started by {}: {services} in {batches}", by())
        }
        "task.stopRequested" => format!("{} asked to stop: {}", by(), text("state")),
        "task.cutRequested" => format!("{} asked to cut what is going on", by()),
        "deployment.cut" => format!("{} was cut", service()),
        "task.pauseRequested" => format!("{} asked to pause: {}", by(), text("state")),
        "task.resumed" => format!("resumed by {}", by()),
        "task.interrupted" => format!("interrupted: {}", text("reason")),
        "task.succeeded" | "task.failed" | "task.drained" => text("state").to_string(),
        "deployment.begun" => format!("{} begins", service()),
        "deployment.commitPinned" => format!("{}: commit {}", service(), short(text("commit"))),
        "deployment.artifactPinned" => format!("{}: artifact {}", service(), short(text("sha256"))),
        "deployment.releasePrepared" => format!("{}: release {}", service(), text("release")),
        "deployment.hookDone" => format!("{}: hook {} is done", service(), text("hook")),
        "deployment.noted" => format!("{}: {}", service(), text("note")),
        "operation.begun" => return None,
        "operation.ended" => {
            let settled = match text("settled") {
                "" => "",
                _ => " (settled after a crash)",
            };
            format!("{}: {} {}{settled}", container(), text("state"), text("detail"))
        }
        "deployment.ended" => {
            match event.details.get("error").and_then(|error| error.get("message")?.as_str()) {
                Some(message) => format!("{} FAILED: {message}", service()),
                None => format!("{} succeeded", service()),
            }
        }
        other => other.to_string(),
    };
    Some(printable(&words).replace('\n', " "))
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
