//! The OpenAPI document is made of the wire types and of the table of routes, and embedded as a
//! file. This test makes it anew and compares.

use std::path::Path;

use deployctl::wire;
use deployd::control::peer::Role;
use deployd::control::routes::{ROUTES, Route};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

/// All wire types; what they refer to comes along.
#[derive(OpenApi)]
#[openapi(components(schemas(
    wire::Info,
    wire::event::Event,
    wire::history::History,
    wire::plan::Plan,
    wire::plan::PlanCheck,
    wire::plan::PlanList,
    wire::problem::Problem,
    wire::report::Report,
    wire::service::CreateRepository,
    wire::service::Reloaded,
    wire::service::Repository,
    wire::service::RepositoryList,
    wire::service::Service,
    wire::service::ServiceList,
    wire::task::DryRun,
    wire::task::Execute,
    wire::task::Resume,
    wire::task::Stop,
    wire::task::Task,
    wire::task::TaskList,
    wire::task::TaskStatus,
)))]
struct Components;

/// What the table of routes does not say of a call.
#[derive(Default)]
struct Call {
    /// Names, types and descriptions of what may stand in the query.
    query: &'static [(&'static str, &'static str, &'static str)],
    /// Name and description of a header.
    headers: &'static [(&'static str, &'static str)],
    /// Content type and schema of the body, and whether it must be there.
    body: Option<(&'static str, &'static str, bool)>,
    /// Status, content type and schema of each good answer.
    answers: &'static [(&'static str, &'static str, &'static str)],
    /// Further problems beside 400, 403 and 503.
    problems: &'static [&'static str],
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const TEXT: &str = "text/plain";
const OPENMETRICS: &str = "application/openmetrics-text";
const BYTES: &str = "application/octet-stream";

const REVISION: (&str, &str, &str) = ("revision", "integer", "The revision; the newest when absent");
const AFTER: (&str, &str, &str) = ("after", "integer", "Only events after this one");

/// A call that gives something.
fn gives(answers: &'static [(&'static str, &'static str, &'static str)]) -> Call {
    Call { answers, ..Call::default() }
}

/// A call about something that may not be there.
fn found(answers: &'static [(&'static str, &'static str, &'static str)]) -> Call {
    Call { problems: &["404"], ..gives(answers) }
}

fn call(route: &Route) -> Call {
    if route.path.starts_with("/v1/plans") {
        return plans(route);
    }
    if route.path.starts_with("/v1/tasks") {
        return tasks(route);
    }
    match (route.method, route.path) {
        ("GET", "/v1/info") => gives(&[("200", JSON, "Info")]),
        ("GET", "/v1/openapi.json") => gives(&[("200", JSON, "")]),
        ("GET", "/healthz") => gives(&[("200", "", "")]),
        ("GET", "/v1/events") => Call {
            query: &[
                ("task", "integer", "Only events of this task"),
                AFTER,
                ("follow", "boolean", "Go on with what happens; true when absent"),
            ],
            headers: &[("Last-Event-ID", "Continue after this event; wins over `after`")],
            ..found(&[("200", "text/event-stream", "Event")])
        },
        ("GET", "/v1/history") => Call {
            query: &[
                ("service", "string", "Only of this service (id or name)"),
                ("user", "string", "Only by this user"),
                ("limit", "integer", "How many; 100 when absent"),
            ],
            ..found(&[("200", JSON, "History")])
        },
        ("GET", "/v1/services") => gives(&[("200", JSON, "ServiceList")]),
        ("GET", "/v1/services/{id}") => found(&[("200", JSON, "Service")]),
        ("GET", "/v1/services/{id}/logs") => Call {
            query: &[("lines", "integer", "How many of each container; 100 when absent")],
            ..found(&[("200", TEXT, "")])
        },
        ("POST", "/v1/services/reload") => {
            Call { problems: &["422", "500"], ..gives(&[("200", JSON, "Reloaded")]) }
        }
        ("GET", "/v1/repositories") => gives(&[("200", JSON, "RepositoryList")]),
        ("POST", "/v1/repositories") => Call {
            body: Some((JSON, "CreateRepository", true)),
            answers: &[("201", JSON, "Repository")],
            problems: &["409", "413"],
            ..Call::default()
        },
        ("GET", "/metrics") => gives(&[("200", OPENMETRICS, "")]),
        ("GET", "/v1/backup") => gives(&[("200", BYTES, "")]),
        ("DELETE", _) => found(&[("204", "", "")]),
        (method, path) => panic!("{method} {path} is not described here"),
    }
}

