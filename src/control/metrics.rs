//! What a Prometheus reads.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;

use super::ControlState;
use super::problem::Fault;
use crate::clock;
use crate::metrics::Seen;
use crate::task::state::TaskState;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Containers that take longer to look at, because systemd or an engine does not answer, are left out.
const LOOK: Duration = Duration::from_secs(5);

/// How many containers each service has in each state.
async fn containers(state: &ControlState) -> BTreeMap<(String, &'static str), u64> {
    let catalog = state.commander.catalog();
    let looks = catalog.services().map(async |service| {
        let found = state.commander.containers(service.id).await.unwrap_or_default();
        found.into_iter().map(|container| (service.name.clone(), container.state)).collect::<Vec<_>>()
    });
    let mut counts = BTreeMap::new();
    for key in join_all(looks).await.into_iter().flatten() {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

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
        containers: tokio::time::timeout(LOOK, containers(&state)).await.ok(),
    };
    let text = state.store.metrics().text(&seen).expect("a string takes any text");
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(text))
}
