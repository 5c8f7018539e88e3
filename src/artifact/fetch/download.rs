//! One download: asked for, streamed, resumed, judged.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::local::{Local, NotCopied};
use super::part::Part;
use super::{FetchError, FetchRequest, Fetcher, Progress};
use crate::address::{Address, Shown};
use crate::artifact::Artifact;
use crate::foreign::Unread;
use crate::plan::check::{check_package_uri, file_path};
use crate::tls::innermost;

/// No download is tried more often.
const MAX_TRIES: u32 = 6;
/// No download is redirected more often.
const MAX_HOPS: u32 = 5;

/// One download, over several tries.
pub struct Download {
    uri: Address,
    shown: Shown,
    expected: Option<String>,
    part: Part,
    /// What tells that the file is still the one whose beginning has come.
    validator: Option<String>,
    /// Its whole length, if the server has said it.
    total: Option<u64>,
    /// Why the last try failed.
    last: Option<String>,
}

/// A try that failed.
enum Try {
    Final(FetchError),
    Again { why: String, after: Option<Duration> },
}

impl Download {
    /// A download that has not begun.
    pub fn new(fetcher: &Fetcher, request: &FetchRequest) -> Result<Self, FetchError> {
        let shown = request.uri.shown();
        let part = Part::create(fetcher.store.part_path()).map_err(|error| io_error(&shown, &error))?;
        let expected = request.sha256.clone();
        let uri = request.uri.clone();
        Ok(Self { uri, shown, expected, part, validator: None, total: None, last: None })
    }

    /// Fetches, until it is complete or nothing more is worth trying.
    pub async fn run(&mut self, fetcher: &Fetcher, progress: Progress<'_>) -> Result<Artifact, FetchError> {
        if let Some(path) = file_path(self.uri.reveal()).map(PathBuf::from) {
            self.copy(path, fetcher, progress).await?;
            return self.finish(fetcher).await;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(fetcher, progress).await {
                Ok(()) => return self.finish(fetcher).await,
                Err(Try::Final(error)) => return Err(error),
                Err(Try::Again { why, .. }) if tries == MAX_TRIES => {
                    return Err(FetchError::Unreachable { uri: self.shown.clone(), why, tries });
                }
                Err(Try::Again { why, after }) => {
                    tracing::info!(uri = %self.shown, why, tries, "download is tried again");
                    self.last = Some(why);
                    let wait = fetcher.timeouts.backoff * 2u32.pow(tries - 1);
                    tokio::time::sleep(after.unwrap_or(wait)).await;
                }
            }
        }
    }

