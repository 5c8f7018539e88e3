//! A fixed report in all forms, and one that means ill.

use serde_json::{Map, json};

use super::*;
use crate::wire::event::Event;

fn report() -> Report {
    let failure = json!({ "code": "unhealthy", "message": "web-1 did not come up within 2 s; see its log",
        "log": ["listening on :80", "cannot bind: address in use"] });
    serde_json::from_value(json!({
        "task": { "id": 7, "plan": "shop", "revision": 2, "comment": "Autumn", "state": "FAILED",
            "reason": "deploymentFailed", "createdBy": { "uid": 0, "user": "root" },
            "startedAt": "2026-01-01T10:00:00Z", "finishedAt": "2026-01-01T10:00:10Z",
            "since": "2026-01-01T10:00:10Z", "possible": ["delete"],
            "progress": { "deployments": { "total": 2, "pending": 0, "running": 0, "succeeded": 1,
                "failed": 1, "skipped": 0, "interrupted": 0 }, "operations": { "total": 2, "done": 1 } } },
        "deployments": [
            { "serviceId": 3, "service": "db", "priority": 5, "deployment": "RESTART",
              "containerExecMethod": "PARALLEL", "labels": [], "state": "SUCCEEDED",
              "startedAt": "2026-01-01T10:00:00Z", "finishedAt": "2026-01-01T10:00:05Z",
              "artifact": null, "release": null, "notes": [], "error": null,
              "usual": { "p50": 4000, "p90": 11000, "samples": 7 }, "operations": [
                { "container": "db-1", "state": "SUCCEEDED", "startedAt": "2026-01-01T10:00:00.1Z",
                  "finishedAt": "2026-01-01T10:00:05Z", "fromRelease": null, "toRelease": null,
                  "detail": "healthy after 4.0 s", "settled": "foundDone", "error": null } ] },
            { "serviceId": 1, "service": "web", "priority": 1, "deployment": "HTTP_UPLOAD_DEPLOY",
              "containerExecMethod": "SEQUENTIAL", "labels": [], "state": "FAILED",
              "startedAt": "2026-01-01T10:00:05Z", "finishedAt": "2026-01-01T10:00:10Z",
              "artifact": { "source": "http://example.org/web.tar", "sha256": "00112233445566", "bytes": 9,
                "commit": null },
              "release": "r2", "notes": ["branch main has moved"], "error": failure, "operations": [
                { "container": "web-1", "state": "FAILED", "startedAt": "2026-01-01T10:00:06Z",
                  "finishedAt": "2026-01-01T10:00:10Z", "fromRelease": "r1", "toRelease": "r2",
                  "detail": "", "error": failure } ] } ],
        "events": [
            { "seq": 11, "at": "2026-01-01T10:00:00Z", "type": "task.started", "task": 7,
              "by": { "user": "root" }, "deployments": 2, "batches": 2 },
            { "seq": 12, "at": "2026-01-01T10:00:10Z", "type": "task.failed", "task": 7, "state": "FAILED" } ]
    }))
    .unwrap()
}

#[test]
fn the_page_is_as_it_was() {
    let page = html::page(&report()).unwrap();
    let body = page.split_once("<body>").unwrap().1;
    insta::assert_snapshot!("html", body);
}

#[test]
fn the_markdown_is_as_it_was() {
    insta::assert_snapshot!("markdown", markdown::document(&report()).unwrap());
}

const EVIL: &str = "<script>alert(1)</script>\u{1b}[31m\u{202e}\"'&`|*_[x](y)\u{0}";

