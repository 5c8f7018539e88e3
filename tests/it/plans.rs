//! Plans and catalogs with mistakes: each has its own message at its own line, and nothing is stored.

use crate::harness::{Daemon, items};

fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "red"), ("c2", "")], "");
    daemon.launch();
    daemon
}

#[test]
fn each_class_of_mistake_has_its_own_message_at_its_own_place() {
    let daemon = daemon();
    let item = "deployPlanItems:\n- serviceId: 1\n  deployment: START\n";
    let cases: [(&str, String, &str); 23] = [
        ("no items", "comment: x\n".into(), "1:1: `deployPlanItems` is missing"),
        ("empty list", "deployPlanItems: []\n".into(), "the list is empty"),
        (
            "no service",
            "deployPlanItems:\n- deployment: START\n".into(),
            "2:3: deployPlanItems[0].serviceId: `serviceId` is missing",
        ),
        (
            "unknown service",
            item.replace("Id: 1", "Id: 7"),
            "2:14: deployPlanItems[0].serviceId: service 7 is not in the catalog; services: 1 (s1)",
        ),
        ("service 0", item.replace("Id: 1", "Id: 0"), "0 is not between 1 and"),
        ("service as text", item.replace("Id: 1", "Id: one"), "a whole number must stand here, not text"),
        ("no way", "deployPlanItems:\n- serviceId: 1\n".into(), "`deployment` is missing"),
        (
            "misspelt way",
            item.replace("START", "START_"),
            "3:15: deployPlanItems[0].deployment: `START_` is not known here; did you mean `START`?",
        ),
        ("lower-case way", item.replace("START", "start"), "did you mean `START`?"),
        (
            "unknown key",
            format!("{item}  Priority: 3\n"),
            "4:3: deployPlanItems[0].Priority: unknown key; did you mean `priority`?",
        ),
        ("fraction", format!("{item}  priority: 1.5\n"), "a whole number must stand here"),
        ("order", format!("{item}  containerExecMethod: PARALEL\n"), "did you mean `PARALLEL`?"),
        (
            "label",
            format!("{item}  deployLabel: rad\n"),
            "no container of service s1 has the label `rad`; did you mean `red`?",
        ),
        ("no address", item.replace("START", "HTTP_UPLOAD_DEPLOY"), "`httpSrcUri` is missing"),
        (
            "address",
            format!("{}  httpSrcUri: ftp://x/y\n", item.replace("START", "HTTP_UPLOAD_DEPLOY")),
            "begins with http:// or https://",
        ),
        (
            "file address",
            format!("{}  httpSrcUri: file:///etc/passwd\n", item.replace("START", "HTTP_UPLOAD_DEPLOY")),
            "packages.allowedUris",
        ),
        (
            "sha",
            format!(
                "{}  httpSrcUri: http://x/y\n  httpSrcSha256: abc\n",
                item.replace("START", "HTTP_UPLOAD_DEPLOY")
            ),
            "64 hexadecimal digits",
        ),
        (
            "no repository",
            format!("{}  compileRepoBranch: main\n", item.replace("START", "COMPILE_DEPLOY")),
            "`compileRepoPath` is missing",
        ),
        (
            "foreign repository",
            format!(
                "{}  compileRepoBranch: main\n  compileRepoPath: https://x/y.git\n",
                item.replace("START", "COMPILE_DEPLOY")
            ),
            "git.allowedRepositories",
        ),
        (
            "option as branch",
            format!(
                "{}  compileRepoBranch: --upload-pack=x\n  compileRepoPath: app\n",
                item.replace("START", "COMPILE_DEPLOY")
            ),
            "does not begin with `-`",
        ),
        (
            "duplicate key",
            format!("{item}  deployment: STOP\n"),
            "4:3: deployPlanItems[0].deployment: duplicate key; it stands in line 3 already",
        ),
        ("second document", format!("{item}---\nx: 1\n"), "a second document begins here"),
        (
            "twice in a batch",
            format!("{item}- serviceId: 1\n  deployment: STOP\n"),
            "4:14: deployPlanItems[1].serviceId: service 1 stands twice in the batch of priority 0, first in line 2",
        ),
    ];
    for (name, text, message) in &cases {
        let file = daemon.write("plan.yaml", text);
        let file = file.to_str().unwrap();
        for verb in ["check", "create"] {
            let said = daemon.ctl_ends(5, &["plan", verb, file]);
            assert!(said.contains(message), "{name}: {said}");
            assert!(said.starts_with(&format!("{file}:")), "{name}: {said}");
        }
        daemon.ctl_ends(5, &["execute", "-f", file]);
        let (status, problem) = daemon.call("POST", "/v1/plans?name=x", text);
        assert_eq!((status, &problem["code"]), (422, &"planInvalid".into()), "{name}");
        assert!(problem["errors"][0]["line"].is_u64() && problem["errors"][0]["column"].is_u64());
    }
    assert_eq!(daemon.json(&["plan", "list"])["plans"], serde_json::json!([]));
    assert_eq!(daemon.json(&["list"])["tasks"], serde_json::json!([]));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let daemon = daemon();
    let text = "deployPlanItems:\n- serviceId: 9\n  deployment: STRAT\n  Priority: 1\n- deployment: START\n";
    let file = daemon.write("plan.yaml", text);
    let check: serde_json::Value = {
        let output = daemon.ctl(&["plan", "check", file.to_str().unwrap(), "-o", "json"]);
        assert_eq!(output.status.code(), Some(5));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let places: Vec<_> =
        check["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(places, [2, 3, 4, 5]);
}

#[test]
fn hostile_yaml_costs_little() {
    let daemon = daemon();
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n".to_string();
    let deep = "[".repeat(100_000);
    let escape = "comment: \"\\e[31m\"\ndeployPlanItems: \u{1b}[31m\n".to_string();
    for (name, text) in
        [("laughs", laughs), ("deep", deep), ("escape", escape), ("tag", "!!python/object:x {}\n".into())]
    {
        let file = daemon.write("plan.yaml", &text);
        let said = daemon.ctl_ends(5, &["plan", "check", file.to_str().unwrap()]);
        assert!(!said.contains('\u{1b}'), "{name}");
    }
    let large = "x".repeat((16 << 20) + 1);
    assert_eq!(daemon.http("POST", "/v1/plans/check", "", &large).0, 413);
    daemon.ctl_ends(0, &["list"]);
}

#[test]
fn revisions_are_immutable_and_never_used_again() {
    let daemon = daemon();
    let first = daemon.write("shop.yaml", &items(&[(1, 0, "START", "")]));
    let first = first.to_str().unwrap();
    assert!(daemon.ctl_ends(0, &["plan", "create", first]).starts_with("shop@1"));
    assert!(daemon.ctl_ends(0, &["plan", "create", first]).starts_with("shop@2"));
    daemon.write("shop.yaml", &items(&[(1, 0, "STOP", "")]));
    assert!(daemon.ctl_ends(0, &["plan", "create", first]).starts_with("shop@3"));
    assert!(daemon.ctl_ends(0, &["plan", "show", "shop@1"]).contains("START"));
    assert!(daemon.ctl_ends(0, &["plan", "show", "shop"]).contains("STOP"));
    daemon.ctl_ends(3, &["plan", "show", "shop@9"]);
    daemon.ctl_ends(0, &["plan", "delete", "shop"]);
    daemon.ctl_ends(3, &["plan", "show", "shop"]);
    assert!(daemon.ctl_ends(0, &["plan", "create", first]).starts_with("shop@4"));
}

#[test]
fn a_reload_is_all_or_nothing() {
    let daemon = daemon();
    daemon.add(2, &[("d1", "")], "");
    daemon.write("services.d/broken.yaml", "serviceId: 3\nname: Broken\nrun: {}\nnonsense: 1\n");
    let said = daemon.ctl_ends(5, &["service", "reload"]);
    for part in ["broken.yaml:2:7: name", "containers: `containers` is missing", "nonsense: unknown key"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(daemon.json(&["service", "list"])["services"].as_array().unwrap().len(), 1);
    std::fs::remove_file(daemon.path("services.d/broken.yaml")).unwrap();
    let done = daemon.json(&["service", "reload"]);
    assert_eq!((&done["services"], &done["added"]), (&2.into(), &serde_json::json!(["s2"])));
    let needs = "serviceId: 4\nname: needy\nruntime: process\ncontainers: [{name: x, unit: a.service}]\nrun:\n  command: [x]\n  image: y\n  limits: {memoryMax: 1G}\n";
    daemon.write("services.d/needy.yaml", needs);
    let said = daemon.ctl_ends(5, &["service", "reload"]);
    for part in
        ["unit needs runtime systemd", "memoryMax needs runtime systemd", "needs runtime podman or docker"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_task_keeps_the_services_with_which_it_started() {
    let mut daemon = Daemon::gated(2);
    let id = daemon.execute("plan", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    std::fs::remove_file(daemon.path("services.d/s2.yaml")).unwrap();
    daemon.ctl_ends(0, &["service", "reload"]);
    daemon.kill_9();
    daemon.launch();
    daemon.release("c1");
    daemon.release("c2");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    assert_eq!(daemon.witness().len(), 2);
}
