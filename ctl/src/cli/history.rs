//! `deployctl history`

use super::exit::Failure;
use super::plans::escape;
use super::session::Session;
use crate::view::time;
use crate::wire::history::{Entry, History};

pub async fn history(
    service: Option<&str>,
    user: Option<&str>,
    limit: usize,
    session: &mut Session<'_>,
) -> Result<u8, Failure> {
    let filter = |name: &str, value: Option<&str>| {
        value.map(|value| format!("&{name}={}", escape(value))).unwrap_or_default()
    };
    let (service, user) = (filter("service", service), filter("user", user));
    let history: History = session.client.get(&format!("/v1/history?limit={limit}{service}{user}")).await?;
    if session.terminal.document(session.output, &history)? {
        return Ok(0);
    }
    let local = session.terminal.is_terminal;
    let row = |entry: &Entry| {
        vec![
            time::time(&entry.at, local),
            entry.service.clone().unwrap_or_else(|| entry.service_id.to_string()),
            entry.container.clone(),
            entry.deployment.clone(),
            entry.state.to_string(),
            entry.from_release.clone().unwrap_or_else(|| "-".into()),
            entry.release.clone().unwrap_or_else(|| "-".into()),
            entry.task.to_string(),
            entry.user.clone(),
        ]
    };
    let rows = history.changes.iter().map(row).collect();
    let header = ["AT", "SERVICE", "CONTAINER", "DEPLOYMENT", "STATE", "BEFORE", "RELEASE", "TASK", "BY"];
    session.terminal.table(&header, rows)?;
    Ok(0)
}
