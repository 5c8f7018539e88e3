//! The pure parts, with work for them: as large as is asked for.

#![allow(clippy::unwrap_used, reason = "what goes in is made here")]

use std::hint::black_box;

use deployd::artifact::fetch::Limits;
use deployd::artifact::unpack::unpack;
use deployd::catalog::Catalog;
use deployd::compile::compile;
use deployd::plan::Plan;
use deployd::plan::check::{self, Policy};
use deployd::plan::parse::parse;
use deployd::store::row_of_event;
use deployd::task::decide::{Decision, decide};
use deployd::task::event::{Definition, Event};
use deployd::task::operation::{Done, Evidence, OperationEnd};
use deployd::task::{Caller, Task, TaskId, Timestamp};

/// What a part does once.
pub type Once = Box<dyn FnMut()>;

/// A part: its name, and what makes the work of one size for it.
pub type Part = (&'static str, fn(usize) -> Once);

/// All parts.
pub const PARTS: [Part; 7] = [
    ("parse", parse_plan),
    ("check", check_plan),
    ("compile", compile_plan),
    ("fold", fold),
    ("row codec", rows),
    ("archive", archive),
    ("catalog", catalog_files),
];

fn text(items: usize) -> Vec<u8> {
    let item = |id: usize| {
        format!("  - serviceId: {id}\n    deployment: RESTART\n    priority: {}\n", 5 - id * 5 / (items + 1))
    };
    let items: String = (1..=items).map(item).collect();
    format!("comment: a plan\ndeployPlanItems:\n{items}").into_bytes()
}

fn sources(services: usize) -> Vec<deployd::catalog::check::Source> {
    let source = |id: usize| {
        let text = format!(
            "serviceId: {id}\nname: s{id}\nruntime: process\ncontainers: [{{ name: c{id}, labels: [a, b] }}]\n\
             run: {{ command: [/bin/true], user: nobody }}\n"
        );
        deployd::catalog::check::Source { file: format!("s{id}.yaml"), text: text.into_bytes() }
    };
    (1..=services).map(source).collect()
}

fn host() -> deployd::catalog::check::Host<'static> {
    let (is_root, user, has_systemd) = (false, "nobody".into(), false);
    deployd::catalog::check::Host { is_root, user, has_systemd, has_user: &|_| true }
}

fn catalog(services: usize) -> Catalog {
    deployd::catalog::check::read(&sources(services), &host()).unwrap()
}

fn checked(text: &[u8], catalog: &Catalog) -> Plan {
    let policy = Policy {
        repositories: None,
        repository_dir: String::new(),
        allowed_repositories: Vec::new(),
        allowed_uris: None,
    };
    check::read(text, catalog, &policy).unwrap()
}

fn events(items: usize) -> Vec<Event> {
    let catalog = catalog(items);
    let plan = checked(&text(items), &catalog);
    let deployments = compile(&plan, &catalog).unwrap();
    let by = Caller { uid: 0, user: "root".into(), pid: Some(1), program: Some("deployctl".into()) };
    let definition = Definition { plan: "p".into(), revision: 1, comment: plan.comment, deployments };
    let mut events = vec![Event::Started { by, definition }];
    for deployment in 0..items {
        let evidence = Evidence::default();
        let end =
            OperationEnd { result: Ok(Done::Unchanged), detail: "already running".into(), settled: None };
        events.push(Event::DeploymentBegun { deployment });
        events.push(Event::OperationBegun { deployment, operation: 0, evidence, to_release: None });
        events.push(Event::OperationEnded { deployment, operation: 0, end });
        events.push(Event::DeploymentEnded { deployment, result: Ok(()) });
    }
    events.push(Event::Completed);
    events
}

fn parse_plan(items: usize) -> Once {
    let text = text(items);
    Box::new(move || drop(black_box(parse(&text))))
}

fn check_plan(items: usize) -> Once {
    let (text, catalog) = (text(items), catalog(items));
    Box::new(move || drop(black_box(checked(&text, &catalog))))
}

fn compile_plan(items: usize) -> Once {
    let catalog = catalog(items);
    let plan = checked(&text(items), &catalog);
    Box::new(move || drop(black_box(compile(&plan, &catalog))))
}

/// Each event is taken in, and what is to be done next is decided after it, as while a task runs.
fn fold(items: usize) -> Once {
    let events = events(items);
    Box::new(move || {
        let mut task = Task::begin(TaskId(1), &events[0], Timestamp(0)).unwrap();
        for event in &events[1..] {
            task.apply(event, Timestamp(1)).unwrap();
            black_box(decide(&task));
            black_box(task.progress());
        }
        assert_eq!(decide(&task), Decision::AtRest);
    })
}

fn rows(items: usize) -> Once {
    let rows: Vec<Vec<u8>> = events(items).iter().map(row_of_event).collect();
    Box::new(move || rows.iter().for_each(|row| drop(black_box(deployd::store::reread(row)))))
}

fn archive(entries: usize) -> Once {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for entry in 0..entries {
        let name = format!("d{}/e{}/f{entry}", entry % 30, entry % 7);
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &[b'x'; 100]).unwrap();
    }
    zip.finish().unwrap();
    let limits = Limits { max_bytes: 1 << 30, max_unpacked_bytes: 1 << 30, max_entries: 1 << 20 };
    Box::new(move || {
        let to = directory.path().join("release");
        unpack(&path, &to, &limits, 0, |_| Ok(())).unwrap();
        std::fs::remove_dir_all(&to).unwrap();
    })
}

fn catalog_files(services: usize) -> Once {
    let sources = sources(services);
    Box::new(move || drop(black_box(deployd::catalog::check::read(&sources, &host()).unwrap())))
}
