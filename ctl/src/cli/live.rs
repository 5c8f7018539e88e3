//! A task, live on a terminal.
//!
//! ```text
//! report ─┐
//! events ─┼→ View ─draw::picture→ lines ─Inline→ terminal
//! status ─┘
//! ```
//!
//! Two tasks of their own read: one the events, from the report on, over any restart of the daemon; one
//! asks now and then what is going on. What they tell is folded into the view; it is drawn in between.

mod batch;
mod draw;
mod inline;
mod outlook;
mod reader;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::exit::{self, Failure};
use super::render;
use super::terminal::Terminal;
use crate::client::Client;
use crate::wire::report::Report;
use inline::Inline;
use reader::{News, Readers};
use view::{Effect, View};

/// How often it is drawn at most.
const FRAME: Duration = Duration::from_millis(150);

/// The signals that matter to who sits before a terminal.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    resized: Signal,
    back: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
            back: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
        })
    }
}

/// Shows a task until it rests; the exit code says how.
pub async fn watch(id: u64, client: &Client, terminal: &mut Terminal) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let report: Report = client.get(&format!("/v1/tasks/{id}/report")).await?;
    let mut screen = Screen { view: View::new(report), inline: Inline::new(terminal.color) };
    let (tell, mut told) = mpsc::channel(256);
    let _readers = Readers::start(id, screen.view.last, screen.view.deployments.len(), client, tell);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !screen.view.is_resting() {
        tokio::select! {
            news = told.recv() => screen.take(news.ok_or_else(lost)?)?,
            _ = frames.tick() => screen.draw(false, terminal)?,
            _ = signals.resized.recv() => screen.draw(false, terminal)?,
            _ = signals.back.recv() => screen.inline.forget(),
            _ = signals.interrupt.recv() => {
                terminal.note(&super::watch::goes_on(id));
                return Ok(exit::CTRL_C);
            }
            _ = signals.terminate.recv() => return Ok(exit::TERMINATED),
            _ = signals.hang_up.recv() => return Ok(exit::HUNG_UP),
        }
    }
    screen.end(id, terminal)
}

fn lost() -> Failure {
    Failure::Other("nothing more is told about the task; see `deployctl status`".into())
}

struct Screen {
    view: View,
    inline: Inline,
}

impl Screen {
    fn take(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Event(event) => {
                // The report that follows says more; until it has come, nothing ends.
                let state = self.view.task.state.clone();
                if self.view.event(&event) == Effect::ReadAnew {
                    self.view.task.state = state;
                }
            }
            News::Report(report) => self.view.renew(*report),
            News::Status(status) => self.view.status(*status, Timestamp::now()),
            News::Lost => drop(self.view.lost.get_or_insert_with(Timestamp::now)),
            News::End(failure) => return Err(failure),
        }
        Ok(())
    }

    fn draw(&mut self, ended: bool, terminal: &mut Terminal) -> Result<(), Failure> {
        let room = Inline::room();
        let lines = draw::picture(&self.view, Timestamp::now(), room, ended);
        let bytes = self.inline.show(&lines, room.0);
        if !bytes.is_empty() {
            terminal.raw(bytes.as_bytes())?;
        }
        Ok(())
    }

    fn end(&mut self, id: u64, terminal: &mut Terminal) -> Result<u8, Failure> {
        self.draw(true, terminal)?;
        let task = &self.view.task;
        let took = render::duration(Some(&task.started_at), task.finished_at.as_deref());
        let state = terminal.state(&super::terminal::printable(&task.state));
        let services = render::progress(task);
        terminal.line(&format!("task {id} is {state}: {services} services in {took}"))?;
        Ok(exit::of_state(&task.state))
    }
}
