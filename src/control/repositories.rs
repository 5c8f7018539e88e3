//! The built-in repositories.

use actix_web::{HttpRequest, HttpResponse, web};
use deployctl::wire::service::{CreateRepository, Repository, RepositoryList};

use super::peer::{Peer, Role, caller};
use super::problem::Fault;
use super::{ControlState, body};
use crate::actors;

type State = web::Data<ControlState>;

/// `GET /v1/repositories`
pub async fn list(state: State, request: HttpRequest) -> Result<web::Json<RepositoryList>, Fault> {
    let all = state.commander.repositories().await?;
    let repositories = all.into_iter().map(|it| repository(it, &request)).collect();
    Ok(web::Json(RepositoryList { repositories }))
}

/// `POST /v1/repositories`
pub async fn create(state: State, request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Fault> {
    let CreateRepository { name } = body::required(body).await?;
    let created = state.commander.create_repository(name, caller(&request)?).await?;
    Ok(HttpResponse::Created().json(repository(created, &request)))
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

fn repository(repository: actors::Repository, request: &HttpRequest) -> Repository {
    let actors::Repository { name, path, branches, takes_pushes } = repository;
    let role = request.conn_data::<Peer>().and_then(|peer| peer.role);
    let push = if takes_pushes || role == Some(Role::Admin) {
        format!("git push {path} main")
    } else {
        format!("git -c core.gitProxy=deployctl push git://deployd/{name}.git main")
    };
    Repository { name, path, branches, push }
}
