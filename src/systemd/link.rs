//! The connection: made when it is needed, made again when it was lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::live::{Live, MANAGER, ROOT, decode, locked};
use super::unit::{END, UnitState, path_of};
use super::{ANSWER, Scope, SystemdError};
use crate::crashpoint::point;

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";
/// After systemd has not answered, it is not looked at again for so long: those who look at hundreds of units
/// need not wait for each of them.
const SILENCE: Duration = Duration::from_secs(5);
/// A job that takes longer is asked how long it may.
const SOON: Duration = Duration::from_secs(10);
/// Beyond what a unit may take by itself, a job has this time.
const MARGIN: Duration = Duration::from_secs(30);
/// No job takes longer, whatever the unit says.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a job may take of a unit that sets itself no limit.
const UNLIMITED: Duration = Duration::from_secs(90);
/// How often a unit that changes all the time is looked at.
const FOLLOW: Duration = Duration::from_secs(1);

/// A systemd.
pub struct Systemd {
    scope: Scope,
    live: tokio::sync::Mutex<Option<Arc<Live>>>,
    reload: tokio::sync::Mutex<Reloads>,
    asked: std::sync::atomic::AtomicU64,
    /// When it last did not answer a look.
    silent: Mutex<Option<Instant>>,
    /// How long each job may take (`timeouts.unit`); `None`: as its unit says.
    limit: Option<Duration>,
    version: tokio::sync::OnceCell<u32>,
}

/// Of those who ask for a reload, all that have asked before one begins share it.
#[derive(Default)]
struct Reloads {
    begun: u64,
    ended_well: u64,
}

impl Systemd {
    /// The systemd of `scope`; nothing is connected yet. `limit` is how long each job of a unit may take; `None`:
    /// as its unit says.
    pub fn new(scope: Scope, limit: Option<Duration>) -> Self {
        Self {
            limit,
            version: tokio::sync::OnceCell::new(),
            scope,
            live: tokio::sync::Mutex::default(),
            reload: tokio::sync::Mutex::default(),
            asked: 0.into(),
            silent: Mutex::default(),
        }
    }

    /// Which one.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How long to wait for what is going on in a unit.
    pub fn patience(&self) -> Duration {
        self.limit.unwrap_or(UNLIMITED)
    }

