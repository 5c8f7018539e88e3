//! W4: what reading costs, as a process, on an open connection, and to a hundred readers at once.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::daemon::{Daemon, plan, timed};
use crate::series::Series;
use crate::{Options, limits};

/// W4, with a hundred services up.
pub fn latency(options: &Options) -> Result<()> {
    let services = if options.small { 5 } else { 100 };
    let count = if options.small { 20 } else { 1_000 };
    let says = "run: { command: [/usr/bin/sleep, infinity]@user }\nhealth: { settle: 0s }";
    let daemon = Daemon::with_services(services, says)?;
    daemon.store_plan("up", &plan(services, "RESTART"))?;
    daemon.execute("up")?;
    let mut series = Series::default();
    series.case("limit: /bin/true, a round trip of 256 bytes, a write to each of 100 sockets", || {
        let process = limits::median_of(count / 10, || timed(&mut Command::new("/bin/true")).map(drop))?;
        let trips = limits::ask(&["round-trip", &count.to_string()])?;
        Ok(vec![("a process", process), ("a request", trips[0])])
    });
    series.case("deployd: list", || {
        let process = limits::median_of(count / 10, || daemon.ctl(&["list"]).map(drop))?;
        let mut connection = daemon.connect()?;
        let request =
            limits::median_of(count, || connection.ask("GET", "/v1/tasks?limit=20", b"").map(drop))?;
        Ok(vec![("a process", process), ("a request", request)])
    });
    series.case("deployd: healthz", || {
        let mut connection = daemon.connect()?;
        let request = limits::median_of(count, || connection.ask("GET", "/healthz", b"").map(drop))?;
        Ok(vec![("a request", request)])
    });
    series.case("deployd: an event to 100 readers", || {
        Ok(vec![
            ("fan-out", fan_out(&daemon, services, 100)?),
            ("fan-out to 1", fan_out(&daemon, services, 1)?),
        ])
    });
    series.run(options.rounds);
    daemon.store_plan("down", &plan(services, "STOP"))?;
    daemon.execute("down").map(drop)
}

/// From sending a plan until the last of the readers has its event.
fn fan_out(daemon: &Daemon, services: usize, readers: usize) -> Result<f64> {
    let mut writer = daemon.connect()?;
    let text = plan(services, "START");
    let mut streams = Vec::new();
    for _ in 0..readers {
        let mut reader = daemon.connect()?;
        reader.send("GET", "/v1/events?after=1000000000", b"")?;
        reader.head()?;
        streams.push(reader);
    }
    let mut next = |writer: &mut crate::http::Connection| -> Result<f64> {
        let begun = Instant::now();
        writer.ask("POST", "/v1/plans?name=fan-out", text.as_bytes())?;
        for reader in &mut streams {
            while !reader.line()?.starts_with("event: plan.created") {}
        }
        Ok(begun.elapsed().as_secs_f64())
    };
    // The first one finds the readers where they wait.
    next(&mut writer)?;
    let mut seen: Vec<f64> = (0..5).map(|_| next(&mut writer)).collect::<Result<_>>()?;
    seen.sort_by(f64::total_cmp);
    Ok(seen[2])
}