fn plans(route: &Route) -> Call {
    match (route.method, route.path) {
        ("POST", "/v1/plans/check") => Call {
            body: Some((YAML, "", true)),
            answers: &[("200", JSON, "PlanCheck")],
            problems: &["413"],
            ..Call::default()
        },
        ("POST", "/v1/plans") => Call {
            query: &[("name", "string", "The plan's name (required)")],
            body: Some((YAML, "", true)),
            answers: &[("201", JSON, "Plan")],
            problems: &["413", "422"],
            ..Call::default()
        },
        ("GET", "/v1/plans") => gives(&[("200", JSON, "PlanList")]),
        ("GET", "/v1/plans/{name}") => Call { query: &[REVISION], ..found(&[("200", JSON, "Plan")]) },
        ("DELETE", _) => found(&[("204", "", "")]),
        (method, path) => panic!("{method} {path} is not described here"),
    }
}

fn tasks(route: &Route) -> Call {
    let command = || Call { problems: &["404", "409"], ..gives(&[("202", JSON, "Task")]) };
    match (route.method, route.path) {
        ("POST", "/v1/tasks") => Call {
            headers: &[("Idempotency-Key", "A repeated call with this key returns the first one's task")],
            body: Some((JSON, "Execute", true)),
            answers: &[("201", JSON, "Task"), ("200", JSON, "TaskOrDryRun")],
            problems: &["404", "409", "413", "422"],
            ..Call::default()
        },
        ("GET", "/v1/tasks") => Call {
            query: &[
                ("state", "string", "Only tasks in these states, separated by commas"),
                ("limit", "integer", "How many; 100 when absent"),
                ("before", "integer", "Only tasks older than this one"),
            ],
            answers: &[("200", JSON, "TaskList")],
            ..Call::default()
        },
        ("GET", "/v1/tasks/{id}") => Call {
            query: &[("wait", "integer", "Answer when the task rests, or after so many seconds, at most 30")],
            ..found(&[("200", JSON, "TaskStatus")])
        },
        ("GET", "/v1/tasks/{id}/report") => found(&[("200", JSON, "Report")]),
        ("GET", "/v1/tasks/{id}/logs") => Call {
            query: &[
                ("service", "string", "Only this service, by id or name"),
                ("follow", "boolean", "Go on until the task rests"),
            ],
            ..found(&[("200", TEXT, "")])
        },
        ("POST", "/v1/tasks/{id}/resume") => {
            Call { body: Some((JSON, "Resume", false)), problems: &["404", "409", "413"], ..command() }
        }
        ("GET", "/v1/tasks/{id}/rollback-plan" | "/v1/tasks/{id}/retry-plan") => {
            Call { problems: &["404", "409"], ..gives(&[("200", YAML, "")]) }
        }
        ("POST", "/v1/tasks/{id}/stop") => {
            Call { body: Some((JSON, "Stop", false)), problems: &["404", "409", "413"], ..command() }
        }
        ("POST", "/v1/tasks/{id}/pause") => command(),
        ("DELETE", "/v1/tasks/{id}") => Call { problems: &["404", "409"], ..gives(&[("204", "", "")]) },
        ("DELETE", _) => found(&[("204", "", "")]),
        (method, path) => panic!("{method} {path} is not described here"),
    }
}

/// `/`, `/v1` and `/v1/` show the calls to people; they are no part of the contract.
fn is_described(route: &Route) -> bool {
    !matches!(route.path, "/" | "/v1" | "/v1/")
}

