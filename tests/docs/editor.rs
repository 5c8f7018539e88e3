//! The schema of plans in an editor: what the YAML language server (npm's `yaml-language-server`, which most
//! editors run) tells of right and wrong plans, and offers while one is written.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{root, skip};

const PATIENCE: Duration = Duration::from_mins(1);
/// As the documentation tells: the first line of a plan names the schema.
const MODELINE: &str = "# yaml-language-server: $schema=plan.schema.json\n";

/// The server, and a directory with the schema.
struct Editor {
    directory: tempfile::TempDir,
    server: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
}

impl Editor {
    /// `None` where no language server is installed.
    fn open() -> Option<Self> {
        let spawned = Command::new("yaml-language-server")
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = spawned else {
            skip("the editor's view of plans: no yaml-language-server (npm install yaml-language-server)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let schema = fs::read(root().join("ctl/src/plan.schema.json")).unwrap();
        fs::write(directory.path().join("plan.schema.json"), schema).unwrap();
        let (input, output) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let (send, messages) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = read(&mut output) {
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut editor = Self { directory, server, input, messages, last: 0 };
        let link = json!({ "linkSupport": true });
        let capabilities = json!({
            "workspace": { "configuration": true },
            "textDocument": { "definition": link, "hover": {}, "completion": {}, "publishDiagnostics": {} },
        });
        let root = editor.uri("");
        editor
            .ask("initialize", &json!({ "processId": null, "rootUri": root, "capabilities": capabilities }));
        editor.tell("initialized", &json!({}));
        Some(editor)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, parameters: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": parameters }));
    }

    /// The answer to a request.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters }));
        self.until(|message| {
            (message["id"] == id && message.get("method").is_none()).then(|| message["result"].clone())
        })
    }

    /// The first message that is wanted. What the server asks meanwhile is answered.
    fn until(&mut self, wanted: impl Fn(&Value) -> Option<Value>) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).expect("the language server says nothing");
            if let Some(found) = wanted(&message) {
                return found;
            }
            if message.get("method").is_some()
                && let Some(id) = message.get("id")
            {
                let result = match message["method"].as_str() {
                    Some("workspace/configuration") => {
                        let items = message["params"]["items"].as_array().unwrap();
                        items.iter().map(|item| settings(&item["section"])).collect()
                    }
                    _ => Value::Null,
                };
                self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            }
        }
    }

    /// Opens a plan; what is underlined in it: line, column (both from 1) and message.
    fn mistakes(&mut self, name: &str, plan: &str) -> Vec<(u64, u64, String)> {
        let uri = self.uri(name);
        let text = format!("{MODELINE}{plan}");
        fs::write(self.path(name), &text).unwrap();
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", &json!({ "textDocument": document }));
        let diagnostics = self.until(|message| {
            let of_it =
                message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == uri;
            of_it.then(|| message["params"]["diagnostics"].clone())
        });
        let found = diagnostics.as_array().unwrap().iter().map(|it| {
            let start = &it["range"]["start"];
            let place = (start["line"].as_u64().unwrap(), start["character"].as_u64().unwrap() + 1);
            (place.0, place.1, it["message"].as_str().unwrap().to_string())
        });
        found.collect()
    }

    /// Asks about a place in an open plan, whose lines are counted without the first one.
    fn at(&mut self, method: &str, name: &str, line: u64, column: u64) -> Value {
        let position = json!({ "line": line, "character": column - 1 });
        self.ask(method, &json!({ "textDocument": { "uri": self.uri(name) }, "position": position }))
    }

    fn offered(&mut self, name: &str, line: u64, column: u64) -> Vec<String> {
        let answer = self.at("textDocument/completion", name, line, column);
        let items = answer["items"].as_array().or(answer.as_array()).unwrap();
        items.iter().map(|item| item["label"].as_str().unwrap().to_string()).collect()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// What an editor is configured with by default, but nothing from the network.
fn settings(section: &Value) -> Value {
    match section.as_str() {
        Some("yaml") => json!({
            "validate": true, "hover": true, "completion": true, "schemaStore": { "enable": false },
        }),
        _ => json!({}),
    }
}

fn read(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            header => {
                if let Some(value) = header.strip_prefix("Content-Length: ") {
                    length = value.parse().ok()?;
                }
            }
        }
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

#[test]
fn an_editor_knows_right_plans_from_wrong_ones() {
    let Some(mut editor) = Editor::open() else { return };
    for name in ["examples/plan.yaml", "examples/before.yaml", "tests/fixtures/seed-plan.yaml"] {
        let plan = fs::read_to_string(root().join(name)).unwrap();
        let name = name.replace('/', "-");
        assert_eq!(editor.mistakes(&name, &plan), [], "{name}");
    }
    let wrong = [
        ("enum", "deployPlanItems:\n  - serviceId: 1\n    deployment: STRAT\n", (3, 17, "START")),
        ("missing", "deployPlanItems:\n  - serviceId: 1\n", (2, 5, "Missing property \"deployment\"")),
        (
            "unknown",
            "deployPlanItems:\n  - serviceId: 1\n    deployment: START\n    prio: 1\n",
            (4, 5, "prio"),
        ),
        (
            "package",
            "deployPlanItems:\n  - serviceId: 1\n    deployment: HTTP_UPLOAD_DEPLOY\n",
            (2, 5, "Missing property \"httpSrcUri\""),
        ),
        ("kind", "deployPlanItems:\n  - serviceId: web\n    deployment: START\n", (2, 16, "integer")),
        ("empty", "deployPlanItems: []\n", (1, 18, "too few items")),
    ];
    for (name, plan, (line, column, says)) in wrong {
        let found = editor.mistakes(&format!("{name}.yaml"), plan);
        let right = found.iter().any(|it| (it.0, it.1) == (line, column) && it.2.contains(says));
        assert!(right && found.len() == 1, "{name}: {found:#?}");
    }
}

#[test]
fn an_editor_offers_keys_and_values_and_tells_what_they_mean() {
    let Some(mut editor) = Editor::open() else { return };
    let plan = "deployPlanItems:\n  - serviceId: 1\n    deployment: \n    \n";
    editor.mistakes("new.yaml", plan);
    let ways = editor.offered("new.yaml", 3, 17);
    for way in ["START", "STOP", "RESTART", "HTTP_UPLOAD_DEPLOY", "COMPILE_DEPLOY"] {
        assert!(ways.iter().any(|offered| offered == way), "{way}: {ways:?}");
    }
    let keys = editor.offered("new.yaml", 4, 5);
    for key in ["priority", "containerExecMethod", "deployLabel", "httpSrcUri", "compileRepoPath"] {
        assert!(keys.iter().any(|offered| offered == key), "{key}: {keys:?}");
    }
    let plan = "deployPlanItems:\n  - serviceId: 1\n    deployment: START\n    priority: 3\n";
    editor.mistakes("hover.yaml", plan);
    for (line, column, says) in
        [(2, 6, "id in the catalog"), (3, 6, "How the service is released"), (4, 6, "Larger is earlier")]
    {
        let shown = editor.at("textDocument/hover", "hover.yaml", line, column);
        assert!(shown["contents"].to_string().contains(says), "{line}: {shown}");
    }
}
