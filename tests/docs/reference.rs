//! The pages below `docs/reference` that follow from the program: made here, and compared. `DEPLOYD_UPDATE=1`
//! writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use clap::{Arg, ArgAction, Command};
use deployctl::cli::{Failure, definition, of_state};
use deployctl::client::ClientError;
use deployctl::wire::problem::Problem;
use deployd::task::event::Event;
use deployd::task::host_event::HostEvent;
use deployd::task::state::{TaskState, Transition};
use serde_json::Value;

use super::reading::{CONFIGURATION, FILES, PLAN_RULES, file, named, problems, variants};
use super::{root, source, updates};

const MADE: &str = "<!-- Made from the program by a test (tests/docs). DEPLOYD_UPDATE=1 cargo test --test docs writes it. -->\n\n";

/// Why a deployment or an operation failed, by the code in the report.
const FAILURES: [(&str, &str); 26] = [
    (
        "artifactGone",
        "What was fetched or built before is gone, and what was made again differs. Execute the plan anew.",
    ),
    (
        "buildFailed",
        "The build's command failed, took too long, or left no output. `log` has its last lines.",
    ),
    ("cancelled", "It was cut off."),
    ("catalog", "The catalog does not say what is needed: a build, a user, a command."),
    ("environment", "The environment file can't be read, or a `${VAR}` has no value."),
    ("exited", "The container has ended instead of coming up. `log` has its last lines."),
    ("healthTimedOut", "The container was not healthy within `health.timeout`."),
    ("hookFailed", "A hook failed or took too long."),
    ("imageFailed", "The engine has no such image, and can't pull it."),
    ("internal", "A defect of deployd."),
    ("noRelease", "The container has no release yet; its command lies in one."),
    ("noSpace", "The disk has too little room; the text says how much is missing."),
    ("observe", "The container can't be looked at."),
    ("packageDiffers", "The package has another sha256 than the plan says, or than this task has pinned."),
    ("packageIo", "The package can't be written, or a `file://` address can't be read."),
    ("packageNotFound", "The server answers 404 or 410."),
    ("packageRedirected", "A redirect leads where it must not."),
    ("packageRefused", "The server answers with another error."),
    ("packageTimedOut", "The download takes longer than `timeouts.fetch`."),
    ("packageTooLarge", "The package is larger than `packages.maxBytes`."),
    ("packageUnreachable", "The server can't be reached, also when it is tried again."),
    ("release", "The archive can't be unpacked, or is refused."),
    ("repository", "Branch or commit are missing, or git failed."),
    ("startFailed", "The container can't be started."),
    ("stopFailed", "The container can't be stopped."),
    ("switchFailed", "The container can't be pointed to its release."),
];

fn plan() -> String {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(root().join("ctl/src/plan.schema.json")).unwrap()).unwrap();
    let mut page = String::from(
        "# The release plan\n\nA YAML file: UTF-8, at most 16 MiB and 100,000 items. Keys are case-sensitive. `deployctl plan check FILE`\n\
         tells all mistakes at once; `deployctl plan schema` prints a JSON Schema for editors. The first line\n\
         `# yaml-language-server: $schema=plan.schema.json` of a plan names it to most of them.\n",
    );
    let tables = [
        ("The plan", &schema["properties"], &schema["required"]),
        (
            "An item of `deployPlanItems`",
            &schema["$defs"]["item"]["properties"],
            &schema["$defs"]["item"]["required"],
        ),
    ];
    for (title, properties, required) in tables {
        write!(page, "\n## {title}\n\n| key | type | default | |\n|---|---|---|---|\n").unwrap();
        // In the file's order, which a map of JSON does not keep.
        let text = fs::read_to_string(root().join("ctl/src/plan.schema.json")).unwrap();
        let mut keys: Vec<_> = properties.as_object().unwrap().iter().collect();
        keys.sort_by_key(|(key, _)| text.find(&format!("\"{key}\": {{")));
        for (key, property) in keys {
            let needed = required.as_array().unwrap().iter().any(|name| name == key);
            let default = match &property["default"] {
                _ if needed => "required".to_string(),
                Value::Null => String::new(),
                default => {
                    format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_string))
                }
            };
            let description = property["description"].as_str().unwrap();
            writeln!(page, "| `{key}` | {} | {default} | {description} |", kind(property)).unwrap();
        }
    }
    page + PLAN_RULES
}

