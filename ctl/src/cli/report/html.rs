//! The report as one HTML file: no script, nothing from elsewhere, readable on paper and in the dark.

use std::fmt::{self, Write};

use jiff::Timestamp;

use super::super::{event, render, terminal::printable};
use super::forecast;
use crate::wire::report::{Deployment, Failure, Report};

/// Longer lists are folded at first; what has failed never is.
const SHOWN: usize = 60;

/// Text from outside. Nothing else may put such text into the page.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in printable(self.0).chars() {
            match c {
                '&' => to.write_str("&amp;")?,
                '<' => to.write_str("&lt;")?,
                '>' => to.write_str("&gt;")?,
                '"' => to.write_str("&quot;")?,
                '\'' => to.write_str("&#39;")?,
                c => to.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page.
pub fn page(report: &Report) -> Result<String, fmt::Error> {
    let mut page = String::new();
    let task = &report.task;
    let title = format!("Task {} · {}@{} · {}", task.id, task.plan, task.revision, task.state);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        Text(&title),
        include_str!("page.css")
    )?;
    summary(report, &mut page)?;
    errors(report, &mut page)?;
    timeline(report, &mut page)?;
    events(report, &mut page)?;
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn summary(report: &Report, page: &mut String) -> fmt::Result {
    let task = &report.task;
    let reason = task.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    writeln!(
        page,
        "<h1>Task {} <small>{}@{}</small> <b class=\"{}\">{}{}</b></h1>",
        task.id,
        Text(&task.plan),
        task.revision,
        class(&task.state),
        Text(&task.state),
        Text(&reason)
    )?;
    if let Some(comment) = &task.comment {
        writeln!(page, "<p>{}</p>", Text(comment))?;
    }
    let (services, containers) = (&task.progress.deployments, &task.progress.operations);
    let finished = task.finished_at.as_deref().map_or("-".into(), |at| render::time(at, false));
    let end = task.finished_at.as_deref().or_else(|| last(report));
    let facts = [
        ("Executed by", task.created_by.user.clone()),
        ("Started", render::time(&task.started_at, false)),
        ("Finished", finished),
        ("Took", render::duration(Some(&task.started_at), Some(end.unwrap_or(&task.started_at)))),
        (
            "Services",
            format!(
                "{} of {} succeeded, {} failed, {} skipped, {} interrupted",
                services.succeeded, services.total, services.failed, services.skipped, services.interrupted
            ),
        ),
        ("Containers", format!("{} of {} done", containers.done, containers.total)),
    ];
    let forecast = forecast::whole(report).map(|words| ("Forecast", words));
    page.push_str("<dl>\n");
    for (name, value) in facts.into_iter().chain(forecast) {
        writeln!(page, "<dt>{name}</dt><dd>{}</dd>", Text(&value))?;
    }
    page.push_str("</dl>\n");
    Ok(())
}

fn errors(report: &Report, page: &mut String) -> fmt::Result {
    let failed = super::errors(report);
    if failed.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Errors</h2>\n");
    for (place, Failure { code, message, log }) in failed {
        writeln!(
            page,
            "<section class=\"error\">\n<h3>{} <code>{}</code></h3>\n<p>{}</p>",
            Text(&place),
            Text(code),
            Text(message)
        )?;
        if !log.is_empty() {
            writeln!(page, "<pre>{}</pre>", Text(&log.join("\n")))?;
        }
        page.push_str("</section>\n");
    }
    Ok(())
}

/// The last moment that the report knows: a task that goes on ends here.
fn last(report: &Report) -> Option<&str> {
    report.events.last().map(|event| &*event.at)
}

/// The time that the timeline shows.
struct Scale {
    from: Timestamp,
    to: Timestamp,
}

impl Scale {
    fn of(report: &Report) -> Option<Self> {
        let end = report.task.finished_at.as_deref().or_else(|| last(report))?;
        let (from, to): (Timestamp, Timestamp) = (report.task.started_at.parse().ok()?, end.parse().ok()?);
        // Where a forecast lies a little later than the end, there is room for it.
        let marks = report.deployments.iter().filter_map(|it| Some(usual_ends(it)?.1));
        let edge = to + to.duration_since(from) / 4;
        let to = marks.filter(|mark| *mark <= edge).fold(to, Timestamp::max);
        Some(Self { from, to })
    }

    /// Where half, and nine of ten, of the earlier deployments of this kind had ended.
    fn marks(&self, it: &Deployment) -> String {
        let Some((half, most)) = usual_ends(it) else { return String::new() };
        let mark = |at: Timestamp, class: &str| {
            let place = self.place(at);
            if at > self.to {
                String::new()
            } else {
                format!("<s class=\"{class}\" style=\"left:{place:.2}%\"></s>")
            }
        };
        mark(half, "half") + &mark(most, "most")
    }

    /// Where a moment lies, in percent.
    fn place(&self, at: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64();
        let share = at.duration_since(self.from).as_secs_f64() / whole;
        if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 }
    }

    /// A bar; what has not ended goes on to the edge.
    fn bar(&self, state: &str, from: Option<&str>, to: Option<&str>) -> String {
        let Some(from) = from.and_then(|at| at.parse().ok()) else { return String::new() };
        let to = to.and_then(|at| at.parse().ok()).unwrap_or(self.to);
        let (left, right) = (self.place(from), self.place(to));
        format!(
            "<i class=\"{}\" style=\"left:{left:.2}%;width:{:.2}%\"></i>",
            class(state),
            (right - left).max(0.0)
        )
    }
}

