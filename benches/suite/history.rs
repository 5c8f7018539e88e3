//! W5: what a long history costs.

use std::fs;

use anyhow::{Context, Result};
use deployd::store::{Change, Integrity, Store};
use deployd::task::event::{Definition, Event};
use deployd::task::operation::{Done, Evidence, OperationEnd};
use deployd::task::record::records;
use deployd::task::summary::TaskSummary;
use deployd::task::{Caller, Task, Timestamp};
use nix::sys::signal::Signal;

use crate::daemon::{Daemon, plan, service};
use crate::series::Series;
use crate::{Options, limits};

/// W5.
pub fn kept(options: &Options) -> Result<()> {
    let sizes: &[usize] = if options.small { &[0, 100] } else { &[0, 1_000, 10_000, 100_000] };
    let mut series = Series::default();
    for &size in sizes {
        let says = "run: { command: [/bin/true]@user }";
        let mut daemon = Daemon::new()?;
        daemon.write("services.d/s1.yaml", &service(1, says))?;
        daemon.start()?;
        daemon.store_plan("noop", &plan(1, "STOP"))?;
        daemon.stop(Signal::SIGTERM)?;
        fill(&daemon, size)?;
        series.case(format!("{size} finished tasks"), move || {
            let started = daemon.start()?;
            let list = limits::median_of(20, || daemon.ctl(&["list"]).map(drop))?;
            let mut connection = daemon.connect()?;
            let request =
                limits::median_of(100, || connection.ask("GET", "/v1/tasks?limit=20", b"").map(drop))?;
            let first = format!("/v1/tasks/{}/report", size.max(1));
            daemon.execute("noop")?;
            let report = limits::median_of(100, || connection.ask("GET", &first, b"").map(drop))?;
            let metrics = limits::median_of(20, || connection.ask("GET", "/metrics", b"").map(drop))?;
            let before = written(daemon.pid()?)?;
            let one = limits::median_of(10, || daemon.execute("noop").map(drop))?;
            let bytes = (written(daemon.pid()?)? - before) / 10.0 / 1024.0;
            let rss = resident(daemon.pid()?)?;
            let file = fs::metadata(daemon.path("state/deployd.redb"))?.len();
            daemon.stop(Signal::SIGKILL)?;
            let crashed = daemon.start()?;
            daemon.stop(Signal::SIGTERM)?;
            #[expect(clippy::cast_precision_loss, reason = "it is shown")]
            Ok(vec![
                ("start", started),
                ("start after a crash", crashed),
                ("list, a process", list),
                ("list, a request", request),
                ("report", report),
                ("metrics", metrics),
                ("one more task", one),
                ("written per task, KiB", bytes),
                ("RSS, KiB", rss),
                ("file, KiB", file as f64 / 1024.0),
            ])
        });
    }
    series.run(options.rounds);
    Ok(())
}

/// Bytes that a process has written. (What the kernel accounts as `write_bytes` are whole folios, of which far less may
/// go to the device.)
fn written(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.context("no wchar")?.parse()?)
}

/// Memory of a process, in KiB.
pub fn resident(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?.parse()?)
}

/// Writes finished tasks, through the store's own code.
fn fill(daemon: &Daemon, size: usize) -> Result<()> {
    let store = Store::open(&daemon.path("state/deployd.redb"), &Integrity::Unchecked)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let definition = definition(daemon)?;
    let by = Caller { uid: 0, user: "root".into(), pid: Some(1), program: Some("deployctl".into()) };
    let at = Timestamp(1_700_000_000_000_000);
    let mut left = size;
    while left > 0 {
        let group = left.min(1_000);
        left -= group;
        let commits: Vec<_> = (0..group)
            .map(|_| {
                let event = Event::Started { by: by.clone(), definition: definition.clone() };
                store.commit(vec![Change::CreateTask { at, event, key: None }])
            })
            .collect();
        let mut last = None;
        for commit in commits {
            let id = runtime.block_on(commit)?.task.context("a task has a number")?;
            let begun = Event::Started { by: by.clone(), definition: definition.clone() };
            let mut task = Task::begin(id, &begun, at)?;
            let mut changes = Vec::new();
            for (index, event) in course().into_iter().enumerate() {
                task.apply(&event, at)?;
                let (n, summary) = (index as u64 + 2, TaskSummary::of(&task, index as u64 + 2));
                let records = records(&task, &event, at);
                changes.push(Change::Append { task: id, n, at, event, summary, records });
            }
            last = Some(store.commit(changes));
        }
        if let Some(last) = last {
            runtime.block_on(last)?;
        }
    }
    store.close();
    Ok(())
}

/// What a task with one service and nothing to do records.
fn course() -> [Event; 5] {
    let end = OperationEnd { result: Ok(Done::Unchanged), detail: "already stopped".into(), settled: None };
    [
        Event::DeploymentBegun { deployment: 0 },
        Event::OperationBegun {
            deployment: 0,
            operation: 0,
            evidence: Evidence::default(),
            to_release: None,
        },
        Event::OperationEnded { deployment: 0, operation: 0, end },
        Event::DeploymentEnded { deployment: 0, result: Ok(()) },
        Event::Completed,
    ]
}

fn definition(daemon: &Daemon) -> Result<Definition> {
    let catalog = deployd::catalog_dir::read(&daemon.path("services.d"), false)?;
    let policy = deployd::plan::check::Policy {
        repositories: None,
        repository_dir: String::new(),
        allowed_repositories: Vec::new(),
        allowed_uris: None,
    };
    let plan = deployd::plan::check::read(plan(1, "STOP").as_bytes(), &catalog, &policy)
        .map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let deployments =
        deployd::compile::compile(&plan, &catalog).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    Ok(Definition { plan: "noop".into(), revision: 1, comment: None, deployments })
}
