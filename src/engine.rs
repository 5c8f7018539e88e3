//! Podman and Docker, by the few calls of their common interface that deployd needs.
//!
//! Whatever an engine answers is read in bounded memory and within a limit of time, and of what it says only what
//! is used: what one of them adds harms nobody. Nothing here removes a container by force, or any volume: what may
//! still run is never removed, and data is not ours to delete.

mod call;
mod error;
mod logs;
mod pull;
mod state;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::Engine;
use crate::crashpoint::point;
use call::{Answer, Call, DO, Reply};

pub use error::EngineError;
pub use pull::Image;
pub use state::{Config, Inspected, Mount, Phase, State};
pub use version::{About, ApiVersion, NEWEST, OLDEST};

/// How long a pull may say nothing: a registry may be slow, and so may a disk that layers are unpacked to.
const STALL: Duration = Duration::from_mins(5);

/// An engine at its socket.
pub struct Connection {
    engine: &'static str,
    socket: PathBuf,
    client: Client,
    /// The version that is spoken, once the engine was asked for its own.
    spoken: Mutex<Option<ApiVersion>>,
    /// How long a pull may say nothing.
    stall: Duration,
}

impl Connection {
    /// The engine that listens at `socket`; nothing is asked yet.
    ///
    /// # Errors
    /// When a client can't be set up.
    pub fn new(engine: Engine, socket: &Path) -> Result<Self, reqwest::Error> {
        let client = Client::builder().unix_socket(socket).redirect(reqwest::redirect::Policy::none());
        let client = crate::tls::without_tls(client)?;
        Ok(Self {
            engine: engine.name(),
            socket: socket.to_path_buf(),
            client,
            spoken: Mutex::default(),
            stall: STALL,
        })
    }

    /// The same, with another limit for how long a pull may say nothing.
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Which it is.
    pub const fn engine(&self) -> &'static str {
        self.engine
    }

    /// The container of this name or id, if there is one.
    pub async fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        let answer = self.call(Call::tell("look at a container", format!("containers/{name}/json"))).await?;
        if answer.is_missing() { Ok(None) } else { answer.read().map(Some) }
    }

    /// Makes a container; its id.
    pub async fn create(&self, name: &str, body: Value) -> Result<String, EngineError> {
        let call =
            Call::deed("make the container", "containers/create".into()).with("name", &name).body(body);
        point("before an engine makes a container");
        let answer = self.call(call).await?;
        point("after an engine made a container");
        id_of(&answer)
    }

    /// Starts a container; one that runs stays as it is.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        point("before an engine starts a container");
        let answer = self.call(Call::deed("start the container", format!("containers/{id}/start"))).await?;
        point("after an engine started a container");
        answer.done()
    }

    /// Asks a container to end, by the signal that it was made with; the engine kills it after `patience`. One
    /// that is down or gone stays so. Whether it has ended, a look tells.
    pub async fn stop(&self, id: &str, patience: Duration) -> Result<(), EngineError> {
        let call = Call::deed("stop the container", format!("containers/{id}/stop"))
            .with("t", &patience.as_millis().div_ceil(1000))
            .within(DO + patience);
        point("before an engine stops a container");
        let answer = self.call(call).await?;
        point("after an engine stopped a container");
        if answer.is_missing() { Ok(()) } else { answer.done() }
    }

    /// Lets a paused container go on.
    pub async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        let call = Call::deed("unpause the container", format!("containers/{id}/unpause"));
        self.call(call).await?.done()
    }

    /// Removes a container that does not run, without its volumes; one that is gone stays so. The engine refuses
    /// to remove one that runs.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let call = Call::deed("remove the container", format!("containers/{id}"));
        point("before an engine removes a container");
        let answer = self.call(Call { method: Method::DELETE, ..call }).await?;
        point("after an engine removed a container");
        if answer.is_missing() { Ok(()) } else { answer.done() }
    }

    /// The labels of the volume of this name, if there is one.
    pub async fn volume(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, EngineError> {
        let answer = self.call(Call::tell("look at a volume", format!("volumes/{name}"))).await?;
        if answer.is_missing() { Ok(None) } else { answer.read::<Volume>().map(|it| Some(it.labels)) }
    }

    /// Makes a volume, and hands back its labels: those of one that is there already stay as they are.
    pub async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let call = Call::deed("make a volume", "volumes/create".into());
        point("before an engine makes a volume");
        let answer = self.call(call.body(json!({ "Name": name, "Labels": labels }))).await?;
        point("after an engine made a volume");
        answer.read::<Volume>().map(|volume| volume.labels)
    }

    /// The last lines of what a container has said, to both of its streams.
    pub async fn logs(&self, id: &str, lines: usize) -> Result<Vec<u8>, EngineError> {
        let call = Call::tell("tell what the container said", format!("containers/{id}/logs"))
            .with("stdout", &true)
            .with("stderr", &true)
            .with("tail", &lines);
        self.output(&call).await
    }

    /// Runs a command inside a container: its exit code, and the end of what it has said.
    pub async fn exec(
        &self,
        id: &str,
        argv: &[String],
        time: Duration,
    ) -> Result<(i64, Vec<u8>), EngineError> {
        const WHAT: &str = "run a command in the container";
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv });
        let call = Call::deed(WHAT, format!("containers/{id}/exec")).body(body);
        let exec = id_of(&self.call(call).await?)?;
        let call = Call::deed(WHAT, format!("exec/{exec}/start")).within(time);
        let said = self.output(&call.body(json!({ "Detach": false, "Tty": false }))).await?;
        let ended: Value = self.call(Call::tell(WHAT, format!("exec/{exec}/json"))).await?.read()?;
        Ok((ended["ExitCode"].as_i64().unwrap_or(-1), said))
    }

    /// The end of what is said in frames.
    async fn output(&self, call: &Call) -> Result<Vec<u8>, EngineError> {
        let mut coming = match self.send(call).await? {
            Reply::Whole(answer) => return answer.done().map(|()| Vec::new()),
            Reply::Coming(coming) => coming,
        };
        let mut output = logs::Output::default();
        while let Some(chunk) = coming.chunk().await? {
            output.take(chunk.as_ref());
        }
        Ok(output.into_text())
    }
}

/// The id in an answer. It becomes part of paths.
fn id_of(answer: &Answer) -> Result<String, EngineError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        id: String,
    }
    let id = answer.read::<Named>()?.id;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { Ok(id) } else { Err(answer.refused("its answer has no id that can be one")) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    #[serde(default, deserialize_with = "state::null_is_empty")]
    labels: BTreeMap<String, String>,
}
