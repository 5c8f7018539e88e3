//! The data of an image's own volumes outlives the containers.

use serde_json::json;

use super::fake::{DOCKER_28, Fake, PODMAN_4};
use super::harness::Daemon;
use super::{Lab, catalog_at, plan};

const DATA: &str = "deployd-web-a-";

/// A daemon at an engine whose image wants these volumes.
fn scene(persona: super::fake::Persona, volumes: &[&str]) -> (Daemon, Fake) {
    let (mut daemon, fake) = (Daemon::new(), Fake::new(persona));
    catalog_at(&daemon, &fake.socket());
    let declared: serde_json::Map<_, _> =
        volumes.iter().map(|path| ((*path).to_string(), json!({}))).collect();
    fake.world().images.insert("lab:1".into(), json!({ "Volumes": declared }));
    daemon.launch();
    (daemon, fake)
}

/// Which volume the container has at each path.
fn mounted(fake: &Fake) -> Vec<(String, String)> {
    let mounts = fake.world().containers[0].made["HostConfig"]["Mounts"].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    mounts.as_array().unwrap().iter().map(|it| (text(&it["Target"]), text(&it["Source"]))).collect()
}

#[test]
fn each_container_of_a_name_gets_the_same_volumes() {
    for persona in [DOCKER_28, PODMAN_4] {
        let (daemon, fake) = scene(persona, &["/data/", "/var/lib/x"]);
        daemon.executed("start", &plan("START"), "SUCCEEDED");
        let first = mounted(&fake);
        assert_eq!(first.iter().map(|it| &*it.0).collect::<Vec<_>>(), ["/data", "/var/lib/x"]);
        assert!(first.iter().all(|it| it.1.starts_with(DATA)) && first[0].1 != first[1].1, "{first:?}");
        for way in ["RESTART", "STOP", "START", "RESTART"] {
            daemon.executed("again", &plan(way), "SUCCEEDED");
        }
        assert_eq!(mounted(&fake), first);
        let own = daemon.path("state/services/web/containers/a");
        assert!(fake.world().volumes.values().all(|labels| labels["io.deployd.container"] == json!(own)));
    }
}

#[test]
fn a_volume_without_a_name_is_carried_over() {
    let (daemon, fake) = scene(DOCKER_28, &["/data", "/new"]);
    let own = daemon.path("state/services/web/containers/a");
    // As an earlier deployd has made it: the engine has given the volume a name.
    let mounts = json!([{ "Type": "volume", "Source": "4527e63a", "Target": "/data" }]);
    let made = json!({ "Image": "lab:1", "Labels": { "io.deployd.container": own }, "HostConfig": { "Mounts": mounts } });
    fake.world().add("deployd-web-a", made, "running");
    fake.world().volumes.insert("4527e63a".into(), json!(null));
    for way in ["STOP", "START", "RESTART"] {
        daemon.executed("carried", &plan(way), "SUCCEEDED");
    }
    let volumes = mounted(&fake);
    assert_eq!(volumes[0], ("/data".to_string(), "4527e63a".to_string()));
    assert!(volumes[1].1.starts_with(DATA), "{volumes:?}");
    // Somebody deletes it: there is nothing to carry over any more.
    daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
    fake.world().volumes.remove("4527e63a");
    daemon.executed("start", &plan("START"), "SUCCEEDED");
    assert!(mounted(&fake)[0].1.starts_with(DATA));
}

#[test]
fn a_volume_of_somebody_else_is_refused_before_anything_is_stopped() {
    let (daemon, fake) = scene(DOCKER_28, &[]);
    daemon.executed("start", &plan("START"), "SUCCEEDED");
    fake.world().images.insert("lab:1".into(), json!({ "Volumes": { "/data": {} } }));
    fake.script(|request, _| {
        let found = json!({ "Labels": { "io.deployd.container": "/elsewhere" } });
        request.is("GET volumes/").then_some(super::fake::Answer::Json(200, found))
    });
    let task = daemon.executed("restart", &plan("RESTART"), "FAILED");
    let report = daemon.report(task);
    let error = &report["deployments"][0]["operations"][0]["error"];
    assert_eq!(error["code"], "volumeRefused", "{report}");
    assert!(error["message"].as_str().unwrap().contains("/data"), "{error}");
    assert_eq!(fake.world().containers[0].status, "running");
    assert_eq!(fake.asked("DELETE"), [""; 0]);
}

/// What a real engine does with them.
#[test]
fn data_in_a_volume_of_the_image_survives_each_way() {
    let Some(mut lab) = Lab::new() else { return };
    let add = "touch /data/seen; echo $DEPLOYD_OPERATION >> /data/rows; touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let deploy = lab.deploy(add);
    let image = lab.daemon.path("services.d/web.yaml");
    let text = std::fs::read_to_string(&image).unwrap();
    lab.daemon.write(
        "services.d/web.yaml",
        &text.replace("test:1", "test:data").replace("user: nobody", "user: root"),
    );
    // As an earlier deployd has made it, with what it had written.
    let own = lab.daemon.path("state/services/web/containers/a");
    let owner = format!("io.deployd.container={}", own.display());
    let before = "echo before > /data/rows; sleep 1000";
    let run = [
        "run",
        "-d",
        "--name",
        "deployd-web-a",
        "--label",
        &owner,
        "--network",
        "host",
        "localhost/test:data",
    ];
    lab.podman("do", &[&run[..], &["sh", "-c", before]].concat());
    lab.daemon.launch();
    let rows = |lab: &Lab, name: &str| lab.podman("do", &["exec", name, "cat", "/data/rows"]).lines().count();
    let mut starts = 0;
    for (way, plan) in [
        ("deploy", deploy.clone()),
        ("restart", plan("RESTART")),
        ("stop", plan("STOP")),
        ("start", plan("START")),
        ("again", deploy),
    ] {
        lab.daemon.executed(way, &plan, "SUCCEEDED");
        if way != "stop" {
            starts += 1;
            assert_eq!(rows(&lab, "deployd-web-a"), starts + 1, "{way}: with the row from before");
            assert_eq!(rows(&lab, "deployd-web-b"), starts, "{way}");
        }
    }
    // What the image itself has there is in the volume, too.
    assert_eq!(lab.podman("do", &["exec", "deployd-web-b", "cat", "/data/of-the-image"]), "content\n");
    lab.daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
    let left = lab.podman("do", &["volume", "ls", "-q"]);
    assert_eq!(left.lines().count(), 2, "{left}");
}
