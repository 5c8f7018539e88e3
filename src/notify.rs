//! Who is told what: systemd about the daemon (sd_notify; where nobody listens, nothing is sent), and a
//! command of the host about tasks ([`hook`]).

pub mod hook;

use std::collections::HashSet;
use std::time::Duration;

use actix::Addr;
use sd_notify::NotifyState;

use crate::actors::plan_supervisor::{AreYouThere, Held, PlanSupervisor};

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// It serves; also after a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its catalog anew; [`ready`] has to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify systemd"),
    }
}

/// It takes no new work, and may need this long until what is going on has ended.
pub fn stopping(grace: Duration) {
    let micros = u32::try_from(grace.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// What there is to say about a daemon that runs.
pub fn summary(held: &Held, services: usize) -> String {
    let tasks = held.values().collect::<HashSet<_>>().len();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    format!("{} active, {}", plural(tasks, "task"), plural(services, "service"))
}

/// Feeds the watchdog of the unit as long as the plan supervisor answers: not a timer alone, so that
/// one that is stuck is noticed. Ends at once when the unit has no watchdog.
pub async fn watch(supervisor: Addr<PlanSupervisor>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(limit / 3);
    loop {
        tick.tick().await;
        if supervisor.send(AreYouThere).await.is_err() {
            // It crashed, and the daemon is about to end because of it.
            return;
        }
        tell(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ServiceId;
    use crate::task::TaskId;

    #[test]
    fn the_status_counts_tasks_not_their_services() {
        assert_eq!(summary(&Held::default(), 1), "0 tasks active, 1 service");
        let held = [1, 2].map(|service| (ServiceId::new(service).unwrap(), TaskId(7)));
        assert_eq!(summary(&Held::new(held.into()), 31), "1 task active, 31 services");
    }
}
