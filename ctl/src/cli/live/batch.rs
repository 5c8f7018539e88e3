//! The batches of the picture, more or less folded.

use jiff::Timestamp;
use ratatui_core::text::{Line, Span};

use super::super::render;
use super::draw::{cut, dim, fit, of_state, text};
use super::outlook;
use super::view::View;
use crate::wire::report::{Deployment, Failure, Operation};
use crate::wire::task::Preparation;

type Lines = Vec<Line<'static>>;

/// What all lines need to know.
pub struct Pen<'a> {
    view: &'a View,
    now: Timestamp,
    width: u16,
    /// How many columns the names of services take.
    names: usize,
}

/// How much is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fold {
    /// Nothing.
    Nothing,
    /// The containers of what is done or to come.
    IdleContainers,
    /// What is done, too.
    Done,
    /// What is to come, too: only what is going on or went wrong is left.
    Idle,
    /// Of that, the containers that have nothing to say; and batches that are done or to come are one line.
    Batches,
    /// A line for each service.
    Containers,
}

impl Fold {
    /// From everything to as little as possible.
    pub const ALL: [Self; 6] =
        [Self::Nothing, Self::IdleContainers, Self::Done, Self::Idle, Self::Batches, Self::Containers];

    fn hides(self, it: &Deployment) -> bool {
        match &*it.state {
            "SUCCEEDED" => self >= Self::Done,
            "PENDING" | "SKIPPED" => self >= Self::Idle,
            _ => false,
        }
    }
}

/// Whether there is room for the way of a deployment.
const fn is_wide(width: u16) -> bool {
    width >= 70
}

/// Whether something is going on with it, or went wrong.
fn is_open(state: &str) -> bool {
    matches!(state, "RUNNING" | "FAILED" | "INTERRUPTED")
}

/// What is most urgent first.
fn urgency(it: &Deployment) -> (u8, String) {
    let rank = match &*it.state {
        "FAILED" => 0,
        "INTERRUPTED" => 1,
        _ => 2,
    };
    // Who began first has been going on for longest.
    (rank, it.started_at.clone().unwrap_or_default())
}

impl<'a> Pen<'a> {
    /// For a picture of this width.
    pub fn new(view: &'a View, now: Timestamp, width: u16) -> Self {
        let longest = view.deployments.iter().map(|it| it.service.len()).max().unwrap_or(0);
        Self { view, now, width, names: longest.clamp(4, if is_wide(width) { 24 } else { 14 }) }
    }

    /// All batches.
    pub fn lines(&self, fold: Fold) -> Lines {
        let mut lines = Vec::new();
        let alike = |a: &&[Deployment], b: &&[Deployment]| {
            fold >= Fold::Batches && whole(a).is_some() && whole(a) == whole(b)
        };
        for group in batches(self.view).chunk_by(alike) {
            lines.push(head(group, self.now));
            for batch in group {
                let mut shown: Vec<_> = batch.iter().filter(|it| !fold.hides(it)).collect();
                if fold >= Fold::Idle {
                    shown.sort_by_key(|it| urgency(it));
                }
                for it in shown {
                    self.service(it, fold, &mut lines);
                }
            }
        }
        lines
    }

    /// As many lines as there are, of what is most urgent.
    pub fn within(&self, room: usize) -> Lines {
        let mut open: Vec<_> = self.view.deployments.iter().filter(|it| is_open(&it.state)).collect();
        open.sort_by_key(|it| urgency(it));
        let batches = batches(self.view);
        let alike = |a: &&[Deployment], b: &&[Deployment]| whole(a).is_some() && whole(a) == whole(b);
        let mut heads: Lines = batches.chunk_by(alike).map(|group| head(group, self.now)).collect();
        // With hardly any room only the batches that something goes on in have a line of their own.
        if heads.len() + 3 > room {
            let active = batches.iter().filter(|batch| whole(batch).is_none());
            heads = active.map(|batch| head(&[*batch], self.now)).take(room / 2).collect();
        }
        let left = room.saturating_sub(heads.len());
        let mut services = Vec::new();
        for (shown, it) in open.iter().enumerate() {
            let more = open.len() - shown;
            let mut lines = Vec::new();
            self.service(it, Fold::Containers, &mut lines);
            // The last line is needed to say how many more there are.
            if services.len() + lines.len() + usize::from(more > 1) > left {
                services.push(Line::styled(format!("  … and {more} more"), dim()));
                break;
            }
            services.append(&mut lines);
        }
        services.truncate(left);
        // Behind the batch that goes on, as far as there is one.
        let before = batches.chunk_by(alike).take_while(|group| whole(group[0]).is_some()).count();
        let place = heads.len().min(before + 1);
        heads.splice(place..place, services);
        heads
    }

