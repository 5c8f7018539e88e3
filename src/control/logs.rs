//! The logs of a task, as text, streamed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::ControlState;
use super::problem::Fault;
use crate::actors::Refused;
use crate::store::Store;
use crate::task::TaskId;

/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// How often a growing log is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
pub struct Query {
    service: Option<String>,
    follow: Option<bool>,
}

/// `GET /v1/tasks/{id}/logs`
pub async fn of_task(
    state: web::Data<ControlState>,
    end: web::Data<CancellationToken>,
    id: web::Path<u64>,
    query: web::Query<Query>,
) -> Result<HttpResponse, Fault> {
    let id = TaskId(*id);
    let task = state.store.snapshot()?.task(id)?.ok_or(Refused::NoSuchTask(id))?;
    let mut files: Vec<LogFile> = Vec::new();
    for deployment in &task.deployments {
        let service = &deployment.spec.service;
        let wanted = query
            .service
            .as_ref()
            .is_none_or(|wanted| *wanted == service.name || *wanted == service.id.to_string());
        let path = state.tasks_dir.join(id.to_string()).join(format!("{}.log", service.id));
        if wanted && files.iter().all(|file| file.path != path) {
            files.push(LogFile { path, name: format!("{} ({})", service.name, service.id), read: 0 });
        }
    }
    if let Some(wanted) = query.service.as_ref().filter(|_| files.is_empty()) {
        return Err(Fault::NotFound(format!(
            "task {id} does not deploy service {}; `deployctl report` shows its services",
            wanted.escape_debug()
        )));
    }
    let tail = Tail {
        headed: files.len() > 1,
        files,
        last: None,
        store: state.store.clone(),
        task: id,
        follow: query.follow.unwrap_or(false),
        end: end.get_ref().clone(),
        resting: false,
    };
    let body = stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), tail))
    });
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").streaming(body))
}

struct LogFile {
    path: PathBuf,
    name: String,
    read: u64,
}

struct Tail {
    files: Vec<LogFile>,
    headed: bool,
    /// The file whose lines came last.
    last: Option<usize>,
    store: Store,
    task: TaskId,
    follow: bool,
    end: CancellationToken,
    resting: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.read() {
                return Some(chunk);
            }
            if !self.follow || self.resting {
                return None;
            }
            // One more look after the task has come to rest: what was written before belongs to it.
            let summary = self.store.snapshot().and_then(|snapshot| snapshot.task_summary(self.task)).ok()?;
            self.resting = summary.is_none_or(|summary| !summary.state.is_active());
            if !self.resting {
                tokio::select! {
                    () = self.end.cancelled() => return None,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    fn read(&mut self) -> Option<Bytes> {
        for (index, file) in self.files.iter_mut().enumerate() {
            let Some(chunk) = read_from(&file.path, file.read) else { continue };
            file.read += chunk.len() as u64;
            let mut text = Vec::new();
            if self.headed && self.last != Some(index) {
                text.extend(format!("==> {} <==\n", file.name).into_bytes());
            }
            self.last = Some(index);
            text.extend(chunk);
            return Some(text.into());
        }
        None
    }
}

/// What a file holds after `position`: whole lines, as far as one look goes.
fn read_from(path: &Path, position: u64) -> Option<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let mut file: File = File::options().read(true).custom_flags(flags).open(path).ok()?;
    file.seek(SeekFrom::Start(position)).ok()?;
    let mut chunk = Vec::new();
    file.take(CHUNK as u64).read_to_end(&mut chunk).ok()?;
    let whole = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    if whole > 0 {
        chunk.truncate(whole);
    } else if chunk.len() < CHUNK {
        return None;
    }
    Some(chunk)
}
