//! Who reads for the live view. A daemon that is gone is asked again, for as long as somebody watches.

use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use super::super::exit::Failure;
use crate::client::{Client, ClientError};
use crate::wire::event::Event;
use crate::wire::report::Report;
use crate::wire::task::TaskStatus;

/// How often a task is asked for; one with more than [`LARGE`] deployments less often.
const ASK: Duration = Duration::from_millis(400);
const ASK_LARGE: Duration = Duration::from_millis(1500);
const LARGE: usize = 200;
/// Before a daemon that is gone is asked again.
const PAUSE: Duration = Duration::from_millis(300);

/// What the readers tell.
pub enum News {
    /// An event.
    Event(Event),
    /// What the task has come to: after each event about the task itself.
    Report(Box<Report>),
    /// What is going on.
    Status(Box<TaskStatus>),
    /// The daemon does not answer.
    Lost,
    /// Nothing more will come.
    End(Failure),
}

/// Both readers; they end with this.
pub struct Readers(Vec<JoinHandle<()>>);

impl Readers {
    /// Reads what comes after event `after`, of a task with so many deployments.
    pub fn start(id: u64, after: u64, size: usize, client: &Client, tell: Sender<News>) -> Self {
        let ask = if size > LARGE { ASK_LARGE } else { ASK };
        let events = tokio::spawn(events(id, after, client.clone(), tell.clone()));
        Self(vec![events, tokio::spawn(statuses(id, ask, client.clone(), tell))])
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Whether it is worth to ask again.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::NotReachable { .. } | ClientError::Cut(_))
}

async fn events(id: u64, mut after: u64, client: Client, tell: Sender<News>) {
    let mut events = client.events(Some(id), after, true);
    loop {
        let news = match events.next().await {
            Ok(Some(event)) => {
                after = event.seq;
                let is_of_task = event.kind.starts_with("task.");
                if tell.send(News::Event(event)).await.is_err() {
                    return;
                }
                if !is_of_task {
                    continue;
                }
                patiently(&format!("/v1/tasks/{id}/report"), &client, &tell).await
            }
            Ok(None) => None,
            Err(error) if is_gone(&error) => {
                tokio::time::sleep(PAUSE).await;
                events = client.events(Some(id), after, true);
                Some(News::Lost)
            }
            Err(error) => Some(News::End(error.into())),
        };
        let Some(news) = news else { return };
        if tell.send(news).await.is_err() {
            return;
        }
    }
}

/// Asks until there is an answer; `None` when nobody listens any more.
async fn patiently(path: &str, client: &Client, tell: &Sender<News>) -> Option<News> {
    loop {
        match client.get::<Report>(path).await {
            Ok(report) => return Some(News::Report(Box::new(report))),
            Err(error) if is_gone(&error) => {
                tell.send(News::Lost).await.ok()?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Some(News::End(error.into())),
        }
    }
}

async fn statuses(id: u64, every: Duration, client: Client, tell: Sender<News>) {
    loop {
        let news = match client.get::<TaskStatus>(&format!("/v1/tasks/{id}")).await {
            Ok(status) => News::Status(Box::new(status)),
            Err(error) if is_gone(&error) => News::Lost,
            Err(error) => News::End(error.into()),
        };
        if tell.send(news).await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}
