//! The catalog, with what its containers are doing.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use deployctl::wire::service::{Reloaded, Service, ServiceList};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::peer::caller;
use super::problem::Fault;
use super::{ControlState, convert};
use crate::actors::Refused;
use crate::catalog::{self, ServiceId};

type State = web::Data<ControlState>;

#[derive(Deserialize)]
pub struct Lines {
    lines: Option<usize>,
}

/// `GET /v1/services`
pub async fn list(state: State) -> Result<web::Json<ServiceList>, Fault> {
    let catalog = state.commander.catalog();
    let services = try_join_all(catalog.services().map(|service| view(&state, service))).await?;
    Ok(web::Json(ServiceList { services }))
}

/// `GET /v1/services/{id}`
pub async fn show(state: State, id: web::Path<String>) -> Result<web::Json<Service>, Fault> {
    let service = find(&state, &id)?;
    Ok(web::Json(view(&state, &service).await?))
}

/// `GET /v1/services/{id}/logs`
pub async fn logs(
    state: State,
    id: web::Path<String>,
    query: web::Query<Lines>,
) -> Result<HttpResponse, Fault> {
    let service = find(&state, &id)?;
    let lines = query.lines.unwrap_or(100).min(10_000);
    let lines = state.commander.service_logs(service.id, lines).await?;
    let lines: Vec<_> = lines.into_iter().map(|(container, line)| format!("{container}: {line}\n")).collect();
    let text = lines.concat();
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}

/// `POST /v1/services/reload`
pub async fn reload(state: State, request: HttpRequest) -> Result<web::Json<Reloaded>, Fault> {
    let done = state.commander.reload(Some(caller(&request)?)).await?;
    let services = done.services as u64;
    Ok(web::Json(Reloaded { services, added: done.added, changed: done.changed, removed: done.removed }))
}

pub fn find(state: &State, id: &str) -> Result<Arc<catalog::Service>, Fault> {
    let catalog = state.commander.catalog();
    let by_id = id.parse().ok().and_then(ServiceId::new).and_then(|id| catalog.get(id));
    let found = by_id.or_else(|| catalog.by_name(id)).cloned();
    Ok(found.ok_or_else(|| Refused::NoSuchService(id.escape_debug().to_string()))?)
}

async fn view(state: &State, service: &catalog::Service) -> Result<Service, Fault> {
    let containers = state.commander.containers(service.id).await?;
    let task = state.commander.holder(service.id);
    Ok(convert::service(service, containers, task))
}
