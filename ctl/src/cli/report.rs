//! The report of a task: as a table here, as a page and as Markdown below.

mod markdown;
mod open;
#[cfg(test)]
mod tests;

use super::args::Output;
use super::exit::Failure;
use super::render;
use super::session::Session;
use super::terminal::Terminal;
use crate::page::report_file;
use crate::view::forecast;
use crate::view::report::{artifact, releases, remarks};
use crate::view::text::printable;
use crate::view::time;
use crate::wire::report::{Deployment, Failure as Error, Report};

pub async fn report(id: u64, in_browser: bool, session: &mut Session<'_>) -> Result<u8, Failure> {
    let report: Report = session.client.get(&format!("/v1/tasks/{id}/report")).await?;
    if in_browser {
        let page = report_file(&report);
        return open::open(id, &page, session.output, session.terminal).await;
    }
    if session.terminal.document(session.output, &report)? {
        return Ok(0);
    }
    let text = match session.output {
        Output::Html => Ok(report_file(&report)),
        Output::Markdown => markdown::document(&report),
        _ => return show(&report, session.terminal).map(|()| 0),
    };
    session.terminal.raw(text.expect("a string takes any text").as_bytes())?;
    Ok(0)
}

fn show(report: &Report, terminal: &mut Terminal) -> Result<(), Failure> {
    let (task, local) = (&report.task, terminal.is_terminal);
    render::head(task, terminal)?;
    let finished = task.finished_at.as_deref().map_or_else(|| "-".into(), |at| time::time(at, local));
    let took = time::duration(Some(&task.started_at), task.finished_at.as_deref());
    let by = printable(&task.created_by.user);
    terminal.line(&format!(
        "  started {} by {by}, finished {finished}, {took}",
        time::time(&task.started_at, local)
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
    let took = time::duration(deployment.started_at.as_deref(), deployment.finished_at.as_deref());
    let took = (took + &forecast::usually(deployment)).trim_start().to_string();
    let state = terminal.state(&deployment.state);
    let head = format!("{} ({}) {}", deployment.service, deployment.service_id, deployment.deployment);
    terminal.line(&format!("  {} {state} {took}", printable(&head)))?;
    if let Some(artifact) = artifact(deployment) {
        terminal.line(&printable(&format!("    {artifact}")))?;
    }
    for operation in &deployment.operations {
        let took = time::duration(operation.started_at.as_deref(), operation.finished_at.as_deref());
        let took = if operation.started_at.is_some() { took } else { String::new() };
        let text = format!(
            "    {:20} {:11} {took} {}{}{}",
            operation.container,
            operation.state,
            releases(operation),
            operation.detail,
            remarks(operation)
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