    fn service(&self, it: &Deployment, fold: Fold, lines: &mut Lines) {
        let (now, wide) = (self.now, is_wide(self.width));
        let mark = match &*it.state {
            "SUCCEEDED" => "✓",
            "FAILED" => "✗",
            "RUNNING" => "▸",
            "INTERRUPTED" => "!",
            _ => "·",
        };
        let name = fit(&it.service, self.names);
        let way = if wide { format!(" {}", fit(&it.deployment, 18)) } else { String::new() };
        let mut spans = vec![
            Span::styled(format!("  {mark} "), of_state(&it.state)),
            Span::raw(name),
            Span::styled(way, dim()),
            Span::styled(format!(" {:11}", text(&it.state)), of_state(&it.state)),
        ];
        spans.push(Span::raw(took(it.started_at.as_deref(), it.finished_at.as_deref(), &it.state, now)));
        let usual = it.usual.filter(|_| it.state == "RUNNING").zip(outlook::elapsed(it, now));
        if let Some((usual, elapsed)) = usual {
            let over = elapsed > usual.p50;
            let words = format!(", {}", outlook::of_one(usual, elapsed));
            spans.push(Span::styled(words, if over { of_state("PAUSED") } else { dim() }));
        }
        let doing = doing(self.view, it, now);
        if fold >= Fold::Containers
            && let Some(doing) = doing
        {
            spans.push(Span::raw(format!("  {doing}")));
            lines.push(Line::from(spans));
            return;
        }
        lines.push(Line::from(spans));
        if fold < Fold::Containers {
            lines.extend(doing.map(|doing| Line::raw(format!("      {doing}"))));
            containers(it, now, fold, lines);
        }
        if let Some(Failure { message, .. }) = &it.error {
            lines.push(Line::styled(format!("      {}", text(message)), of_state("FAILED")));
        }
    }
}

fn batches(view: &View) -> Vec<&[Deployment]> {
    view.deployments.chunk_by(|a, b| a.priority == b.priority).collect()
}

/// The state that a whole batch has, when it is one in which nothing happens.
fn whole(batch: &[Deployment]) -> Option<&str> {
    let state = &*batch.first()?.state;
    let still = matches!(state, "SUCCEEDED" | "PENDING" | "SKIPPED");
    (still && batch.iter().all(|it| it.state == state)).then_some(state)
}