/// A type of the schema, in words.
fn kind(property: &Value) -> String {
    let words = |all: &Vec<Value>| {
        let all: Vec<_> = all.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect();
        all.join(" or ")
    };
    if let Some(values) = property["enum"].as_array() {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    match &property["type"] {
        Value::Array(all) => words(all),
        kind => kind.as_str().unwrap_or("list").replace("array", "list"),
    }
}

fn cli() -> String {
    let mut page = String::from(
        "# deployctl\n\nThe same stands in `deployctl COMMAND --help` and in the manual pages. `-o json` and `-o yaml` show any result\n\
         for programs. Exit codes have [a page of their own](exit-codes.md).\n",
    );
    let mut command = definition();
    command.build();
    page.push_str("\n## Options of all commands\n\n");
    arguments(&mut page, command.get_arguments().filter(|argument| argument.is_global_set()));
    walk(&mut page, &command, "deployctl");
    page
}

fn walk(page: &mut String, command: &Command, name: &str) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        let name = format!("{name} {}", sub.get_name());
        if sub.has_subcommands() {
            walk(page, sub, &name);
            continue;
        }
        let usage = sub.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim().to_string();
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        write!(page, "\n## {name}\n\n{about}.\n\n```text\n{usage}\n```\n").unwrap();
        let own: Vec<_> = sub.get_arguments().filter(|argument| !argument.is_global_set()).collect();
        if own.iter().any(|argument| argument.get_id() != "help") {
            page.push('\n');
            arguments(page, own.into_iter());
        }
        if let Some(example) = sub.get_after_help() {
            let example = example.to_string();
            let (_, example) = example.split_once('\n').unwrap();
            let lines: Vec<_> = example.lines().map(str::trim).collect();
            write!(page, "\n```sh\n{}\n```\n", lines.join("\n")).unwrap();
        }
    }
}

fn arguments<'a>(page: &mut String, all: impl Iterator<Item = &'a Arg>) {
    for argument in all.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")) {
        let value = argument.get_value_names().unwrap_or_default().first().map(ToString::to_string);
        let takes = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
        let value = value.filter(|_| takes).unwrap_or_default();
        let written = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long} {value}"),
            (None, Some(long)) => format!("--{long} {value}"),
            _ => value,
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> =
            argument.get_possible_values().iter().map(|it| it.get_name().to_string()).collect();
        let values =
            if takes && !values.is_empty() { format!(" ({})", values.join(", ")) } else { String::new() };
        let default = argument.get_default_values().first().filter(|_| takes);
        let default = default.map(|it| format!(" [default: {}]", it.to_string_lossy())).unwrap_or_default();
        let text = format!("{help}{values}{default}");
        let dash = if text.is_empty() { "" } else { ": " };
        writeln!(page, "- `{}`{dash}{}", written.trim(), text.trim()).unwrap();
    }
}

fn exit_codes() -> String {
    let mut page = String::from(
        "# Exit codes\n\n## deployctl\n\n| code | |\n|---|---|\n| 0 | done |\n| 1 | failed: the text says why |\n| 2 | wrong usage |\n",
    );
    let mut codes: Vec<(u8, String)> = Vec::new();
    for (_, code, doc) in problems() {
        let problem = Problem { code: code.clone(), ..Problem::default() };
        let exit = Failure::Client(ClientError::Problem(Box::new(problem))).code();
        let doc = doc.split(" (").next().unwrap().trim_end_matches('.').to_string();
        if exit > 1 {
            codes.push((exit, format!("`{code}`: {doc}")));
        }
    }
    let socket = ClientError::NotReachable { socket: "/".into(), why: String::new() };
    codes.push((Failure::Client(socket).code(), "the daemon is not reachable".into()));
    codes.sort();
    for (exit, text) in codes {
        writeln!(page, "| {exit} | {text} |").unwrap();
    }
    page.push_str("\nCommands that wait for a task (`wait`, `watch`, `execute --wait`, `resume --watch`, …) end with its state:\n\n");
    page.push_str("| code | state |\n|---|---|\n");
    for state in TaskState::ALL.into_iter().filter(|state| !state.is_active()) {
        writeln!(page, "| {} | {state} |", of_state(state.name())).unwrap();
    }
    writeln!(page, "| {} | Ctrl-C: the task goes on |", deployctl::cli::CTRL_C).unwrap();
    page + "
## deployd

| code | |
|---|---|
| 0 | ended as it was told |
| 2 | wrong usage |
| 65 | the store is damaged, missing, or none that is safe to use; the file is never changed then |
| 70 | the plan supervisor crashed |
| 74 | the store can't be written, or was removed or replaced while in use |
| 75 | another daemon holds the state directory or the socket |
| 78 | configuration or catalog, or a store of a newer version |
| 1 | anything else |

`deployd check`: 0 nothing failed, 1 this host is not fit, 2 wrong usage, 5 the catalog or a plan is not valid,
78 the configuration is not.
"
}

