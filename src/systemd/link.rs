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
/// After systemd has not answered, it is not looked at again for so long: those who look at hundreds of units
/// need not wait for each of them.
const SILENCE: Duration = Duration::from_secs(5);
/// A job that takes longer is asked how long it may.
const SOON: Duration = Duration::from_secs(10);
/// Beyond what a unit may take by itself, a job has this time.
const MARGIN: Duration = Duration::from_secs(30);
/// No job takes longer, whatever the unit says.
const LONGEST: Duration = Duration::from_hours(1);

/// A systemd.
pub struct Systemd {
    scope: Scope,
    live: tokio::sync::Mutex<Option<Arc<Live>>>,
    reload: tokio::sync::Mutex<Reloads>,
    asked: std::sync::atomic::AtomicU64,
    /// When it last did not answer a look.
    silent: Mutex<Option<Instant>>,
}

/// Of those who ask for a reload, all that have asked before one begins share it.
#[derive(Default)]
struct Reloads {
    begun: u64,
    ended_well: u64,
}

impl Systemd {
    /// The systemd of `scope`; nothing is connected yet.
    pub fn new(scope: Scope) -> Self {
        Self {
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

    /// Starts a unit, and waits until its job has ended well.
    pub async fn start(&self, unit: &str) -> Result<(), SystemdError> {
        self.job("start", "StartUnit", unit, &(unit, "replace")).await
    }

    /// Stops a unit, and waits until its job has ended well.
    pub async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        self.job("stop", "StopUnit", unit, &(unit, "replace")).await
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
        self.job("start", "StartTransientUnit", unit, &(unit, "fail", properties, no_others)).await
    }

    async fn job<B>(
        &self,
        verb: &'static str,
        method: &'static str,
        unit: &str,
        body: &B,
    ) -> Result<(), SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let live = self.live().await?;
        point("before a unit job");
        let answer = live.call(ROOT, MANAGER, method, body).await?;
        point("after a unit job was asked for");
        let job: OwnedObjectPath = decode(&answer, method)?;
        let mut result = live.result_of(job.as_str());
        // How long it may take is only asked when it does take long.
        let soon = tokio::time::timeout(SOON, &mut result).await;
        let (result, limit) = if let Ok(result) = soon {
            (Ok(result), SOON)
        } else {
            let limit = self.limit(unit).await?;
            (tokio::time::timeout(limit, result).await, limit)
        };
        let result = match result {
            Ok(Ok(result)) => result,
            // The connection was lost (systemd was executed anew): what has become of the unit says it.
            Ok(Err(_)) => self.judge(verb, unit, self.limit(unit).await?).await?,
            Err(_) => {
                let unit = unit.to_string();
                return Err(SystemdError::JobHangs { verb, unit, seconds: limit.as_secs() });
            }
        };
        point("after a unit job");
        if result == "done" {
            return Ok(());
        }
        let detail = self.state(unit, &END).await.map(|state| state.why()).unwrap_or_default();
        Err(SystemdError::Job { verb, unit: unit.to_string(), result, detail })
    }

    /// What a job of a unit may take, by what the unit itself says.
    async fn limit(&self, unit: &str) -> Result<Duration, SystemdError> {
        let state = self.state(unit, &["TimeoutStartUSec", "TimeoutStopUSec"]).await?;
        let micros = state.start_limit.max(state.stop_limit);
        Ok(Duration::from_micros(micros).saturating_mul(3).min(LONGEST) + MARGIN)
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
