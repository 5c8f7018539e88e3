//! The report of a task: as a table here, as a page and as Markdown below.

mod forecast;
mod html;
mod markdown;
mod open;
#[cfg(test)]
mod tests;

use super::args::Output;
use super::exit::Failure;
use super::render;
use super::terminal::{Terminal, printable};
use crate::client::Client;
use crate::wire::report::{Deployment, Failure as Error, Operation, Report};

pub async fn report(
    id: u64,
    in_browser: bool,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let report: Report = client.get(&format!("/v1/tasks/{id}/report")).await?;
    if in_browser {
        let page = html::page(&report).expect("a string takes any text");
        return open::open(id, &page, output, terminal).await;
    }
    if terminal.document(output, &report)? {
        return Ok(0);
    }
    let text = match output {
        Output::Html => html::page(&report),
        Output::Markdown => markdown::document(&report),
        _ => return show(&report, terminal).map(|()| 0),
    };
    terminal.raw(text.expect("a string takes any text").as_bytes())?;
    Ok(0)
}

/// All that has failed, each with its place. A service's error is often its container's: once is enough.
fn errors(report: &Report) -> Vec<(String, &Error)> {
    let mut found = Vec::new();
    for deployment in &report.deployments {
        let of_containers = deployment.operations.iter().filter_map(|operation| {
            let place = format!("{}/{}", deployment.service, operation.container);
            operation.error.as_ref().map(|error| (place, error))
        });
        let known = found.len();
        found.extend(of_containers);
        let own = deployment.error.as_ref();
        let is_new =
            |error: &&Error| found.iter().skip(known).all(|(_, known)| known.message != error.message);
        found.extend(own.filter(is_new).map(|error| (deployment.service.clone(), error)));
    }
    found
}

/// What else there is to say about a service and its containers, a line each.
fn facts(deployment: &Deployment) -> Vec<String> {
    let containers = deployment.operations.iter().filter_map(|operation| {
        let said = [releases(operation), operation.detail.clone(), settled(operation)].concat();
        (!said.is_empty()).then(|| format!("{}: {}", operation.container, said.trim()))
    });
    let notes = deployment.notes.iter().map(|note| format!("note: {note}"));
    let usual = forecast::in_words(deployment);
    artifact(deployment).into_iter().chain(containers).chain(usual).chain(notes).collect()
}

fn artifact(deployment: &Deployment) -> Option<String> {
    let artifact = deployment.artifact.as_ref()?;
    let commit = artifact.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let hash = short(&artifact.sha256);
    Some(format!("artifact {hash} ({} bytes) from {}{commit}", artifact.bytes, artifact.source))
}

/// "1 → 2 ", when a release is switched.
fn releases(operation: &Operation) -> String {
    let from = operation.from_release.as_deref().unwrap_or("none");
    operation.to_release.as_ref().map(|to| format!("{from} → {to} ")).unwrap_or_default()
}

fn settled(operation: &Operation) -> String {
    operation.settled.as_ref().map(|how| format!(" [after a crash: {how}]")).unwrap_or_default()
}

fn show(report: &Report, terminal: &mut Terminal) -> Result<(), Failure> {
    let (task, local) = (&report.task, terminal.is_terminal);
    render::head(task, terminal)?;
    let finished = task.finished_at.as_deref().map_or_else(|| "-".into(), |at| render::time(at, local));
    let took = render::duration(Some(&task.started_at), task.finished_at.as_deref());
    let by = printable(&task.created_by.user);
    terminal.line(&format!(
        "  started {} by {by}, finished {finished}, {took}",
        render::time(&task.started_at, local)
    ))?;
    let mut priority = None;
    for deployment in &report.deployments {
        if priority.replace(deployment.priority) != Some(deployment.priority) {
            terminal.line(&format!("\nBatch of priority {}", deployment.priority))?;
        }
        show_deployment(deployment, terminal)?;
    }
    Ok(())
}

fn show_deployment(deployment: &Deployment, terminal: &mut Terminal) -> Result<(), Failure> {
    let took = render::duration(deployment.started_at.as_deref(), deployment.finished_at.as_deref());
    let took = (took + &forecast::usually(deployment)).trim_start().to_string();
    let state = terminal.state(&deployment.state);
    let head = format!("{} ({}) {}", deployment.service, deployment.service_id, deployment.deployment);
    terminal.line(&format!("  {} {state} {took}", printable(&head)))?;
    if let Some(artifact) = artifact(deployment) {
        terminal.line(&printable(&format!("    {artifact}")))?;
    }
    for operation in &deployment.operations {
        let took = render::duration(operation.started_at.as_deref(), operation.finished_at.as_deref());
        let took = if operation.started_at.is_some() { took } else { String::new() };
        let text = format!(
            "    {:20} {:11} {took} {}{}{}",
            operation.container,
            operation.state,
            releases(operation),
            operation.detail,
            settled(operation)
        );
        terminal.line(&printable(text.trim_end()))?;
    }
    for note in &deployment.notes {
        terminal.line(&printable(&format!("    note: {note}")))?;
    }
    deployment.error.as_ref().map_or(Ok(()), |error| show_error(error, terminal))
}

fn show_error(error: &Error, terminal: &mut Terminal) -> Result<(), Failure> {
    terminal.line(&printable(&format!("    error {}: {}", error.code, error.message)))?;
    for line in &error.log {
        terminal.line(&format!("      | {}", printable(line)))?;
    }
    Ok(())
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
