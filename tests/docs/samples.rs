//! A sample of each error of each type, as it is shown.

mod host;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use deployd::actors::{FirstUse, Holder, Refused};
use deployd::address::Shown;
use deployd::artifact::build::BuildError;
use deployd::artifact::fetch::FetchError;
use deployd::artifact::git::GitError;
use deployd::artifact::unpack::UnpackError;
use deployd::catalog::ServiceId;
use deployd::catalog_dir::CatalogError;
use deployd::config::ConfigError;
use deployd::control::listen::ListenError;
use deployd::control::problem::Fault;
use deployd::daemon::DaemonError;
use deployd::engine::EngineError;
use deployd::identity::Stranger;
use deployd::mistake::{FileMistake, Mistake};
use deployd::preflight::CheckError;
use deployd::probe::ProbeFailure;
use deployd::runtime::RuntimeError;
use deployd::spawn::{ExitStatus, SpawnError};
use deployd::store::StoreError;
use deployd::systemd::SystemdError;
use deployd::task::drift::Drift;
use deployd::task::request::FirstRequest;
use deployd::task::state::{Refusal, TaskState};
use deployd::task::{Illegal, TaskId, Timestamp};

/// By the name of the type: what each of its errors says.
pub type Said = BTreeMap<&'static str, Vec<String>>;

fn no_entry() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::ENOENT)
}

fn text(text: &str) -> String {
    text.into()
}

#[expect(clippy::needless_pass_by_value, reason = "each list is made for this call")]
fn said<E: ToString>(all: Vec<E>) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn mistake() -> Mistake {
    Mistake {
        line: 4,
        column: 3,
        path: text("deployPlanItems[0].Priority"),
        message: text("unknown key"),
        suggestion: Some(text("did you mean `priority`?")),
    }
}

fn refused() -> Vec<Refused> {
    let service = ServiceId::new(111).unwrap();
    let holder = Holder {
        service,
        task: TaskId(7),
        state: TaskState::Running,
        user: text("alice"),
        since: Timestamp(0),
    };
    let drift = Drift {
        service,
        name: text("web"),
        container: text("web-1"),
        what: "release",
        expected: text("a"),
        found: text("b"),
        by: None,
    };
    let file = FileMistake { file: text("web.yaml"), mistake: mistake() };
    let first = FirstRequest {
        at: Timestamp(0),
        plan: text("shop"),
        revision: 3,
        task: Some(TaskId(7)),
        deleted_at: None,
        fingerprint: None,
    };
    let first = Box::new(FirstUse { key: text("build-42"), first });
    vec![
        Refused::NoSuchTask(TaskId(7)),
        Refused::NoSuchPlan(text("shop")),
        Refused::NoSuchRevision { name: text("shop"), revision: 9, newest: 3 },
        Refused::NoSuchService(text("wbe")),
        Refused::NoSuchRepository(text("app")),
        Refused::Exists(text("repository app")),
        Refused::BadName(text("…")),
        Refused::NotPossible(Refusal { state: TaskState::Running, asked: "delete" }),
        Refused::NoPlan {
            task: TaskId(7),
            state: TaskState::Running,
            why: "it may still change; wait for it, or stop it",
        },
        Refused::NothingToDo(text("…")),
        Refused::Drifted { task: TaskId(7), drifts: vec![drift] },
        Refused::KeyReused(first.clone()),
        Refused::TaskDeleted(first.clone()),
        Refused::PlanDeleted(first),
        Refused::Conflict(vec![holder]),
        Refused::PlanInvalid(vec![mistake(), mistake()]),
        Refused::CatalogInvalid(vec![file]),
        Refused::Draining,
        Refused::Unavailable(text("…")),
        Refused::Host(text("…")),
    ]
}

fn fetch() -> Vec<FetchError> {
    let uri = || Shown::of("https://packages.example.org/web.tar");
    vec![
        FetchError::Status { uri: uri(), status: 404 },
        FetchError::Unreachable { uri: uri(), why: text("connection refused"), tries: 4 },
        FetchError::TimedOut {
            uri: uri(),
            seconds: 600,
            bytes: 1024,
            last: text("; before: connection reset"),
        },
        FetchError::TooLarge { uri: uri(), max: 4 << 30 },
        FetchError::Checksum { uri: uri(), expected: text("ab…"), actual: text("cd…") },
        FetchError::Redirect { uri: uri(), why: text("more than 10 redirects; check the address") },
        FetchError::NoSpace { uri: uri(), missing: 4096 },
        FetchError::Io { uri: uri(), why: text("permission denied") },
        FetchError::Cancelled,
    ]
}

