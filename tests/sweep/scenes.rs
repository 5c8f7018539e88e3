//! What is played.

use crate::harness::items;
use crate::stage::{Stage, Step};

/// Sets a stage.
pub type Scene = fn() -> Stage;

/// All scenes.
pub const SCENES: [(&str, Scene); 17] = [
    ("start_one_after_another", start_one_after_another),
    ("start_at_once", start_at_once),
    ("stop_and_restart", stop_and_restart),
    ("package", package),
    ("package_over_package", package_over_package),
    ("build_with_hooks", build_with_hooks),
    ("five_ways", five_ways),
    ("two_tasks_one_paused", two_tasks_one_paused),
    ("pause_in_the_middle", pause_in_the_middle),
    ("stop_in_the_middle", stop_in_the_middle),
    ("stop_now", stop_now),
    ("failure", failure),
    ("housekeeping", housekeeping),
    ("catalog_reload", catalog_reload),
    ("graceful_shutdown", graceful_shutdown),
    ("branch_moves_on", branch_moves_on),
    ("prepared_in_advance", prepared_in_advance),
];

const PARALLEL: &str = ", containerExecMethod: PARALLEL";

fn released(plan: String) -> Vec<Step> {
    vec![Step::Store("release", plan), Step::Execute("release"), Step::Rest("release", "SUCCEEDED", "resume")]
}

pub fn start_one_after_another() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2"], "");
    stage.add(2, &["b1"], "");
    stage.before(&[]);
    stage.script = released(items(&[(1, 2, "START", ""), (2, 1, "START", "")]));
    stage.fate(&["a1", "a2", "b1"], 1, true);
    stage
}

pub fn start_at_once() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2", "a3"], "");
    stage.add(2, &["b1"], "");
    // What runs is left alone.
    stage.before(&[2]);
    stage.script = released(items(&[(1, 1, "START", PARALLEL), (2, 1, "START", "")]));
    stage.fate(&["a1", "a2", "a3", "b1"], 1, true);
    stage
}

pub fn stop_and_restart() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2"], "");
    stage.add(2, &["b1", "b2"], "");
    stage.before(&[1, 2]);
    stage.script = released(items(&[(1, 2, "STOP", ""), (2, 1, "RESTART", PARALLEL)]));
    stage.fate(&["a1", "a2"], 1, false);
    stage.fate(&["b1", "b2"], 2, true);
    stage
}

fn from(stage: &Stage, path: &str) -> String {
    format!(", httpSrcUri: '{}'", stage.server.url(path))
}

pub fn package() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2"], "");
    stage.before(&[]);
    stage.script = released(items(&[(1, 1, "HTTP_UPLOAD_DEPLOY", &from(&stage, "/ok.tar"))]));
    stage.fate(&["a1", "a2"], 1, true);
    stage.fetched = [("/ok.tar", 1)].into();
    stage
}

/// A release over a release, of which only one is kept.
pub fn package_over_package() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1"], "releases: { keep: 1 }");
    stage.before(&[]);
    stage.daemon.launch();
    let first = items(&[(1, 1, "HTTP_UPLOAD_DEPLOY", &from(&stage, "/ok.tar"))]);
    stage.daemon.executed("one", &first, "SUCCEEDED");
    let second = items(&[(1, 1, "HTTP_UPLOAD_DEPLOY", &from(&stage, "/big.tar"))]);
    stage.daemon.executed("two", &second, "SUCCEEDED");
    stage.daemon.terminate();
    stage.script = released(items(&[(1, 1, "HTTP_UPLOAD_DEPLOY", &from(&stage, "/ok.tar?again"))]));
    stage.fate(&["a1"], 3, true);
    stage.fetched = [("/ok.tar", 2), ("/big.tar", 1)].into();
    stage
}

fn building(stage: &Stage) -> String {
    format!("{}; mkdir out; echo built > out/file", stage.mark("build"))
}

const BUILD: &str = "build: { command: [/bin/sh, build.sh], output: out }";
const COMPILED: &str = ", compileRepoPath: app, compileRepoBranch: main";

