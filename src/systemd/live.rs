//! One connection to systemd: calls, and what its signals say.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::{oneshot, watch};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath};

use super::unit::path_of;
use super::{ANSWER, Scope, SystemdError};

const SYSTEMD: &str = "org.freedesktop.systemd1";
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub const ROOT: &str = "/org/freedesktop/systemd1";
/// How many calls await their answers at the same time. The bus refuses more than 128.
const PENDING: usize = 64;
/// How many results of jobs are kept for those who have not asked yet.
const EARLY: usize = 4096;

/// One connection.
pub struct Live {
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

impl Live {
    pub async fn open(scope: &Scope) -> Result<Self, SystemdError> {
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

    pub async fn call<B>(
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
    pub fn result_of(&self, job: &str) -> oneshot::Receiver<String> {
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
    pub fn watch(&self, unit: &str) -> watch::Receiver<()> {
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

    /// Whether the connection was lost.
    pub fn is_closed(&self) -> bool {
        self.heard().closed
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        locked(&self.heard)
    }
}

pub fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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

pub fn decode<T>(answer: &Message, what: &str) -> Result<T, SystemdError>
where
    T: for<'de> serde::Deserialize<'de> + zbus::Type,
{
    let body = answer.body();
    body.deserialize().map_err(|error| SystemdError::Lost { what: format!("{what}: {error}") })
}
