//! `deployctl plan …`

mod new;

use std::io::Read;
use std::path::Path;

use hyper::Method;

use super::args::{Output, PlanCommand};
use super::exit::Failure;
use super::render;
use super::terminal::{Terminal, printable};
use crate::client::{Client, ClientError};
use crate::wire::plan::{Plan, PlanCheck, PlanList};
use crate::wire::problem::PlanError;

pub async fn run(
    command: PlanCommand,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    match command {
        PlanCommand::Check { file } => check(&file, client, output, terminal).await,
        PlanCommand::New { services } => {
            let text = new::text(&services, client).await?;
            if !terminal.document(output, &serde_json::json!({ "text": text }))? {
                terminal.raw(text.as_bytes())?;
            }
            Ok(0)
        }
        PlanCommand::Create { file, name } => {
            let plan = create(&file, name, client, terminal).await?;
            if !terminal.document(output, &plan)? {
                let size = size(plan.items, plan.batches);
                terminal.line(&format!("{}@{} ({size})", plan.name, plan.revision))?;
            }
            Ok(0)
        }
        PlanCommand::List => list(client, output, terminal).await,
        PlanCommand::Show { plan } => {
            let (name, revision) = name_and_revision(&plan)?;
            let query = revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
            let plan: Plan = client.get(&format!("/v1/plans/{}{query}", escape(name))).await?;
            if !terminal.document(output, &plan)? {
                show_text(&plan.text.unwrap_or_default(), terminal)?;
            }
            Ok(0)
        }
        PlanCommand::Delete { name } => {
            client.bytes(Method::DELETE, &format!("/v1/plans/{}", escape(&name)), Vec::new()).await?;
            terminal.document(output, &serde_json::json!({ "plan": name, "deleted": true }))?;
            Ok(0)
        }
        PlanCommand::Schema => {
            terminal.raw(crate::PLAN_SCHEMA.as_bytes())?;
            Ok(0)
        }
    }
}

/// On a terminal nothing of a plan may drive it; a file gets it byte for byte.
fn show_text(text: &str, terminal: &mut Terminal) -> Result<(), Failure> {
    if terminal.is_terminal {
        let parts: Vec<_> = text.split('\t').map(printable).collect();
        terminal.raw(parts.join("\t").as_bytes())?;
    } else {
        terminal.raw(text.as_bytes())?;
    }
    Ok(())
}

/// `deployctl rollback-plan`, `deployctl retry-plan`
pub async fn of_task(
    id: u64,
    which: &str,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let text = client.bytes(Method::GET, &format!("/v1/tasks/{id}/{which}"), Vec::new()).await?;
    let text = String::from_utf8_lossy(&text);
    if !terminal.document(output, &serde_json::json!({ "text": text }))? {
        show_text(&text, terminal)?;
    }
    Ok(0)
}

async fn check(file: &Path, client: &Client, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    let text = read(file)?;
    let check: PlanCheck = client.call(Method::POST, "/v1/plans/check", text.clone()).await?;
    if terminal.document(output, &check)? {
        return Ok(if check.valid { 0 } else { 5 });
    }
    if check.valid {
        terminal.line(&format!("valid: {}", size(check.items, check.batches)))?;
        return Ok(0);
    }
    show_errors(file, &text, &check.errors, terminal);
    Ok(5)
}