pub fn build_with_hooks() -> Stage {
    let mut stage = Stage::new();
    let hook = |name| serde_json::to_string(&["/bin/sh", "-c", &stage.mark(name)]).unwrap();
    let hooks = format!("hooks: {{ preDeploy: {}, postDeploy: {} }}\n{BUILD}", hook("pre"), hook("post"));
    stage.add(1, &["a1", "a2"], &hooks);
    stage.before(&[]);
    stage.script = vec![Step::CreateRepository("app"), Step::Push("app", building(&stage))];
    stage.script.extend(released(items(&[(1, 1, "COMPILE_DEPLOY", COMPILED)])));
    stage.script.push(Step::DeleteRepository("app"));
    stage.fate(&["a1", "a2"], 1, true);
    stage.marks = [("build", 1), ("pre", 1), ("post", 1)].into();
    stage
}

/// All five ways, one after another and at once, in three batches.
pub fn five_ways() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2"], "");
    stage.add(2, &["b1", "b2"], "");
    stage.add(3, &["c1", "c2"], BUILD);
    stage.add(4, &["d1"], "");
    stage.add(5, &["e1"], "");
    stage.before(&[4, 5]);
    stage.script = vec![Step::CreateRepository("app"), Step::Push("app", building(&stage))];
    stage.script.extend(released(items(&[
        (1, 3, "START", ""),
        (4, 3, "STOP", ""),
        (2, 2, "HTTP_UPLOAD_DEPLOY", &format!("{PARALLEL}{}", from(&stage, "/ok.tar"))),
        (3, 2, "COMPILE_DEPLOY", COMPILED),
        (5, 1, "RESTART", ""),
    ])));
    stage.fate(&["a1", "a2", "b1", "b2", "c1", "c2"], 1, true);
    stage.fate(&["d1"], 1, false);
    stage.fate(&["e1"], 2, true);
    stage.marks = [("build", 1)].into();
    stage.fetched = [("/ok.tar", 1)].into();
    stage
}

/// Two tasks at once, of which one is paused on its way.
pub fn two_tasks_one_paused() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1", "a2"], "");
    stage.add(2, &["b1", "b2"], "");
    stage.add(3, &["c1", "c2"], "");
    stage.add(4, &["d1", "d2"], "");
    stage.before(&[1, 2, 3, 4]);
    stage.script = vec![
        Step::Store("first", items(&[(1, 2, "RESTART", PARALLEL), (2, 1, "STOP", "")])),
        Step::Store("second", items(&[(3, 2, "STOP", PARALLEL), (4, 1, "RESTART", "")])),
        Step::Execute("first"),
        Step::Execute("second"),
        Step::Command("first", "pause"),
        Step::Rest("first", "SUCCEEDED", "resume"),
        Step::Rest("second", "SUCCEEDED", "resume"),
    ];
    stage.fate(&["a1", "a2", "d1", "d2"], 2, true);
    stage.fate(&["b1", "b2", "c1", "c2"], 1, false);
    stage
}

/// The first of two batches waits for its health check while the user decides.
fn held_in_the_middle(state: &'static str, verb: &'static str) -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1"], &stage.daemon.gate());
    stage.add(2, &["b1"], "");
    stage.before(&[]);
    stage.script = vec![
        Step::Store("release", items(&[(1, 2, "START", ""), (2, 1, "START", "")])),
        Step::Execute("release"),
        Step::Until("release", "operation.begun"),
        Step::Command("release", verb),
        Step::Open("a1"),
        Step::Rest("release", state, if state == "STOPPED" { "stop" } else { "resume" }),
    ];
    stage
}

pub fn pause_in_the_middle() -> Stage {
    let mut stage = held_in_the_middle("SUCCEEDED", "pause");
    stage.fate(&["a1", "b1"], 1, true);
    stage
}

pub fn stop_in_the_middle() -> Stage {
    stop_held_in_the_middle("stop")
}

fn stop_held_in_the_middle(verb: &'static str) -> Stage {
    let mut stage = held_in_the_middle("STOPPED", verb);
    // A task that a crash has interrupted is stopped where it is.
    stage.fate_between(&["a1"], (0, 1), None);
    stage.fate(&["b1"], 0, false);
    stage
}

/// A task is stopped, and the wait for its container's health is cut.
pub fn stop_now() -> Stage {
    let mut stage = stop_held_in_the_middle("stop --now");
    stage.script.retain(|step| !matches!(step, Step::Open(_)));
    stage
}

