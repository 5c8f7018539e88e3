//! The one place from which an engine is called: it puts the version that both speak before each path, bounds
//! what is read of each answer, and gives each call a limit of time.

use std::time::{Duration, Instant};

use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::version::{self, ApiVersion};
use super::{Connection, EngineError};
use crate::tls::innermost;

/// How long a call may take that changes nothing.
const TELL: Duration = Duration::from_secs(20);
/// How long a call may take that makes, starts or removes a container.
pub(super) const DO: Duration = Duration::from_mins(2);
/// Maximum length of an answer that is read as a whole.
const MAX_ANSWER: usize = 4 << 20;
/// Maximum length of what an engine says about a failure.
const MAX_MESSAGE: usize = 2000;
/// How often another version is tried when the engine refuses one.
const VERSIONS: usize = 3;

/// What an engine is asked for.
pub(super) struct Call {
    pub what: &'static str,
    pub method: Method,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub time: Duration,
}

impl Call {
    /// A call that changes nothing.
    pub fn tell(what: &'static str, path: String) -> Self {
        Self { what, method: Method::GET, path, query: Vec::new(), body: None, time: TELL }
    }

    /// A call that changes something.
    pub fn deed(what: &'static str, path: String) -> Self {
        Self { method: Method::POST, time: DO, ..Self::tell(what, path) }
    }

    pub fn with(mut self, key: &'static str, value: &impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    pub fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    pub fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }
}

impl Connection {
    /// Makes a call, and reads the whole answer.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, EngineError> {
        let begun = Instant::now();
        let answer = self.whole(&call).await;
        // An engine that was restarted has closed the connections that were kept: looking again costs nothing.
        let is_closed = matches!(answer, Err(EngineError::Cut { .. })) && begun.elapsed() < call.time / 2;
        if is_closed && call.method == Method::GET { self.whole(&call).await } else { answer }
    }

    async fn whole(&self, call: &Call) -> Result<Answer, EngineError> {
        match self.send(call).await? {
            Reply::Whole(answer) => Ok(answer),
            Reply::Coming(coming) => coming.whole().await,
        }
    }

    /// Makes a call, and hands back an answer whose body is still to come. An answer that is no success is read.
    pub(super) async fn send(&self, call: &Call) -> Result<Reply, EngineError> {
        let mut refused = String::new();
        for _ in 0..VERSIONS {
            let version = self.version().await?;
            let coming = self.ask(call, Some(version)).await?;
            if coming.status.is_success() {
                return Ok(Reply::Coming(coming));
            }
            let answer = coming.whole().await?;
            // Nothing was done yet: the version is judged before anything else.
            let Some(message) = version::refusal(answer.status, &answer.body) else {
                return Ok(Reply::Whole(answer));
            };
            self.forget(version);
            refused = message;
        }
        Err(EngineError::Version { engine: self.engine, message: refused })
    }

    /// One request, with the whole answer, and without judging the version.
    pub(super) async fn once(&self, call: &Call, version: Option<ApiVersion>) -> Result<Answer, EngineError> {
        self.ask(call, version).await?.whole().await
    }

    async fn ask(&self, call: &Call, version: Option<ApiVersion>) -> Result<Coming, EngineError> {
        let (engine, what) = (self.engine, call.what);
        // The host means nothing at a Unix socket.
        let version = version.map(|version| format!("/v{version}")).unwrap_or_default();
        let url = Url::parse_with_params(&format!("http://engine{version}/{}", call.path), &call.query)
            .map_err(|error| EngineError::Refused { engine, what, status: 0, message: error.to_string() })?;
        let mut request = self.client.request(call.method.clone(), url).timeout(call.time);
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                let socket = self.socket.display().to_string();
                EngineError::Unreachable { engine, socket, why: innermost(&error) }
            } else {
                EngineError::Cut { engine, what, why: why(&error, call.time) }
            }
        })?;
        Ok(Coming { engine, what, time: call.time, status: response.status(), response })
    }
}

/// An answer to a call.
pub(super) enum Reply {
    /// The engine does it; its words are still to come.
    Coming(Coming),
    /// It does not, or had nothing to do.
    Whole(Answer),
}

/// An answer whose body is still to come.
pub(super) struct Coming {
    engine: &'static str,
    what: &'static str,
    time: Duration,
    status: StatusCode,
    response: Response,
}

impl Coming {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, EngineError> {
        let cut =
            |error| EngineError::Cut { engine: self.engine, what: self.what, why: why(&error, self.time) };
        self.response.chunk().await.map_err(cut)
    }

    /// An answer that says nothing but what is made of it.
    pub fn refused(&self, message: &str) -> EngineError {
        refused(self.engine, self.what, self.status, message)
    }

    async fn whole(mut self) -> Result<Answer, EngineError> {
        let api_version = self.response.headers().get("api-version");
        let api_version = api_version.and_then(|version| version.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(chunk.as_ref());
            if body.len() > MAX_ANSWER {
                return Err(self.refused(&format!("its answer is longer than {} MiB", MAX_ANSWER >> 20)));
            }
        }
        let Self { engine, what, status, .. } = self;
        Ok(Answer { engine, what, status, api_version, body })
    }
}

/// A whole answer.
pub(super) struct Answer {
    engine: &'static str,
    what: &'static str,
    pub status: StatusCode,
    /// The newest version that the engine speaks.
    pub api_version: Option<ApiVersion>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    pub fn done(&self) -> Result<(), EngineError> {
        // "Not modified": it was so already.
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        Err(self.refused(&message_of(&self.body).unwrap_or_else(|| format!("HTTP {}", self.status))))
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        self.done()?;
        serde_json::from_slice(&self.body)
            .map_err(|error| self.refused(&format!("its answer cannot be read: {error}")))
    }

    pub fn refused(&self, message: &str) -> EngineError {
        refused(self.engine, self.what, self.status, message)
    }
}

fn refused(engine: &'static str, what: &'static str, status: StatusCode, message: &str) -> EngineError {
    let message = message.trim().chars().take(MAX_MESSAGE).collect();
    EngineError::Refused { engine, what, status: status.as_u16(), message }
}

/// What an engine says about a failure, as JSON or as text.
pub(super) fn message_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    if let Ok(said) = serde_json::from_slice::<Said>(body) {
        return Some(said.message);
    }
    let text = String::from_utf8_lossy(body.get(..MAX_MESSAGE).unwrap_or(body)).trim().to_string();
    (!text.is_empty() && !text.starts_with(['{', '<'])).then_some(text)
}

fn why(error: &reqwest::Error, time: Duration) -> String {
    if error.is_timeout() { format!("no answer within {} s", time.as_secs()) } else { innermost(error) }
}
