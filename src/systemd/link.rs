//! The connection: made when it is needed, made again when it was lost.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::{oneshot, watch};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

use super::unit::{END, UnitState, path_of};
use super::{ANSWER, Scope, SystemdError};
use crate::crashpoint::point;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const ROOT: &str = "/org/freedesktop/systemd1";
/// How many calls await their answers at the same time. The bus refuses more than 128.
const PENDING: usize = 64;
/// After systemd has not answered, it is not looked at again for so long: those who look at hundreds of units
/// need not wait for each of them.
const SILENCE: Duration = Duration::from_secs(5);
/// How many results of jobs are kept for those who have not asked yet.
const EARLY: usize = 4096;

/// A systemd.
pub struct Systemd {
    scope: Scope,
    live: tokio::sync::Mutex<Option<Arc<Live>>>,
    reload: tokio::sync::Mutex<Reloads>,
    asked: std::sync::atomic::AtomicU64,
    /// When it last did not answer a look.
    silent: Mutex<Option<Instant>>,
}

/// One connection.
struct Live {
    connection: Connection,
    turns: tokio::sync::Semaphore,
    heard: Arc<Mutex<Heard>>,
}

/// What the signals of a connection say.
#[derive(Default)]
struct Heard {
    closed: bool,
    waiting: HashMap<String, oneshot::Sender<String>>,
    early: VecDeque<(String, String)>,
    changes: HashMap<String, watch::Sender<()>>,
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
    pub async fn start(&self, unit: &str, limit: Duration) -> Result<(), SystemdError> {
        self.job("start", "StartUnit", unit, &(unit, "replace"), limit).await
    }

    /// Stops a unit, and waits until its job has ended well.
    pub async fn stop(&self, unit: &str, limit: Duration) -> Result<(), SystemdError> {
        self.job("stop", "StopUnit", unit, &(unit, "replace"), limit).await
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
        limit: Duration,
    ) -> Result<(), SystemdError> {
        let no_others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        self.job("start", "StartTransientUnit", unit, &(unit, "fail", properties, no_others), limit).await
    }

    async fn job<B>(
        &self,
        verb: &'static str,
        method: &'static str,
        unit: &str,
        body: &B,
        limit: Duration,
    ) -> Result<(), SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let live = self.live().await?;
        point("before a unit job");
        let answer = live.call(ROOT, MANAGER, method, body).await?;
        point("after a unit job was asked for");
        let job: OwnedObjectPath = decode(&answer, method)?;
        let result = live.result_of(job.as_str());
        let result = match tokio::time::timeout(limit, result).await {
            Ok(Ok(result)) => result,
            // The connection was lost (systemd was executed anew): what has become of the unit says it.
            Ok(Err(_)) => self.judge(verb, unit, limit).await?,
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
            && !open.heard().closed
        {
            return Ok(open.clone());
        }
        let connecting = tokio::time::timeout(ANSWER, Live::open(&self.scope)).await;
        let open = connecting.map_err(|_| SystemdError::NoAnswer { what: "connect".into() })??;
        Ok(live.insert(Arc::new(open)).clone())
    }
}

impl Live {
    async fn open(scope: &Scope) -> Result<Self, SystemdError> {
        let socket = scope.bus_socket();
        let unreachable = |error: zbus::Error| {
            SystemdError::Unreachable(format!("{error} (is the bus there? {})", socket.display()))
        };
        // Not systemd's private socket: what it says there has a sender that the library takes for invalid.
        let address = format!("unix:path={}", socket.display());
        let address: zbus::Address = address.as_str().try_into().map_err(unreachable)?;
        let connection = zbus::connection::Builder::address(address).build().await.map_err(unreachable)?;
        let live = Self { connection, turns: tokio::sync::Semaphore::new(PENDING), heard: Arc::default() };
        live.listen().await.map_err(unreachable)?;
        live.call(ROOT, MANAGER, "Subscribe", &()).await?;
        Ok(live)
    }

    /// From now on, the signals of jobs and units are heard.
    async fn listen(&self) -> zbus::Result<()> {
        let rules = [
            zbus::MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .sender(SYSTEMD)
                .interface(MANAGER)
                .member("JobRemoved"),
            zbus::MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .sender(SYSTEMD)
                .interface("org.freedesktop.DBus.Properties")
                .member("PropertiesChanged"),
        ];
        for rule in rules {
            let mut signals = MessageStream::for_match_rule(rule.build()?, &self.connection, None).await?;
            let heard = self.heard.clone();
            tokio::spawn(async move {
                while let Some(Ok(signal)) = signals.next().await {
                    locked(&heard).take(&signal);
                }
                locked(&heard).close();
            });
        }
        Ok(())
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &B,
    ) -> Result<Message, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        let _turn = self.turns.acquire().await;
        let call = self.connection.call_method(Some(SYSTEMD), path, Some(interface), method, body);
        match tokio::time::timeout(ANSWER, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(zbus::Error::MethodError(name, message, _))) => {
                let message = message.unwrap_or_else(|| name.to_string());
                Err(SystemdError::Refused { name: name.to_string(), message })
            }
            Ok(Err(error)) => {
                self.heard().close();
                Err(SystemdError::Lost { what: format!("{method}: {error}") })
            }
            Err(_) => Err(SystemdError::NoAnswer { what: method.into() }),
        }
    }

    /// Resolves to the result of a job; an error: the connection was lost before.
    fn result_of(&self, job: &str) -> oneshot::Receiver<String> {
        let (tell, told) = oneshot::channel();
        let mut heard = self.heard();
        if let Some(index) = heard.early.iter().position(|early| early.0 == job) {
            if let Some((_, result)) = heard.early.remove(index) {
                tell.send(result).ok();
            }
        } else if !heard.closed {
            heard.waiting.insert(job.to_string(), tell);
        }
        told
    }

    /// Changes of a unit from now on.
    fn watch(&self, unit: &str) -> watch::Receiver<()> {
        let mut heard = self.heard();
        // Nobody waits for them any more.
        if heard.changes.len() > 1024 {
            heard.changes.retain(|_, sender| sender.receiver_count() > 0);
        }
        if heard.closed {
            return watch::channel(()).1;
        }
        heard.changes.entry(path_of(unit)).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        locked(&self.heard)
    }
}

fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn take(&mut self, signal: &Message) {
        let header = signal.header();
        if header.member().is_some_and(|member| member.as_str() == "JobRemoved") {
            let Ok((_, job, _, result)) =
                signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
            else {
                return;
            };
            if let Some(waiting) = self.waiting.remove(job.as_str()) {
                waiting.send(result).ok();
                return;
            }
            if self.early.len() == EARLY {
                self.early.pop_front();
            }
            self.early.push_back((job.to_string(), result));
        } else if let Some(path) = header.path()
            && let Some(changes) = self.changes.get(path.as_str())
        {
            changes.send_replace(());
        }
    }

    /// Dropping the senders tells everybody who waits.
    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.changes.clear();
    }
}

fn decode<T>(answer: &Message, what: &str) -> Result<T, SystemdError>
where
    T: for<'de> serde::Deserialize<'de> + zbus::Type,
{
    let body = answer.body();
    body.deserialize().map_err(|error| SystemdError::Lost { what: format!("{what}: {error}") })
}
