//! Downloads: streamed, hashed on the way, resumed when cut, retried where that is worth it.

mod download;
mod local;
mod part;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Artifact, ArtifactStore};
use crate::address::{Address, Shown};
use crate::foreign::Reader;
use crate::plan::check::{Policy, file_path};
use crate::tls::Clients;
use download::Download;

/// What is fetched and unpacked at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A larger package is refused.
    pub max_bytes: u64,
    /// What unpacks to more is refused.
    pub max_unpacked_bytes: u64,
    /// What has more files and directories is refused.
    pub max_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 4 << 30, max_unpacked_bytes: 16 << 30, max_entries: 200_000 }
    }
}

/// How long a download may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// In all, with all tries.
    pub fetch: Duration,
    /// Without a single byte.
    pub idle: Duration,
    /// Before the second try; doubled for each further one.
    pub backoff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            fetch: Duration::from_mins(10),
            idle: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
        }
    }
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchRequest {
    /// For which task: requests of one task for the same address are one download.
    pub task: u64,
    /// From where.
    pub uri: Address,
    /// What it must hash to.
    pub sha256: Option<String>,
}

/// Why a package was not fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The server answered with an error.
    #[error("cannot fetch {uri}: the server answers {status}; {}", advice(*.status))]
    Status {
        /// The address.
        uri: Shown,
        /// HTTP status.
        status: u16,
    },
    /// The server could not be reached, or the connection was cut, too often.
    #[error(
        "cannot fetch {uri}: {why} (after {tries} tries); check that the server is up, then execute the plan anew"
    )]
    Unreachable {
        /// The address.
        uri: Shown,
        /// What happened the last time.
        why: String,
        /// How often it was tried.
        tries: u32,
    },
    /// It took too long.
    #[error(
        "cannot fetch {uri}: it takes longer than {seconds} s, {bytes} bytes had come{last}; see why the server is slow, or raise timeouts.fetch"
    )]
    TimedOut {
        /// The address.
        uri: Shown,
        /// The limit.
        seconds: u64,
        /// How much had come.
        bytes: u64,
        /// Why the try before failed, if there was one.
        last: String,
    },
    /// It is too large.
    #[error("cannot fetch {uri}: it is larger than {max} bytes; raise packages.maxBytes if it has to be")]
    TooLarge {
        /// The address.
        uri: Shown,
        /// The limit.
        max: u64,
    },
    /// It is not what the plan says.
    #[error(
        "{uri} is not what was expected: sha256 {actual} instead of {expected}; it was changed since, or httpSrcSha256 is that of another one"
    )]
    Checksum {
        /// The address.
        uri: Shown,
        /// From the plan, or pinned by this task.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A redirect leads where it must not.
    #[error("cannot fetch {uri}: {why}")]
    Redirect {
        /// The address.
        uri: Shown,
        /// Why not.
        why: String,
    },
    /// The disk is full.
    #[error(
        "cannot fetch {uri}: {missing} bytes of disk space are missing; make room and execute the plan anew"
    )]
    NoSpace {
        /// The address.
        uri: Shown,
        /// How much.
        missing: u64,
    },
    /// The system refused.
    #[error("cannot fetch {uri}: {why}; see the file, or the disk of the state directory")]
    Io {
        /// The address.
        uri: Shown,
        /// What the system said.
        why: String,
    },
    /// The task was cut off.
    #[error("the download was cancelled")]
    Cancelled,
}

/// What to do about an answer.
const fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => "it wants credentials: put them into the address, or let this host in",
        429 | 500..=599 => "see what is wrong with the server, then execute the plan anew",
        _ => "check the address",
    }
}

