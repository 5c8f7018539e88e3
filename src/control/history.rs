//! Who did what: which release ran where, since when, by which task, by whom.

use actix_web::web;
use deployctl::wire::history::{Entry, History};
use serde::Deserialize;

use super::problem::Fault;
use super::{ControlState, convert, services};

/// A page of the list.
const PAGE: usize = 100;
const MAX_PAGE: usize = 10_000;

#[derive(Deserialize)]
pub struct Filter {
    service: Option<String>,
    user: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/history`
pub async fn list(
    state: web::Data<ControlState>,
    filter: web::Query<Filter>,
) -> Result<web::Json<History>, Fault> {
    let limit = filter.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let (snapshot, catalog) = (state.store.snapshot()?, state.commander.catalog());
    let wanted = match &filter.service {
        Some(service) => vec![services::find(&state, service)?.id],
        None => snapshot.changed_services()?,
    };
    let mut found = Vec::new();
    for service in wanted {
        let by_user = |user: &str| filter.user.as_deref().is_none_or(|wanted| wanted == user);
        found.extend(snapshot.changes(service)?.into_iter().filter(|(_, it)| by_user(&it.user)).take(limit));
    }
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    found.truncate(limit);
    let entry = |(seq, change): (u64, crate::task::record::ContainerChange)| Entry {
        seq,
        at: convert::time(change.at),
        service_id: change.service.get(),
        service: catalog.get(change.service).map(|service| service.name.clone()),
        container: change.container,
        deployment: change.way,
        state: if change.done { "SUCCEEDED" } else { "FAILED" }.into(),
        from_release: change.from_release,
        release: change.release,
        task: change.task.0,
        user: change.user,
    };
    Ok(web::Json(History { changes: found.into_iter().map(entry).collect() }))
}
