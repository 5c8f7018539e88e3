//! The timeline of a task: a line for each batch, service and container.

use maud::{Markup, html};

use super::report::SHOWN;
use super::{Text, class};
use crate::view::text::count;
use crate::view::time::{millis, took};
use crate::view::timeline::{Bar, Scale, usual_ends};
use crate::view::tone::{Tone, Toned};
use crate::view::{event, report as facts};
use crate::wire::report::{Deployment, Report};

/// The section with the timeline; empty while nothing has begun.
pub fn section(report: &Report) -> Markup {
    let Some(scale) = Scale::of(report) else { return html! {} };
    let has_forecast = report.deployments.iter().any(|it| usual_ends(it).is_some());
    let unfolded = report.deployments.len() <= SHOWN;
    html! {
        h2 { "Timeline" }
        @if has_forecast {
            p.legend { s.median {} " median and " s.most {} " 90th percentile of earlier runs" }
        }
        div.timeline {
            (axis(report, &scale))
            @for batch in report.deployments.chunk_by(|a, b| a.priority == b.priority) {
                (batch_rows(batch, unfolded, &scale))
            }
        }
    }
}

/// Quarters of the time, and what happened to the task as a whole.
fn axis(report: &Report, scale: &Scale) -> Markup {
    let marks = report.events.iter().filter(|event| event.kind.starts_with("task."));
    html! {
        div.row.axis {
            span {} span {}
            span.track {
                @for quarter in scale.quarters() { em { (millis(quarter)) } }
                svg preserveAspectRatio="none" viewBox="0 0 100 1" role="img" aria-label="events of the task" {
                    @for event in marks {
                        @if let (Ok(at), Some(words)) = (event.at.parse(), event::in_words(event)) {
                            rect.event x=(place(scale.place(at))) y="0" width="0.2" height="1" { title { (Text(words)) } }
                        }
                    }
                }
            }
        }
    }
}

fn batch_rows(batch: &[Deployment], unfolded: bool, scale: &Scale) -> Markup {
    let begun = batch.iter().filter_map(|it| it.started_at.as_deref()).min();
    let ends: Option<Vec<_>> = batch.iter().map(|it| it.finished_at.as_deref()).collect();
    let ended = ends.and_then(|ends| ends.into_iter().max());
    let priority = batch.first().map_or(0, |it| it.priority);
    let services = count(batch.len() as u64, "service");
    html! {
        (Row { kind: "batch", name: &format!("Batch of priority {priority}"), state: &services, tone: Tone::Quiet, took: "" }
            .with(&track("batch", scale.bar(begun, ended), &[])))
        @for it in batch {
            details open[unfolded || it.error.is_some()] {
                summary { (service(it, scale)) }
                @for operation in &it.operations {
                    @let (from, to) = (operation.started_at.as_deref(), operation.finished_at.as_deref());
                    @let tone = operation.state.tone();
                    (Row { kind: "container", name: &operation.container, state: operation.state.as_str(), tone, took: &took(from, to) }
                        .with(&track(class(tone), scale.bar(from, to), &[])))
                }
                @let facts = facts::facts(it);
                @if !facts.is_empty() { ul { @for fact in facts { li { (Text(fact)) } } } }
            }
        }
    }
}

fn service(it: &Deployment, scale: &Scale) -> Markup {
    let (from, to) = (it.started_at.as_deref(), it.finished_at.as_deref());
    let name = format!("{} ({}) {}", it.service, it.service_id, it.deployment);
    let tone = it.state.tone();
    let marks: Vec<_> = usual_ends(it).map_or_else(Vec::new, |(median, most)| {
        let shown = [("median", median), ("most", most)].into_iter().filter(|(_, at)| scale.shows(*at));
        shown.map(|(class, at)| (class, scale.place(at))).collect()
    });
    Row { kind: "service", name: &name, state: it.state.as_str(), tone, took: &took(from, to) }.with(&track(
        class(tone),
        scale.bar(from, to),
        &marks,
    ))
}

/// The words of a line.
struct Row<'a> {
    kind: &'static str,
    name: &'a str,
    state: &'a str,
    tone: Tone,
    took: &'a str,
}

impl Row<'_> {
    fn with(&self, track: &Markup) -> Markup {
        html! {
            span class={ "row " (self.kind) } {
                span.name { (Text(self.name)) }
                span { b class=(class(self.tone)) { (Text(self.state)) } " " (self.took) }
                (track)
            }
        }
    }
}

/// The picture of a line: a bar, and marks at these places.
fn track(kind: &str, bar: Option<Bar>, marks: &[(&str, f64)]) -> Markup {
    html! {
        span.track {
            svg preserveAspectRatio="none" viewBox="0 0 100 1" aria-hidden="true" {
                @if let Some(Bar { left, width }) = bar {
                    // What took no time can be seen, too.
                    rect class=(kind) x=(place(left.min(99.7))) y="0.15" width=(place(width.max(0.3))) height="0.7" {}
                }
                @for (class, at) in marks {
                    line class=(class) x1=(place(*at)) x2=(place(*at)) y1="0" y2="1" {}
                }
            }
        }
    }
}

fn place(percent: f64) -> String {
    format!("{percent:.2}")
}
