//! A backup of the store into a file: the whole of it, or nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use http_body_util::BodyExt;

use super::args::Output;
use super::exit::Failure;
use super::terminal::{Terminal, printable};
use crate::client::{Client, ClientError};

/// deployctl backup
pub async fn backup(
    path: &Path,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let Some(name) = path.file_name() else {
        return Err(Failure::Other(format!("{} is not the name of a file", path.display())));
    };
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = receive(path, &temporary, client).await;
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    let bytes = written?;
    let file = path.display().to_string();
    if terminal.document(output, &serde_json::json!({ "file": file, "bytes": bytes }))? {
        return Ok(0);
    }
    terminal.note(&printable(&format!("{} holds the store ({bytes} bytes)", path.display())));
    Ok(0)
}

async fn receive(path: &Path, temporary: &Path, client: &Client) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::File { file: path.display().to_string(), source: error };
    let mut body = client.text("/v1/backup").await?;
    // Environments of services stand in it: it is for nobody else.
    let file = File::options().write(true).create_new(true).mode(0o600).open(temporary);
    let mut file = file.map_err(failed)?;
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Cut(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        file.write_all(&data).map_err(failed)?;
        bytes += data.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    fs::rename(temporary, path).map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new("."))).and_then(|it| it.sync_all()).map_err(failed)?;
    Ok(bytes)
}
