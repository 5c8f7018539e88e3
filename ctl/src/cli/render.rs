//! Small pieces of text that several commands show.

use super::terminal::Terminal;
use crate::view::text::printable;
use crate::wire::problem::{Difference, PlanError};
use crate::wire::task::Task;

/// The first lines about a task: what it is, its state, its comment.
pub fn head(task: &Task, terminal: &mut Terminal) -> std::io::Result<()> {
    let reason = task.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (plan, state) = (printable(&task.plan), terminal.state(&task.state));
    terminal.line(&format!("Task {} · {plan}@{} · {state}{reason}", task.id, task.revision))?;
    match &task.comment {
        Some(comment) => terminal.line(&format!("  {}", printable(comment))),
        None => Ok(()),
    }
}

/// A difference in one line.
pub fn difference(it: &Difference) -> String {
    let by = match (it.task, &it.user) {
        (Some(task), user) => format!("by task {task} of {}", user.as_deref().unwrap_or("?")),
        (None, _) => "by hand".into(),
    };
    let place = format!("{}/{}", it.service, it.container);
    format!("  {place:20} {:12} {} → {}  {by}", it.what, it.expected, it.found)
}

/// A mistake in one line.
pub fn mistake(file: &str, error: &PlanError) -> String {
    let path = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
    let suggestion = error.suggestion.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
    printable(&format!("{file}:{}:{}: {path}{}{suggestion}", error.line, error.column, error.message))
}
