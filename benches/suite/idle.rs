//! What a daemon costs that has nothing to do: memory, wake-ups, and memory for each container.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Options;
use crate::daemon::{Daemon, plan};
use crate::history::resident;
use crate::series::Series;

/// How long it is looked at.
const WHILE: Duration = Duration::from_secs(10);

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
                ("context switches per s", (self::switches(pid)? - switches) / seconds),
                ("CPU ms per s", (cpu(pid)? - time) / seconds),
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

/// Context switches of all threads.
fn switches(pid: i32) -> Result<f64> {
    let mut count = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("status"))?;
        for line in text.lines().filter(|line| line.contains("ctxt_switches")) {
            count += line.split_whitespace().nth(1).context("a line of status")?.parse::<f64>()?;
        }
    }
    Ok(count)
}

/// Processor time in milliseconds, by what the scheduler counts.
fn cpu(pid: i32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().context("schedstat")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e6)
}