/// When a deployment should have ended: by half of what was seen, and by nine of ten.
fn usual_ends(it: &Deployment) -> Option<(Timestamp, Timestamp)> {
    let (usual, begun) = (it.usual?, it.started_at.as_deref()?.parse::<Timestamp>().ok()?);
    let after = |millis: u64| Some(begun + jiff::SignedDuration::from_millis(i64::try_from(millis).ok()?));
    after(usual.p50).zip(after(usual.p90))
}

fn timeline(report: &Report, page: &mut String) -> fmt::Result {
    let Some(scale) = Scale::of(report) else { return Ok(()) };
    page.push_str("<h2>Timeline</h2>\n");
    if report.deployments.iter().any(|it| usual_ends(it).is_some()) {
        page.push_str(
            "<p class=\"legend\"><s class=\"half\"></s> half of the earlier ones had ended here, \
             <s class=\"most\"></s> nine of ten of them</p>\n",
        );
    }
    page.push_str("<div class=\"timeline\">\n");
    axis(report, &scale, page)?;
    for batch in report.deployments.chunk_by(|a, b| a.priority == b.priority) {
        batch_rows(batch, report.deployments.len() <= SHOWN, &scale, page)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

/// Quarters of the time, and what happened to the task as a whole.
fn axis(report: &Report, scale: &Scale, page: &mut String) -> fmt::Result {
    page.push_str("<div class=\"row axis\"><span></span><span></span><span class=\"track\">");
    for quarter in 0..4 {
        let share = (scale.to.duration_since(scale.from) * quarter / 4).as_millis();
        let text = render::millis(u64::try_from(share).unwrap_or(0));
        write!(page, "<em style=\"left:{}%\">{text}</em>", quarter * 25)?;
    }
    for event in report.events.iter().filter(|event| event.kind.starts_with("task.")) {
        let (Ok(at), Some(words)) = (event.at.parse(), event::in_words(event)) else { continue };
        write!(page, "<u style=\"left:{:.2}%\" title=\"{}\"></u>", scale.place(at), Text(&words))?;
    }
    page.push_str("</span></div>\n");
    Ok(())
}

fn batch_rows(batch: &[Deployment], open: bool, scale: &Scale, page: &mut String) -> fmt::Result {
    let begun = batch.iter().filter_map(|it| it.started_at.as_deref()).min();
    let ends: Option<Vec<_>> = batch.iter().map(|it| it.finished_at.as_deref()).collect();
    let ended = ends.and_then(|ends| ends.into_iter().max());
    let Some(first) = batch.first() else { return Ok(()) };
    let name = format!("Batch of priority {}", first.priority);
    let count = render::count(batch.len() as u64, "service");
    row("batch", &name, &count, "", &scale.bar("batch", begun, ended), page)?;
    for it in batch {
        let folded = if open || it.error.is_some() { " open" } else { "" };
        write!(page, "<details{folded}><summary>")?;
        let bar = scale.bar(&it.state, it.started_at.as_deref(), it.finished_at.as_deref());
        let bar = bar + &scale.marks(it);
        let name = format!("{} ({}) {}", it.service, it.service_id, it.deployment);
        row(
            "service",
            &name,
            &it.state,
            &took(it.started_at.as_deref(), it.finished_at.as_deref()),
            &bar,
            page,
        )?;
        page.push_str("</summary>\n");
        for operation in &it.operations {
            let (from, to) = (operation.started_at.as_deref(), operation.finished_at.as_deref());
            let bar = scale.bar(&operation.state, from, to);
            row("container", &operation.container, &operation.state, &took(from, to), &bar, page)?;
        }
        facts(it, page)?;
        page.push_str("</details>\n");
    }
    Ok(())
}

fn took(from: Option<&str>, to: Option<&str>) -> String {
    to.map(|to| render::duration(from, Some(to))).unwrap_or_default()
}

fn row(kind: &str, name: &str, state: &str, took: &str, bar: &str, page: &mut String) -> fmt::Result {
    writeln!(
        page,
        "<span class=\"row {kind}\"><span class=\"name\">{}</span><span><b class=\"{}\">{}</b> {took}</span>\
         <span class=\"track\">{bar}</span></span>",
        Text(name),
        class(state),
        Text(state)
    )
}

/// What a picture can't show of a service.
fn facts(deployment: &Deployment, page: &mut String) -> fmt::Result {
    let facts = super::facts(deployment);
    if facts.is_empty() {
        return Ok(());
    }
    page.push_str("<ul>\n");
    for fact in facts {
        writeln!(page, "<li>{}</li>", Text(&fact))?;
    }
    page.push_str("</ul>\n");
    Ok(())
}

fn events(report: &Report, page: &mut String) -> fmt::Result {
    let open = if report.events.len() <= SHOWN { " open" } else { "" };
    let count = report.events.len();
    writeln!(page, "<h2>Events</h2>\n<details{open}><summary>{count} events</summary>\n<table>")?;
    for it in &report.events {
        let Some(words) = event::in_words(it) else { continue };
        let at = render::clock(&it.at, false);
        writeln!(page, "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", it.seq, Text(&at), Text(&words))?;
    }
    page.push_str("</table>\n</details>\n");
    Ok(())
}

/// The class of a state: from a fixed list, whatever stands in the report.
fn class(state: &str) -> &'static str {
    match state {
        "SUCCEEDED" => "succeeded",
        "FAILED" => "failed",
        "RUNNING" | "STOPPING" | "PAUSING" => "running",
        "PAUSED" | "INTERRUPTED" | "STOPPED" => "held",
        "UNCHANGED" => "unchanged",
        "batch" => "all",
        _ => "none",
    }
}
