//! A backup of the store, streamed to whoever asked: the daemon writes to no path that a client names.

use std::fs::File;
use std::io::Read;

use actix_web::body::SizedStream;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;

use super::ControlState;
use super::peer::caller;
use super::problem::Fault;
use crate::store::StoreError;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// `GET /v1/backup`
pub async fn backup(state: web::Data<ControlState>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let by = caller(&request)?;
    let copied = web::block(move || -> Result<(File, u64), StoreError> {
        let file = state.store.backup(&state.state_dir)?;
        let length = file.metadata().map_err(|error| StoreError::Copy(error.to_string()))?.len();
        Ok((file, length))
    });
    let crashed = |_| StoreError::Copy("it panicked".into());
    let (file, length) = copied.await.map_err(crashed)??;
    tracing::info!(user = by.user, bytes = length, "the store is backed up");
    let body = stream::unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(Bytes::from(chunk)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(SizedStream::new(length, Box::pin(body))))
}
