//! Podman and Docker, by the few calls of their common interface that deployd needs.
//!
//! Both answer version 1.41 of Docker's API at a Unix socket: Docker Engine since 20.10, Podman since 3.
//! Of what they answer only what is used is read, so that what one of them adds harms nobody.

mod logs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::catalog::Engine;
use crate::crashpoint::point;
use crate::tls::innermost;

/// Where the interface lies: the host means nothing at a Unix socket.
const API: &str = "http://engine/v1.41";
/// A call that does nothing but tell takes no longer.
const TELL: Duration = Duration::from_secs(20);
/// A call that makes, starts or removes a container takes no longer.
const DO: Duration = Duration::from_mins(2);
/// An image is pulled in this time.
const PULL: Duration = Duration::from_mins(15);
/// No more of an answer is read.
const MAX_ANSWER: usize = 4 << 20;

/// Why an engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens.
    #[error(
        "cannot reach {engine} at {socket}: {why}; start it (`systemctl enable --now {engine}.socket`), or name \
         its socket in the configuration (`engines.{engine}`)"
    )]
    Unreachable {
        /// Which.
        engine: &'static str,
        /// Where.
        socket: String,
        /// What the system said.
        why: String,
    },
    /// It said no.
    #[error("{engine} can't {what}: {message}; its own log may say more")]
    Refused {
        /// Which.
        engine: &'static str,
        /// What was asked for.
        what: &'static str,
        /// What it said.
        message: String,
    },
    /// It was asked, and its answer did not come: it may have been done.
    #[error(
        "{engine} did not answer whether it could {what}: {why}; whether it was done is found out when the task is resumed"
    )]
    Cut {
        /// Which.
        engine: &'static str,
        /// What was asked for.
        what: &'static str,
        /// What happened.
        why: String,
    },
    /// The name is taken.
    #[error("container {name} at {engine} was not made by this deployd; remove it, or rename one of the two")]
    Foreign {
        /// Which.
        engine: &'static str,
        /// The container's name.
        name: String,
    },
}

/// A container, as an engine tells of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// Its id.
    pub id: String,
    /// How it is.
    pub state: State,
    /// How often the engine has started it again after it had ended.
    #[serde(default)]
    pub restart_count: u32,
    /// What it was made with.
    pub config: Config,
}

/// How a container is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `exited`, …; each engine has some of its own.
    pub status: String,
    /// Its program runs.
    pub running: bool,
    /// It has ended, and is about to be started again: Docker says then that it runs, too.
    #[serde(default)]
    pub restarting: bool,
    /// Its main process, on this host.
    #[serde(default)]
    pub pid: i32,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i32,
    /// When it was last started, RFC 3339.
    #[serde(default)]
    pub started_at: String,
}

impl State {
    /// Its program runs.
    pub const fn is_up(&self) -> bool {
        self.running && !self.restarting
    }
}

/// What a container was made with.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Its labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// An engine at its socket.
pub struct Connection {
    engine: &'static str,
    socket: PathBuf,
    client: Client,
}

impl Connection {
    /// The engine that listens at `socket`; nothing is asked yet.
    ///
    /// # Errors
    /// When a client can't be set up.
    pub fn new(engine: Engine, socket: &Path) -> Result<Self, reqwest::Error> {
        let client = Client::builder().unix_socket(socket).redirect(reqwest::redirect::Policy::none());
        let client = crate::tls::without_tls(client)?;
        Ok(Self { engine: engine.name(), socket: socket.to_path_buf(), client })
    }

