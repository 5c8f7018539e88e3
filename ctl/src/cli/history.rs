//! `deployctl history`

use super::args::Output;
use super::exit::Failure;
use super::plans::escape;
use super::render;
use super::terminal::Terminal;
use crate::client::Client;
use crate::wire::history::{Entry, History};

pub async fn history(
    service: Option<&str>,
    user: Option<&str>,
    limit: usize,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let filter = |name: &str, value: Option<&str>| {
        value.map(|value| format!("&{name}={}", escape(value))).unwrap_or_default()
    };
    let (service, user) = (filter("service", service), filter("user", user));
    let history: History = client.get(&format!("/v1/history?limit={limit}{service}{user}")).await?;
    if terminal.document(output, &history)? {
        return Ok(0);
    }
    let local = terminal.is_terminal;
    let row = |entry: &Entry| {
        vec![
            render::time(&entry.at, local),
            entry.service.clone().unwrap_or_else(|| entry.service_id.to_string()),
            entry.container.clone(),
            entry.deployment.clone(),
            entry.state.clone(),
            entry.from_release.clone().unwrap_or_else(|| "-".into()),
            entry.release.clone().unwrap_or_else(|| "-".into()),
            entry.task.to_string(),
            entry.user.clone(),
        ]
    };
    let rows = history.changes.iter().map(row).collect();
    let header = ["AT", "SERVICE", "CONTAINER", "DEPLOYMENT", "STATE", "BEFORE", "RELEASE", "TASK", "BY"];
    terminal.table(&header, rows)?;
    Ok(0)
}