fn git() -> Vec<GitError> {
    let origin = || text("https://git.example.org/app");
    vec![
        GitError::Missing(text("no such file or directory")),
        GitError::NoBranch { origin: origin(), branch: text("mian"), others: vec![text("main")] },
        GitError::NoCommit { origin: origin(), branch: text("main"), commit: text("0123abc") },
        GitError::Failed {
            what: "fetch from",
            origin: origin(),
            said: text("fatal: could not read Username"),
        },
        GitError::TimedOut { what: "fetch from", origin: origin(), seconds: 900 },
        GitError::Unfit {
            origin: text("shop"),
            why: text("/var/lib/deployd/git/shop.git/commondir makes git read another repository. Remove it"),
        },
        GitError::TooLarge { origin: origin() },
        GitError::NoSpace { origin: origin(), missing: 4096 },
        GitError::Io { what: "write git's configuration", why: text("read-only file system") },
        GitError::Cancelled,
    ]
}

fn build() -> Vec<BuildError> {
    vec![
        BuildError::Failed { status: ExitStatus::Code(2), last_lines: Vec::new() },
        BuildError::TimedOut { seconds: 1800 },
        BuildError::Output(text("dist: No such file or directory; the checkout holds: Makefile, src")),
        BuildError::TooLarge(text(
            "dist/x makes it 1099511627776 bytes, and packages.maxUnpackedBytes is 17179869184",
        )),
        BuildError::NoSpace { missing: 4096 },
        BuildError::DiskFull { free: 1_048_576 },
        BuildError::Spawn(SpawnError::Spawner(no_entry())),
        BuildError::Git(GitError::Cancelled),
        BuildError::User(text("there is no user builder")),
        BuildError::Io(no_entry()),
        BuildError::Cancelled,
    ]
}

fn store() -> Vec<StoreError> {
    let path = || PathBuf::from("/var/lib/deployd/deployd.redb");
    vec![
        StoreError::Locked { path: "/var/lib/deployd".into(), holder: text("pid 4242") },
        StoreError::Damaged { path: path(), why: text("its checksums are wrong") },
        StoreError::Refused(text("…")),
        StoreError::Unsafe { path: path(), why: text("it is a symbolic link; put the file itself there") },
        StoreError::Gone { path: path(), mark: "/var/lib/deployd/deployd.redb.mark".into() },
        StoreError::Newer { path: path(), found: 3, known: 1 },
        StoreError::Row { table: "tasks", key: text("7"), why: text("its checksum is wrong") },
        StoreError::Journal { task: TaskId(7), n: 12, why: Illegal::Unknown("operation.begun") },
        StoreError::CommitUnknown(text("input/output error")),
        StoreError::Closed,
        StoreError::Io { what: "create", path: path(), source: Arc::new(no_entry()) },
        StoreError::Copy(text("no space left on device")),
        StoreError::Read(text("input/output error")),
    ]
}

fn runtime() -> Vec<RuntimeError> {
    let unit = || text("web@1.service");
    vec![
        RuntimeError::Spawn(SpawnError::Spawner(no_entry())),
        RuntimeError::Engine(EngineError::Cut { engine: "podman", what: "start web-1", why: text("eof") }),
        RuntimeError::Io { what: "write the unit file", source: no_entry() },
        RuntimeError::Systemd(SystemdError::Unreachable(text("connection refused"))),
        RuntimeError::NoInside,
        RuntimeError::NoSystemd,
        RuntimeError::Confined,
        RuntimeError::NoUnit { unit: unit(), load: text("not-found") },
        RuntimeError::StillUp { unit: unit(), state: text("active") },
        RuntimeError::Signal(text("SIGFOO")),
        RuntimeError::Foreign { name: unit(), stranger: Stranger::Unknown, owner: unit(), fix: "remove it" },
    ]
}

fn engine() -> Vec<EngineError> {
    let engine = "podman";
    vec![
        EngineError::Unreachable {
            engine,
            socket: text("/run/podman/podman.sock"),
            why: text("no such file"),
        },
        EngineError::Refused {
            engine,
            what: "start the container",
            status: 404,
            message: text("no such image"),
        },
        EngineError::Cut { engine, what: "start the container", why: text("eof") },
        EngineError::Version {
            engine: "docker",
            message: text("client version 1.52 is too old. Minimum supported API version is 1.60"),
        },
        EngineError::ForeignVolume {
            engine,
            volume: text("deployd-db-db-1-21c3be4eb3aa"),
            path: text("/var/lib/data"),
        },
        EngineError::Unsettled { engine, name: text("deployd-web-web-1"), state: text("stopping") },
        EngineError::StillThere {
            engine,
            name: text("deployd-web-web-1"),
            state: text("running"),
            seconds: 70,
            refusal: text(": no exit event"),
        },
    ]
}

fn unpack() -> Vec<UnpackError> {
    vec![
        UnpackError::Unknown("a web page"),
        UnpackError::Damaged(text("unexpected end of file")),
        UnpackError::Refused { name: text("../etc/passwd"), why: "its path leads up" },
        UnpackError::Shared(text("uploads")),
        UnpackError::TooLarge { limit: 200_000, what: "files and directories", key: "packages.maxEntries" },
        UnpackError::NoSpace { missing: 4096 },
        UnpackError::Io(no_entry()),
    ]
}