    async fn attempt(&mut self, fetcher: &Fetcher, progress: Progress<'_>) -> Result<(), Try> {
        let answer = self.ask(fetcher).await?;
        self.begin(&answer, fetcher).await?;
        progress(self.part.bytes, self.total);
        let mut body = answer.bytes_stream();
        while let Some(chunk) = body.next().await {
            // A cut body is an error of decoding here; whatever it is, what has come is kept.
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.flush(fetcher).await?;
                    return Err(again(innermost(&error)));
                }
            };
            if self.part.bytes + chunk.len() as u64 > fetcher.limits.max_bytes {
                return Err(Try::Final(self.too_large(fetcher)));
            }
            let written = self.part.write(&chunk).await;
            written.map_err(|error| Try::Final(self.write_error(fetcher, &error)))?;
            progress(self.part.bytes, self.total);
        }
        self.flush(fetcher).await?;
        match self.total {
            Some(total) if total != self.part.bytes => {
                Err(again(format!("only {} of {total} bytes came", self.part.bytes)))
            }
            _ => Ok(()),
        }
    }

    async fn flush(&mut self, fetcher: &Fetcher) -> Result<(), Try> {
        let written = self.part.flush().await;
        written.map_err(|error| Try::Final(self.write_error(fetcher, &error)))
    }

    /// Sends the request, follows redirects that are allowed, and judges the status.
    async fn ask(&self, fetcher: &Fetcher) -> Result<Response, Try> {
        let mut url =
            Url::parse(self.uri.reveal()).map_err(|error| Try::Final(self.redirect(error.to_string())))?;
        for _ in 0..=MAX_HOPS {
            let client = fetcher.clients.of(url.as_str()).map_err(again)?;
            let mut request = client.get(url.clone());
            if let Some(validator) = self.validator.as_ref().filter(|_| self.part.bytes > 0) {
                request =
                    request.header(RANGE, format!("bytes={}-", self.part.bytes)).header(IF_RANGE, validator);
            }
            let answer = request.send().await.map_err(|error| again(innermost(&error)))?;
            let status = answer.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return self.judge(answer);
            }
            url = Self::follow(&url, &answer, fetcher).map_err(|why| Try::Final(self.redirect(why)))?;
        }
        Err(Try::Final(self.redirect(format!("it is redirected more than {MAX_HOPS} times"))))
    }

    fn follow(from: &Url, answer: &Response, fetcher: &Fetcher) -> Result<Url, String> {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.ok_or("a redirect says nothing about where to")?;
        let mut to = from.join(location).map_err(|error| format!("a redirect leads nowhere: {error}"))?;
        if !matches!(to.scheme(), "http" | "https") || (from.scheme() == "https" && to.scheme() == "http") {
            return Err(format!("a redirect leads to {}, which is not allowed", Shown::of(to.as_str())));
        }
        // Credentials belong to the address in the plan; a server can't send them on, nor bring its own.
        to.set_username("").ok();
        to.set_password(None).ok();
        if check_package_uri(to.as_str(), &fetcher.policy).is_err() {
            let to = Shown::of(to.as_str());
            return Err(format!("a redirect leads to {to}, which packages.allowedUris forbids"));
        }
        Ok(to)
    }

    fn judge(&self, answer: Response) -> Result<Response, Try> {
        let status = answer.status();
        match status.as_u16() {
            200 | 206 => Ok(answer),
            408 | 425 | 429 | 500..=599 => {
                let after =
                    answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                let after = after.map(|seconds: u64| Duration::from_secs(seconds.min(120)));
                Err(Try::Again { why: format!("the server answers {status}"), after })
            }
            status => Err(Try::Final(FetchError::Status { uri: self.shown.clone(), status })),
        }
    }

    /// Decides where the body goes: behind what has come, or anew.
    async fn begin(&mut self, answer: &Response, fetcher: &Fetcher) -> Result<(), Try> {
        let continues = answer.status() == StatusCode::PARTIAL_CONTENT && self.is_the_rest(answer);
        if !continues {
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                self.part.restart().await.map_err(|error| Try::Final(io_error(&self.shown, &error)))?;
                self.validator = None;
                return Err(again("the server sent another part than was asked for".into()));
            }
            self.part.restart().await.map_err(|error| Try::Final(io_error(&self.shown, &error)))?;
            self.validator = validator(answer);
        }
        self.total = answer.content_length().map(|length| length.saturating_add(self.part.bytes));
        if let Some(total) = self.total {
            if total > fetcher.limits.max_bytes {
                return Err(Try::Final(self.too_large(fetcher)));
            }
            let needed = total - self.part.bytes;
            let free = fetcher.store.free().unwrap_or(u64::MAX);
            if needed > free {
                let missing = needed - free;
                return Err(Try::Final(FetchError::NoSpace { uri: self.shown.clone(), missing }));
            }
        }
        Ok(())
    }

    /// Whether a part is what follows the bytes that have come, of the file that they came from.
    fn is_the_rest(&self, answer: &Response) -> bool {
        let same = validator(answer).is_none_or(|now| self.validator.as_ref() == Some(&now));
        let length = answer.content_length().map(|length| length.saturating_add(self.part.bytes));
        let as_long = self.total.is_none() || length.is_none() || self.total == length;
        self.part.bytes > 0 && range_start(answer) == Some(self.part.bytes) && same && as_long
    }

    async fn copy(
        &mut self,
        path: PathBuf,
        fetcher: &Fetcher,
        progress: Progress<'_>,
    ) -> Result<(), FetchError> {
        let (policy, max_bytes) = (fetcher.policy.clone(), fetcher.limits.max_bytes);
        let local = Local { path, policy, max_bytes, store: fetcher.store.clone() };
        let reader = fetcher.reader.patient(fetcher.timeouts.idle);
        local.copy(&reader, &mut self.part, progress).await.map_err(|error| match error {
            NotCopied::Unread(Unread::Cancelled) => FetchError::Cancelled,
            NotCopied::Unread(error) => FetchError::Io { uri: self.shown.clone(), why: error.to_string() },
            NotCopied::Forbidden => self.redirect("it lies outside of packages.allowedUris".into()),
            NotCopied::TooLarge => self.too_large(fetcher),
            NotCopied::NoSpace(missing) => FetchError::NoSpace { uri: self.shown.clone(), missing },
            NotCopied::Write(error) => self.write_error(fetcher, &error),
        })
    }

    async fn finish(&mut self, fetcher: &Fetcher) -> Result<Artifact, FetchError> {
        let finished = self.part.finish(&fetcher.store, self.expected.as_deref()).await;
        finished.map_err(|error| self.write_error(fetcher, &error))?.map_err(|actual| {
            let expected = self.expected.clone().unwrap_or_default();
            FetchError::Checksum { uri: self.shown.clone(), expected, actual }
        })
    }

    /// What it comes to when its time is over.
    pub fn timed_out(&self, limit: Duration) -> FetchError {
        let last = self.last.as_ref().map(|why| format!("; the last try: {why}")).unwrap_or_default();
        FetchError::TimedOut {
            uri: self.shown.clone(),
            seconds: limit.as_secs(),
            bytes: self.part.bytes,
            last,
        }
    }

    fn redirect(&self, why: String) -> FetchError {
        FetchError::Redirect { uri: self.shown.clone(), why }
    }

    fn too_large(&self, fetcher: &Fetcher) -> FetchError {
        FetchError::TooLarge { uri: self.shown.clone(), max: fetcher.limits.max_bytes }
    }

    fn write_error(&self, fetcher: &Fetcher, error: &io::Error) -> FetchError {
        if error.kind() != io::ErrorKind::StorageFull {
            return io_error(&self.shown, error);
        }
        let missing = (256u64 << 10).saturating_sub(fetcher.store.free().unwrap_or(0)).max(1);
        FetchError::NoSpace { uri: self.shown.clone(), missing }
    }
}

fn again(why: String) -> Try {
    Try::Again { why, after: None }
}

fn io_error(uri: &Shown, error: &io::Error) -> FetchError {
    FetchError::Io { uri: uri.clone(), why: error.to_string() }
}

/// What tells that a file is still the same: a strong ETag, else its date.
fn validator(answer: &Response) -> Option<String> {
    let header = |name| answer.headers().get(name)?.to_str().ok().map(str::to_string);
    header(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| header(LAST_MODIFIED))
}

fn range_start(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
