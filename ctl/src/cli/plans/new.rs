//! `deployctl plan new`: a plan to begin with, out of the daemon's catalog.

use std::fmt::Write as _;

use super::super::exit::Failure;
use super::super::terminal::printable;
use super::escape;
use crate::client::Client;
use crate::wire::service::{Service, ServiceList};

const HEAD: &str = "\
# A release plan. `deployctl plan check FILE` finds its mistakes, `deployctl execute -f FILE --dry-run`
# shows what it would do, and `--watch` instead of it does that.
#
# Each item says what is done to one service:
#   deployment: START                 start what does not run
#   deployment: STOP                  stop what runs
#   deployment: RESTART               stop and start
#   deployment: HTTP_UPLOAD_DEPLOY    fetch a package, stop, switch, start
#     httpSrcUri: https://example.org/web-1.2.tar.gz
#     httpSrcSha256: ...              (optional) the package must match
#   deployment: COMPILE_DEPLOY        build a branch, stop, switch, start
#     compileRepoPath: web
#     compileRepoBranch: main
# The larger the priority, the earlier; items of the same priority are done at the same time.
# containerExecMethod: PARALLEL does all containers at once, SEQUENTIAL (the default) one after the other.
# deployLabel: a, b chooses the containers that have any of these labels; without it, all.
";

/// The plan's text: of these services, or of all.
pub async fn text(names: &[String], client: &Client) -> Result<String, Failure> {
    let mut services = Vec::new();
    if names.is_empty() {
        services = client.get::<ServiceList>("/v1/services").await?.services;
    }
    for name in names {
        services.push(client.get::<Service>(&format!("/v1/services/{}", escape(name))).await?);
    }
    if services.is_empty() {
        let text =
            "the catalog has no services: put a file into services.d/, then `deployctl service reload`";
        return Err(Failure::Other(text.into()));
    }
    Ok(plan(&services))
}

fn plan(services: &[Service]) -> String {
    let mut text = format!("{HEAD}\ncomment: What this release is for\ndeployPlanItems:\n");
    let mut seen = Vec::new();
    for service in services {
        // The same service may stand only once in a batch.
        if seen.contains(&service.service_id) {
            continue;
        }
        seen.push(service.service_id);
        // Some spaces end a line, and with it a comment (U+2028).
        let remark = |text: &str| printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
        let description = service.description.as_deref().map(|it| format!(": {}", remark(it)));
        let containers = service.containers.iter().map(|container| match &*container.labels {
            [] => container.name.clone(),
            labels => format!("{} ({})", container.name, labels.join(", ")),
        });
        let containers = remark(&containers.collect::<Vec<_>>().join(", "));
        let (name, description) = (remark(&service.name), description.unwrap_or_default());
        write!(
            text,
            "\n  # {name}{description}\n  # containers: {containers}\n  - serviceId: {}\n    priority: 0\n    deployment: START\n",
            service.service_id
        )
        .expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_description_gets_out_of_its_comment() {
        let description = Some("a\n  - serviceId: 2\r\u{85}\u{2028}b\u{1b}".to_string());
        let service = Service {
            service_id: 1,
            name: "web".into(),
            description,
            runtime: "process".into(),
            containers: Vec::new(),
            task: None,
        };
        let text = plan(&[service.clone(), service]);
        let read: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let items = read["deployPlanItems"].as_sequence().unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["serviceId"], 1);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
}
