//! A dry run, for the wire.

use deployctl::wire::task::{DryRun, DryRunBatch, DryRunContainer, DryRunDeployment, Expected};

use super::usual_time;
use crate::actors::Preview;
use crate::actors::preview::{NewRelease, PreviewBatch, PreviewContainer, PreviewDeployment, Release};
use crate::task::forecast;

/// What executing a plan would do.
pub fn dry_run(plan: String, preview: Preview) -> DryRun {
    DryRun {
        plan,
        revision: preview.revision,
        expected: expected(preview.expected),
        batches: preview.batches.into_iter().map(batch).collect(),
        problems: preview.problems,
    }
}

fn batch(batch: PreviewBatch) -> DryRunBatch {
    let longest = batch.deployments.iter().max_by_key(|it| it.usual.map_or(0, |usual| usual.p50));
    DryRunBatch {
        priority: batch.priority,
        dominated_by: longest.filter(|it| it.usual.is_some()).map(|it| it.name.clone()),
        expected: expected(batch.expected),
        deployments: batch.deployments.into_iter().map(deployment).collect(),
    }
}

fn deployment(deployment: PreviewDeployment) -> DryRunDeployment {
    let NewRelease { release, commit, source, is_here } = match deployment.brings {
        Some(brings) => brings,
        None => NewRelease { release: None, commit: None, source: String::new(), is_here: false },
    };
    let container = |it: PreviewContainer| DryRunContainer {
        container: it.name,
        running: it.running,
        from_release: match it.from_release {
            Some(Release::Is(release)) => Some(release),
            Some(Release::New) | None => None,
        },
        to_release: release.clone().filter(|_| !it.unchanged),
        unchanged: it.unchanged,
        action: it.action.into(),
    };
    DryRunDeployment {
        service_id: deployment.service.get(),
        service: deployment.name,
        deployment: deployment.way.into(),
        container_exec_method: deployment.order.into(),
        containers: deployment.containers.into_iter().map(container).collect(),
        to_release: release,
        commit,
        source: (!source.is_empty()).then_some(source),
        is_here,
        usual: deployment.usual.map(usual_time),
    }
}

fn expected(expected: forecast::Expected) -> Option<Expected> {
    let known = expected.p90 > 0;
    known.then(|| Expected {
        p50: expected.p50 / 1000,
        p90: expected.p90 / 1000,
        unseen: expected.unseen.try_into().unwrap_or(u64::MAX),
    })
}
