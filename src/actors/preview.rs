//! A dry run: what executing a plan would do, and how long that should take. Nothing is changed.

use futures_util::{FutureExt, StreamExt, stream};

use super::{Preview, PreviewBatch, PreviewDeployment};
use crate::executor::Executor;
use crate::plan::Way;
use crate::task::deployment::DeploymentSpec;
use crate::task::forecast::Forecast;

/// How many packages and branches are looked for at the same time.
const AT_ONCE: usize = 32;

/// Looks at everything that the deployments would deal with; `usual` knows how long each takes.
pub async fn preview(executor: &Executor, deployments: Vec<(DeploymentSpec, Option<Forecast>)>) -> Preview {
    let mut preview = Preview::default();
    let looks: Vec<_> = deployments.iter().map(|(spec, _)| executor.foresee(spec).boxed()).collect();
    let foreseen: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    preview.problems.extend(foreseen.into_iter().flatten());
    for (spec, usual) in deployments {
        let deployment = look(executor, &spec, usual, &mut preview.problems).await;
        match preview.batches.last_mut() {
            Some(batch) if batch.priority == spec.priority => batch.deployments.push(deployment),
            _ => {
                let (priority, deployments) = (spec.priority, vec![deployment]);
                preview.batches.push(PreviewBatch { priority, deployments });
            }
        }
    }
    preview
}

async fn look(
    executor: &Executor,
    spec: &DeploymentSpec,
    usual: Option<Forecast>,
    problems: &mut Vec<String>,
) -> PreviewDeployment {
    let mut containers = Vec::new();
    for name in &spec.containers {
        let Some(container) = spec.service.container(name) else { continue };
        let view = executor.view_container(&spec.service, container).await;
        let needs = spec.service.run.as_ref().is_some_and(crate::catalog::Run::needs_release);
        if matches!(spec.way, Way::Start | Way::Restart) && view.release.is_none() && needs {
            problems.push(format!("{name} of {} has no release yet", spec.service.name));
        }
        let action = action(&spec.way, view.state == "running");
        containers.push((view, action.to_string()));
    }
    PreviewDeployment {
        service: spec.service.id,
        name: spec.service.name.clone(),
        way: spec.way.name(),
        order: spec.order.name(),
        containers,
        usual,
    }
}

const fn action(way: &Way, running: bool) -> &'static str {
    match (way, running) {
        (Way::Start, true) => "leave alone: already running",
        (Way::Start, false) => "start",
        (Way::Stop, true) => "stop",
        (Way::Stop, false) => "leave alone: already stopped",
        (Way::Restart, true) => "restart",
        (Way::Restart, false) => "start (it does not run)",
        (Way::HttpUpload { .. } | Way::Compile { .. }, true) => "stop, switch to the new release, start",
        (Way::HttpUpload { .. } | Way::Compile { .. }, false) => "switch to the new release, start",
    }
}
