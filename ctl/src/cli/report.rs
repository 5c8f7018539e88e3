//! The report of a task, as a table.

use super::args::Output;
use super::exit::Failure;
use super::render;
use super::terminal::{Terminal, printable};
use crate::client::Client;
use crate::wire::report::{Deployment, Failure as Error, Report};

pub async fn report(
    id: u64,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let report: Report = client.get(&format!("/v1/tasks/{id}/report")).await?;
    if !terminal.document(output, &report)? {
        show(&report, terminal)?;
    }
    Ok(0)
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
    let state = terminal.state(&deployment.state);
    let head = format!("{} ({}) {}", deployment.service, deployment.service_id, deployment.deployment);
    terminal.line(&format!("  {} {state} {took}", printable(&head)))?;
    if let Some(artifact) = &deployment.artifact {
        let commit =
            artifact.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
        let text = format!(
            "    artifact {} ({} bytes) from {}{commit}",
            short(&artifact.sha256),
            artifact.bytes,
            artifact.source
        );
        terminal.line(&printable(&text))?;
    }
    for operation in &deployment.operations {
        let took = render::duration(operation.started_at.as_deref(), operation.finished_at.as_deref());
        let took = if operation.started_at.is_some() { took } else { String::new() };
        let releases = match (&operation.from_release, &operation.to_release) {
            (_, None) => String::new(),
            (from, Some(to)) => format!(" {} → {to}", from.as_deref().unwrap_or("none")),
        };
        let settled =
            operation.settled.as_ref().map(|how| format!(" [after a crash: {how}]")).unwrap_or_default();
        let text = format!(
            "    {:20} {:11} {took}{releases} {}{settled}",
            operation.container, operation.state, operation.detail
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
