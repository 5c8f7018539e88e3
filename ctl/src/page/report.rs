//! The report as one HTML file: readable without a network, on paper and in the dark.

use maud::{DOCTYPE, Markup, html};

use super::{Text, class, style, timeline};
use crate::view::timeline::last;
use crate::view::tone::Toned;
use crate::view::{event, forecast, report as facts, time};
use crate::wire::report::Report;

/// Longer lists are folded at first; what has failed never is.
pub const SHOWN: usize = 60;

/// The file.
pub fn file(report: &Report) -> String {
    let task = &report.task;
    let title = format!("Task {} · {}@{} · {}", task.id, task.plan, task.revision, task.state);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (Text(title)) }
                (style())
            }
            body {
                (summary(report))
                (errors(report))
                (timeline::section(report))
                (events(report))
            }
        }
    };
    page.into_string()
}

fn summary(report: &Report) -> Markup {
    let task = &report.task;
    let reason = task.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (services, containers) = (&task.progress.deployments, &task.progress.operations);
    let finished = task.finished_at.as_deref().map_or("-".into(), |at| time::time(at, false));
    let end = task.finished_at.as_deref().or_else(|| last(report)).unwrap_or(&task.started_at);
    html! {
        h1 {
            "Task " (task.id) " " small { (Text(&task.plan)) "@" (task.revision) } " "
            b class=(class(task.state.tone())) { (Text(&task.state)) (Text(&reason)) }
        }
        @if let Some(comment) = &task.comment { p { (Text(comment)) } }
        dl {
            (fact("Executed by", &task.created_by.user))
            (fact("Started", &time::time(&task.started_at, false)))
            (fact("Finished", &finished))
            (fact("Took", &time::duration(Some(&task.started_at), Some(end))))
            (fact("Services", &format!(
                "{} of {} succeeded, {} failed, {} skipped, {} interrupted",
                services.succeeded, services.total, services.failed, services.skipped, services.interrupted
            )))
            (fact("Containers", &format!("{} of {} done", containers.done, containers.total)))
            @if let Some(words) = forecast::whole(report) { (fact("Forecast", &words)) }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (Text(value)) } }
}

fn errors(report: &Report) -> Markup {
    let failed = facts::errors(report);
    html! {
        @if !failed.is_empty() { h2 { "Errors" } }
        @for (place, failure) in failed {
            section.error {
                h3 { (Text(place)) " " code { (Text(&failure.code)) } }
                p { (Text(&failure.message)) }
                @if !failure.log.is_empty() { pre { (Text(failure.log.join("\n"))) } }
            }
        }
    }
}

fn events(report: &Report) -> Markup {
    let count = report.events.len();
    html! {
        h2 { "Events" }
        details open[count <= SHOWN] {
            summary { (count) " events" }
            table {
                @for it in &report.events {
                    @if let Some(words) = event::in_words(it) {
                        tr { td { (it.seq) } td { (Text(time::clock(&it.at, false))) } td { (Text(words)) } }
                    }
                }
            }
        }
    }
}
