//! Pictures of made-up tasks at fixed times, and what the picture does to a terminal.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::{Effect, View};
use super::*;
use crate::wire::event::Event;
use crate::wire::task::{Preparation, TaskStatus, Usual, Waiting};

const BEGUN: &str = "2026-01-01T10:00:00Z";

fn at(seconds: i64) -> Timestamp {
    BEGUN.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

fn time(seconds: i64) -> String {
    at(seconds).to_string()
}

/// A deployment of two containers.
fn deployment(id: u64, name: &str, priority: i64, way: &str) -> Value {
    let operation = |number: u32| {
        json!({ "container": format!("{name}-{number}"), "state": "PENDING", "startedAt": null,
            "finishedAt": null, "fromRelease": null, "toRelease": null, "detail": "", "error": null })
    };
    json!({ "serviceId": id, "service": name, "priority": priority, "deployment": way,
        "containerExecMethod": "SEQUENTIAL", "labels": [], "state": "PENDING", "startedAt": null,
        "finishedAt": null, "usual": { "p50": 3000, "p90": 5000, "samples": 9 }, "artifact": null,
        "release": null, "operations": [operation(1), operation(2)], "notes": [], "error": null })
}

fn view(deployments: &[Value]) -> View {
    let counts = json!({ "total": 0, "pending": 0, "running": 0, "succeeded": 0, "failed": 0, "skipped": 0,
        "interrupted": 0 });
    let report = json!({
        "task": { "id": 7, "plan": "shop", "revision": 2, "comment": null, "state": "RUNNING", "reason": null,
            "createdBy": { "uid": 0, "user": "root" }, "startedAt": BEGUN, "finishedAt": null, "since": BEGUN,
            "possible": ["stop", "pause"],
            "progress": { "deployments": counts, "operations": { "total": 0, "done": 0 } } },
        "deployments": deployments, "events": [] });
    View::new(serde_json::from_value(report).unwrap())
}

/// The shop: two batches, three services.
fn shop() -> View {
    view(&[
        deployment(1, "cache", 9, "RESTART"),
        deployment(2, "web", 5, "HTTP_UPLOAD_DEPLOY"),
        deployment(3, "api", 5, "COMPILE_DEPLOY"),
        deployment(4, "gateway", -1, "START"),
    ])
}

struct Story {
    view: View,
    seq: u64,
}

impl Story {
    #[expect(clippy::needless_pass_by_value, reason = "it is made where it is told")]
    fn tell(&mut self, seconds: i64, kind: &str, place: (i64, u64), details: Value) {
        self.seq += 1;
        let mut whole = json!({ "seq": self.seq, "at": time(seconds), "type": kind, "task": 7,
            "priority": place.0, "serviceId": place.1 });
        whole.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
        let event: Event = serde_json::from_value(whole).unwrap();
        assert_eq!(self.view.event(&event), Effect::Known);
    }

    /// A deployment of two containers, of two seconds each.
    fn done(&mut self, begun: i64, place: (i64, u64), name: &str) {
        self.tell(begun, "deployment.begun", place, json!({}));
        for number in 1..=2 {
            let container = json!({ "container": format!("{name}-{number}") });
            self.tell(begun, "operation.begun", place, container.clone());
            let mut end = json!({ "state": "SUCCEEDED", "detail": "healthy after 0.4 s" });
            end.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
            self.tell(begun + 2, "operation.ended", place, end);
        }
        self.tell(begun + 2, "deployment.ended", place, json!({ "state": "SUCCEEDED" }));
    }
}

/// `cache` is done, `web` downloads, `api` builds.
fn halfway() -> View {
    let mut story = Story { view: shop(), seq: 0 };
    story.done(0, (9, 1), "cache");
    story.tell(2, "deployment.begun", (5, 2), json!({}));
    story.tell(2, "deployment.begun", (5, 3), json!({}));
    let mut view = story.view;
    prepare(&mut view, 2, "web", Some(("download", 12_300_000, Some(40_000_000), None)), 4);
    prepare(&mut view, 2, "web", Some(("download", 17_400_000, Some(40_000_000), None)), 5);
    let (_, build) = (2, ("build", 0, None, Some("cc -O2 -c main.c\u{1b}]0;owned\u{7}")));
    prepare(&mut view, 3, "api", Some(build), 5);
    view
}

type Stage<'a> = (&'a str, u64, Option<u64>, Option<&'a str>);

/// What the daemon says about one more service.
fn prepare(view: &mut View, id: u64, name: &str, stage: Option<Stage<'_>>, seconds: i64) {
    let mut waiting: Vec<Waiting> = view.waiting.values().filter(|it| it.service_id != id).cloned().collect();
    let preparation = stage.map(|(stage, bytes, total, line)| Preparation {
        stage: stage.into(),
        since: time(3),
        bytes,
        total,
        line: line.map(str::to_string),
    });
    waiting.push(Waiting {
        service_id: id,
        service: name.into(),
        deployment: "START".into(),
        doing: "making the release".into(),
        since: time(2),
        usual: None,
        preparation,
    });
    let status = TaskStatus {
        task: view.task.clone(),
        batches: vec![],
        waiting_for: waiting,
        quiet_at: None,
        quiet_by: None,
    };
    view.status(status, at(seconds));
}

/// The picture as text, at `seconds` after the beginning.
fn shown(view: &View, seconds: i64, room: (u16, u16), ended: bool) -> String {
    let lines = draw::picture(view, at(seconds), room, ended);
    assert!(lines.len() <= usize::from(room.1), "{} lines in {room:?}", lines.len());
    let mut buffer = ratatui_core::buffer::Buffer::empty(ratatui_core::layout::Rect::new(
        0,
        0,
        room.0,
        u16::try_from(lines.len()).unwrap(),
    ));
    for (y, line) in lines.iter().enumerate() {
        buffer.set_line(0, u16::try_from(y).unwrap(), line, room.0);
    }
    let rows = buffer.content.chunks(usize::from(room.0));
    let text = rows.map(|row| row.iter().map(ratatui_core::buffer::Cell::symbol).collect::<String>());
    text.map(|row| row.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shop_in_three_sizes() {
    let view = halfway();
    insta::assert_snapshot!("shop_80x24", shown(&view, 6, (79, 23), false));
    insta::assert_snapshot!("shop_40x10", shown(&view, 6, (39, 9), false));
    insta::assert_snapshot!("shop_200x50", shown(&view, 6, (199, 49), false));
}

#[test]
fn an_overrun_grows_and_never_freezes() {
    let view = halfway();
    let (early, late) = (shown(&view, 74, (99, 30), false), shown(&view, 76, (99, 30), false));
    assert!(early.contains("+69 s over the usual 3.0 s"), "{early}");
    assert!(early.contains("+69 s over what is usual; about 3.0 s to go"), "{early}");
    assert!(late.contains("+71 s over the usual 3.0 s"), "{late}");
}

#[test]
fn a_task_in_each_state() {
    let states = [
        ("RUNNING", None),
        ("STOPPING", Some("stoppedByUser")),
        ("PAUSING", Some("pausedByUser")),
        ("SUCCEEDED", None),
        ("FAILED", Some("deploymentFailed")),
        ("STOPPED", Some("stoppedByUser")),
        ("PAUSED", Some("pausedByUser")),
        ("INTERRUPTED", Some("daemonDied")),
    ];
    let mut all = Vec::new();
    for (state, reason) in states {
        let mut view = halfway();
        (view.task.state, view.task.reason) = (state.into(), reason.map(str::to_string));
        let picture = shown(&view, 6, (79, 23), false);
        let ends: Vec<_> = picture.lines().take(2).chain(picture.lines().skip(12)).collect();
        all.push(ends.join("\n"));
    }
    insta::assert_snapshot!("states", all.join("\n\n"));
}

#[test]
fn what_failed_says_why() {
    let mut story = Story { view: halfway(), seq: 100 };
    let error = json!({ "code": "unhealthy", "message": "web-1 did not come up\nwithin 2 s; see its log" });
    story.tell(5, "operation.begun", (5, 2), json!({ "container": "web-1" }));
    let end = json!({ "container": "web-1", "state": "FAILED", "error": error, "detail": "x" });
    story.tell(6, "operation.ended", (5, 2), end);
    story.tell(6, "deployment.ended", (5, 2), json!({ "state": "FAILED", "error": error }));
    insta::assert_snapshot!("failing", shown(&story.view, 7, (79, 23), false));
}

#[test]
fn a_daemon_that_is_gone_is_said_to_be_so() {
    let mut view = halfway();
    view.lost = Some(at(5));
    assert!(shown(&view, 9, (79, 23), false).contains("the daemon is not reachable, asking again (for 4 s)"));
}

/// 1,000 services in five batches: one is done, one is going on.
fn large() -> View {
    let all: Vec<_> = (0..1000)
        .map(|n| {
            deployment(n + 1, &format!("service-{n:03}"), 5 - i64::try_from(n / 200).unwrap(), "RESTART")
        })
        .collect();
    let mut story = Story { view: view(&all), seq: 0 };
    for n in 0..250 {
        let priority = 5 - i64::try_from(n / 200).unwrap();
        story.done(i64::try_from(n / 200).unwrap() * 3, (priority, n + 1), &format!("service-{n:03}"));
    }
    for n in 250..290 {
        story.tell(8, "deployment.begun", (4, n + 1), json!({}));
        let container = json!({ "container": format!("service-{n:03}-1") });
        story.tell(8, "operation.begun", (4, n + 1), container);
    }
    let error = json!({ "code": "unhealthy", "message": "service-266-1 did not come up" });
    story.tell(9, "deployment.ended", (4, 267), json!({ "state": "FAILED", "error": error }));
    story.view
}

#[test]
fn a_thousand_services_are_folded_and_what_failed_comes_first() {
    let view = large();
    for (name, room) in [("large_80x24", (79, 23)), ("large_40x10", (39, 9)), ("large_200x50", (199, 49))] {
        let picture = shown(&view, 10, room, false);
        assert!(picture.contains("service-266"), "{picture}");
        insta::assert_snapshot!(name, picture);
    }
    assert!(shown(&view, 10, (79, 23), false).contains("batch 5: 200 of 200 done in 2.0 s"));
    for (width, height) in (4..30).step_by(5).flat_map(|height| [1, 20, 79].map(|width| (width, height))) {
        shown(&view, 10, (width, height), false);
    }
}

#[test]
fn names_and_texts_drive_nothing_and_are_cut() {
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}evil\u{7}\r\n服务".repeat(9);
    let mut story = Story { view: view(&[deployment(1, &evil, 1, &evil)]), seq: 0 };
    story.tell(1, "deployment.begun", (1, 1), json!({}));
    story.tell(1, "operation.begun", (1, 1), json!({ "container": format!("{evil}-1") }));
    let mut view = story.view;
    (view.task.plan, view.task.created_by.user, view.task.reason) =
        (evil.clone(), evil.clone(), Some(evil.clone()));
    view.deployments[0].error =
        Some(serde_json::from_value(json!({ "code": "x", "message": evil })).unwrap());
    prepare(&mut view, 1, &evil, Some(("build", 0, None, Some(&evil))), 2);
    view.deployments[0].usual = Some(Usual { p50: 1, p90: 1, samples: 1 });
    for room in [(79, 23), (39, 9), (199, 49)] {
        let lines = draw::picture(&view, at(3), room, false);
        for span in lines.iter().flat_map(|line| &line.spans) {
            let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
            assert!(!span.content.chars().any(harmful), "{span:?}");
        }
        let mut inline = Inline::new(true);
        let bytes = inline.show(&lines, room.0);
        assert!(!bytes.contains("[2J") || bytes.contains("\\u{1b}[2J"));
    }
}

#[test]
fn events_that_are_known_already_change_nothing() {
    let mut story = Story { view: halfway(), seq: 0 };
    let last = story.view.last;
    story.tell(0, "deployment.begun", (-1, 4), json!({}));
    assert_eq!((story.view.last, &*story.view.deployments[3].state), (last, "PENDING"));
}

fn terminal_of(lines: u16, columns: u16) -> vt100::Parser {
    vt100::Parser::new(lines.try_into().unwrap(), columns.try_into().unwrap(), 100)
}

/// A terminal in the sense of what the picture uses, as it looks after these bytes.
fn screen(parser: &vt100::Parser) -> String {
    parser.screen().contents()
}

#[test]
fn a_picture_is_drawn_over_itself_and_leaves_what_was_there() {
    let mut parser = terminal_of(24, 80);
    parser.process(b"$ deployctl watch 7\r\n");
    let mut inline = Inline::new(true);
    let mut view = halfway();
    for seconds in 6..9 {
        let bytes = inline.show(&draw::picture(&view, at(seconds), (79, 23), false), 79);
        parser.process(bytes.as_bytes());
    }
    let expected = format!("$ deployctl watch 7\n{}", shown(&view, 8, (79, 23), false));
    assert_eq!(screen(&parser), expected);
    // Drawn again without a change it says nothing.
    let again = inline.show(&draw::picture(&view, at(8), (79, 23), false), 79);
    assert_eq!(again, "");
    // A smaller picture leaves nothing of the larger one.
    view.task.state = "PAUSED".into();
    view.deployments.truncate(2);
    let bytes = inline.show(&draw::picture(&view, at(8), (79, 23), true), 79);
    parser.process(bytes.as_bytes());
    parser.process(b"$ ");
    let expected = format!("$ deployctl watch 7\n{}\n$ ", shown(&view, 8, (79, 23), true));
    assert_eq!(screen(&parser), expected);
    assert!(!parser.screen().hide_cursor());
}

#[test]
fn the_last_line_of_a_full_terminal_is_never_scrolled() {
    let mut parser = terminal_of(10, 40);
    let mut inline = Inline::new(false);
    let view = large();
    for seconds in 10..20 {
        let bytes = inline.show(&draw::picture(&view, at(seconds), (39, 9), false), 39);
        parser.process(bytes.as_bytes());
    }
    assert_eq!(screen(&parser), shown(&view, 19, (39, 9), false));
}
