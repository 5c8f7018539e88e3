//! How much longer it should take, by what was usual: never a promise, and never frozen.

use jiff::Timestamp;

use super::super::render;
use crate::wire::report::Deployment;
use crate::wire::task::Usual;

/// Milliseconds.
type Millis = u64;

/// What is left to a task, as far as it is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// By half of what was seen.
    pub half: Millis,
    /// By nine of ten of what was seen.
    pub most: Millis,
    /// By how much the batch that is going on is over what was usual.
    pub over: Millis,
    /// How many services were never seen.
    pub unknown: usize,
}

/// How long a deployment has been going on.
pub fn elapsed(it: &Deployment, now: Timestamp) -> Option<Millis> {
    let begun: Timestamp = it.started_at.as_deref()?.parse().ok()?;
    Some(u64::try_from(now.duration_since(begun).as_millis()).unwrap_or(0))
}

/// "usually 3.0 s", and when it takes longer "+71 s over the usual 3.0 s".
pub fn of_one(usual: Usual, elapsed: Millis) -> String {
    match elapsed.checked_sub(usual.p50) {
        Some(over) if over > 0 => format!("{} over the usual {}", plus(over), render::millis(usual.p50)),
        _ => format!("usually {}", render::millis(usual.p50)),
    }
}

fn plus(over: Millis) -> String {
    if (10_000..120_000).contains(&over) {
        return format!("+{} s", over / 1000);
    }
    format!("+{}", render::millis(over))
}

impl Outlook {
    /// The outlook of deployments in the order of their batches.
    pub fn of(deployments: &[Deployment], now: Timestamp) -> Self {
        let mut outlook = Self::default();
        for batch in deployments.chunk_by(|a, b| a.priority == b.priority) {
            outlook.add(batch, now);
        }
        outlook
    }

    /// One batch: its deployments go on at the same time, but no more than do so now.
    fn add(&mut self, batch: &[Deployment], now: Timestamp) {
        let (mut half, mut most, mut over) = (Spread::default(), Spread::default(), None::<Millis>);
        let mut running = 0;
        for it in batch.iter().filter(|it| matches!(&*it.state, "RUNNING" | "PENDING" | "INTERRUPTED")) {
            let Some(usual) = it.usual else {
                self.unknown += 1;
                continue;
            };
            let gone = if it.state == "RUNNING" { elapsed(it, now).unwrap_or(0) } else { 0 };
            if it.state == "RUNNING" {
                running += 1;
                let by = gone.saturating_sub(usual.p50);
                over = Some(over.map_or(by, |least| least.min(by)));
            }
            half.add(usual.p50.saturating_sub(gone));
            most.add(usual.p90.saturating_sub(gone));
        }
        self.half += half.over_places(running);
        self.most += most.over_places(running);
        if half.longest == 0 {
            self.over = self.over.max(over.unwrap_or(0));
        }
    }

    /// In words; `None` when nothing is known.
    pub fn in_words(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.over > 0 {
            parts.push(format!("{} over what is usual", plus(self.over)));
        }
        if self.half > 0 {
            let (half, most) = (render::millis(self.half), render::millis(self.most));
            parts.push(format!("about {half} to go, 9 of 10 times within {most}"));
        }
        if parts.is_empty() {
            return None;
        }
        if self.unknown > 0 {
            parts.push(format!("{} never seen before", render::count(self.unknown as u64, "service")));
        }
        Some(parts.join("; "))
    }
}

/// What the deployments of a batch still need.
#[derive(Default)]
struct Spread {
    sum: Millis,
    longest: Millis,
}

impl Spread {
    fn add(&mut self, millis: Millis) {
        self.sum += millis;
        self.longest = self.longest.max(millis);
    }

    /// With so many at the same time; before any has begun nobody knows, and the longest one counts.
    fn over_places(&self, places: u64) -> Millis {
        self.sum.checked_div(places).map_or(self.longest, |each| self.longest.max(each))
    }
}