    /// Which it is.
    pub const fn engine(&self) -> &'static str {
        self.engine
    }

    /// The container of this name or id, if there is one.
    pub async fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        let call = Call::tell("look at a container", format!("containers/{name}/json"));
        let answer = self.call(call).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(None) } else { answer.read().map(Some) }
    }

    /// Makes a container; its id.
    pub async fn create(&self, name: &str, body: Value) -> Result<String, EngineError> {
        let call =
            Call::deed("make the container", "containers/create".into()).with("name", &name).body(body);
        point("before an engine makes a container");
        let answer = self.call(call).await?;
        point("after an engine made a container");
        answer.read::<Named>().map(|made| made.id)
    }

    /// Starts a container; one that runs stays as it is.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        point("before an engine starts a container");
        let answer = self.call(Call::deed("start the container", format!("containers/{id}/start"))).await?;
        point("after an engine started a container");
        answer.done()
    }

    /// Asks a container to end, by the signal that it was made with; it is killed after `patience`. One that
    /// is down or gone stays so.
    pub async fn stop(&self, id: &str, patience: Duration) -> Result<(), EngineError> {
        let call = Call::deed("stop the container", format!("containers/{id}/stop"))
            .with("t", &patience.as_millis().div_ceil(1000))
            .within(DO + patience);
        point("before an engine stops a container");
        let answer = self.call(call).await?;
        point("after an engine stopped a container");
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.done() }
    }

    /// Removes a container, whatever it does; one that is gone stays so.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let call = Call::deed("remove the container", format!("containers/{id}"))
            .with("force", &true)
            .with("v", &true);
        point("before an engine removes a container");
        let answer = self.call(Call { method: Method::DELETE, ..call }).await?;
        point("after an engine removed a container");
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.done() }
    }

    /// Sees to it that the image is there: one that is, is not asked for anew.
    pub async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let call = Call::tell("look for the image", format!("images/{image}/json"));
        if self.call(call).await?.status.is_success() {
            return Ok(());
        }
        let mut call =
            Call::deed("get the image", "images/create".into()).with("fromImage", &image).within(PULL);
        // Without a tag Docker would get all of them.
        if !image.rsplit('/').next().unwrap_or(image).contains([':', '@']) {
            call = call.with("tag", &"latest");
        }
        let answer = self.call(call).await?;
        answer.done()?;
        // How it goes comes line by line, and so does a failure in the middle.
        let lines = answer.body.split(|byte| *byte == b'\n');
        let said = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let failed = said.filter_map(|said| Some(said.get("error")?.as_str()?.to_string())).next_back();
        failed.map_or(Ok(()), |message| Err(answer.refused(&message)))
    }

    /// The last lines of what a container has said, to both of its streams.
    pub async fn logs(&self, id: &str, lines: usize) -> Result<Vec<u8>, EngineError> {
        let call = Call::tell("tell what the container said", format!("containers/{id}/logs"))
            .with("stdout", &true)
            .with("stderr", &true)
            .with("tail", &lines);
        let answer = self.call(call).await?;
        answer.done()?;
        Ok(logs::without_frames(&answer.body))
    }

    /// Runs a command inside a container: its exit code, and what it has said.
    pub async fn exec(
        &self,
        id: &str,
        argv: &[String],
        time: Duration,
    ) -> Result<(i64, Vec<u8>), EngineError> {
        const WHAT: &str = "run a command in the container";
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv });
        let call = Call::deed(WHAT, format!("containers/{id}/exec")).body(body);
        let exec = self.call(call).await?.read::<Named>()?.id;
        let call = Call::deed(WHAT, format!("exec/{exec}/start")).within(time);
        let said = self.call(call.body(json!({ "Detach": false, "Tty": false }))).await?;
        said.done()?;
        let ended: Value = self.call(Call::tell(WHAT, format!("exec/{exec}/json"))).await?.read()?;
        Ok((ended["ExitCode"].as_i64().unwrap_or(-1), logs::without_frames(&said.body)))
    }

    async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let (engine, what) = (self.engine, call.what);
        let url = Url::parse_with_params(&format!("{API}/{}", call.path), call.query)
            .map_err(|error| EngineError::Refused { engine, what, message: error.to_string() })?;
        let mut request = self.client.request(call.method, url).timeout(call.time);
        if let Some(body) = call.body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let cut = |error: &reqwest::Error| EngineError::Cut { engine, what, why: innermost(error) };
        let mut answer = request.send().await.map_err(|error| {
            if error.is_connect() {
                let socket = self.socket.display().to_string();
                EngineError::Unreachable { engine, socket, why: innermost(&error) }
            } else {
                cut(&error)
            }
        })?;
        let status = answer.status();
        let mut body = Vec::new();
        while body.len() < MAX_ANSWER
            && let Some(chunk) = answer.chunk().await.map_err(|error| cut(&error))?
        {
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { engine, what, status, body })
    }
}

/// An answer of an engine that knows nothing but an id.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    id: String,
}

/// What an engine said to what it was asked.
struct Answer {
    engine: &'static str,
    what: &'static str,
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    fn done(&self) -> Result<(), EngineError> {
        // "Not modified": it was so already.
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let said = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let message = said.get("message").and_then(Value::as_str).map(str::to_string);
        Err(self.refused(&message.unwrap_or_else(|| format!("HTTP {}", self.status))))
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        self.done()?;
        serde_json::from_slice(&self.body)
            .map_err(|error| self.refused(&format!("its answer can't be read: {error}")))
    }

    fn refused(&self, message: &str) -> EngineError {
        EngineError::Refused { engine: self.engine, what: self.what, message: message.trim().into() }
    }
}

/// What is asked of an engine.
struct Call {
    what: &'static str,
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    time: Duration,
}

impl Call {
    /// Something that changes nothing.
    fn tell(what: &'static str, path: String) -> Self {
        Self { what, method: Method::GET, path, query: Vec::new(), body: None, time: TELL }
    }

    /// A deed.
    fn deed(what: &'static str, path: String) -> Self {
        Self { method: Method::POST, time: DO, ..Self::tell(what, path) }
    }

    fn with(mut self, key: &'static str, value: &impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }
}
