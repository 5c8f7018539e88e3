//! What the daemon counts and measures, as OpenMetrics. Counting begins anew with each daemon: that is
//! what those who read counters expect. What can be looked up is looked up when it is asked for.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Label = (&'static str, &'static str);

/// All of it.
pub struct Metrics {
    registry: Registry,
    deployments: Work,
    operations: Work,
    commits: Histogram,
    tasks: Family<[Label; 1], Gauge>,
    active: Gauge,
    oldest_drain: Gauge<f64, std::sync::atomic::AtomicU64>,
    artifacts: Gauge,
}

/// What is looked up.
#[derive(Debug)]
pub struct Seen {
    /// How many tasks there are, by state.
    pub tasks: Vec<(&'static str, u64)>,
    /// How many of them are active.
    pub active: u64,
    /// How long the task that stops or pauses for longest has been doing so.
    pub oldest_drain: Duration,
    /// How large all artifacts are.
    pub artifact_bytes: u64,
}

/// Something that ends well or not, and takes time.
struct Work {
    ended: Family<[Label; 2], Counter>,
    took: Family<[Label; 1], Histogram, fn() -> Histogram>,
}

/// What work came to.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The way of the deployment.
    pub way: &'static str,
    /// The state that it ended in.
    pub outcome: &'static str,
    /// How long it took; `None` when it was cut in between.
    pub micros: Option<u64>,
}

impl Work {
    fn new() -> Self {
        // 0.1 s to an hour.
        let buckets = || Histogram::new(exponential_buckets(0.1, 2.0, 16));
        Self { ended: Family::default(), took: Family::new_with_constructor(buckets) }
    }

    fn register(&self, registry: &mut Registry, one: &str, many: &str) {
        registry.register(
            many,
            format!("How many {many} have ended, by way and outcome"),
            self.ended.clone(),
        );
        let help = format!("How long {many} took");
        registry.register_with_unit(format!("{one}_duration"), help, Unit::Seconds, self.took.clone());
    }

    fn count(&self, ended: Ended) {
        self.ended.get_or_create(&[("way", ended.way), ("outcome", ended.outcome)]).inc();
        if let Some(micros) = ended.micros {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            self.took.get_or_create(&[("way", ended.way)]).observe(seconds);
        }
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("deployd");
        let (deployments, operations) = (Work::new(), Work::new());
        deployments.register(&mut registry, "deployment", "deployments");
        operations.register(&mut registry, "operation", "operations");
        // 0.25 ms to 8 s.
        let commits = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let help = "How long the store took to make a commit durable";
        registry.register_with_unit("store_commit", help, Unit::Seconds, commits.clone());
        let tasks = Family::<[Label; 1], Gauge>::default();
        registry.register("tasks", "How many tasks there are, by state", tasks.clone());
        let active = Gauge::default();
        registry.register("tasks_active", "How many tasks are being executed", active.clone());
        let oldest_drain = Gauge::default();
        let help = "How long the task that stops or pauses for longest has been doing so";
        registry.register_with_unit("oldest_drain", help, Unit::Seconds, oldest_drain.clone());
        let artifacts = Gauge::default();
        registry.register_with_unit(
            "artifact",
            "How large all artifacts are",
            Unit::Bytes,
            artifacts.clone(),
        );
        Self { registry, deployments, operations, commits, tasks, active, oldest_drain, artifacts }
    }

    /// A deployment has ended.
    pub fn deployment(&self, ended: Ended) {
        self.deployments.count(ended);
    }

    /// An operation has ended.
    pub fn operation(&self, ended: Ended) {
        self.operations.count(ended);
    }

    /// A commit is durable.
    pub fn commit(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// None is known.
    pub fn text(&self, seen: &Seen) -> Result<String, fmt::Error> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in &seen.tasks {
            self.tasks.get_or_create(&[("state", *state)]).set(signed(*count));
        }
        self.active.set(signed(seen.active));
        self.oldest_drain.set(seen.oldest_drain.as_secs_f64());
        self.artifacts.set(signed(seen.artifact_bytes));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
