//! Packages over HTTP.

use crate::harness::{Daemon, items};
use crate::http::PackageServer;

fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    daemon
}

fn deploy(id: u64, url: &str, more: &str) -> String {
    items(&[(id, 0, "HTTP_UPLOAD_DEPLOY", &format!(", httpSrcUri: '{url}'{more}"))])
}

fn error(daemon: &Daemon, id: u64) -> (String, String) {
    let error = daemon.report(id)["deployments"][0]["error"].clone();
    (error["code"].as_str().unwrap().into(), error["message"].as_str().unwrap().into())
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_was() {
    let (daemon, server) = (daemon(), PackageServer::new());
    let id = daemon.executed("plan", &deploy(1, &server.url("/cut.tar"), ""), "SUCCEEDED");
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[0], "/cut.tar 0");
    let from: usize = asked[1].split(' ').nth(1).unwrap().parse().unwrap();
    assert!(from > 0, "{asked:?}");
    let size = std::fs::metadata(daemon.path("state/services/s1/containers/c1/current/file")).unwrap().len();
    assert_eq!(size, 300_000);
    assert_eq!(daemon.report(id)["deployments"][0]["artifact"]["bytes"].as_u64().unwrap() % 512, 0);
}

#[test]
fn what_is_worth_it_is_tried_again_and_the_rest_is_not() {
    let (daemon, server) = (daemon(), PackageServer::new());
    daemon.executed("busy", &deploy(1, &server.url("/busy.tar"), ""), "SUCCEEDED");
    assert_eq!(server.count("/busy"), 3);
    let id = daemon.executed("missing", &deploy(1, &server.url("/404.tar"), ""), "FAILED");
    let (code, message) = error(&daemon, id);
    assert_eq!((code.as_str(), server.count("/404")), ("packageNotFound", 1));
    assert!(message.contains("404"), "{message}");
}

#[test]
fn a_package_must_be_what_the_plan_says() {
    let (daemon, server) = (daemon(), PackageServer::new());
    let wrong = format!(", httpSrcSha256: {}", "0".repeat(64));
    let id = daemon.executed("plan", &deploy(1, &server.url("/ok.tar"), &wrong), "FAILED");
    assert_eq!(error(&daemon, id).0, "packageDiffers");
    assert!(daemon.witness().is_empty());
    let id = daemon.executed("plan", &deploy(1, &server.url("/ok.tar"), ""), "SUCCEEDED");
    let sha = daemon.report(id)["deployments"][0]["artifact"]["sha256"].as_str().unwrap().to_string();
    let right = format!(", httpSrcSha256: {sha}");
    daemon.executed("plan", &deploy(1, &server.url("/ok.tar"), &right), "SUCCEEDED");
    // What is here already is not fetched again.
    assert_eq!(server.count("/ok.tar"), 2);
}

#[test]
fn two_services_that_deploy_the_same_package_download_it_once() {
    let (daemon, server) = (daemon(), PackageServer::new());
    let package = format!(", httpSrcUri: '{}'", server.url("/ok.tar"));
    let plan = items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package), (2, 0, "HTTP_UPLOAD_DEPLOY", &package)]);
    daemon.executed("plan", &plan, "SUCCEEDED");
    assert_eq!(server.count("/ok.tar"), 1);
}

#[test]
fn what_is_no_archive_or_a_hostile_one_is_refused_without_a_trace() {
    let (daemon, server) = (daemon(), PackageServer::new());
    for (path, words) in [("/evil.tar", "its path leads up"), ("/html", "a web page")] {
        let id = daemon.executed("plan", &deploy(1, &server.url(path), ""), "FAILED");
        let (code, message) = error(&daemon, id);
        assert_eq!(code, "release");
        assert!(message.contains(words), "{message}");
    }
    assert!(!daemon.path("evil").exists() && !daemon.path("state/evil").exists());
    let releases: Vec<_> = std::fs::read_dir(daemon.path("state/services/s1/releases")).unwrap().collect();
    assert!(releases.is_empty(), "{releases:?}");
    assert!(daemon.witness().is_empty());
}

#[test]
fn credentials_are_masked_wherever_they_could_be_shown() {
    let (daemon, server) = (daemon(), PackageServer::new());
    let secret = "S3CR3T";
    let url = server.url("/404.tar").replace("http://", &format!("http://user:{secret}@"));
    let id = daemon.executed("plan", &deploy(1, &url, ""), "FAILED");
    let shown = [
        daemon.report(id).to_string(),
        daemon.ctl_ends(0, &["logs", &id.to_string()]),
        daemon.ctl_ends(0, &["events"]),
        daemon.log(),
    ];
    for text in shown {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn old_releases_go_and_those_in_use_stay() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "one"), ("c2", "two")], "releases: { keep: 1 }");
    daemon.launch();
    let server = PackageServer::new();
    daemon.executed("plan", &deploy(1, &server.url("/0.tar"), ", deployLabel: two"), "SUCCEEDED");
    for version in 1..5 {
        let plan = deploy(1, &server.url(&format!("/{version}.tar")), ", deployLabel: one");
        daemon.executed("plan", &plan, "SUCCEEDED");
    }
    let releases = std::fs::read_dir(daemon.path("state/services/s1/releases")).unwrap().count();
    assert_eq!(releases, 3, "the two in use, and one more");
    let file = daemon.path("state/services/s1/containers/c2/current/file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "/0.tar");
}

#[test]
fn shared_paths_outlive_releases() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "sharedPaths: [uploads, var/data]");
    daemon.launch();
    let server = PackageServer::new();
    daemon.executed("plan", &deploy(1, &server.url("/1.tar"), ""), "SUCCEEDED");
    let current = daemon.path("state/services/s1/containers/c1/current");
    std::fs::write(current.join("uploads/photo"), "kept").unwrap();
    daemon.executed("plan", &deploy(1, &server.url("/2.tar"), ""), "SUCCEEDED");
    assert_eq!(std::fs::read_to_string(current.join("file")).unwrap(), "/2.tar");
    assert_eq!(std::fs::read_to_string(current.join("uploads/photo")).unwrap(), "kept");
    assert!(current.join("var/data").is_dir());
}

#[test]
fn a_container_whose_command_needs_a_release_says_so() {
    let mut daemon = Daemon::new();
    let run = format!("run:\n  command: [./bin/server]\n{}", crate::harness::user());
    daemon.add_running(1, &[("c1", "")], &run, "");
    daemon.launch();
    let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "FAILED");
    let (code, message) = error(&daemon, id);
    assert_eq!(code, "noRelease");
    assert!(message.contains("HTTP_UPLOAD_DEPLOY"), "{message}");
}
