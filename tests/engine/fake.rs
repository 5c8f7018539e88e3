//! An engine that is made of answers alone: it answers as Docker 20.10, 28 and 29 and Podman 4.3 do, keeps books of
//! what it is told, and can be made to say anything else.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

/// What tells engines apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persona {
    pub component: &'static str,
    pub version: &'static str,
    pub oldest: &'static str,
    pub newest: &'static str,
}

pub const DOCKER_20: Persona =
    Persona { component: "Engine", version: "20.10.24", oldest: "1.12", newest: "1.41" };
pub const DOCKER_28: Persona =
    Persona { component: "Engine", version: "28.5.1", oldest: "1.24", newest: "1.51" };
pub const DOCKER_29: Persona =
    Persona { component: "Engine", version: "29.4.0", oldest: "1.44", newest: "1.54" };
pub const PODMAN_4: Persona =
    Persona { component: "Podman Engine", version: "4.3.1", oldest: "1.24", newest: "1.41" };

impl Persona {
    pub fn is_podman(&self) -> bool {
        self.component.starts_with("Podman")
    }
}

/// A request, without the version in its path.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub version: Option<String>,
    pub body: Value,
}

impl Request {
    /// `POST containers/create`
    pub fn is(&self, text: &str) -> bool {
        format!("{} {}", self.method, self.path).starts_with(text)
    }

    /// Whether it changes something.
    pub fn is_deed(&self) -> bool {
        self.method != "GET"
    }
}

pub enum Answer {
    Json(u16, Value),
    /// These bytes, head included, and the end of the connection.
    Raw(Vec<u8>),
    /// Whatever this writes, and the end of the connection.
    Stream(Box<dyn FnOnce(&mut UnixStream) + Send>),
}

#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub made: Value,
    pub status: String,
    pub pid: i64,
    pub started: String,
    pub code: i64,
    pub restarts: i64,
}

impl Container {
    pub fn operation(&self) -> String {
        self.made["Labels"]["io.deployd.operation"].as_str().unwrap_or_default().to_string()
    }

    fn runs(&self) -> bool {
        matches!(&*self.status, "running" | "paused" | "restarting")
    }
}

type Script = Box<dyn FnMut(&Request, &mut World) -> Option<Answer> + Send>;

pub struct World {
    pub persona: Persona,
    pub containers: Vec<Container>,
    /// By name, what an image's configuration says.
    pub images: BTreeMap<String, Value>,
    /// By name, a volume's labels.
    pub volumes: BTreeMap<String, Value>,
    /// Whatever was asked for, in its order: `v1.41 POST containers/create?name=…`.
    pub asked: Vec<String>,
    /// How often the program of each operation was started.
    pub starts: BTreeMap<String, usize>,
    made: usize,
    script: Option<Script>,
}

pub struct Fake {
    pub directory: tempfile::TempDir,
    world: Arc<Mutex<World>>,
}

impl Fake {
    pub fn new(persona: Persona) -> Self {
        let directory = tempfile::Builder::new().prefix("deployd-fake").tempdir().unwrap();
        let world = World {
            persona,
            containers: Vec::new(),
            images: BTreeMap::from([("lab:1".to_string(), json!({ "Volumes": null }))]),
            volumes: BTreeMap::new(),
            asked: Vec::new(),
            starts: BTreeMap::new(),
            made: 0,
            script: None,
        };
        let fake = Self { directory, world: Arc::new(Mutex::new(world)) };
        fake.listen();
        fake
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What comes before the usual answers; `None` is the usual one.
    pub fn script(&self, script: impl FnMut(&Request, &mut World) -> Option<Answer> + Send + 'static) {
        self.world().script = Some(Box::new(script));
    }

    pub fn unscripted(&self) {
        self.world().script = None;
    }

    /// What was asked for that begins so, without versions.
    pub fn asked(&self, what: &str) -> Vec<String> {
        let asked = self.world().asked.clone();
        let short = |asked: String| asked.split_once(' ').unwrap().1.to_string();
        asked.into_iter().map(short).filter(|asked| asked.starts_with(what)).collect()
    }

    fn listen(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let world = self.world.clone();
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let world = world.clone();
                std::thread::spawn(move || serve(stream, &world));
            }
        });
    }
}