/// A container fails, the other one of its batch is finished, the next batch never begins.
pub fn failure() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1"], "health: { command: ['false'], interval: 10ms, timeout: 200ms, settle: 0s }");
    stage.add(2, &["b1"], "");
    stage.add(3, &["c1"], "");
    stage.before(&[]);
    stage.script = vec![
        Step::Store("release", items(&[(1, 2, "START", ""), (2, 2, "START", ""), (3, 1, "START", "")])),
        Step::Execute("release"),
        Step::Rest("release", "FAILED", "resume"),
    ];
    stage.fate_between(&["a1"], (1, 1), None);
    // Nothing begins any more when the failure comes first.
    stage.fate_between(&["b1"], (0, 1), None);
    stage.fate(&["c1"], 0, false);
    stage
}

/// Plans, tasks and repositories come and go.
pub fn housekeeping() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1"], &format!("{BUILD}\nhooks: {{ preDeploy: ['true'] }}"));
    stage.before(&[]);
    stage.script = vec![Step::CreateRepository("app"), Step::Push("app", building(&stage))];
    stage.script.extend(released(items(&[(1, 1, "COMPILE_DEPLOY", COMPILED)])));
    stage.script.extend([
        Step::Delete("release"),
        Step::Forget("release"),
        Step::DeleteRepository("app"),
        Step::CreateRepository("app"),
    ]);
    stage.fate(&["a1"], 1, true);
    stage.marks = [("build", 1)].into();
    stage
}

pub fn catalog_reload() -> Stage {
    let mut stage = Stage::new();
    stage.add(1, &["a1"], "");
    stage.before(&[]);
    stage.script = vec![Step::Catalog(2, "b1")];
    stage.script.extend(released(items(&[(1, 2, "START", ""), (2, 1, "START", "")])));
    stage.fate(&["a1", "b1"], 1, true);
    stage
}

/// The daemon is told to end while it waits for a health check, and the next one goes on.
pub fn graceful_shutdown() -> Stage {
    let mut stage = Stage::new();
    stage.daemon.write("deployd.yaml", "shutdownGrace: 50ms\n");
    stage.add(1, &["a1"], &stage.daemon.gate());
    stage.add(2, &["b1"], "");
    stage.before(&[]);
    stage.script = vec![
        Step::Store("release", items(&[(1, 2, "START", ""), (2, 1, "START", "")])),
        Step::Execute("release"),
        Step::Until("release", "operation.begun"),
        Step::Terminate,
        Step::Open("a1"),
        Step::Rest("release", "SUCCEEDED", "resume"),
    ];
    stage.fate(&["a1", "b1"], 1, true);
    stage
}

/// The daemon is told to end while it builds, and the branch moves on before the next one goes on.
pub fn branch_moves_on() -> Stage {
    let mut stage = Stage::new();
    stage.daemon.write("deployd.yaml", "shutdownGrace: 50ms\n");
    stage.add(1, &["a1"], BUILD);
    stage.before(&[]);
    let open = stage.daemon.path("open-build");
    let script = format!("until test -e {}; do sleep 0.01; done; {}", open.display(), building(&stage));
    stage.script = vec![
        Step::CreateRepository("app"),
        Step::Push("app", script),
        Step::Store("release", items(&[(1, 1, "COMPILE_DEPLOY", COMPILED)])),
        Step::Execute("release"),
        Step::Until("release", "deployment.commitPinned"),
        Step::Terminate,
        Step::Push("app", "exit 1".into()),
        Step::Open("build"),
        Step::Rest("release", "SUCCEEDED", "resume"),
    ];
    stage.fate(&["a1"], 1, true);
    stage.marks = [("build", 1)].into();
    stage
}

/// What the second batch needs is fetched and built while the first one runs.
pub fn prepared_in_advance() -> Stage {
    let mut stage = Stage::new();
    stage.daemon.write("deployd.yaml", "prefetch: true\n");
    stage.add(1, &["a1"], "");
    stage.add(2, &["b1"], "");
    stage.add(3, &["c1"], BUILD);
    stage.before(&[]);
    stage.script = vec![Step::CreateRepository("app"), Step::Push("app", building(&stage))];
    stage.script.extend(released(items(&[
        (1, 2, "START", ""),
        (2, 1, "HTTP_UPLOAD_DEPLOY", &from(&stage, "/ok.tar")),
        (3, 1, "COMPILE_DEPLOY", COMPILED),
    ])));
    stage.fate(&["a1", "b1", "c1"], 1, true);
    stage.marks = [("build", 1)].into();
    stage.fetched = [("/ok.tar", 1)].into();
    stage
}
