//! Bodies of requests: how large, how long they may take, and how much of them there may be at once.

use std::time::Duration;

use actix_web::web;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Fault;
use crate::plan::parse::MAX_BYTES;

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

/// Reads JSON; `None` when the body is empty.
pub async fn json<T: DeserializeOwned>(body: web::Payload) -> Result<Option<T>, Fault> {
    let too_large =
        || Fault::TooLarge(format!("the body is larger than {MAX_JSON} bytes; see GET /v1/openapi.json"));
    let bytes = read(body, MAX_JSON, too_large, |_| Ok(())).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let bad = |error| {
        Fault::BadRequest(format!("the body is not what is expected: {error}; see GET /v1/openapi.json"))
    };
    serde_json::from_slice(&bytes).map(Some).map_err(bad)
}

/// As [`json`], where there has to be a body.
pub async fn required<T: DeserializeOwned>(body: web::Payload) -> Result<T, Fault> {
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
