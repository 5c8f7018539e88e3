//! What a daemon costs that has nothing to do: memory, wake-ups, and memory for each container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Options;
use crate::daemon::{Daemon, plan};
use crate::history::resident;
use crate::series::Series;

/// How long it is looked at.
const WHILE: Duration = Duration::from_mins(1);

/// All of it.
pub fn idle(options: &Options) -> Result<()> {
    let sizes: &[usize] = if options.small { &[0, 10] } else { &[0, 100, 1_000] };
    let mut series = Series::default();
    for &size in sizes {
        series.case(format!("{size} services running"), move || {
            let says = "run: { command: [/usr/bin/sleep, infinity]@user }\nhealth: { settle: 0s }";
            let daemon = Daemon::with_services(size, says)?;
            if size > 0 {
                daemon.store_plan("up", &plan(size, "RESTART"))?;
                daemon.execute("up")?;
            }
            let pid = daemon.pid()?;
            // What the work itself has left to do is done, and threads that wait for more of it have given up.
            std::thread::sleep(Duration::from_secs(15));
            let (switches, time) = (switches(pid)?, cpu(pid)?);
            std::thread::sleep(WHILE);
            let seconds = WHILE.as_secs_f64();
            Ok(vec![
                ("RSS, KiB", resident(pid)?),
                ("with its spawners, shared pages once, KiB", {
                    let all = daemon.spawners()?.into_iter().chain([pid]).map(share);
                    all.sum::<Result<f64>>()?
                }),
                ("context switches per s", growth(&switches, &self::switches(pid)?) / seconds),
                ("CPU ms per s", growth(&time, &cpu(pid)?) / seconds),
            ])
        });
    }
    series.run(options.rounds.min(2));
    Ok(())
}

/// What a process has in memory in KiB, of shared pages its share (PSS).
fn share(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("a line of smaps_rollup")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

/// A number of each thread.
type Threads = BTreeMap<OsString, f64>;

/// What a number has grown by. What threads have counted that have ended meanwhile is not known any more.
fn growth(before: &Threads, after: &Threads) -> f64 {
    after.iter().map(|(thread, now)| now - before.get(thread).unwrap_or(&0.0)).sum()
}

/// The context switches of all threads.
fn switches(pid: i32) -> Result<Threads> {
    of_threads(pid, "status", |text| {
        let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
        lines
            .map(|line| Ok(line.split_whitespace().nth(1).context("a line of status")?.parse::<f64>()?))
            .sum()
    })
}

/// Their processor time in milliseconds, by what the scheduler counts.
fn cpu(pid: i32) -> Result<Threads> {
    of_threads(pid, "schedstat", |text| {
        Ok(text.split_whitespace().next().context("schedstat")?.parse::<f64>()? / 1e6)
    })
}

fn of_threads(pid: i32, file: &str, read: impl Fn(&str) -> Result<f64>) -> Result<Threads> {
    let mut threads = Threads::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // It may have ended by now.
        if let Ok(text) = fs::read_to_string(thread.path().join(file)) {
            threads.insert(thread.file_name(), read(&text)?);
        }
    }
    Ok(threads)
}
