//! Where a task stands: kept along by the fold, so that no event makes anybody count a whole plan.

use std::ops::Range;

use super::deployment::{Deployment, DeploymentState};
use super::operation::OperationState;
use super::{Batch, Progress};

/// Where a task stands. All of it follows from the deployments ([`Standing::of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many deployments are in which state.
    pub progress: Progress,
    /// The first batch that has not succeeded as a whole.
    pub batch: usize,
    /// So many deployments of that batch have not succeeded.
    left: usize,
    /// No deployment before this one waits for its turn.
    pub waiting: usize,
}

impl Standing {
    /// Counts everything.
    pub fn of(batches: &[Batch], deployments: &[Deployment]) -> Self {
        let mut standing = Self { progress: Progress::default(), batch: 0, left: 0, waiting: 0 };
        for deployment in deployments {
            standing.progress.total += 1;
            *standing.progress.of_mut(deployment.state) += 1;
            for operation in &deployment.operations {
                standing.progress.operations += 1;
                standing.progress.operations_done += u32::from(operation.state.is_done());
            }
        }
        standing.enter(0, batches, deployments);
        standing.pass(deployments);
        standing
    }

    /// A deployment was in this state before, and is in another one now.
    pub fn moved(
        &mut self,
        index: usize,
        from: DeploymentState,
        batches: &[Batch],
        deployments: &[Deployment],
    ) {
        let to = deployments[index].state;
        *self.progress.of_mut(from) -= 1;
        *self.progress.of_mut(to) += 1;
        if to.waits() {
            self.waiting = self.waiting.min(index);
        }
        self.pass(deployments);
        if to == DeploymentState::Succeeded && from != to {
            self.left -= 1;
            if self.left == 0 {
                self.enter(self.batch + 1, batches, deployments);
            }
        }
    }

    /// An operation was in this state before.
    pub fn operated(&mut self, from: OperationState, to: OperationState) {
        self.progress.operations_done += u32::from(to.is_done());
        self.progress.operations_done -= u32::from(from.is_done());
    }

    /// Goes to the first batch, from this one on, in which something is left.
    fn enter(&mut self, first: usize, batches: &[Batch], deployments: &[Deployment]) {
        let left = |range: Range<usize>| {
            let open = |deployment: &&Deployment| deployment.state != DeploymentState::Succeeded;
            deployments[range].iter().filter(open).count()
        };
        self.batch = first;
        self.left = 0;
        while let Some(batch) = batches.get(self.batch) {
            self.left = left(batch.deployments.clone());
            if self.left > 0 {
                return;
            }
            self.batch += 1;
        }
    }

    fn pass(&mut self, deployments: &[Deployment]) {
        while deployments.get(self.waiting).is_some_and(|deployment| !deployment.state.waits()) {
            self.waiting += 1;
        }
    }
}

impl Progress {
    const fn of_mut(&mut self, state: DeploymentState) -> &mut u32 {
        match state {
            DeploymentState::Pending => &mut self.pending,
            DeploymentState::Running => &mut self.running,
            DeploymentState::Succeeded => &mut self.succeeded,
            DeploymentState::Failed => &mut self.failed,
            DeploymentState::Skipped => &mut self.skipped,
            DeploymentState::Interrupted => &mut self.interrupted,
        }
    }
}
