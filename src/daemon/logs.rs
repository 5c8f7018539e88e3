//! When the containers' logs are looked at: every few seconds while one grows, and else once one does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::runtime::log;
use crate::runtime::process::ProcessRuntime;
use crate::spawn::readable;

/// How often logs that grow are looked at: what floods its log fills the disk for no longer.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps the logs of containers that are plain processes short.
pub struct Logs {
    runtime: Arc<ProcessRuntime>,
    next: Next,
}

/// What the next look waits for.
enum Next {
    Time(Instant),
    /// As long as nothing is written there is nothing to be looked at.
    Growth(AsyncFd<OwnedFd>),
}

impl Logs {
    /// Whose first look is due now.
    pub fn new(runtime: Arc<ProcessRuntime>) -> Self {
        Self { runtime, next: Next::Time(Instant::now()) }
    }

    /// Resolves when it is time for a look. May be cancelled and called again.
    pub async fn due(&mut self) {
        if let Next::Growth(growth) = &self.next {
            tokio::select! {
                _ = growth.readable() => {}
                // Its log is not among those that are watched.
                () = self.runtime.has_started.notified() => {}
            }
            self.next = Next::Time(Instant::now() + LOOK);
        }
        if let Next::Time(time) = self.next {
            sleep_until(time).await;
        }
    }

    /// Shortens what has grown too long. Logs that have not grown since the last look are watched from now on.
    pub async fn look(&mut self) {
        let runtime = self.runtime.clone();
        let watch = move || runtime.rotate_logs().map(|quiet| log::growth(&quiet));
        self.next = match crate::blocking::run(watch).await.map(|growth| growth.and_then(readable)) {
            Some(Ok(growth)) => Next::Growth(growth),
            Some(Err(error)) => {
                tracing::debug!(%error, "cannot watch the logs; they are looked at now and then");
                Next::Time(Instant::now() + LOOK)
            }
            None => Next::Time(Instant::now() + LOOK),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::spawn::{Launch, SpawnError, Spawned, Spec};

    struct Nobody;
    #[async_trait]
    impl Launch for Nobody {
        async fn launch(&self, _: Spec) -> Result<Spawned, SpawnError> {
            unreachable!("nothing is started")
        }
    }

    /// The clock goes on by itself whenever nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn quiet_logs_are_looked_at_when_they_grow_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let container = directory.path().join("s1/containers/c1");
        let mut log = log::open(&container).unwrap();
        let runtime = Arc::new(ProcessRuntime::new(directory.path().into(), Arc::new(Nobody)).unwrap());
        let mut logs = Logs::new(runtime.clone());
        let hour = Duration::from_hours(1);
        for _ in 0..3 {
            writeln!(log, "it grows").unwrap();
            let before = Instant::now();
            logs.due().await;
            assert!(before.elapsed() <= LOOK);
            logs.look().await;
        }
        logs.due().await;
        logs.look().await;
        assert!(tokio::time::timeout(hour, logs.due()).await.is_err(), "nothing was written");
        writeln!(log, "and again").unwrap();
        logs.due().await;
        logs.look().await;
        logs.due().await;
        logs.look().await;
        assert!(tokio::time::timeout(hour, logs.due()).await.is_err(), "nothing more was written");
        runtime.has_started.notify_one();
        logs.due().await;
    }
}