fn serve(stream: UnixStream, world: &Mutex<World>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = world.lock().unwrap().answer(&request);
        match answer {
            Answer::Json(status, body) => {
                let api = world.lock().unwrap().persona.newest;
                let body = if status == 204 || status == 304 { String::new() } else { body.to_string() };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nApi-Version: {api}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
                    return;
                }
            }
            Answer::Raw(bytes) => {
                writer.write_all(&bytes).ok();
                return;
            }
            Answer::Stream(write) => return write(&mut writer),
        }
    }
}

fn read(reader: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?.trim_start_matches('/').to_string());
    let mut length = 0;
    loop {
        let mut head = String::new();
        reader.read_line(&mut head).ok()?;
        let head = head.trim().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        length = head.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let versioned = path.split_once('/').filter(|(first, _)| first.starts_with("v1."));
    let (version, path) = versioned.map_or((None, path), |(version, rest)| (Some(version), rest));
    Some(Request {
        method,
        path: path.to_string(),
        query: query.to_string(),
        version: version.map(str::to_string),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

impl World {
    fn answer(&mut self, request: &Request) -> Answer {
        let version = request.version.as_deref().unwrap_or("-");
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        self.asked.push(format!("{version} {} {}{query}", request.method, request.path));
        if let Some(mut script) = self.script.take() {
            let answer = script(request, self);
            self.script.get_or_insert(script);
            if let Some(answer) = answer {
                return answer;
            }
        }
        self.usual(request)
    }

    /// What an engine of this kind answers.
    pub fn usual(&mut self, request: &Request) -> Answer {
        if let Some(refused) = self.version(request.version.as_deref()) {
            return refused;
        }
        let parts: Vec<&str> = request.path.split('/').collect();
        match (&*request.method, &parts[..]) {
            ("GET", ["_ping"]) => Answer::Json(200, json!("OK")),
            ("GET", ["version"]) => {
                let Persona { component, version, oldest, newest } = self.persona;
                let components = json!([{ "Name": component, "Version": version }]);
                Answer::Json(
                    200,
                    json!({ "Version": version, "ApiVersion": newest, "MinAPIVersion": oldest, "Components": components }),
                )
            }
            ("GET", ["images", name @ .., "json"]) => match self.images.get(&name.join("/")) {
                Some(config) => Answer::Json(200, json!({ "Id": "sha256:1", "Config": config })),
                None => self.refuse(404, "No such image"),
            },
            ("POST", ["volumes", "create"]) => {
                let (name, labels) = (request.body["Name"].as_str().unwrap(), &request.body["Labels"]);
                let labels = self.volumes.entry(name.into()).or_insert_with(|| labels.clone());
                Answer::Json(201, json!({ "Name": name, "Labels": labels }))
            }
            ("GET", ["volumes", name]) => match self.volumes.get(*name) {
                Some(labels) => Answer::Json(200, json!({ "Name": name, "Labels": labels })),
                None => self.refuse(404, "no such volume"),
            },
            ("POST", ["containers", "create"]) => self.create(request),
            (method, ["containers", name, rest @ ..]) => {
                let same = |it: &Container| it.name == **name || it.id == **name;
                match self.containers.iter().position(same) {
                    Some(index) => self.container(method, rest, index),
                    None => self.refuse(404, "No such container"),
                }
            }
            _ => self.refuse(404, "page not found"),
        }
    }

    fn version(&self, asked: Option<&str>) -> Option<Answer> {
        let minor = |version: &str| version.rsplit('.').next().unwrap().parse::<u32>().unwrap();
        let asked = asked?;
        let Persona { oldest, newest, .. } = self.persona;
        let plain = asked.trim_start_matches('v');
        let text = if self.persona.is_podman() {
            return None;
        } else if minor(asked) < minor(oldest) {
            format!(
                "client version {plain} is too old. Minimum supported API version is {oldest}, please upgrade your client to a newer version"
            )
        } else if minor(asked) > minor(newest) {
            format!("client version {plain} is too new. Maximum supported API version is {newest}")
        } else {
            return None;
        };
        Some(self.refuse(400, &text))
    }

    pub fn refuse(&self, status: u16, message: &str) -> Answer {
        if self.persona.is_podman() {
            return Answer::Json(status, json!({ "cause": message, "message": message, "response": status }));
        }
        Answer::Json(status, json!({ "message": message }))
    }

    fn create(&mut self, request: &Request) -> Answer {
        let name = request.query.trim_start_matches("name=").to_string();
        if self.containers.iter().any(|it| it.name == name) {
            let status = if self.persona.is_podman() { 500 } else { 409 };
            return self.refuse(status, &format!("the container name \"{name}\" is already in use"));
        }
        if !self.images.contains_key(request.body["Image"].as_str().unwrap()) {
            return self.refuse(404, "No such image");
        }
        let id = self.add(&name, request.body.clone(), "created");
        Answer::Json(201, json!({ "Id": id, "Warnings": [] }))
    }

    /// Adds a container; its id.
    pub fn add(&mut self, name: &str, made: Value, status: &str) -> String {
        self.made += 1;
        let (id, started) = (format!("{:064x}", self.made), "0001-01-01T00:00:00Z".to_string());
        let pid = if status == "running" { 4_000_000 } else { 0 };
        self.containers.push(Container {
            id: id.clone(),
            name: name.into(),
            made,
            status: status.into(),
            pid,
            started,
            code: 0,
            restarts: 0,
        });
        id
    }

    fn container(&mut self, method: &str, rest: &[&str], index: usize) -> Answer {
        let is_podman = self.persona.is_podman();
        let container = &mut self.containers[index];
        match (method, rest) {
            ("GET", ["json"]) => Answer::Json(200, inspected(container, is_podman)),
            ("POST", ["start"]) if container.runs() => Answer::Json(304, Value::Null),
            ("POST", ["start"]) => {
                self.made += 1;
                container.status = "running".into();
                container.pid = 4_000_000;
                container.started = format!("2026-12-01T00:00:00.{:09}Z", self.made);
                *self.starts.entry(container.operation()).or_default() += 1;
                Answer::Json(204, Value::Null)
            }
            ("POST", ["stop"]) if is_podman && container.status == "paused" => self.refuse(
                500,
                "container is running or paused, refusing to clean up: container state improper",
            ),
            ("POST", ["stop"]) if !container.runs() && container.status != "stopping" => {
                Answer::Json(304, Value::Null)
            }
            ("POST", ["stop"]) => {
                container.status = "exited".into();
                container.pid = 0;
                Answer::Json(204, Value::Null)
            }
            ("POST", ["unpause"]) if container.status == "paused" => {
                container.status = "running".into();
                Answer::Json(204, Value::Null)
            }
            ("POST", ["unpause"]) => self.refuse(500, "it is not paused"),
            ("DELETE", []) if container.runs() || container.status == "stopping" => {
                self.refuse(if is_podman { 500 } else { 409 }, "you cannot remove a running container")
            }
            ("DELETE", []) => {
                self.containers.remove(index);
                Answer::Json(204, Value::Null)
            }
            ("GET", ["logs"]) => Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\n\x01\0\0\0\0\0\0\x03ab\n".to_vec()),
            _ => self.refuse(404, "page not found"),
        }
    }
}

fn inspected(container: &Container, is_podman: bool) -> Value {
    let status = &container.status;
    let mounts = container.made["HostConfig"]["Mounts"].as_array().cloned().unwrap_or_default();
    let volume = |mount: &Value| json!({ "Type": mount["Type"], "Name": mount["Source"], "Destination": mount["Target"] });
    json!({
        "Id": container.id,
        "Name": container.name,
        "RestartCount": container.restarts,
        "Config": { "Labels": container.made["Labels"] },
        "Mounts": mounts.iter().map(volume).collect::<Vec<_>>(),
        "State": {
            "Status": status,
            "Running": container.runs(),
            "Paused": status == "paused",
            "Restarting": !is_podman && status == "restarting",
            "Pid": container.pid,
            "ExitCode": container.code,
            "StartedAt": container.started,
        },
    })
}