/// A batch in one line; or several that are all done, or all to come.
fn head(group: &[&[Deployment]], now: Timestamp) -> Line<'static> {
    let all = || group.iter().flat_map(|batch| batch.iter());
    let priority =
        |batch: Option<&&[Deployment]>| batch.and_then(|batch| batch.first()).map_or(0, |it| it.priority);
    let (first, last) = (priority(group.first()), priority(group.last()));
    let name =
        if group.len() == 1 { format!("batch {first}") } else { format!("batches {first} … {last}") };
    let count = |state: &str| all().filter(|it| it.state == state).count();
    let total = all().count();
    let begun = all().filter_map(|it| it.started_at.as_deref()).min();
    let took = |to: Option<String>| render::duration(begun, to.as_deref());
    if count("SUCCEEDED") == total {
        let took = took(all().filter_map(|it| it.finished_at.clone()).max());
        return Line::styled(format!("{name}: {total} of {total} done in {took}"), of_state("SUCCEEDED"));
    }
    if count("PENDING") == total {
        return Line::styled(format!("{name}: {} to come", render::count(total as u64, "service")), dim());
    }
    let mut words = vec![format!("{} of {total} done", count("SUCCEEDED"))];
    let states = [
        ("FAILED", "failed"),
        ("RUNNING", "running"),
        ("INTERRUPTED", "interrupted"),
        ("PENDING", "to come"),
        ("SKIPPED", "skipped"),
    ];
    words.extend(
        states
            .iter()
            .filter(|(state, _)| count(state) > 0)
            .map(|(state, word)| format!("{} {word}", count(state))),
    );
    if count("RUNNING") > 0 {
        words.push(took(Some(now.to_string())));
    }
    let style = if count("FAILED") > 0 { of_state("FAILED") } else { of_state("") };
    Line::styled(format!("{name}: {}", words.join(", ")), style)
}

fn containers(it: &Deployment, now: Timestamp, fold: Fold, lines: &mut Lines) {
    let shown = |operation: &&Operation| match fold {
        Fold::Nothing => true,
        Fold::Batches => is_open(&operation.state),
        _ => is_open(&it.state),
    };
    let longest = it.operations.iter().map(|it| it.container.len()).max().unwrap_or(0).clamp(4, 20);
    for operation in it.operations.iter().filter(shown) {
        let (from, to) = (operation.started_at.as_deref(), operation.finished_at.as_deref());
        let mut spans = vec![
            Span::styled(format!("      {} ", fit(&operation.container, longest)), dim()),
            Span::styled(format!("{:11}", text(&operation.state)), of_state(&operation.state)),
            Span::raw(took(from, to, &operation.state, now)),
        ];
        // What failed is said by the service.
        if !operation.detail.is_empty() && operation.error.is_none() {
            spans.push(Span::styled(format!("  {}", text(&operation.detail)), dim()));
        }
        lines.push(Line::from(spans));
    }
}

fn took(from: Option<&str>, to: Option<&str>, state: &str, now: Timestamp) -> String {
    let now = now.to_string();
    let to = to.or((state == "RUNNING").then_some(&*now));
    to.map(|to| render::duration(from, Some(to))).unwrap_or_default()
}

/// What a service does that no container shows.
fn doing(view: &View, it: &Deployment, now: Timestamp) -> Option<String> {
    let waiting = view.waiting.get(&it.service_id).filter(|_| it.state == "RUNNING")?;
    if let Some(preparation) = &waiting.preparation {
        return Some(prepares(preparation, view.rate(it.service_id), now));
    }
    // The containers are listed themselves.
    let works = it.operations.iter().any(|operation| operation.state == "RUNNING");
    (!works).then(|| cut(&waiting.doing, 60))
}

/// "download 12.3 of 40.0 MB (31 %), 5.1 MB/s", "build 12 s: cc -c main.c", …
fn prepares(it: &Preparation, rate: Option<f64>, now: Timestamp) -> String {
    let since = render::duration(Some(&it.since), Some(&now.to_string()));
    let line = it.line.as_deref().map(|line| format!(": {}", text(line))).unwrap_or_default();
    match &*it.stage {
        "download" => {
            let percent = it.total.and_then(|total| (it.bytes * 100).checked_div(total));
            let of = it.total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
            let percent = percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate")]
            let rate = rate.map(|rate| format!(", {}/s", bytes(rate as u64))).unwrap_or_default();
            format!("download {}{of}{percent}{rate}", bytes(it.bytes))
        }
        "awaitDownload" => format!("waits for a place to download, {since}"),
        "awaitBuild" => format!("waits for a place to build, {since}"),
        stage => format!("{} {since}{line}", text(stage)),
    }
}

/// "12.3 MB"
fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with a few digits")]
    let number = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.2} GB", number / 1e9),
    }
}