/// Stores a file as a plan; its mistakes are shown.
pub async fn create(
    file: &Path,
    name: Option<String>,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<Plan, Failure> {
    create_text(file, read(file)?, name, client, terminal).await
}

/// As [`create`], but a file that is the newest revision already is not stored once more.
pub async fn store(
    file: &Path,
    name: Option<String>,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<Plan, Failure> {
    let text = read(file)?;
    let name = name.unwrap_or_else(|| stem(file));
    if let Ok(newest) = client.get::<Plan>(&format!("/v1/plans/{}", escape(&name))).await
        && newest.text.as_deref().map(str::as_bytes) == Some(&*text)
    {
        return Ok(newest);
    }
    create_text(file, text, Some(name), client, terminal).await
}

async fn create_text(
    file: &Path,
    text: Vec<u8>,
    name: Option<String>,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<Plan, Failure> {
    let name = name.unwrap_or_else(|| stem(file));
    let path = format!("/v1/plans?name={}", escape(&name));
    match client.call(Method::POST, &path, text.clone()).await {
        Err(ClientError::Problem(problem)) if problem.errors.is_some() => {
            show_errors(file, &text, problem.errors.as_deref().unwrap_or_default(), terminal);
            Err(Failure::PlanShown)
        }
        other => Ok(other?),
    }
}

async fn list(client: &Client, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    let list: PlanList = client.get("/v1/plans").await?;
    if terminal.document(output, &list)? {
        return Ok(0);
    }
    let local = terminal.is_terminal;
    let row = |plan: &Plan| {
        vec![
            format!("{}@{}", plan.name, plan.revision),
            plan.items.to_string(),
            plan.batches.to_string(),
            render::time(&plan.created_at, local),
            plan.created_by.user.clone(),
            plan.comment.clone().unwrap_or_default(),
        ]
    };
    let rows = list.plans.iter().map(row).collect();
    terminal.table(&["PLAN", "ITEMS", "BATCHES", "STORED", "BY", "COMMENT"], rows)?;
    Ok(0)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).map(|_| ())
    } else {
        std::fs::read(file).map(|bytes| text = bytes)
    };
    read.map(|()| text).map_err(|source| Failure::Read { file: file.display().to_string(), source })
}

fn size(items: u32, batches: u32) -> String {
    format!("{} in {}", render::count(items.into(), "item"), render::count(batches.into(), "batch"))
}

/// The plan's name of a file: what can't stand in a name becomes `-`.
fn stem(file: &Path) -> String {
    if file == Path::new("-") {
        return "stdin".into();
    }
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let clean = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(clean).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "plan".into() } else { name.to_string() }
}

/// `NAME[@REV]`
pub fn name_and_revision(text: &str) -> Result<(&str, Option<u32>), Failure> {
    let Some((name, revision)) = text.rsplit_once('@') else { return Ok((text, None)) };
    match revision.parse() {
        Ok(revision) => Ok((name, Some(revision))),
        Err(_) => Err(Failure::Other(format!("`{}` is no revision; write NAME@3", printable(revision)))),
    }
}

/// A part of an address.
pub fn escape(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    part.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Shows all mistakes; on a terminal with the source line and a caret.
fn show_errors(file: &Path, text: &[u8], errors: &[PlanError], terminal: &mut Terminal) {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let name = file.display().to_string();
    for error in errors {
        terminal.error(&render::mistake(&name, error));
        if terminal.is_terminal
            && let Some(source) = (error.line as usize).checked_sub(1).and_then(|index| lines.get(index))
        {
            terminal.error(&caret(source, error.line, error.column));
        }
    }
    terminal.error(&render::count(errors.len() as u64, "mistake"));
}

/// A longer line is shown around the mistake only.
const WIDTH: usize = 100;

fn caret(source: &str, line: u32, column: u32) -> String {
    let at = (column as usize).saturating_sub(1);
    let from = at.saturating_sub(WIDTH / 2);
    let shown: String =
        source.chars().skip(from).take(WIDTH).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let before: String = source.chars().skip(from).take(at - from).collect();
    let shown = printable(&shown);
    // As wide as what stands before it: wide characters take two columns.
    let width = comfy_table::Table::new()
        .add_row(vec![printable(&before.replace('\t', " "))])
        .column_max_content_widths();
    let width = width.first().copied().map_or(0, usize::from).max(usize::from(!before.is_empty()));
    let width = width.max(before.chars().count());
    format!("{line:>6} | {shown}\n       | {}^", " ".repeat(width))
}
