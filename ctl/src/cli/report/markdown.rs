//! The report as Markdown, for tickets and chats.

use std::fmt::{self, Write};

use super::super::{event, render, terminal::printable};
use crate::wire::report::{Deployment, Failure, Report};

/// Text from outside, on one line: nothing in it is markup.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in printable(self.0).chars() {
            match c {
                '\n' => to.write_char(' ')?,
                '<' => to.write_str("&lt;")?,
                '&' => to.write_str("&amp;")?,
                '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '>' => write!(to, "\\{c}")?,
                c => to.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The document.
pub fn document(report: &Report) -> Result<String, fmt::Error> {
    let mut to = String::new();
    let task = &report.task;
    let reason = task.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (plan, state) = (Text(&task.plan), Text(&task.state));
    writeln!(to, "# Task {} · {plan}@{} · {state}{}\n", task.id, task.revision, Text(&reason))?;
    if let Some(comment) = &task.comment {
        writeln!(to, "{}\n", Text(comment))?;
    }
    let finished = task.finished_at.as_deref().map_or("-".into(), |at| render::time(at, false));
    let (by, started) = (Text(&task.created_by.user), render::time(&task.started_at, false));
    let (started, finished) = (Text(&started), Text(&finished));
    writeln!(to, "Started {started} by {by}, finished {finished}; services {}.", render::progress(task))?;
    for batch in report.deployments.chunk_by(|a, b| a.priority == b.priority) {
        table(batch, &mut to)?;
    }
    errors(report, &mut to)?;
    writeln!(to, "\n## Events\n")?;
    for it in &report.events {
        if let Some(words) = event::in_words(it) {
            writeln!(to, "- {} {}", Text(&render::clock(&it.at, false)), Text(&words))?;
        }
    }
    Ok(to)
}

fn table(batch: &[Deployment], to: &mut String) -> fmt::Result {
    let priority = batch.first().map_or(0, |it| it.priority);
    writeln!(to, "\n## Batch of priority {priority}\n")?;
    writeln!(
        to,
        "| service | deployment | container | state | took | from | to |\n|---|---|---|---|---|---|---|"
    )?;
    for it in batch {
        let took = took(it.started_at.as_deref(), it.finished_at.as_deref()) + &super::forecast::usually(it);
        let (service, way, state) = (Text(&it.service), Text(&it.deployment), Text(&it.state));
        writeln!(to, "| **{service}** ({}) | {way} | | {state} | {took} | | |", it.service_id)?;
        for at in &it.operations {
            let took = self::took(at.started_at.as_deref(), at.finished_at.as_deref());
            let (name, state) = (Text(&at.container), Text(&at.state));
            let from = Text(at.from_release.as_deref().unwrap_or_default());
            let release = Text(at.to_release.as_deref().unwrap_or_default());
            writeln!(to, "| | | {name} | {state} | {took} | {from} | {release} |")?;
        }
    }
    for it in batch {
        for fact in super::facts(it) {
            writeln!(to, "\n{}: {}", Text(&it.service), Text(&fact))?;
        }
    }
    Ok(())
}

fn errors(report: &Report, to: &mut String) -> fmt::Result {
    let errors = super::errors(report);
    if !errors.is_empty() {
        writeln!(to, "\n## Errors")?;
    }
    for (place, Failure { code, message, log }) in errors {
        writeln!(to, "\n**{}**: {} ({})", Text(&place), Text(message), Text(code))?;
        if !log.is_empty() {
            writeln!(to)?;
        }
        // Indented: no line can end the block.
        for line in log.iter().flat_map(|line| line.split('\n')) {
            writeln!(to, "    {}", printable(line))?;
        }
    }
    Ok(())
}

fn took(from: Option<&str>, to: Option<&str>) -> String {
    to.map(|to| render::duration(from, Some(to))).unwrap_or_default()
}
