//! The catalog, the repositories, the daemon itself.

use hyper::Method;

use super::args::{RepoCommand, ServiceCommand};
use super::exit::Failure;
use super::import::import;
use super::plans::escape;
use super::session::Session;
use super::tasks::copy;
use super::terminal::Terminal;
use crate::view::text::printable;
use crate::view::{text, time};
use crate::wire::Info;
use crate::wire::service::{CreateRepository, Reloaded, Repository, RepositoryList, Service, ServiceList};
use crate::wire::words::ContainerState;

pub async fn service(command: ServiceCommand, session: &mut Session<'_>) -> Result<u8, Failure> {
    match command {
        ServiceCommand::List => {
            let list: ServiceList = session.client.get("/v1/services").await?;
            if !session.terminal.document(session.output, &list)? {
                let rows = list.services.iter().map(summary).collect();
                session.terminal.table(&["ID", "NAME", "RUNTIME", "UP", "TASK", "DESCRIPTION"], rows)?;
            }
        }
        ServiceCommand::Show { service } => {
            let service: Service = session.client.get(&format!("/v1/services/{}", escape(&service))).await?;
            if !session.terminal.document(session.output, &service)? {
                show(&service, session.terminal)?;
            }
        }
        ServiceCommand::Logs { service, lines } => {
            let path = format!("/v1/services/{}/logs?lines={lines}", escape(&service));
            return copy(session.client.text(&path).await?, session.output, session.terminal).await;
        }
        ServiceCommand::Import(arguments) => return import(&arguments, session.output, session.terminal),
        ServiceCommand::Reload => {
            let done: Reloaded = session.client.call(Method::POST, "/v1/services/reload", Vec::new()).await?;
            if !session.terminal.document(session.output, &done)? {
                let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
                let (added, changed, removed) = (list(&done.added), list(&done.changed), list(&done.removed));
                let services = text::count(done.services, "service");
                let text = format!("{services}; new: {added}; changed: {changed}; gone: {removed}");
                session.terminal.line(&printable(&text))?;
            }
        }
    }
    Ok(0)
}

fn summary(service: &Service) -> Vec<String> {
    vec![
        service.service_id.to_string(),
        service.name.clone(),
        service.runtime.clone(),
        up(service),
        service.task.map(|task| task.to_string()).unwrap_or_default(),
        service.description.clone().unwrap_or_default(),
    ]
}

/// How many containers run, and what is going on in the others: `1/3 (2 restarting)`.
fn up(service: &Service) -> String {
    let count = |state| service.containers.iter().filter(|container| container.state == state).count();
    let going_on = ContainerState::ALL.iter().filter(|state| state.is_between());
    let others: Vec<_> = going_on
        .map(|state| (count(state.clone()), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let up = format!("{}/{}", count(ContainerState::Running), service.containers.len());
    if others.is_empty() { up } else { format!("{up} ({})", others.join(", ")) }
}

fn show(service: &Service, terminal: &mut Terminal) -> Result<(), Failure> {
    let description = service.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    terminal.line(&printable(&format!("{} ({}){description}", service.name, service.service_id)))?;
    if let Some(task) = service.task {
        terminal.line(&format!("  is being released by task {task}"))?;
    }
    let local = terminal.is_terminal;
    let rows = service.containers.iter().map(|container| {
        vec![
            container.name.clone(),
            container.state.to_string(),
            container.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            container.since.as_deref().map(|since| time::time(since, local)).unwrap_or_default(),
            container.release.clone().unwrap_or_default(),
            container.labels.join(","),
            container.detail.clone(),
        ]
    });
    let rows = rows.collect();
    terminal.table(&["CONTAINER", "STATE", "PID", "SINCE", "RELEASE", "LABELS", "DETAIL"], rows)?;
    Ok(())
}

pub async fn repo(command: RepoCommand, session: &mut Session<'_>) -> Result<u8, Failure> {
    match command {
        RepoCommand::Create { name } => {
            let created: Repository =
                session.client.post("/v1/repositories", &CreateRepository { name }).await?;
            if !session.terminal.document(session.output, &created)? {
                session.terminal.line(&printable(&created.path))?;
                session.terminal.note(&printable(&format!("push to it:  {}", created.push)));
            }
        }
        RepoCommand::List => {
            let list: RepositoryList = session.client.get("/v1/repositories").await?;
            if !session.terminal.document(session.output, &list)? {
                let row =
                    |repo: &Repository| vec![repo.name.clone(), repo.path.clone(), repo.branches.join(", ")];
                session.terminal.table(
                    &["REPOSITORY", "PATH", "BRANCHES"],
                    list.repositories.iter().map(row).collect(),
                )?;
            }
        }
        RepoCommand::Delete { name } => {
            session
                .client
                .bytes(Method::DELETE, &format!("/v1/repositories/{}", escape(&name)), Vec::new())
                .await?;
            session
                .terminal
                .document(session.output, &serde_json::json!({ "repository": name, "deleted": true }))?;
        }
    }
    Ok(0)
}

pub async fn info(session: &mut Session<'_>) -> Result<u8, Failure> {
    let info: Info = session.client.get("/v1/info").await?;
    if session.terminal.document(session.output, &info)? {
        return Ok(0);
    }
    let since = time::time(&info.started_at, session.terminal.is_terminal);
    session.terminal.line(&format!("deployd {} (process {}), up since {since}", info.version, info.pid))?;
    let c = info.counts;
    let (services, plans) = (text::count(c.services, "service"), text::count(c.plans, "plan"));
    let tasks = text::count(c.tasks, "task");
    session.terminal.line(&format!("  {services}, {plans}, {tasks}, {} of them active", c.active))?;
    let whose = format!("  instance {}, epoch {}", info.instance, info.epoch);
    session.terminal.line(&printable(&whose))?;
    session.terminal.line(&printable(&format!("  you are {} ({})", info.caller.user, info.role)))?;
    Ok(0)
}
