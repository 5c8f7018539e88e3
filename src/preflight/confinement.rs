//! Whether the daemon's own unit lets it do what the catalog asks for.

use std::process::Command;

use super::Finding;
use super::host::printed;
use crate::catalog::{Catalog, RuntimeKind};

/// What loosens the unit for plain processes.
const LOOSENED: &str = "/usr/lib/deployd/process-runtime.conf";

/// Containers that are plain processes run within the daemon's own unit, if it is one.
pub fn look(catalog: &Catalog) -> Option<Finding> {
    let service = catalog.services().find(|service| service.runtime == RuntimeKind::Process)?;
    let show = ["show", "--property=LoadState", "--property=CapabilityBoundingSet", "deployd.service"];
    judge(&service.name, &printed(Command::new("systemctl").args(show))?)
}

fn judge(service: &str, shown: &str) -> Option<Finding> {
    const SUBJECT: &str = "deployd.service";
    let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("LoadState") != Some("loaded") {
        return None;
    }
    if value("CapabilityBoundingSet").is_some_and(|all| all.split(' ').any(|one| one == "cap_setuid")) {
        return Some(Finding::ok(SUBJECT, "lets containers be plain processes"));
    }
    let text =
        format!("service {service} has `runtime: process`, which this unit does not let the daemon do");
    let text = format!("{text}; use `runtime: systemd`, or link {LOOSENED} into {SUBJECT}.d");
    Some(Finding::fail(SUBJECT, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn a_unit_that_keeps_processes_from_running_is_found_out() {
        let verdict = |shown| judge("web", shown).map(|finding| finding.verdict);
        assert_eq!(verdict("LoadState=not-found\nCapabilityBoundingSet=cap_chown\n"), None);
        assert_eq!(
            verdict("CapabilityBoundingSet=cap_chown cap_fowner\nLoadState=loaded\n"),
            Some(Verdict::Fail)
        );
        assert_eq!(
            verdict("LoadState=loaded\nCapabilityBoundingSet=cap_setgid cap_setuid\n"),
            Some(Verdict::Ok)
        );
    }
}
