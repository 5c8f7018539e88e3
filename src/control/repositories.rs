//! The built-in repositories.

use actix_web::{HttpRequest, HttpResponse, web};
use deployctl::wire::service::{CreateRepository, Repository, RepositoryList};

use super::peer::caller;
use super::problem::Fault;
use super::{ControlState, body};
use crate::actors;

type State = web::Data<ControlState>;

/// `GET /v1/repositories`
pub async fn list(state: State) -> Result<web::Json<RepositoryList>, Fault> {
    let all = state.commander.repositories().await?;
    Ok(web::Json(RepositoryList { repositories: all.into_iter().map(repository).collect() }))
}

/// `POST /v1/repositories`
pub async fn create(state: State, request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Fault> {
    let CreateRepository { name } = body::required(body).await?;
    let created = state.commander.create_repository(name, caller(&request)?).await?;
    Ok(HttpResponse::Created().json(repository(created)))
}

/// `DELETE /v1/repositories/{name}`
pub async fn delete(
    state: State,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Fault> {
    state.commander.delete_repository(name.into_inner(), caller(&request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn repository(repository: actors::Repository) -> Repository {
    Repository { name: repository.name, path: repository.path, branches: repository.branches }
}
