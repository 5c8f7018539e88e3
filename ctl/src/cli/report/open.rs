//! `deployctl report ID --open`: the page in a browser.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::super::args::Output;
use super::super::exit::Failure;
use super::super::terminal::{Terminal, printable};

/// What opens a page says within this time if it can't; a browser that is started by it may stay.
const OPENED: Duration = Duration::from_secs(3);

/// Writes the page into a file that is for nobody else, and opens it; without a desktop says where it is.
pub async fn open(id: u64, page: &str, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    let file = write(id, page)?;
    let shown = file.display().to_string();
    if !terminal.document(output, &serde_json::json!({ "file": shown }))? {
        terminal.line(&printable(&shown))?;
    }
    if let Err(why) = show(&file).await {
        terminal.note(&printable(&format!("{why}; open the file where there is a browser")));
    }
    Ok(0)
}

fn write(id: u64, page: &str) -> Result<PathBuf, Failure> {
    let directory = std::env::temp_dir();
    let pid = std::process::id();
    // Whoever has taken a name before gets neither read nor overwritten.
    for number in 0..100 {
        let path = directory.join(format!("deployd-task-{id}-{pid}-{number}.html"));
        match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => {
                let written = opened.and_then(|mut file| file.write_all(page.as_bytes()));
                let failed = |source| Failure::File { file: path.display().to_string(), source };
                return written.map(|()| path.clone()).map_err(failed);
            }
        }
    }
    Err(Failure::Other(format!("cannot write the report: all names in {} are taken", directory.display())))
}

async fn show(file: &Path) -> Result<(), String> {
    let words = opener(file)?;
    let mut command = tokio::process::Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let name = words[0].to_string_lossy();
    let mut child = command.spawn().map_err(|error| format!("cannot run {name}: {error}"))?;
    match tokio::time::timeout(OPENED, child.wait()).await {
        Ok(Ok(status)) if !status.success() => Err(format!("{name} could not open it ({status})")),
        _ => Ok(()),
    }
}

/// `$BROWSER` as other programs understand it, else what the desktop has.
fn opener(file: &Path) -> Result<Vec<OsString>, String> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Ok(browsers) = std::env::var("BROWSER")
        && let Some(first) = browsers.split(':').find(|it| !it.trim().is_empty())
    {
        let path = file.as_os_str().to_os_string();
        let word = |word: &str| if word == "%s" { path.clone() } else { word.into() };
        let mut words: Vec<OsString> = first.split_whitespace().map(word).collect();
        if !first.contains("%s") {
            words.push(path);
        }
        return Ok(words);
    }
    if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") {
        return Ok(vec!["xdg-open".into(), file.into()]);
    }
    Err("there is no desktop here (neither DISPLAY nor WAYLAND_DISPLAY nor BROWSER is set)".into())
}
