//! Preparation in advance: what later batches need is fetched, built and unpacked while an earlier one runs.
//!
//! A deployment that is prepared stays PENDING; what was pinned and made is recorded, so that its turn, a
//! resume and the next daemon go on from there. Nothing waits for such a preparation but its own deployment
//! when its turn comes. What fails is tried again then, and only then it is a failure. When nothing more may
//! begin, what is being prepared is cut, and what is complete is kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::batch::Means;
use super::deployment::{Course, Stopped, subject};
use super::ledger::Ledger;
use crate::plan::Way;
use crate::task::Task;
use crate::task::deployment::{Deployment, DeploymentState};

/// Places for preparations in advance, of all tasks together.
#[derive(Debug)]
pub struct Places {
    downloads: Semaphore,
    builds: Semaphore,
}

impl Places {
    /// One less than there are for all (but one at least), so that what has its turn need not wait.
    pub fn new(downloads: usize, builds: usize) -> Self {
        let places = |all: usize| Semaphore::new(all.saturating_sub(1).max(1));
        Self { downloads: places(downloads), builds: places(builds) }
    }

    const fn of(&self, way: &Way) -> &Semaphore {
        match way {
            Way::Compile { .. } => &self.builds,
            Way::HttpUpload { .. } | Way::Start | Way::Stop | Way::Restart => &self.downloads,
        }
    }
}

/// What is being prepared in advance for one task.
#[derive(Clone)]
pub struct Prefetch {
    under_way: Rc<RefCell<HashMap<usize, UnderWay>>>,
    /// The whole task is cut.
    cancel: CancellationToken,
    /// Nothing more begins.
    no_more: CancellationToken,
}

struct UnderWay {
    ended: CancellationToken,
    cancel: CancellationToken,
}

impl Prefetch {
    /// Nothing yet. `cancel` cuts the whole task.
    pub fn new(cancel: CancellationToken) -> Self {
        Self { under_way: Rc::default(), no_more: cancel.child_token(), cancel }
    }

    /// The preparations of these deployments, each as far as it is left to do; nothing, if the daemon is not
    /// to prepare anything in advance.
    pub fn of(
        &self,
        deployments: Vec<usize>,
        ledger: &Ledger,
        means: &Means,
    ) -> Vec<impl Future<Output = ()> + use<>> {
        let Some(places) = &means.prefetch else { return Vec::new() };
        let one = |deployment| {
            let course = Course {
                ledger: ledger.clone(),
                executor: means.executor.clone(),
                host: means.host.clone(),
                // Not of `no_more`: what its turn has taken over is not held back.
                subject: subject(ledger, deployment, self.cancel.child_token()),
                unsynced: Rc::default(),
            };
            self.clone().prepare(course, places.clone())
        };
        deployments.into_iter().map(one).collect()
    }

    async fn prepare(self, course: Course, places: Arc<Places>) {
        let _place = tokio::select! {
            biased;
            () = self.no_more.cancelled() => return,
            place = places.of(&course.subject.way).acquire() => place,
        };
        // It may have been its turn before there was a place.
        if !course.deployment(Deployment::is_to_be_prepared) {
            return;
        }
        let _ended = self.begin(&course);
        if let Err(Stopped::Failed(failure)) = course.prepare().await {
            let (task, service) = (course.subject.task, &course.subject.service.name);
            tracing::info!(%task, %service, error = %failure.message, "not prepared in advance");
            let say = move |executor: Arc<crate::executor::Executor>, subject| async move {
                executor.say_not_prepared(&subject, &failure);
                Ok(())
            };
            course.on_host(say).await.ok();
        }
        course.settled().await;
    }

    fn begin(&self, course: &Course) -> DropGuard {
        let (ended, cancel) = (CancellationToken::new(), course.subject.cancel.clone());
        let guard = ended.clone().drop_guard();
        self.under_way.borrow_mut().insert(course.subject.deployment, UnderWay { ended, cancel });
        guard
    }

    /// Waits until nothing is prepared in advance any more for this deployment, whose turn has come.
    pub async fn ended(&self, deployment: usize) {
        let ended = self.under_way.borrow().get(&deployment).map(|it| it.ended.clone());
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Nothing more may begin: cuts what is prepared for deployments whose turn has not come.
    pub fn hold_back(&self, task: &Task) {
        self.no_more.cancel();
        for (&deployment, it) in &*self.under_way.borrow() {
            if task.deployments[deployment].state == DeploymentState::Pending {
                it.cancel.cancel();
            }
        }
    }
}