/// Every text of a report, replaced.
fn spoiled() -> Report {
    let mut report = report();
    let evil = || EVIL.to_string();
    let task = &mut report.task;
    (task.plan, task.comment, task.reason, task.state) = (evil(), Some(evil()), Some(evil()), evil());
    task.created_by.user = evil();
    for it in &mut report.deployments {
        (it.service, it.deployment, it.state, it.notes) = (evil(), evil(), evil(), vec![evil()]);
        it.artifact = Some(crate::wire::report::Artifact {
            source: evil(),
            sha256: evil(),
            bytes: 1,
            commit: Some(evil()),
        });
        let error = Error { code: evil(), message: evil(), log: vec![evil()] };
        it.error = Some(error.clone());
        for at in &mut it.operations {
            (at.container, at.state, at.detail, at.settled) = (evil(), evil(), evil(), Some(evil()));
            (at.from_release, at.to_release) = (Some(evil()), Some(evil()));
            at.error = Some(Error { message: format!("{EVIL} too"), ..error.clone() });
        }
    }
    report.events = vec![Event {
        seq: 1,
        at: evil(),
        kind: evil(),
        task: None,
        details: Map::from_iter([(evil(), evil().into())]),
    }];
    report
}

/// All tags of a page, each up to its end.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|part| part.split('>').next().unwrap()).collect()
}

#[test]
fn nothing_of_a_report_is_markup() {
    let page = html::page(&spoiled()).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{1b}[31m\\u{202e}&quot;&#39;&amp;"));
    let known = [
        "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "small", "b", "p",
        "dl", "dt", "dd", "s", "section", "code", "pre", "div", "span", "em", "u", "i", "details", "summary",
        "ul", "li", "table", "tr", "td",
    ];
    for tag in tags(&page) {
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        assert!(known.contains(&name), "<{tag}>");
        assert!(!tag.contains("script") && !tag.contains(" on"), "<{tag}>");
    }
    let markdown = markdown::document(&spoiled()).unwrap();
    assert!(!markdown.lines().any(|line| !line.starts_with("    ") && line.contains("<script")));
    assert!(!markdown.contains("[x](y)") || markdown.contains("\\[x\\](y)"));
    for text in [page, markdown] {
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = html::page(&report()).unwrap();
    for tag in tags(&page) {
        let wanted = ["src=", "href=", "link", "script", "iframe", "url("];
        assert!(wanted.iter().all(|word| !tag.contains(word)), "<{tag}>");
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
}

#[test]
fn a_thousand_services_are_folded_but_for_what_failed() {
    let mut report = report();
    let (good, bad) = (report.deployments[0].clone(), report.deployments[1].clone());
    report.deployments = vec![good; 999];
    report.deployments.push(bad);
    let page = html::page(&report).unwrap();
    let timeline = page.split("<h2>Timeline").nth(1).unwrap().split("<h2>Events").next().unwrap();
    assert_eq!(timeline.matches("<details").count(), 1000);
    assert_eq!(timeline.matches("<details open>").count(), 1);
    assert_eq!(timeline.matches("class=\"row container\"").count(), 1000);
    assert!(page.len() < 2_000_000, "{}", page.len());
}

#[test]
fn what_was_usual_is_said_and_marked() {
    let mut report = report();
    let page = html::page(&report).unwrap();
    // 4 of 11 s: the scale has room for the later mark.
    assert!(
        page.contains(
            "<s class=\"half\" style=\"left:36.36%\"></s><s class=\"most\" style=\"left:100.00%\">"
        )
    );
    assert!(page.contains(
        "usually 4.0 s, 9 of 10 times within 11.0 s (7 seen before this task); it took 5.0 s, 1.0 s more"
    ));
    // One of two was never seen: nothing is said about the whole.
    assert!(!page.contains("Forecast"));
    report.deployments[1].usual = report.deployments[0].usual;
    report.deployments[1].state = "SUCCEEDED".into();
    let page = html::page(&report).unwrap();
    assert!(page.contains(
        "<dd>8.0 s by the slowest of each batch, as known when it began; it took 10.0 s, 2.0 s more"
    ));
    assert!(markdown::document(&report).unwrap().contains("| SUCCEEDED | 5.0 s (usually 4.0 s) |"));
}
