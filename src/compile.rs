//! A checked plan becomes what a task is to do.

use crate::catalog::Catalog;
use crate::mistake::Mistake;
use crate::plan::Plan;
use crate::task::deployment::DeploymentSpec;

/// The deployments of a plan by descending priority; equal ones stay in the plan's order.
///
/// # Errors
/// When the catalog has changed since the plan was checked.
pub fn compile(plan: &Plan, catalog: &Catalog) -> Result<Vec<DeploymentSpec>, Vec<Mistake>> {
    let mut deployments = Vec::with_capacity(plan.items.len());
    for (index, item) in plan.items.iter().enumerate() {
        let Some(service) = catalog.get(item.service) else {
            return Err(vec![Mistake {
                line: 1,
                column: 1,
                path: format!("deployPlanItems[{index}].serviceId"),
                message: format!("service {} is not in the catalog any more", item.service),
                suggestion: None,
            }]);
        };
        deployments.push(DeploymentSpec {
            service: service.clone(),
            priority: item.priority,
            way: item.way.clone(),
            order: item.order,
            labels: item.labels.clone(),
            containers: service.chosen(&item.labels).iter().map(|container| container.name.clone()).collect(),
        });
    }
    deployments.sort_by_key(|deployment| std::cmp::Reverse(deployment.priority));
    Ok(deployments)
}
