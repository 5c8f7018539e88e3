//! What the tests release: services whose containers write down their starts, and plans of them.

use super::{Daemon, is_root};

impl Daemon {
    /// Lets a container whose health check waits for it become healthy.
    pub fn release(&self, container: &str) {
        self.write(&format!("open-{container}"), "");
    }

    /// Puts a service `s<id>` into the catalog: its containers, each with its labels, write down
    /// their starts; then they count as up, unless `more` has a `health` of its own.
    pub fn add(&self, id: u64, containers: &[(&str, &str)], more: &str) {
        let witness = self.path("witness");
        let script = format!(
            "echo $DEPLOYD_CONTAINER $DEPLOYD_OPERATION $$ $(date +%s.%N) >> {}; exec sleep 1000",
            witness.display()
        );
        let run = format!("run:\n  command: [/bin/sh, -c, \"{script}\"]\n{}  stopTimeout: 5s\n", user());
        // Up is what has written down its start.
        let written =
            format!("health: {{ command: [/bin/sh, -c, '{}'], interval: 10ms, settle: 0s }}", self.wrote());
        let health = if more.contains("health:") { String::new() } else { written };
        self.add_running(id, containers, &run, &format!("{health}\n{more}"));
    }

    /// A command that succeeds when the container has written down its start.
    pub fn wrote(&self) -> String {
        format!("grep -q \"$(basename $DEPLOYD_OPERATION .health) \" {}", self.path("witness").display())
    }

    /// As [`Self::add`], with a `run` of its own.
    pub fn add_running(&self, id: u64, containers: &[(&str, &str)], run: &str, more: &str) {
        let containers: Vec<_> = containers
            .iter()
            .map(|(name, labels)| format!("  - {{ name: {name}, labels: [{labels}] }}\n"))
            .collect();
        let health = if more.contains("health:") { "" } else { "health: { settle: 0s }\n" };
        let containers = containers.concat();
        let text = format!(
            "serviceId: {id}\nname: s{id}\nruntime: process\ncontainers:\n{containers}{run}{health}{more}\n"
        );
        self.write(&format!("services.d/s{id}.yaml"), &text);
    }

    /// A health check that waits until the test releases the container.
    pub fn gate(&self) -> String {
        let open = self.path("open-$DEPLOYD_CONTAINER");
        format!(
            "health: {{ command: [/bin/sh, -c, 'test -e {} && {}'], interval: 10ms, timeout: 60s, settle: 0s }}",
            open.display(),
            self.wrote()
        )
    }
}

/// The line of a catalog that says as whom a container runs.
pub fn user() -> &'static str {
    if is_root() { "  user: root\n" } else { "" }
}

/// A plan of (service, priority, way, further keys).
pub fn items(items: &[(u64, i64, &str, &str)]) -> String {
    let item = |(id, priority, way, more): &(u64, i64, &str, &str)| {
        format!("  - {{ serviceId: {id}, priority: {priority}, deployment: {way}{more} }}\n")
    };
    format!("deployPlanItems:\n{}", items.iter().map(item).collect::<Vec<_>>().concat())
}
