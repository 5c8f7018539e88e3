//! Bodies of requests: how large, how long they may take, and how much of them there may be at once.

use std::time::Duration;

use actix_web::web;
use deployctl::wire::service::CreateRepository;
use deployctl::wire::task::{Execute, Resume, Stop};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Fault;
use crate::plan::parse::MAX_BYTES;
use crate::reading::Key;

/// The largest JSON body.
const MAX_JSON: usize = 64 << 10;
/// A body has to come within this time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes of all plans that are being received or checked: two of the largest.
static PLANS: Semaphore = Semaphore::const_new(2 * MAX_BYTES);

/// A plan's text.
pub struct PlanText {
    /// The text.
    pub bytes: Vec<u8>,
    /// Its share of the memory; keep it until the text has been dealt with.
    pub share: Option<SemaphorePermit<'static>>,
}

/// Reads a plan.
pub async fn plan(body: web::Payload) -> Result<PlanText, Fault> {
    let mut share: Option<SemaphorePermit<'static>> = None;
    let take = |length| {
        let more = u32::try_from(length).ok().and_then(|length| PLANS.try_acquire_many(length).ok());
        let busy = "too many plans are being sent at the same time; try again in some seconds";
        let more = more.ok_or(Fault::Busy(busy))?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        Ok(())
    };
    let too_large = || Fault::TooLarge(format!("a plan has at most {MAX_BYTES} bytes; split it"));
    let bytes = read(body, MAX_BYTES, too_large, take).await?;
    Ok(PlanText { bytes, share })
}

/// A JSON body.
pub trait Body: DeserializeOwned {
    /// Its members, each with what to do instead of leaving its value empty.
    const MEMBERS: &'static [Key];
}

impl Body for Execute {
    const MEMBERS: &'static [Key] = &[
        Key::new("plan", "write the plan's name"),
        Key::new("revision", "leave it out to execute the newest revision"),
        Key::new("dryRun", "leave it out to execute the plan"),
    ];
}

impl Body for Stop {
    const MEMBERS: &'static [Key] = &[Key::new("now", "leave it out to let what is going on finish")];
}

impl Body for Resume {
    const MEMBERS: &'static [Key] = &[Key::new("force", "leave it out to resume only what nobody changed")];
}

impl Body for CreateRepository {
    const MEMBERS: &'static [Key] = &[Key::new("name", "write the repository's name")];
}

/// Reads JSON; `None` when there is no body.
pub async fn json<T: Body>(body: web::Payload) -> Result<Option<T>, Fault> {
    let too_large =
        || Fault::TooLarge(format!("the body is larger than {MAX_JSON} bytes; see GET /v1/openapi.json"));
    let bytes = read(body, MAX_JSON, too_large, |_| Ok(())).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let bad = |error| {
        Fault::BadRequest(format!("the body is not what is expected: {error}; see GET /v1/openapi.json"))
    };
    refuse_empty(&bytes, T::MEMBERS)?;
    serde_json::from_slice(&bytes).map(Some).map_err(bad)
}

/// As in a plan, a member without a value is refused: it must not mean more than its author meant.
fn refuse_empty(bytes: &[u8], members: &[Key]) -> Result<(), Fault> {
    // What is not an object of known members is refused afterwards, with its place.
    let Ok(Value::Object(body)) = serde_json::from_slice(bytes) else { return Ok(()) };
    for member in members {
        let is_empty = match body.get(member.name) {
            Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            _ => false,
        };
        if is_empty && let Some(text) = member.emptiness() {
            return Err(Fault::BadRequest(text));
        }
    }
    Ok(())
}

/// As [`json`], where there has to be a body.
pub async fn required<T: Body>(body: web::Payload) -> Result<T, Fault> {
    json(body).await?.ok_or_else(|| Fault::BadRequest("the body is empty; JSON is expected".into()))
}

async fn read(
    mut body: web::Payload,
    limit: usize,
    too_large: impl Fn() -> Fault,
    mut take: impl FnMut(usize) -> Result<(), Fault>,
) -> Result<Vec<u8>, Fault> {
    let all = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                Fault::BadRequest(format!("the body was cut off: {error}; send it again"))
            })?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            take(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let late =
        |_| Fault::BadRequest(format!("the body did not come within {} s; send it again", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, all).await.map_err(late)?
}
