//! deployd beside the limits of the machine and its peers, in turn with each other, in one table.
//!
//! Every workload is a list of cases. Each round runs each case once, so that what disturbs the machine
//! disturbs all of them; what is shown is the median, and its ratio to the limit's median of the same run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
#![allow(clippy::disallowed_methods, reason = "it writes inputs, and keeps no state")]
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "nobody measures how the inputs are made"
)]
#![allow(clippy::unnecessary_wraps, reason = "all workloads look the same")]

mod builds;
mod control;
mod daemon;
mod guardian;
mod history;
mod http;
mod idle;
mod limits;
mod packages;
mod peers;
mod series;
mod waves;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// What to measure, and how.
pub struct Options {
    /// How often each case is run.
    rounds: usize,
    /// How many services.
    sizes: Vec<usize>,
    /// Only whether it works.
    small: bool,
}

type Workload = fn(&Options) -> Result<()>;

const WORKLOADS: [(&str, &str, Workload); 7] = [
    ("w1", "restart wave: N services in 5 batches, up and down", waves::restart),
    ("w2", "no-op plan: N commands in 5 batches, each step durable", waves::no_op),
    ("w3", "package deploy: 20 services, 50 MB and 2,000 files each", packages::deploy),
    ("w4", "control: latency of reading", control::latency),
    ("w5", "history: 100,000 finished tasks", history::kept),
    ("w6", "compile deploy: 2,000 files, 200 commits, make", builds::compile),
    ("idle", "what a daemon costs that has nothing to do", idle::idle),
];

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench").peekable();
    // The limits are programs of their own, as what they are compared with is.
    if words.peek().is_some_and(|word| word == "limit") {
        return limits::run(&words.skip(1).collect::<Vec<_>>()).map(|()| ExitCode::SUCCESS);
    }
    if !guardian::is_guarded() {
        return guardian::guard();
    }
    let mut options = Options { rounds: 3, sizes: vec![10, 100, 1_000, 10_000], small: false };
    let mut wanted = Vec::new();
    while let Some(word) = words.next() {
        match &*word {
            "--rounds" => options.rounds = words.next().unwrap_or_default().parse()?,
            "--sizes" => {
                let sizes = words.next().unwrap_or_default();
                options.sizes = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--small" => options = Options { rounds: 1, sizes: vec![10], small: true },
            name if WORKLOADS.iter().any(|workload| workload.0 == name) => wanted.push(name.to_string()),
            other => bail!("what is `{other}`? see benches/run"),
        }
    }
    for (name, title, run) in WORKLOADS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n**{name}: {title}**\n");
            run(&options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
