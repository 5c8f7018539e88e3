//! W1 and W2: many small steps in five batches.

use anyhow::{Result, ensure};

use crate::Options;
use crate::daemon::{Daemon, plan};
use crate::series::Series;
use crate::{limits, peers};

/// W1: N services from nothing to running, in 5 batches, each up before the next; then all of them down.
pub fn restart(options: &Options) -> Result<()> {
    for &size in &options.sizes {
        println!("N = {size}\n");
        let mut series = Series::default();
        series.case("limit: posix_spawn, a durable record per batch", move || {
            let took = limits::ask(&["wave", &size.to_string()])?;
            Ok(vec![("up", took[0]), ("down", took[1])])
        });
        series.case("deployd", move || {
            let says = "run: { command: [/usr/bin/sleep, infinity]@user }\nhealth: { settle: 0s }";
            let daemon = Daemon::with_services(size, says)?;
            daemon.store_plan("up", &plan(size, "RESTART"))?;
            daemon.store_plan("down", &plan(size, "STOP"))?;
            let up = daemon.execute("up")?;
            ensure!(daemon.running() == size, "{} of {size} run", daemon.running());
            let again = daemon.execute("up")?;
            ensure!(daemon.running() == size, "{} of {size} run", daemon.running());
            let down = daemon.execute("down")?;
            ensure!(daemon.running() == 0, "{} still run", daemon.running());
            Ok(vec![("up", up), ("down", down), ("restart, all of them running", again)])
        });
        peers::restart(&mut series, size);
        series.run(options.rounds);
        println!();
    }
    Ok(())
}

/// W2: N times /bin/true, in 5 batches; each step is durable before and after.
pub fn no_op(options: &Options) -> Result<()> {
    for &size in options.sizes.iter().filter(|&&size| size <= 1_000) {
        println!("N = {size}\n");
        let mut series = Series::default();
        series.case("limit: posix_spawn, group commit", move || {
            Ok(vec![("all", limits::ask(&["noop", &size.to_string()])?[0])])
        });
        series.case("deployd: a hook each", move || {
            let says = "run: { command: [/bin/true]@user }\nhooks: { preDeploy: [/bin/true] }";
            let daemon = Daemon::with_services(size, says)?;
            daemon.store_plan("noop", &plan(size, "STOP"))?;
            Ok(vec![("all", daemon.execute("noop")?)])
        });
        series.case("deployd: nothing to do", move || {
            let daemon = Daemon::with_services(size, "run: { command: [/bin/true]@user }")?;
            daemon.store_plan("noop", &plan(size, "STOP"))?;
            Ok(vec![("all", daemon.execute("noop")?)])
        });
        peers::no_op(&mut series, size);
        series.run(options.rounds);
        println!();
    }
    Ok(())
}
