//! A dry run, for people: batch after batch, from which release to which, how long, and what would fail.

use super::exit::Failure;
use super::render;
use super::terminal::{Terminal, printable};
use crate::wire::task::{DryRun, DryRunBatch, DryRunContainer, DryRunDeployment, Expected};

/// How many digits of a commit are shown.
const SHORT: usize = 12;

pub fn show(dry: &DryRun, terminal: &mut Terminal) -> Result<(), Failure> {
    terminal.line(&format!("{}@{} would do, batch after batch:", printable(&dry.plan), dry.revision))?;
    terminal.line("")?;
    let rows = dry.batches.iter().flat_map(rows).collect();
    terminal.table(&["PRIORITY", "SERVICE", "DEPLOYMENT", "CONTAINER", "FROM", "TO", "WOULD"], rows)?;
    terminal.line("")?;
    for deployment in dry.batches.iter().flat_map(|batch| &batch.deployments) {
        if let Some(origin) = origin(deployment) {
            terminal.line(&printable(&origin))?;
        }
    }
    for batch in &dry.batches {
        terminal.line(&printable(&format!("batch of priority {}: {}", batch.priority, duration(batch))))?;
    }
    if let Some(total) = dry.expected.filter(|_| dry.batches.len() > 1) {
        terminal.line(&format!("all batches: {}", expected(total)))?;
    }
    for problem in &dry.problems {
        terminal.line(&printable(&format!("would fail: {problem}")))?;
    }
    Ok(())
}

fn rows(batch: &DryRunBatch) -> impl Iterator<Item = Vec<String>> {
    batch.deployments.iter().flat_map(|deployment| {
        deployment.containers.iter().map(|container| {
            vec![
                batch.priority.to_string(),
                format!("{} ({})", deployment.service, deployment.service_id),
                deployment.deployment.clone(),
                container.container.clone(),
                container.from_release.clone().unwrap_or_else(|| "-".into()),
                to(deployment, container),
                would(container),
            ]
        })
    })
}

fn to(deployment: &DryRunDeployment, container: &DryRunContainer) -> String {
    match (&container.to_release, &deployment.source) {
        (Some(release), _) => release.clone(),
        (None, Some(_)) => "new".into(),
        (None, None) => "-".into(),
    }
}

fn would(container: &DryRunContainer) -> String {
    if container.unchanged { format!("UNCHANGED: {}", container.action) } else { container.action.clone() }
}

/// Where a new release comes from.
fn origin(deployment: &DryRunDeployment) -> Option<String> {
    let source = deployment.source.as_ref()?;
    let commit = deployment
        .commit
        .as_ref()
        .map(|commit| format!(", commit {}", commit.chars().take(SHORT).collect::<String>()));
    let here = if deployment.is_here { " (it is here already)" } else { "" };
    let (service, commit) = (&deployment.service, commit.unwrap_or_default());
    Some(format!("{service}: a release from {source}{commit}{here}"))
}

/// How long a batch should take, and because of whom.
fn duration(batch: &DryRunBatch) -> String {
    let Some(known) = batch.expected else {
        return "not known yet how long: nothing of it was ever done here".into();
    };
    let longest = batch.dominated_by.as_ref().filter(|_| batch.deployments.len() > 1);
    expected(known) + &longest.map(|service| format!("; {service} takes longest")).unwrap_or_default()
}

fn expected(known: Expected) -> String {
    let (p50, p90) = (render::millis(known.p50), render::millis(known.p90));
    let unseen = match known.unseen {
        0 => String::new(),
        count => format!("; not counted: {}, never seen here", render::count(count, "deployment")),
    };
    format!("about {p50}, 9 of 10 times within {p90}{unseen}")
}