    /// Its version: 252.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<u32, SystemdError> {
        let ask = async || -> Result<u32, SystemdError> {
            let answer = self.live().await?.call(ROOT, PROPERTIES, "Get", &(MANAGER, "Version")).await?;
            let version: OwnedVariant = decode(&answer, "Version")?;
            Ok(String::try_from(version).map_or(0, |text| major(&text)))
        };
        self.version.get_or_try_init(ask).await.copied()
    }

    /// What a unit is, with these properties that only services have: a look is one message and one for
    /// each of them. A unit that does not exist is `not-found`.
    pub async fn state(&self, unit: &str, more: &[&str]) -> Result<UnitState, SystemdError> {
        if locked(&self.silent).is_some_and(|since| since.elapsed() < SILENCE) {
            return Err(SystemdError::NoAnswer { what: format!("look at {unit}") });
        }
        let looked = self.look(unit, more).await;
        if let Err(SystemdError::NoAnswer { .. }) = looked {
            *locked(&self.silent) = Some(Instant::now());
        }
        looked
    }

    async fn look(&self, unit: &str, more: &[&str]) -> Result<UnitState, SystemdError> {
        let live = self.live().await?;
        let path = path_of(unit);
        // State, run and job in one answer: they belong together.
        let answer = live.call(&path, PROPERTIES, "GetAll", &(UNIT,)).await?;
        let properties: HashMap<String, OwnedVariant> = decode(&answer, "GetAll")?;
        let mut state = UnitState::default();
        state.take(&properties);
        self.look_closer(unit, more, &mut state).await?;
        Ok(state)
    }

    /// Adds these properties, which only services have, to what is known of a unit.
    pub async fn look_closer(
        &self,
        unit: &str,
        more: &[&str],
        state: &mut UnitState,
    ) -> Result<(), SystemdError> {
        let (live, path) = (self.live().await?, path_of(unit));
        // All of a service's would be 250, and systemd reads the cgroup's files for some of them.
        let get = async |name: &str| -> Result<_, SystemdError> {
            let answer = live.call(&path, PROPERTIES, "Get", &(SERVICE, name)).await?;
            Ok((name.to_string(), decode::<OwnedVariant>(&answer, "Get")?))
        };
        let properties = futures_util::future::try_join_all(more.iter().map(|name| get(name))).await?;
        state.take(&properties.into_iter().collect());
        Ok(())
    }

    /// Waits until `is_over` holds for the unit; returns what it is then. It has to hold without `more`, too:
    /// these are only asked for when it does.
    pub async fn until(
        &self,
        unit: &str,
        more: &[&str],
        is_over: impl Fn(&UnitState) -> bool + Send,
    ) -> Result<UnitState, SystemdError> {
        loop {
            let live = self.live().await?;
            let mut changed = live.watch(unit);
            let mut state = self.state(unit, &[]).await?;
            if is_over(&state) && !more.is_empty() {
                state = self.state(unit, more).await?;
            }
            if is_over(&state) {
                return Ok(state);
            }
            // An error: the connection was lost, and another one says what has changed since.
            changed.changed().await.ok();
        }
    }

    /// Tells what a unit is, now and after each change, until it is dropped.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn follow(
        &self,
        unit: &str,
        more: &[&str],
        tell: impl Fn(UnitState) + Send,
    ) -> Result<(), SystemdError> {
        loop {
            let live = self.live().await?;
            let mut changed = live.watch(unit);
            let mut state = self.state(unit, more).await?;
            if state.has_job
                && let Ok(answer) = live.call(&state.job_path, PROPERTIES, "GetAll", &(JOB,)).await
            {
                let properties: HashMap<String, OwnedVariant> = decode(&answer, "GetAll")?;
                let text = |key: &str| String::try_from(properties.get(key)?.clone()).ok();
                state.job = text("JobType").zip(text("State"));
            }
            tell(state);
            tokio::time::sleep(FOLLOW).await;
            changed.changed().await.ok();
        }
    }

    /// Starts a unit, and waits until its job has ended well.
    pub async fn start(&self, unit: &str) -> Result<(), SystemdError> {
        self.job("start", "StartUnit", unit, &(unit, "replace"), None).await
    }

    /// Stops a unit, and waits until its job has ended well. `limit` is how long that may take; `None`: as for all.
    pub async fn stop(&self, unit: &str, limit: Option<Duration>) -> Result<(), SystemdError> {
        self.job("stop", "StopUnit", unit, &(unit, "replace"), limit).await
    }

    /// Keeps systemd from forgetting a unit that is down, as long as this connection lasts.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn hold(&self, unit: &str) -> Result<(), SystemdError> {
        self.live().await?.call(&path_of(unit), UNIT, "Ref", &()).await.map(|_| ())
    }

    /// Lets systemd forget it again.
    ///
    /// # Errors
    /// When it does not answer, or was not kept from it by this connection.
    pub async fn let_go(&self, unit: &str) -> Result<(), SystemdError> {
        self.live().await?.call(&path_of(unit), UNIT, "Unref", &()).await.map(|_| ())
    }

    /// Which run of a unit is, or was the last: 32 hex digits.
    pub async fn invocation(&self, unit: &str) -> Result<String, SystemdError> {
        let (live, path) = (self.live().await?, path_of(unit));
        let answer = live.call(&path, PROPERTIES, "Get", &(UNIT, "InvocationID")).await?;
        let mut state = UnitState::default();
        state.take(&HashMap::from([("InvocationID".to_string(), decode(&answer, "Get")?)]));
        Ok(state.invocation)
    }

    /// Forgets that a unit had failed, and how often it was started.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        match self.live().await?.call(ROOT, MANAGER, "ResetFailedUnit", &(unit,)).await {
            // It is not loaded: there is nothing to forget.
            Err(SystemdError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Lets systemd read all unit files anew. Whoever asks at the same time shares one reload.
    pub async fn reload(&self) -> Result<(), SystemdError> {
        use std::sync::atomic::Ordering::SeqCst;
        // Any reload that begins from now on reads what we have written.
        let wanted = self.asked.load(SeqCst) + 1;
        let mut reloads = self.reload.lock().await;
        if reloads.ended_well >= wanted {
            return Ok(());
        }
        reloads.begun += 1;
        self.asked.store(reloads.begun, SeqCst);
        point("before systemd is reloaded");
        self.live().await?.call(ROOT, MANAGER, "Reload", &()).await?;
        point("after systemd was reloaded");
        reloads.ended_well = reloads.begun;
        Ok(())
    }

    /// Makes a unit with these properties and starts it; waits until that has ended well.
    pub async fn start_transient(
        &self,
        unit: &str,
        properties: Vec<(&str, Variant<'_>)>,
    ) -> Result<(), SystemdError> {
        let no_others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        self.job("start", "StartTransientUnit", unit, &(unit, "fail", properties, no_others), None).await
    }

    async fn job<B>(
        &self,
        verb: &'static str,
        method: &'static str,
        unit: &str,
        body: &B,
        limit: Option<Duration>,
    ) -> Result<(), SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let live = self.live().await?;
        let limit = limit.or(self.limit);
        point("before a unit job");
        let answer = live.call(ROOT, MANAGER, method, body).await?;
        point("after a unit job was asked for");
        let job: OwnedObjectPath = decode(&answer, method)?;
        let mut result = live.result_of(job.as_str());
        // How long it may take is only asked when it does take long.
        let soon = limit.unwrap_or(SOON);
        let (result, limit) = match (tokio::time::timeout(soon, &mut result).await, limit) {
            (Err(_), None) => {
                let limit = self.limit_of(verb, unit).await?;
                (tokio::time::timeout(limit.saturating_sub(soon), result).await, limit)
            }
            (result, _) => (result, soon),
        };
        let result = match result {
            Ok(Ok(result)) => result,
            // The connection was lost (systemd was executed anew): what has become of the unit says it.
            Ok(Err(_)) => self.judge(verb, unit, self.limit_of(verb, unit).await?).await?,
            Err(_) => return Err(self.hangs(verb, unit, limit).await),
        };
        point("after a unit job");
        if result == "done" {
            return Ok(());
        }
        let detail = self.state(unit, &END).await.map(|state| state.why()).unwrap_or_default();
        Err(SystemdError::Job { verb, unit: unit.to_string(), result, detail })
    }

    /// What a job of a unit may take, by what the unit itself says.
    async fn limit_of(&self, verb: &str, unit: &str) -> Result<Duration, SystemdError> {
        if let Some(limit) = self.limit {
            return Ok(limit);
        }
        let state = self.state(unit, &["Type", "TimeoutStartUSec", "TimeoutStopUSec"]).await?;
        let micros = if verb == "stop" { state.stop_limit } else { state.start_limit };
        Ok(match micros {
            // Its start is its whole work, and has no limit unless one is set.
            u64::MAX if verb == "start" && state.kind == "oneshot" => LONGEST,
            u64::MAX => UNLIMITED,
            micros => Duration::from_micros(micros).saturating_mul(3).min(LONGEST) + MARGIN,
        })
    }

    async fn hangs(&self, verb: &'static str, unit: &str, limit: Duration) -> SystemdError {
        let state = self.state(unit, &["StatusText"]).await;
        let state = state.map_or_else(
            |_| "it cannot be looked at".into(),
            |state| {
                let said =
                    if state.text.is_empty() { String::new() } else { format!(", status: {}", state.text) };
                format!("it is {}{said}", state.words())
            },
        );
        SystemdError::JobHangs { verb, unit: unit.to_string(), limit, state }
    }

    async fn judge(&self, verb: &str, unit: &str, limit: Duration) -> Result<String, SystemdError> {
        let over = self.until(unit, &[], |state| !state.is_under_way());
        let lost = || SystemdError::Lost { what: format!("{verb} {unit}") };
        let state = tokio::time::timeout(limit, over).await.map_err(|_| lost())??;
        let done = if verb == "stop" { state.is_down() } else { state.is_up() };
        Ok(if done { "done".into() } else { "failed".into() })
    }

    async fn live(&self) -> Result<Arc<Live>, SystemdError> {
        let mut live = self.live.lock().await;
        if let Some(open) = &*live
            && !open.is_closed()
        {
            return Ok(open.clone());
        }
        let connecting = tokio::time::timeout(ANSWER, Live::open(&self.scope)).await;
        let open = connecting.map_err(|_| SystemdError::NoAnswer { what: "connect".into() })??;
        Ok(live.insert(Arc::new(open)).clone())
    }
}

/// `252.39-1~deb12u1` is 252.
fn major(version: &str) -> u32 {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_first_number() {
        let cases = [("252.39-1~deb12u1", 252), ("256", 256), ("v254", 0), ("", 0)];
        assert!(cases.iter().all(|(text, number)| major(text) == *number), "{cases:?}");
    }
}
