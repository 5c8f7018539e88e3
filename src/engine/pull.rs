//! Images: whether the engine has one, and getting one that it has not.
//!
//! How a pull goes comes line by line, for as long as it takes; a failure comes the same way, under an answer that
//! began well. So the lines are read to the end, in bounded memory, and the image is looked at afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::call::{Call, Reply};
use super::state::null_is_empty;
use super::{Connection, EngineError};

const GET: &str = "get the image";
/// How long a pull may take.
const PULL: Duration = Duration::from_hours(6);
/// Maximum length of a line of progress.
const MAX_LINE: usize = 64 << 10;

/// An image, as an engine tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Where it wants a volume: absolute paths without a slash at their end.
    pub volumes: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    id: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "null_is_empty")]
    volumes: BTreeMap<String, Value>,
}

impl Connection {
    /// The image of this name or id, if the engine has it.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, EngineError> {
        let answer = self.call(Call::tell("look for the image", format!("images/{name}/json"))).await?;
        if answer.is_missing() {
            return Ok(None);
        }
        let Said { id, config } = answer.read()?;
        let volumes = config.volumes.into_keys().filter_map(|path| clean(&path)).collect();
        Ok(Some(Image { id, volumes }))
    }

    /// The image of this name; pulled if the engine does not have it.
    pub async fn obtain(&self, name: &str) -> Result<Image, EngineError> {
        if let Some(image) = self.image(name).await? {
            return Ok(image);
        }
        self.pull(name).await?;
        self.image(name).await?.ok_or_else(|| {
            let message = "the pull ended without a word of failure, and the image is not there".into();
            EngineError::Refused { engine: self.engine, what: GET, status: 200, message }
        })
    }

    async fn pull(&self, name: &str) -> Result<(), EngineError> {
        let limit = Instant::now() + PULL;
        let mut call = Call::deed(GET, "images/create".into()).with("fromImage", &name).within(PULL);
        // Without a tag Docker would get all of them.
        if !name.rsplit('/').next().unwrap_or(name).contains([':', '@']) {
            call = call.with("tag", &"latest");
        }
        let first = timeout(self.stall, self.send(&call)).await.map_err(|_| self.stalled())?;
        let mut coming = match first.map_err(cut_is_failed)? {
            Reply::Whole(answer) => return answer.done(),
            Reply::Coming(coming) => coming,
        };
        let mut progress = Progress::default();
        loop {
            let soon = limit.min(Instant::now() + self.stall);
            let chunk = timeout_at(soon, coming.chunk()).await.map_err(|_| self.stalled())?;
            let chunk = chunk.map_err(cut_is_failed)?;
            let Some(chunk) = chunk else { return progress.end().map_err(|why| coming.refused(&why)) };
            progress.take(chunk.as_ref()).map_err(|why| coming.refused(&why))?;
        }
    }

    fn stalled(&self) -> EngineError {
        let message = format!("it says nothing about its progress for {} s", self.stall.as_secs());
        EngineError::Refused { engine: self.engine, what: GET, status: 200, message }
    }
}

/// Nothing is touched by a pull: one whose end is not heard has failed.
fn cut_is_failed(error: EngineError) -> EngineError {
    match error {
        EngineError::Cut { engine, what, why } => {
            let message = format!("its answer was cut off: {why}");
            EngineError::Refused { engine, what, status: 200, message }
        }
        other => other,
    }
}

/// The lines in which an engine tells how a pull goes.
#[derive(Default)]
struct Progress {
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
}

/// What a line may say. `error` is left out by newer engines.
#[derive(Deserialize)]
struct Line {
    error: Option<Value>,
    #[serde(rename = "errorDetail")]
    detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    message: Option<String>,
}