impl FetchError {
    /// The stable name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Status { status: 404 | 410, .. } => "packageNotFound",
            Self::Status { .. } => "packageRefused",
            Self::Unreachable { .. } => "packageUnreachable",
            Self::TimedOut { .. } => "packageTimedOut",
            Self::TooLarge { .. } => "packageTooLarge",
            Self::Checksum { .. } => "packageDiffers",
            Self::Redirect { .. } => "packageRedirected",
            Self::NoSpace { .. } => "noSpace",
            Self::Io { .. } => "packageIo",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Told how many bytes have come, and of how many if that is known.
pub type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

type Single = Arc<tokio::sync::Mutex<Option<Artifact>>>;

/// Fetches packages.
pub struct Fetcher {
    store: Arc<ArtifactStore>,
    limits: Limits,
    policy: Policy,
    timeouts: Timeouts,
    clients: Clients,
    reader: Reader,
    /// Who comes second waits for the first, and finds what it fetched.
    under_way: Mutex<HashMap<FetchRequest, Single>>,
}

impl Fetcher {
    /// A fetcher into this store.
    ///
    /// # Errors
    /// When the HTTP client can't be set up.
    pub fn new(
        store: Arc<ArtifactStore>,
        limits: Limits,
        policy: Policy,
        timeouts: Timeouts,
        reader: Reader,
    ) -> Result<Self, reqwest::Error> {
        let clients = Clients::new(move || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(timeouts.idle)
                .read_timeout(timeouts.idle)
                .user_agent(concat!("deployd/", env!("CARGO_PKG_VERSION")))
        })?;
        Ok(Self { store, limits, policy, timeouts, clients, reader, under_way: Mutex::default() })
    }

    /// Fetches a package, or finds it if it is here already.
    pub async fn fetch(
        &self,
        request: FetchRequest,
        cancel: &CancellationToken,
        progress: Progress<'_>,
    ) -> Result<Artifact, FetchError> {
        if let Some(found) = request.sha256.as_deref().and_then(|sha256| self.store.find(sha256)) {
            return Ok(found);
        }
        let single = self.single(&request);
        let mut slot = tokio::select! {
            slot = single.lock() => slot,
            () = cancel.cancelled() => return Err(FetchError::Cancelled),
        };
        if let Some(fetched) = slot.as_ref().filter(|artifact| self.store.find(&artifact.sha256).is_some()) {
            return Ok(fetched.clone());
        }
        let mut download = Download::new(self, &request)?;
        let in_time = tokio::select! {
            fetched = download.run(self, progress) => Some(fetched?),
            () = cancel.cancelled() => return Err(FetchError::Cancelled),
            () = tokio::time::sleep(self.timeouts.fetch) => None,
        };
        let fetched = in_time.ok_or_else(|| download.timed_out(self.timeouts.fetch))?;
        *slot = Some(fetched.clone());
        Ok(fetched)
    }

    /// Asks whether a package is there and could be taken, without fetching it.
    ///
    /// # Errors
    /// Why it seems not to be.
    pub async fn probe(&self, uri: &Address) -> Result<(), String> {
        let (shown, uri) = (uri.shown(), uri.reveal());
        let bytes = if let Some(path) = file_path(uri) {
            let head = self.reader.head(path.into()).await;
            head.map_err(|error| format!("{shown}: {error}"))?.bytes
        } else {
            let answer = self.clients.of(uri)?.head(uri).send().await;
            // Not the error's own words: the address stands in them, with its credentials.
            let answer = answer.map_err(|_| format!("{shown} is not reachable"))?;
            let status = answer.status();
            // Some servers don't answer HEAD; where a redirect leads is seen when it is followed.
            if !(status.is_success() || status.is_redirection() || matches!(status.as_u16(), 405 | 501)) {
                return Err(format!("{shown}: the server answers {status}"));
            }
            let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
            length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
        };
        let free = self.store.free().unwrap_or(u64::MAX);
        if bytes > self.limits.max_bytes {
            let max = self.limits.max_bytes;
            Err(format!("{shown} has {bytes} bytes, more than {max} (packages.maxBytes)"))
        } else if bytes > free {
            Err(format!("{shown} has {bytes} bytes, and only {free} are free on the disk"))
        } else {
            Ok(())
        }
    }

    /// The slot of a request. Slots of earlier tasks are forgotten when nobody uses them.
    fn single(&self, request: &FetchRequest) -> Single {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|other, slot| other.task == request.task || Arc::strong_count(slot) > 1);
        under_way.entry(request.clone()).or_default().clone()
    }
}
