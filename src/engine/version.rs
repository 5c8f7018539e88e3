//! Which version of the interface is spoken: the newest that both this program and the engine know.
//!
//! Docker refuses versions that are too old or too new for it, and each of its releases moves both ends. So the
//! engine is asked once (`/_ping`, without a version in its path), and again when it refuses the version: it may
//! have been upgraded under a running daemon.

use std::fmt;
use std::str::FromStr;
use std::sync::PoisonError;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::call::{Answer, Call, message_of};
use super::{Connection, EngineError};

/// The newest version whose calls this program knows (Docker 29.0).
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 52 };
/// The oldest version that has all calls (Docker 19.03, Podman 3).
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 40 };

/// A version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.trim().split_once('.').ok_or(())?;
        Ok(Self { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `Docker`, `Podman`, or what else it calls itself.
    pub name: String,
    /// The engine's own version.
    pub version: String,
    /// The oldest version of the interface that it accepts.
    pub oldest: Option<ApiVersion>,
    /// The newest.
    pub newest: ApiVersion,
}

impl About {
    /// The version that it and this program speak with each other, if there is one.
    pub fn spoken(&self) -> Option<ApiVersion> {
        let spoken = self.newest.min(NEWEST);
        let both = spoken >= OLDEST && self.oldest.is_none_or(|oldest| oldest <= spoken);
        both.then_some(spoken)
    }
}

/// The answer to `/version`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    oldest: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

impl Connection {
    /// What the engine says of itself.
    pub async fn about(&self) -> Result<About, EngineError> {
        let said: Said = self.unversioned("version").await?.read()?;
        let newest = said.api_version.parse().map_err(|()| {
            let message = format!("it calls its API version `{}`", said.api_version.escape_debug());
            EngineError::Version { engine: self.engine, message }
        })?;
        let first = said.components.unwrap_or_default().into_iter().next().map(|component| component.name);
        let name = match first.as_deref() {
            Some("Engine") => "Docker".into(),
            Some("Podman Engine") => "Podman".into(),
            Some(other) if !other.is_empty() => other.to_string(),
            _ => self.engine.to_string(),
        };
        Ok(About { name, version: said.version, oldest: said.oldest.parse().ok(), newest })
    }

    /// The version that is spoken with the engine; asked for once.
    pub(super) async fn version(&self) -> Result<ApiVersion, EngineError> {
        let known = *self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = known {
            return Ok(version);
        }
        let newest = match self.newest_by_ping().await? {
            Some(newest) => newest,
            None => self.about().await?.newest,
        };
        let version = newest.min(NEWEST);
        if version < OLDEST {
            let message = format!("it speaks no version of its API after {newest}");
            return Err(EngineError::Version { engine: self.engine, message });
        }
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        Ok(version)
    }

    /// The engine refused this version: the next call asks for its versions again.
    pub(super) fn forget(&self, version: ApiVersion) {
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        if *spoken == Some(version) {
            *spoken = None;
        }
    }

    /// Whether the engine has answered since this program runs.
    pub fn has_answered(&self) -> bool {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// `None`: something before the engine hides the header, or the call.
    async fn newest_by_ping(&self) -> Result<Option<ApiVersion>, EngineError> {
        let answer = self.unversioned("_ping").await?;
        Ok(answer.api_version.filter(|_| answer.status.is_success()))
    }

    async fn unversioned(&self, path: &str) -> Result<Answer, EngineError> {
        let call = Call { method: Method::GET, ..Call::tell("say which versions it speaks", path.into()) };
        self.once(&call, None).await
    }
}

/// What an engine says that refuses the version in a call's path. Docker 29 says it as JSON, or as plain text to
/// clients older than 1.24.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Option<String> {
    if status != StatusCode::BAD_REQUEST {
        return None;
    }
    let message = message_of(body)?;
    let of_version = message.contains("client version") || message.contains("API version");
    (of_version && (message.contains("too old") || message.contains("too new"))).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ApiVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.9") < version("1.40") && version("1.41") < version("2.0"));
        for wrong in ["", "1", "1.x", "1.41.2", "-1.2", "1.99999999", "v1.41"] {
            assert_eq!(wrong.parse::<ApiVersion>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        let about = |oldest: &str, newest: &str| About {
            name: "Docker".into(),
            version: "x".into(),
            oldest: oldest.parse().ok(),
            newest: version(newest),
        };
        assert_eq!(about("1.12", "1.41").spoken(), Some(version("1.41")));
        assert_eq!(about("1.24", "1.51").spoken(), Some(version("1.51")));
        assert_eq!(about("1.44", "1.56").spoken(), Some(NEWEST));
        assert_eq!(about("", "1.41").spoken(), Some(version("1.41")));
        assert_eq!(about("1.60", "1.70").spoken(), None, "too new for this program");
        assert_eq!(about("1.12", "1.39").spoken(), None, "too old for this program");
    }

    #[test]
    fn a_refused_version_is_recognised_as_json_and_as_text() {
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your \
                   client to a newer version";
        let new = "client version 1.99 is too new. Maximum supported API version is 1.41";
        for message in [old, new] {
            let json = serde_json::json!({ "message": message }).to_string();
            for body in [json.as_str(), message] {
                assert_eq!(refusal(StatusCode::BAD_REQUEST, body.as_bytes()).as_deref(), Some(message));
            }
        }
        assert_eq!(refusal(StatusCode::BAD_REQUEST, b"{\"message\":\"invalid mount\"}"), None);
        assert_eq!(refusal(StatusCode::NOT_FOUND, old.as_bytes()), None);
    }
}
