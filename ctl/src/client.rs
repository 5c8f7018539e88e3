//! A client of the control socket.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::wire::event::Event;
use crate::wire::problem::Problem;

/// The system's socket.
pub const SYSTEM_SOCKET: &str = "/run/deployd/deployd.sock";
/// A daemon that takes longer to answer is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// For so long what was cut is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("cannot reach deployd at {socket}: {why}")]
    NotReachable {
        /// The socket.
        socket: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The daemon said no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The connection was cut in the middle.
    #[error(
        "the connection to deployd was cut: {0}; what was asked for may have been done: see `deployctl list`, and the daemon's log if it does not answer"
    )]
    Cut(String),
    /// The answer makes no sense.
    #[error("deployd's answer can't be understood: {0}; are deployd and deployctl of the same version?")]
    Protocol(String),
}

/// A client.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// The user's own daemon's socket: where `deployd --user` makes it.
pub fn user_socket() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let state = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    Some(variable("XDG_RUNTIME_DIR").or_else(state)?.join("deployd/deployd.sock"))
}

/// The system's socket, else the user's if that one exists.
pub fn default_socket() -> PathBuf {
    let system = PathBuf::from(SYSTEM_SOCKET);
    match user_socket() {
        Some(user) if !system.exists() && user.exists() => user,
        _ => system,
    }
}

impl Client {
    /// A client of this socket.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_reachable(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Cut(error.to_string()))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn not_reachable(&self, error: &io::Error) -> ClientError {
        let why = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such socket; is deployd running? (`systemctl status deployd`, or --socket)"
                    .into()
            }
            io::ErrorKind::ConnectionRefused => {
                let is_users = user_socket().is_some_and(|user| user == self.socket);
                let start = if is_users { "deployd --user" } else { "systemctl start deployd" };
                format!("nobody listens there; deployd has ended: start it (`{start}`)")
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied; only root and members of group deployd may use it".into()
            }
            _ => error.to_string(),
        };
        ClientError::NotReachable { socket: self.socket.clone(), why }
    }

    /// Sends a request; an answer that is an error is a [`ClientError::Problem`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut sender = self.connect().await?;
        let mut request = Request::builder().method(method).uri(path).header("Host", "deployd");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::from(body)).map_err(|error| ClientError::Protocol(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| ClientError::Cut("no answer within a minute".into()))?;
        let answer = answer.map_err(|error| ClientError::Cut(error.to_string()))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(problem(answer).await)
    }

    /// Sends a request; the answer's body.
    pub async fn bytes(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        let answer = self.send(method, path, &[], body).await?;
        let body = answer.into_body().collect().await.map_err(|error| ClientError::Cut(error.to_string()))?;
        Ok(body.to_bytes())
    }

    /// Sends a request; the answer is JSON.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let bytes = self.bytes(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    /// GET. Reading changes nothing: what a restart of the daemon has cut is asked for again.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let begun = Instant::now();
        loop {
            match self.call(Method::GET, path, Vec::new()).await {
                Err(ClientError::Cut(_)) if begun.elapsed() < ASK_AGAIN => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// POST with a JSON body.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        self.call(Method::POST, path, body).await
    }

    /// POST with a JSON body and perhaps an `Idempotency-Key`: with one it can be asked again, too.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let Some(key) = key else { return self.post(path, body).await };
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        let begun = Instant::now();
        loop {
            let sent = self.send(Method::POST, path, &[("Idempotency-Key", key)], body.clone()).await;
            let answer = match sent {
                Ok(answer) => answer.into_body().collect().await,
                Err(ClientError::Cut(_)) if begun.elapsed() < ASK_AGAIN => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match answer {
                Ok(bytes) => {
                    let answer = serde_json::from_slice(&bytes.to_bytes());
                    return answer.map_err(|error| ClientError::Protocol(error.to_string()));
                }
                Err(_) if begun.elapsed() < ASK_AGAIN => tokio::task::yield_now().await,
                Err(error) => return Err(ClientError::Cut(error.to_string())),
            }
        }
    }

    /// The event stream after `after`: of one task, or all. It goes on over restarts of the daemon.
    pub fn events(&self, task: Option<u64>, after: u64, follow: bool) -> Events {
        Events { client: self.clone(), task, after, follow, body: None, buffer: Vec::new() }
    }

    /// A streamed text.
    pub async fn text(&self, path: &str) -> Result<Incoming, ClientError> {
        Ok(self.send(Method::GET, path, &[], Vec::new()).await?.into_body())
    }
}

async fn problem(answer: Response<Incoming>) -> ClientError {
    let status = answer.status();
    let body = match answer.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return ClientError::Cut(error.to_string()),
    };
    let unknown = |_| Problem {
        status: status.as_u16(),
        title: status.canonical_reason().unwrap_or_default().into(),
        detail: format!("deployd answers {status}"),
        ..Problem::default()
    };
    ClientError::Problem(Box::new(serde_json::from_slice(&body).unwrap_or_else(unknown)))
}

/// An event stream.
pub struct Events {
    client: Client,
    task: Option<u64>,
    after: u64,
    follow: bool,
    body: Option<Incoming>,
    buffer: Vec<u8>,
}

/// How often a lost connection is tried again: for half a minute.
pub const RECONNECTS: u32 = 60;
/// How long after it was lost.
pub const RECONNECT: Duration = Duration::from_millis(500);

impl Events {
    /// The next event; `None` at the end of a stream that is not followed.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.take()? {
                self.after = event.seq;
                return Ok(Some(event));
            }
            let Some(body) = &mut self.body else {
                self.reconnect().await?;
                continue;
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if !self.follow => return Ok(None),
                // The daemon is going down, or gone: what follows comes from the next one.
                None | Some(Err(_)) => {
                    self.body = None;
                    self.buffer.clear();
                }
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), ClientError> {
        let follow = self.follow;
        let task = self.task.map(|task| format!("&task={task}")).unwrap_or_default();
        let path = format!("/v1/events?after={}&follow={follow}{task}", self.after);
        let mut tries = 0;
        loop {
            match self.client.send(Method::GET, &path, &[], Vec::new()).await {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    self.body = Some(answer.into_body());
                    return Ok(());
                }
                Ok(answer) => return Err(ClientError::Protocol(answer.status().to_string())),
                Err(error @ (ClientError::Problem(_) | ClientError::Protocol(_))) => return Err(error),
                Err(error) if tries == RECONNECTS || (self.after == 0 && tries == 0) => return Err(error),
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }

    /// The first complete event in the buffer.
    fn take(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
                let event = serde_json::from_str(data);
                return event.map(Some).map_err(|error| ClientError::Protocol(error.to_string()));
            }
        }
        Ok(None)
    }
}
