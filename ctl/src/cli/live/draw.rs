//! The picture of a task: a pure function from what is known, the time and the room.
//!
//! As much as fits is shown. What does not is folded, in this order: containers of what is done, what is
//! done, what is to come, containers, and at last the least interesting of what is going on.

use jiff::Timestamp;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::text::{Line, Span};

use super::super::render;
use super::super::terminal::printable;
use super::batch::{Fold, Pen};
use super::outlook::Outlook;
use super::view::View;

/// A picture with fewer lines says nothing.
const LEAST: usize = 4;
const BAR: usize = 20;

/// The lines of the picture: no more than `height`, each to be cut at `width`. `ended`: it is the last one.
pub fn picture(view: &View, now: Timestamp, (width, height): (u16, u16), ended: bool) -> Vec<Line<'static>> {
    let height = usize::from(height).max(LEAST);
    let mut head = head(view, now, width);
    let mut foot = foot(view, now, width, ended);
    // On a tiny screen the task's state and what is wrong are worth more than bars and hints.
    if height < 8 {
        head.truncate(1);
        foot.truncate(1);
    }
    let room = height.saturating_sub(head.len() + foot.len());
    let pen = Pen::new(view, now, width);
    let body = Fold::ALL.iter().map(|fold| pen.lines(*fold)).find(|lines| lines.len() <= room);
    let body = body.unwrap_or_else(|| pen.within(room));
    head.into_iter().chain(body).chain(foot).take(height).collect()
}

fn head(view: &View, now: Timestamp, width: u16) -> Vec<Line<'static>> {
    let task = &view.task;
    let reason = task.reason.as_ref().map(|reason| format!(" ({})", text(reason))).unwrap_or_default();
    let end = task.finished_at.clone().unwrap_or_else(|| now.to_string());
    let took = render::duration(Some(&task.started_at), Some(&end));
    let what = Line::from(vec![
        Span::styled(format!("Task {} · {}@{} · ", task.id, text(&task.plan), task.revision), bold()),
        Span::styled(format!("{}{reason}", text(&task.state)), of_state(&task.state).patch(bold())),
        Span::raw(format!(" · {took}")),
        Span::raw(if width >= 60 {
            format!(" · by {}", text(&task.created_by.user))
        } else {
            String::new()
        }),
    ]);
    let count = |state: &str| view.deployments.iter().filter(|it| it.state == state).count();
    let (done, all) = (count("SUCCEEDED"), view.deployments.len());
    let operations = || view.deployments.iter().flat_map(|it| &it.operations);
    let containers_done = operations().filter(|it| matches!(&*it.state, "SUCCEEDED" | "UNCHANGED")).count();
    let bar = if width >= 60 { BAR } else { BAR / 2 };
    let full = (bar * done).checked_div(all).unwrap_or(0);
    let colour = if count("FAILED") > 0 { of_state("FAILED") } else { of_state("SUCCEEDED") };
    let progress = Line::from(vec![
        Span::styled("█".repeat(full), colour),
        Span::styled("░".repeat(bar - full), dim()),
        Span::raw(if width >= 60 {
            let (services, containers) = (all as u64, operations().count() as u64);
            let (services, containers) =
                (render::count(services, "service"), render::count(containers, "container"));
            format!("  {done} of {services}, {containers_done} of {containers}")
        } else {
            format!("  {done} of {all}")
        }),
    ]);
    vec![what, progress]
}

fn foot(view: &View, now: Timestamp, width: u16, ended: bool) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(since) = view.lost {
        let seconds = now.duration_since(since).as_secs().max(0);
        let words = format!("the daemon is not reachable, asking again (for {seconds} s)");
        lines.push(Line::styled(words, of_state("PAUSED")));
    }
    if ended || view.is_resting() {
        return lines;
    }
    let outlook = if drains(view) {
        lines.push(waits_for(view));
        let going_on: Vec<_> = view.deployments.iter().filter(|it| it.state == "RUNNING").cloned().collect();
        Outlook::of(&going_on, now)
    } else {
        Outlook::of(&view.deployments, now)
    };
    lines.extend(outlook.in_words().map(Line::raw));
    let id = view.task.id;
    let hint = if width >= 60 {
        format!("Ctrl-C leaves the task alone; `deployctl stop {id}` stops it")
    } else {
        "Ctrl-C leaves the task alone".into()
    };
    lines.push(Line::styled(hint, dim()));
    lines
}

/// Whether nothing new is begun.
fn drains(view: &View) -> bool {
    matches!(&*view.task.state, "STOPPING" | "PAUSING")
        || view.deployments.iter().any(|it| it.state == "FAILED")
}

fn waits_for(view: &View) -> Line<'static> {
    let names: Vec<_> =
        view.deployments.iter().filter(|it| it.state == "RUNNING").map(|it| text(&it.service)).collect();
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = if names.is_empty() { "its end to be recorded".into() } else { shown };
    Line::styled(format!("nothing new is begun; waits for {names}{more}"), of_state("PAUSED"))
}

/// Text from outside, in one line.
pub fn text(outside: &str) -> String {
    printable(outside).replace('\n', " ")
}

/// As [`text`], no longer than this.
pub fn cut(outside: &str, columns: usize) -> String {
    let whole = text(outside);
    if Span::raw(&whole).width() <= columns {
        return whole;
    }
    let mut short = String::new();
    for c in whole.chars() {
        let longer = format!("{short}{c}");
        if Span::raw(&longer).width() >= columns {
            break;
        }
        short = longer;
    }
    short + "…"
}

/// As [`cut`], and as long as this.
pub fn fit(outside: &str, columns: usize) -> String {
    let short = cut(outside, columns);
    let missing = columns.saturating_sub(Span::raw(&short).width());
    short + &" ".repeat(missing)
}

/// The colour of a state.
pub fn of_state(state: &str) -> Style {
    let colour = match state {
        "SUCCEEDED" => Color::Green,
        "FAILED" => Color::Red,
        "RUNNING" | "STOPPING" | "PAUSING" => Color::Cyan,
        "PAUSED" | "INTERRUPTED" | "STOPPED" => Color::Yellow,
        _ => return Style::new(),
    };
    Style::new().fg(colour)
}

/// What is less important.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}