impl Progress {
    /// The next bytes; an error is what failed.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end])?;
            let line = std::mem::take(&mut self.line);
            judge(&line)?;
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes)
    }

    /// The last line may have no end.
    fn end(self) -> Result<(), String> {
        judge(&self.line)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.line.len() + bytes.len() > MAX_LINE {
            return Err(format!("a line of its progress is longer than {} KiB", MAX_LINE >> 10));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

/// Whether a line tells of a failure. One that cannot be read tells of none: the image is looked at afterwards.
fn judge(line: &[u8]) -> Result<(), String> {
    for said in serde_json::Deserializer::from_slice(line).into_iter::<Line>() {
        let Ok(Line { error, detail }) = said else { return Ok(()) };
        let detail = detail.map(|detail| detail.message.unwrap_or_else(|| "it does not say why".into()));
        let error = error.filter(|error| !matches!(error, Value::Null)).map(|error| match error {
            Value::String(text) => text,
            other => other.to_string(),
        });
        if let Some(message) = detail.or(error).filter(|message| !message.is_empty()) {
            return Err(message);
        }
    }
    Ok(())
}

/// A path as mounts are compared: absolute, without empty and without `.` parts. `None`: it is no path of a volume.
fn clean(path: &str) -> Option<String> {
    let parts = path.strip_prefix('/')?.split('/').filter(|part| !matches!(*part, "" | "."));
    let cleaned: String = parts.flat_map(|part| ["/", part]).collect();
    (!cleaned.is_empty() && !cleaned.split('/').any(|part| part == "..")).then_some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<(), String> {
        let mut progress = Progress::default();
        chunks.iter().try_for_each(|chunk| progress.take(chunk))?;
        progress.end()
    }

    #[test]
    fn progress_of_any_length_is_read_to_its_end() {
        let line = [b"{\"status\":\"Downloading\",\"progressDetail\":{}}\r\n".as_slice(); 1000].concat();
        let mut progress = Progress::default();
        for _ in 0..200 {
            progress.take(&line).unwrap();
            assert!(progress.line.capacity() <= MAX_LINE);
        }
        assert_eq!(
            progress.take(b"{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"x\"}\n"),
            Err("no space".into())
        );
    }

    #[test]
    fn a_failure_is_found_in_whatever_form_it_comes() {
        let failures: [&[&[u8]]; 6] = [
            &[b"{\"error\":\"denied\"}\n"],
            &[b"{\"err", b"or\":\"den", b"ied\"}\n{\"status\":\"x\"}\n"],
            &[b"{\"status\":\"x\"}{\"error\":\"denied\"}"],
            &[b"{\"errorDetail\":{\"message\":\"denied\"}}"],
            &[b"{\"error\":\"x\",\"errorDetail\":{\"code\":1,\"message\":\"denied\"}}"],
            &[b"{\"errorDetail\":{\"code\":401},\"error\":\"denied\"}\n"],
        ];
        for failure in &failures[..5] {
            assert_eq!(read(failure), Err("denied".into()), "{failure:?}");
        }
        assert!(read(failures[5]).is_err());
        for fine in
            [&b""[..], b"\n\n", b"no JSON\n", b"{\"status\":\"error\"}\n", b"{\"error\":null}\n", b"[1]\n"]
        {
            assert_eq!(read(&[fine]), Ok(()), "{}", fine.escape_ascii());
        }
    }

    #[test]
    fn an_endless_line_ends_a_pull() {
        let mut progress = Progress::default();
        let taken = (0..100).map(|_| progress.take(&[b'x'; 4096])).take_while(Result::is_ok).count();
        assert_eq!(taken, MAX_LINE / 4096);
        assert!(progress.line.len() <= MAX_LINE);
    }

    #[test]
    fn paths_of_volumes_are_compared_as_engines_do() {
        for (path, cleaned) in
            [("/data", "/data"), ("/data/", "/data"), ("//a/./b//", "/a/b"), ("/a b", "/a b")]
        {
            assert_eq!(clean(path).as_deref(), Some(cleaned));
        }
        for none in ["", "/", "data", "/a/../b", "."] {
            assert_eq!(clean(none), None, "{none}");
        }
    }
}