fn daemon() -> Vec<DaemonError> {
    vec![
        DaemonError::Store(StoreError::Closed),
        DaemonError::Identity(host::identity().remove(0)),
        DaemonError::Catalog(CatalogError::Invalid(Vec::new())),
        DaemonError::Listen(ListenError::Taken("/run/deployd/deployd.sock".into())),
        DaemonError::Io { what: "create the state directory (stateDir)", source: no_entry() },
        DaemonError::Supervisor(text("index out of bounds")),
        DaemonError::Control(text("the thread of the control socket has ended")),
        DaemonError::Tls(text("no certificates")),
    ]
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Refused(Refused::Draining),
        Fault::Store(StoreError::Closed),
        Fault::NotFound(text("…")),
        Fault::Deleted(TaskId(7), text("build-42")),
        Fault::BadRequest(text("…")),
        Fault::TooLarge(text("…")),
        Fault::Busy("…"),
        Fault::MethodNotAllowed(text("GET, POST")),
        Fault::NotPermitted(text("…")),
        Fault::HistoryRestored { after: 812, first: 2_890_000_000_001 },
    ]
}

fn edges() -> Said {
    let config = || ConfigError::Read { path: "/etc/deployd/deployd.yaml".into(), source: no_entry().into() };
    let catalog =
        || CatalogError::Read { path: "/etc/deployd/services.d".into(), why: no_entry().to_string() };
    let socket = || PathBuf::from("/run/deployd/deployd.sock");
    let listen = vec![
        ListenError::Taken(socket()),
        ListenError::NoSocket(socket()),
        ListenError::Io { path: socket(), source: no_entry() },
    ];
    let check = vec![
        CheckError::Config(config()),
        CheckError::Catalog(catalog()),
        CheckError::Plans(text("…")),
        CheckError::Host(text("git, state directory")),
    ];
    let spawn = vec![
        SpawnError::Exec { program: text("./bin/server"), source: no_entry() },
        SpawnError::Prepare {
            program: text("./bin/server"),
            what: text("become user web"),
            source: no_entry(),
        },
        SpawnError::Spawner(no_entry()),
        SpawnError::Lost { program: text("./migrate") },
        SpawnError::Unit { program: text("make"), why: text("access denied"), in_doubt: false },
    ];
    let illegal = vec![
        Illegal::Refused(Refusal { state: TaskState::Paused, asked: "pause" }),
        Illegal::OutOfOrder {
            event: "operation.ended",
            what: text("operation 0 of deployment 1"),
            state: "PENDING",
        },
        Illegal::Unknown("operation.begun"),
        Illegal::NotStarted("task.paused"),
    ];
    BTreeMap::from([
        ("Fault", said(faults())),
        ("ListenError", said(listen)),
        ("CheckError", said(check)),
        ("SpawnError", said(spawn)),
        ("Illegal", said(illegal)),
        ("ConfigError", said(vec![config(), ConfigError::Invalid(text("…")), ConfigError::NoHome])),
        (
            "CatalogError",
            said(vec![
                catalog(),
                CatalogError::Invalid(vec![FileMistake { file: text("web.yaml"), mistake: mistake() }]),
            ]),
        ),
    ])
}

/// deployctl's own.
fn of_the_command_line() -> Said {
    use deployctl::cli::Failure;
    use deployctl::client::ClientError;
    use deployctl::wire::problem::Problem;
    let problem = || Box::new(Problem { detail: text("…"), ..Problem::default() });
    let client = vec![
        ClientError::NotReachable { socket: "/run/deployd/deployd.sock".into(), why: text("…") },
        ClientError::Problem(problem()),
        ClientError::Cut(text("connection reset by peer")),
        ClientError::Protocol(text("expected value at line 1")),
    ];
    let failure = vec![
        Failure::Client(ClientError::Problem(problem())),
        Failure::Read { file: text("release.yaml"), source: no_entry() },
        Failure::File { file: text("backup.redb"), source: no_entry() },
        Failure::Write(no_entry()),
        Failure::PlanShown,
        Failure::Usage(text("…")),
        Failure::Other(text("…")),
    ];
    BTreeMap::from([("ClientError", said(client)), ("Failure", said(failure))])
}

/// All of them.
pub fn all() -> Said {
    let mut all = edges();
    all.extend(of_the_command_line());
    all.extend([
        ("Refused", said(refused())),
        ("FetchError", said(fetch())),
        ("GitError", said(git())),
        ("BuildError", said(build())),
        ("StoreError", said(store())),
        ("SystemdError", said(host::systemd())),
        ("RuntimeError", said(runtime())),
        ("EngineError", said(engine())),
        ("UnpackError", said(unpack())),
        ("DaemonError", said(daemon())),
        ("IdentityError", said(host::identity())),
        ("Unread", said(host::unread())),
    ]);
    all
}

/// What health checks say.
pub fn probes() -> Vec<ProbeFailure> {
    vec![
        ProbeFailure::Exited {
            status: Some(ExitStatus::Code(1)),
            after: std::time::Duration::from_millis(300),
        },
        ProbeFailure::TimedOut {
            timeout: std::time::Duration::from_secs(30),
            last: text("connection refused"),
        },
    ]
}