fn states() -> String {
    let mut page =
        String::from("# States\n\n## Of a task\n\n| state | | possible commands |\n|---|---|---|\n");
    let (names, docs) = (file("src/task/state.rs"), file("src/task/deployment.rs"));
    let of = |text: &str, name: &str| variants(text, name);
    for (variant, doc) in of(&names, "enum TaskState") {
        let state = TaskState::from_name(&variant.to_uppercase()).unwrap();
        let possible = if state.possible().is_empty() { "none".into() } else { state.possible().join(", ") };
        writeln!(page, "| {state} | {doc} | {possible} |").unwrap();
    }
    page.push_str("\nWhat follows from what (empty: refused, with what is possible instead):\n\n| |");
    for transition in Transition::ALL {
        write!(page, " {} |", transition.name()).unwrap();
    }
    page.push_str("\n|---|---|---|---|---|---|---|---|\n");
    for state in TaskState::ALL {
        write!(page, "| {state} |").unwrap();
        for transition in Transition::ALL {
            write!(page, " {} |", state.next(transition).map(|next| next.to_string()).unwrap_or_default())
                .unwrap();
        }
        page.push('\n');
    }
    page.push('\n');
    for (variant, doc) in of(&names, "enum Transition") {
        writeln!(page, "- *{}*: {doc}", variant.to_lowercase()).unwrap();
    }
    page.push_str("\nAsking for what is already so (pause while PAUSING) is no error.\n\n## Reasons\n\nBeside the state stands a `reason` for programs.\n\n| reason | |\n|---|---|\n");
    let task = file("src/task.rs");
    for (variant, doc) in of(&task, "enum Reason") {
        writeln!(page, "| `{}` | {doc} |", named(&task, &variant)).unwrap();
    }
    for (title, text, name) in [
        ("Of a deployment", &docs, "enum DeploymentState"),
        ("Of an operation", &file("src/task/operation.rs"), "enum OperationState"),
    ] {
        write!(page, "\n## {title}\n\n| state | |\n|---|---|\n").unwrap();
        for (variant, doc) in of(text, name) {
            writeln!(page, "| {} | {doc} |", variant.to_uppercase()).unwrap();
        }
    }
    page
}

fn events() -> String {
    let mut page = String::from(
        "# Events\n\nThe journal is a list of events. `GET /v1/events` streams them as server-sent events, `deployctl events` prints\n\
         them as JSON lines, and the report has those of its task. Each has `seq` (ascending, without a gap for whoever\n\
         continues by `Last-Event-ID`), `at`, `type`, `task` where it is about one, and what else there is to say: `by`,\n\
         `serviceId`, `service`, `container`, `state`, `reason`, `detail`, `error`, `fromRelease`, `toRelease`.\n",
    );
    let all = [
        ("Of a task", file("src/task/event.rs"), "enum Event", Event::NAMES.to_vec()),
        ("Of the daemon", file("src/task/host_event.rs"), "enum HostEvent", HostEvent::NAMES.to_vec()),
    ];
    for (title, text, kind, names) in all {
        write!(page, "\n## {title}\n\n| type | |\n|---|---|\n").unwrap();
        let docs: Vec<_> =
            variants(&text, kind).into_iter().map(|(it, doc)| (named(&text, &it), doc)).collect();
        assert_eq!(docs.len(), names.len());
        for name in names {
            let (_, doc) = docs.iter().find(|(known, _)| known == name).unwrap();
            writeln!(page, "| `{name}` | {doc} |").unwrap();
        }
    }
    page
}