fn schema_of(name: &str, content: &str) -> Value {
    match name {
        "" if content == JSON => json!({ "type": "object" }),
        "" => json!({ "type": "string" }),
        "TaskOrDryRun" => json!({ "oneOf": [reference("DryRun"), reference("Task")] }),
        name => reference(name),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn parameters(route: &Route, call: &Call) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| {
            let is_number = name == "id" && route.path.starts_with("/v1/tasks");
            let schema = if is_number {
                json!({ "type": "integer", "minimum": 0 })
            } else {
                json!({ "type": "string" })
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    for (name, kind, description) in call.query {
        let mut schema = json!({ "type": kind });
        if *kind == "integer" {
            schema["minimum"] = 0.into();
        }
        let required = description.ends_with("(required)");
        parameters.push(json!({
            "name": name, "in": "query", "required": required, "schema": schema, "description": description,
        }));
    }
    for (name, description) in call.headers {
        let schema = json!({ "type": "string" });
        parameters
            .push(json!({ "name": name, "in": "header", "schema": schema, "description": description }));
    }
    parameters
}

fn answers(call: &Call) -> Map<String, Value> {
    let mut answers = Map::new();
    for (status, content, schema) in call.answers {
        let mut answer = json!({ "description": "Done" });
        if !content.is_empty() {
            // What is answered as YAML is a plan: whoever checks it parses it first.
            let schema =
                if *content == YAML { json!({ "type": "object" }) } else { schema_of(schema, content) };
            answer["content"] = json!({ *content: { "schema": schema } });
        }
        answers.insert((*status).to_string(), answer);
    }
    for status in ["400", "403", "503"].iter().chain(call.problems) {
        answers.insert((*status).to_string(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    answers
}

fn operation(route: &Route) -> Value {
    let call = call(route);
    let role = match route.role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    };
    let words = route.path.split(['/', '.']).filter(|part| !part.is_empty() && *part != "v1");
    let id: Vec<_> = words.map(|part| part.trim_matches(['{', '}'])).collect();
    let mut operation = json!({
        "operationId": format!("{}-{}", route.method.to_lowercase(), id.join("-")),
        "summary": route.summary,
        "description": format!("Needs the role {role}."),
        "parameters": parameters(route, &call),
        "responses": answers(&call),
    });
    if let Some((content, schema, required)) = call.body {
        let content = json!({ content: { "schema": schema_of(schema, content) } });
        operation["requestBody"] = json!({ "required": required, "content": content });
    }
    operation
}

fn document() -> Value {
    let components =
        serde_json::to_value(Components::openapi()).expect("schemas are JSON")["components"]["schemas"]
            .clone();
    let mut paths = Map::new();
    for route in ROUTES.iter().filter(|route| is_described(route)) {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "deployd",
            "description": "The control socket of deployd, a release daemon. HTTP/1.1 on a Unix domain socket.",
            "version": "1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "Problem": {
                    "description": "What went wrong (RFC 9457); `code` is stable",
                    "content": { "application/problem+json": { "schema": reference("Problem") } },
                },
            },
        },
    })
}

#[test]
fn the_embedded_document_is_what_the_types_and_routes_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control/openapi.json");
    let document = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("DEPLOYD_UPDATE").is_some() {
        let temporary = path.with_extension("tmp");
        std::io::Write::write_all(&mut std::fs::File::create(&temporary).unwrap(), document.as_bytes())
            .unwrap();
        std::fs::rename(temporary, path).unwrap();
        return;
    }
    let embedded = std::fs::read_to_string(path).unwrap();
    assert!(
        embedded == document,
        "src/control/openapi.json is out of date: DEPLOYD_UPDATE=1 cargo test --test openapi makes it anew"
    );
}

#[test]
fn every_reference_leads_to_a_schema() {
    fn visit(value: &Value, seen: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                seen.extend(map.get("$ref").and_then(Value::as_str).map(str::to_string));
                map.values().for_each(|value| visit(value, seen));
            }
            Value::Array(list) => list.iter().for_each(|value| visit(value, seen)),
            _ => {}
        }
    }
    let document = document();
    let mut references = Vec::new();
    visit(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
