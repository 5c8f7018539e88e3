//! What a Prometheus reads.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::ControlState;
use super::problem::Fault;
use crate::clock;
use crate::metrics::Seen;
use crate::task::state::TaskState;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub async fn metrics(state: web::Data<ControlState>) -> Result<HttpResponse, Fault> {
    let snapshot = state.store.snapshot()?;
    let states = snapshot.states()?;
    let open = snapshot.open_summaries()?;
    let drains = open.iter().filter(|task| matches!(task.state, TaskState::Stopping | TaskState::Pausing));
    let since = drains.map(|task| task.changed_at).min();
    let age = since.map_or(0, |since| u64::try_from(clock::now().0 - since.0).unwrap_or(0));
    let active = states.iter().filter(|(state, _)| state.is_active()).map(|(_, count)| count).sum();
    let seen = Seen {
        tasks: states.iter().map(|(state, count)| (state.name(), *count)).collect(),
        active,
        oldest_drain: Duration::from_micros(age),
        artifact_bytes: state.commander.artifact_bytes().await?,
    };
    let text = state.store.metrics().text(&seen).expect("a string takes any text");
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(text))
}
