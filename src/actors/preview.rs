//! A dry run: what executing a plan would do, and how long that should take. Nothing is changed.
//!
//! Everything is looked at side by side; then the batches are gone through in their order, so that what
//! an earlier one would leave is what a later one would find.

use std::collections::HashMap;

use futures_util::{FutureExt, StreamExt, stream};

use crate::catalog::{Run, Service, ServiceId};
pub use crate::executor::NewRelease;
use crate::executor::{ContainerView, Executor, Foreseen};
use crate::plan::Way;
use crate::task::deployment::DeploymentSpec;
use crate::task::forecast::{Expected, Forecast};

/// How many packages, branches and containers are looked at at the same time.
const AT_ONCE: usize = 32;

/// What executing a plan would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preview {
    /// The revision.
    pub revision: u32,
    /// The batches in the order of their execution.
    pub batches: Vec<PreviewBatch>,
    /// How long all of it should take.
    pub expected: Expected,
    /// What would fail now.
    pub problems: Vec<String>,
}

/// One batch of a [`Preview`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewBatch {
    /// The priority.
    pub priority: i64,
    /// How long it should take: as its longest deployment.
    pub expected: Expected,
    /// Its deployments.
    pub deployments: Vec<PreviewDeployment>,
}

/// One deployment of a [`Preview`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDeployment {
    /// The service's id.
    pub service: ServiceId,
    /// The service's name.
    pub name: String,
    /// How it would be deployed.
    pub way: &'static str,
    /// In which order its containers would be worked through.
    pub order: &'static str,
    /// The release that it would bring, if its way brings one.
    pub brings: Option<NewRelease>,
    /// Each chosen container as it would be found, and what would be done to it.
    pub containers: Vec<PreviewContainer>,
    /// How long it should take.
    pub usual: Option<Forecast>,
}

/// One container of a [`PreviewDeployment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewContainer {
    /// Its name.
    pub name: String,
    /// Whether it would be found running.
    pub running: bool,
    /// The release with which it would be found.
    pub from_release: Option<Release>,
    /// What would be done.
    pub action: &'static str,
    /// Nothing would be done.
    pub unchanged: bool,
}

/// A container's release, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// This one.
    Is(String),
    /// What an earlier batch would bring, whatever that is.
    New,
}

/// What would be found when a batch's turn comes.
struct Found {
    running: bool,
    release: Option<Release>,
    /// Why the container can't be seen.
    unseen: Option<String>,
}

type Place = (ServiceId, String);

/// Looks at everything that the deployments would deal with; `usual` knows how long each takes.
pub async fn preview(executor: &Executor, deployments: Vec<(DeploymentSpec, Option<Forecast>)>) -> Preview {
    let looks: Vec<_> = deployments.iter().map(|(spec, _)| executor.foresee(spec).boxed()).collect();
    let (foreseen, mut found) = futures_util::future::join(
        stream::iter(looks).buffered(AT_ONCE).collect::<Vec<_>>(),
        look_at_all(executor, &deployments),
    )
    .await;
    let mut preview = Preview::default();
    for ((spec, usual), foreseen) in deployments.into_iter().zip(foreseen) {
        preview.problems.extend(foreseen.problem.clone());
        let deployment = walk(&spec, usual, foreseen, &mut found, &mut preview.problems);
        match preview.batches.last_mut() {
            Some(batch) if batch.priority == spec.priority => batch.deployments.push(deployment),
            _ => preview.batches.push(PreviewBatch {
                priority: spec.priority,
                expected: Expected::default(),
                deployments: vec![deployment],
            }),
        }
    }
    for batch in &mut preview.batches {
        batch.expected = Expected::together(batch.deployments.iter().map(|it| it.usual));
        preview.expected = preview.expected.then(batch.expected);
    }
    preview
}

/// Each container of the deployments, once.
async fn look_at_all(
    executor: &Executor,
    deployments: &[(DeploymentSpec, Option<Forecast>)],
) -> HashMap<Place, Found> {
    let mut places = HashMap::new();
    for (spec, _) in deployments {
        for name in &spec.containers {
            places.entry((spec.service.id, name.clone())).or_insert(&*spec.service);
        }
    }
    let looks: Vec<_> = places.into_iter().map(|it| look(it, executor).boxed()).collect();
    stream::iter(looks).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn look((place, service): (Place, &Service), executor: &Executor) -> Option<(Place, Found)> {
    let view = executor.view_container(service, service.container(&place.1)?).await;
    Some((place, Found::from(view)))
}

impl From<ContainerView> for Found {
    fn from(view: ContainerView) -> Self {
        let unseen = (view.state == "unknown").then_some(view.detail);
        Self { running: view.state == "running", release: view.release.map(Release::Is), unseen }
    }
}

/// What a deployment would do to its containers, when all before it were done.
fn walk(
    spec: &DeploymentSpec,
    usual: Option<Forecast>,
    foreseen: Foreseen,
    found: &mut HashMap<Place, Found>,
    problems: &mut Vec<String>,
) -> PreviewDeployment {
    let needs = spec.service.run.as_ref().is_some_and(Run::needs_release);
    let (service, mut containers) = (&spec.service.name, Vec::new());
    for name in &spec.containers {
        let Some(now) = found.get_mut(&(spec.service.id, name.clone())) else { continue };
        if let Some(why) = now.unseen.take() {
            problems.push(format!("container {name} of {service} can't be looked at: {why}"));
        }
        if matches!(spec.way, Way::Start | Way::Restart) && now.release.is_none() && needs {
            problems.push(format!(
                "{name} of {service} has no release yet; deploy one first, by HTTP_UPLOAD_DEPLOY or COMPILE_DEPLOY"
            ));
        }
        let (action, unchanged) = action(&spec.way, now.running);
        let (running, from_release) = (now.running, now.release.clone());
        now.running = !matches!(spec.way, Way::Stop);
        if let Some(brings) = &foreseen.brings {
            now.release = Some(brings.release.clone().map_or(Release::New, Release::Is));
        }
        containers.push(PreviewContainer { name: name.clone(), running, from_release, action, unchanged });
    }
    PreviewDeployment {
        service: spec.service.id,
        name: service.clone(),
        way: spec.way.name(),
        order: spec.order.name(),
        brings: foreseen.brings,
        containers,
        usual,
    }
}

const fn action(way: &Way, running: bool) -> (&'static str, bool) {
    match (way, running) {
        (Way::Start, true) => ("leave alone: already running", true),
        (Way::Start, false) => ("start", false),
        (Way::Stop, true) => ("stop", false),
        (Way::Stop, false) => ("leave alone: already stopped", true),
        (Way::Restart, true) => ("restart", false),
        (Way::Restart, false) => ("start (it does not run)", false),
        (Way::HttpUpload { .. } | Way::Compile { .. }, true) => {
            ("stop, switch to the new release, start", false)
        }
        (Way::HttpUpload { .. } | Way::Compile { .. }, false) => ("switch to the new release, start", false),
    }
}