fn problem_codes() -> String {
    let mut page = String::from(
        "# Problem codes\n\n## Of the socket\n\nAn answer that is an error is `application/problem+json` (RFC 9457). Its `code` is stable; its `detail` says what,\n\
         where, why, and what to do next.\n\n| code | |\n|---|---|\n",
    );
    for (_, code, doc) in problems() {
        writeln!(page, "| `{code}` | {doc} |").unwrap();
    }
    page.push_str("\n## Of deployments and operations\n\n`error.code` in the report, beside a `message` and the last lines of output.\n\n| code | |\n|---|---|\n");
    for (code, doc) in FAILURES {
        writeln!(page, "| `{code}` | {doc} |").unwrap();
    }
    page
}

fn configuration() -> String {
    let file = fs::read_to_string(root().join("systemd/deployd.yaml")).unwrap();
    format!("{CONFIGURATION}```yaml\n{file}```\n{FILES}")
}

#[test]
fn the_reference_is_what_the_program_says() {
    let pages = [
        ("plan.md", plan()),
        ("cli.md", cli()),
        ("exit-codes.md", exit_codes()),
        ("states.md", states()),
        ("events.md", events()),
        ("problems.md", problem_codes()),
        ("configuration.md", configuration()),
    ];
    for (name, text) in pages {
        let path = root().join("docs/reference").join(name);
        let page = format!("{MADE}{text}");
        if updates() {
            fs::write(path, page).unwrap();
        } else {
            let there = fs::read_to_string(path).unwrap_or_default();
            similar(&there, &page, name);
        }
    }
}

fn similar(there: &str, page: &str, name: &str) {
    let differs = there.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(there == page, "{name} is not up to date (DEPLOYD_UPDATE=1 writes it): {differs:?}");
}

#[test]
fn every_code_of_a_failure_is_explained() {
    let known: BTreeSet<&str> = FAILURES.iter().map(|(code, _)| *code).collect();
    let all: Vec<String> = source().into_iter().map(|(_, text)| text).collect();
    for code in &known {
        assert!(all.iter().any(|text| text.contains(&format!("\"{code}\""))), "{code} is gone");
    }
    for text in &all {
        for part in text.split("failure(").skip(1).chain(text.split("code: \"").skip(1)) {
            let part = part.trim_start().trim_start_matches('"');
            let code: String = part.chars().take_while(char::is_ascii_alphabetic).collect();
            let is_code = part[code.len()..].starts_with('"') && !code.is_empty();
            assert!(!is_code || known.contains(&*code), "{code} is not explained");
        }
    }
}

/// What the catalog's reader knows stands in the page about it.
#[test]
fn every_key_of_the_catalog_and_of_the_configuration_is_documented() {
    let page = file("docs/reference/catalog.md");
    for name in ["check.rs", "check/fields.rs", "check/run.rs"] {
        let text = file(&format!("src/catalog/{name}"));
        let code = text.split("#[cfg(test)]").next().unwrap();
        for call in [
            ".text(\"",
            ".duration(\"",
            ".number(\"",
            ".command(\"",
            ".texts(\"",
            ".measure(\"",
            ".environment(\"",
        ] {
            for part in code.split(call).skip(1) {
                let key = part.split('"').next().unwrap();
                assert!(page.contains(&format!("`{key}`")) || page.contains(&format!(".{key}`")), "{key}");
            }
        }
    }
    let page = file("systemd/deployd.yaml");
    let text = file("src/config.rs");
    for part in text.split("default)]\nstruct ").skip(1) {
        let body = part.split("\n}").next().unwrap();
        for line in body.lines().skip(1) {
            let key = camel(line.trim().split(':').next().unwrap());
            assert!(page.contains(&format!("{key}:")), "{key} is not in systemd/deployd.yaml");
        }
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_string();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}
