//! The catalog, the repositories, the daemon itself.

use hyper::Method;

use super::args::{Output, RepoCommand, ServiceCommand};
use super::exit::Failure;
use super::import::import;
use super::plans::escape;
use super::render;
use super::tasks::copy;
use super::terminal::{Terminal, printable};
use crate::client::Client;
use crate::wire::Info;
use crate::wire::service::{CreateRepository, Reloaded, Repository, RepositoryList, Service, ServiceList};

pub async fn service(
    command: ServiceCommand,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    match command {
        ServiceCommand::List => {
            let list: ServiceList = client.get("/v1/services").await?;
            if !terminal.document(output, &list)? {
                let rows = list.services.iter().map(summary).collect();
                terminal.table(&["ID", "NAME", "RUNTIME", "UP", "TASK", "DESCRIPTION"], rows)?;
            }
        }
        ServiceCommand::Show { service } => {
            let service: Service = client.get(&format!("/v1/services/{}", escape(&service))).await?;
            if !terminal.document(output, &service)? {
                show(&service, terminal)?;
            }
        }
        ServiceCommand::Logs { service, lines } => {
            let path = format!("/v1/services/{}/logs?lines={lines}", escape(&service));
            return copy(client.text(&path).await?, output, terminal).await;
        }
        ServiceCommand::Import(arguments) => return import(&arguments, output, terminal),
        ServiceCommand::Reload => {
            let done: Reloaded = client.call(Method::POST, "/v1/services/reload", Vec::new()).await?;
            if !terminal.document(output, &done)? {
                let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
                let (added, changed, removed) = (list(&done.added), list(&done.changed), list(&done.removed));
                let services = render::count(done.services, "service");
                let text = format!("{services}; new: {added}; changed: {changed}; gone: {removed}");
                terminal.line(&printable(&text))?;
            }
        }
    }
    Ok(0)
}

fn summary(service: &Service) -> Vec<String> {
    let up = service.containers.iter().filter(|container| container.state == "running").count();
    vec![
        service.service_id.to_string(),
        service.name.clone(),
        service.runtime.clone(),
        format!("{up}/{}", service.containers.len()),
        service.task.map(|task| task.to_string()).unwrap_or_default(),
        service.description.clone().unwrap_or_default(),
    ]
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
            container.state.clone(),
            container.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            container.since.as_deref().map(|since| render::time(since, local)).unwrap_or_default(),
            container.release.clone().unwrap_or_default(),
            container.labels.join(","),
            container.detail.clone(),
        ]
    });
    let rows = rows.collect();
    terminal.table(&["CONTAINER", "STATE", "PID", "SINCE", "RELEASE", "LABELS", "DETAIL"], rows)?;
    Ok(())
}

pub async fn repo(
    command: RepoCommand,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    match command {
        RepoCommand::Create { name } => {
            let created: Repository = client.post("/v1/repositories", &CreateRepository { name }).await?;
            if !terminal.document(output, &created)? {
                terminal.line(&printable(&created.path))?;
                terminal.note(&printable(&format!("push to it:  git push {} main", created.path)));
            }
        }
        RepoCommand::List => {
            let list: RepositoryList = client.get("/v1/repositories").await?;
            if !terminal.document(output, &list)? {
                let row =
                    |repo: &Repository| vec![repo.name.clone(), repo.path.clone(), repo.branches.join(", ")];
                terminal.table(
                    &["REPOSITORY", "PATH", "BRANCHES"],
                    list.repositories.iter().map(row).collect(),
                )?;
            }
        }
        RepoCommand::Delete { name } => {
            client.bytes(Method::DELETE, &format!("/v1/repositories/{}", escape(&name)), Vec::new()).await?;
            terminal.document(output, &serde_json::json!({ "repository": name, "deleted": true }))?;
        }
    }
    Ok(0)
}

pub async fn info(client: &Client, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    let info: Info = client.get("/v1/info").await?;
    if terminal.document(output, &info)? {
        return Ok(0);
    }
    let since = render::time(&info.started_at, terminal.is_terminal);
    terminal.line(&format!("deployd {} (process {}), up since {since}", info.version, info.pid))?;
    let c = info.counts;
    let (services, plans) = (render::count(c.services, "service"), render::count(c.plans, "plan"));
    let tasks = render::count(c.tasks, "task");
    terminal.line(&format!("  {services}, {plans}, {tasks}, {} of them active", c.active))?;
    terminal.line(&printable(&format!("  you are {} ({})", info.caller.user, info.role)))?;
    Ok(0)
}
