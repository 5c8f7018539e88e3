//! `deployctl` alone: what is going on, what one can do; or why the daemon can't be reached.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use serde::Serialize;

use super::args::Output;
use super::exit::Failure;
use super::terminal::{Terminal, printable};
use super::{render, tasks};
use crate::client::{Client, ClientError, SYSTEM_SOCKET, user_socket};
use crate::wire::Info;
use crate::wire::task::TaskList;

/// Tasks that have not come to their end.
const OPEN: &str = "RUNNING,STOPPING,PAUSING,PAUSED,INTERRUPTED";

#[derive(Serialize)]
struct Overview {
    info: Info,
    open: TaskList,
    last: TaskList,
}

pub async fn overview(
    socket: &Path,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let info: Info = match client.get("/v1/info").await {
        Err(error @ ClientError::NotReachable { .. }) => {
            Failure::from(error).show(terminal);
            for line in diagnosis(socket) {
                terminal.error(&printable(&format!("  {line}")));
            }
            return Ok(6);
        }
        other => other?,
    };
    let open: TaskList = client.get(&format!("/v1/tasks?limit=20&state={OPEN}")).await?;
    let last: TaskList = client.get("/v1/tasks?limit=5&state=SUCCEEDED,FAILED,STOPPED").await?;
    let overview = Overview { info, open, last };
    if !terminal.document(output, &overview)? {
        show(&overview, terminal)?;
    }
    Ok(0)
}

fn show(overview: &Overview, terminal: &mut Terminal) -> Result<(), Failure> {
    let Overview { info, open, last } = overview;
    let (services, plans) =
        (render::count(info.counts.services, "service"), render::count(info.counts.plans, "plan"));
    let up = render::duration(Some(&info.started_at), None);
    let text = format!(
        "deployd {}, up {up}: {services}, {plans}; you are {} ({})",
        info.version, info.caller.user, info.role
    );
    terminal.line(&printable(&text))?;
    for (title, list) in [("Going on, or held", open), ("Over", last)] {
        if !list.tasks.is_empty() {
            terminal.line(&format!("\n{title}:"))?;
            tasks::table(&list.tasks, terminal)?;
        }
    }
    terminal.line("")?;
    for (command, does) in possible(overview) {
        terminal.line(&format!("  {command:42} {does}"))?;
    }
    Ok(())
}

/// What one can do next, with commands that can be copied.
fn possible(overview: &Overview) -> Vec<(String, &'static str)> {
    let mut next = Vec::new();
    if overview.info.counts.services == 0 {
        next.push(("deployctl service reload".into(), "after a file was put into services.d/"));
    }
    for task in overview.open.tasks.iter().take(2) {
        let (command, does) = match &*task.state {
            "PAUSED" | "INTERRUPTED" => ("resume", "go on with it"),
            _ => ("watch", "follow it"),
        };
        next.push((format!("deployctl {command} {}", task.id), does));
    }
    if let Some(failed) = overview.last.tasks.first().filter(|task| task.state == "FAILED") {
        next.push((format!("deployctl report {}", failed.id), "why it failed"));
    }
    next.push(("deployctl service list".into(), "what can be released, and whether it runs"));
    if overview.info.role != "viewer" && overview.info.counts.services > 0 {
        next.push(("deployctl plan new > release.yaml".into(), "a plan to begin with"));
        next.push(("deployctl execute -f release.yaml --watch".into(), "release"));
    }
    next.push(("deployctl --help".into(), "everything else"));
    next
}

/// Whether it runs, where its socket should be, and who may use it.
fn diagnosis(socket: &Path) -> Vec<String> {
    let mut lines = vec![match running() {
        Some((pid, user)) => format!("a deployd runs: process {pid} of {user}"),
        None => "no deployd runs here; start it: systemctl start deployd, or deployd --user".into(),
    }];
    match std::fs::metadata(socket) {
        Ok(metadata) => lines.extend(access(socket, &metadata)),
        Err(error) => lines.push(format!("{}: {error}", socket.display())),
    }
    let others = [Some(Path::new(SYSTEM_SOCKET).to_path_buf()), user_socket()].into_iter().flatten();
    for other in others.filter(|other| other != socket) {
        let (there, place) = (if other.exists() { "there is" } else { "there is none" }, other.display());
        lines.push(format!("the socket could also be {place} (--socket, DEPLOYD_SOCKET): {there}"));
    }
    lines
}

fn access(socket: &Path, metadata: &std::fs::Metadata) -> Vec<String> {
    let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
    let group = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
    let (owner, me) = (name(Uid::from_raw(metadata.uid())), name(Uid::effective()));
    vec![
        format!(
            "{} belongs to {owner} and group {group}, mode {:o}",
            socket.display(),
            metadata.mode() & 0o777
        ),
        format!("root, {owner} and members of group {group} may use it; you are {me}"),
    ]
}

fn name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// A daemon that runs on this host, and whose.
fn running() -> Option<(u32, String)> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let owner = entry.metadata().ok()?.uid();
        (comm.trim_end() == "deployd").then(|| (pid, name(Uid::from_raw(owner))))
    })
}
