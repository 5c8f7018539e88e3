//! The table of the module, row by row.

use std::collections::BTreeSet;

use super::*;

/// A row's first two cells, and a case of it.
type Case = (&'static str, &'static str, Way, Begun, Scene);

#[expect(clippy::too_many_lines, reason = "a table")]
fn ended_well() -> Vec<Case> {
    let unit_left = || Begun::Ended(was_up(), Done::Changed(Some(unit("a", "i1"))));
    let engine_left = || Begun::Ended(was_up(), Done::Changed(Some(engine("e", "1"))));
    let stopped = || Begun::Ended(was_up(), Done::Changed(None));
    let left_alone = || Begun::Ended(was_up(), Done::Unchanged);
    let all = [
        ("as the operation left it", Way::Restart, restarted(), Scene::up(run(2), MINE, "v1")),
        ("as the operation left it", Way::Restart, restarted(), Scene::up(run(2), MINE, "v1").touched()),
        ("as the operation left it", upload(), restarted(), Scene::up(run(2), MINE, "v2")),
        ("as the operation left it", Way::Stop, stopped(), Scene::down("v1")),
        ("as the operation left it", Way::Start, left_alone(), Scene::up(run(1), "y", "v1")),
        (
            "started again by its runtime, or by the machine",
            Way::Restart,
            unit_left(),
            Scene::up(unit("a", "i2"), MINE, "v1").restarted(),
        ),
        (
            "started again by its runtime, or by the machine",
            Way::Restart,
            unit_left(),
            Scene::up(unit("b", "i2"), MINE, "v1"),
        ),
        (
            "started again by its runtime, or by the machine",
            Way::Restart,
            engine_left(),
            Scene::up(engine("e", "2"), MINE, "v1").touched(),
        ),
        ("ended with the machine", Way::Restart, restarted(), Scene::ended(MINE, "v1").rebooted()),
        ("another run, or on another release", Way::Restart, restarted(), Scene::up(run(3), "y", "v1")),
        ("another run, or on another release", upload(), restarted(), Scene::up(run(2), MINE, "v1")),
        ("another run, or on another release", Way::Start, left_alone(), Scene::up(run(3), "y", "v1")),
        (
            "another run, or on another release",
            Way::Restart,
            unit_left(),
            Scene::up(unit("a", "i2"), "", "v1"),
        ),
        (
            "down, and it was left running; or the reverse",
            Way::Restart,
            restarted(),
            Scene::ended(MINE, "v1"),
        ),
        (
            "down, and it was left running; or the reverse",
            Way::Restart,
            restarted(),
            Scene::looping(MINE, "v1"),
        ),
        ("down, and it was left running; or the reverse", Way::Stop, stopped(), Scene::up(run(3), "y", "v1")),
        ("touched, and not the very run that was left", Way::Stop, stopped(), Scene::down("v1").touched()),
        ("touched, and not the very run that was left", Way::Stop, stopped(), Scene::down("v1").changed()),
        (
            "touched, and not the very run that was left",
            Way::Restart,
            restarted(),
            Scene::down("v1").rebooted().touched(),
        ),
        (
            "touched, and not the very run that was left",
            Way::Restart,
            unit_left(),
            Scene::up(unit("b", "i2"), "y", "v1").touched(),
        ),
    ];
    all.map(|(now, way, begun, scene)| ("ended well", now, way, begun, scene)).into()
}

fn not_begun() -> Vec<Case> {
    let all = [
        ("as the task before left it", Scene::up(run(1), "y", "v1").before(Some(run(1)))),
        ("as the task before left it", Scene::up(run(1), "y", "v1").before(Some(run(1))).touched()),
        ("down: it may have ended before this task", Scene::down("v1").before(Some(run(1)))),
        ("never touched by a task that is known, nor since", Scene::up(run(1), "", "v1")),
        ("never touched by a task that is known, nor since", Scene::down("v1")),
        (
            "another run, or on another release, than the task before left",
            Scene::up(run(2), "", "v1").before(Some(run(1))),
        ),
        (
            "another run, or on another release, than the task before left",
            Scene::up(run(1), "y", "v3").before(Some(run(1))),
        ),
        (
            "touched, and not the very run that the task before left",
            Scene::up(run(2), "z", "v1").before(Some(run(1))).touched(),
        ),
        (
            "touched, and not the very run that the task before left",
            Scene::down("v1").before(Some(run(1))).touched(),
        ),
        ("touched, and not the very run that the task before left", Scene::up(run(2), "z", "v1").touched()),
        ("touched, and not the very run that the task before left", Scene::down("v1").touched()),
        ("touched, and not the very run that the task before left", Scene::down("v1").changed()),
    ];
    let ways = [Way::Start, Way::Stop, Way::Restart, upload()];
    let each = ways.iter().flat_map(|way| {
        all.iter().map(|(now, scene)| ("none", *now, way.clone(), Begun::Nothing, scene.clone()))
    });
    let failed = [Scene::up(run(7), "z", "v3").touched(), Scene::down("v1")];
    let failed = failed.map(|scene| {
        ("failed", "anything: the task does nothing more to it", Way::Restart, Begun::Failed, scene)
    });
    each.chain(failed).collect()
}

/// In doubt, whatever way it is.
#[expect(clippy::too_many_lines, reason = "a table")]
fn in_doubt() -> Vec<Case> {
    let mut all = Vec::new();
    for (way, mine) in [(Way::Start, "v1"), (Way::Restart, "v1"), (upload(), "v2")] {
        for evidence in [was_down(), was_up()] {
            let cases = [
                ("runs by this operation, on the release that it was to have", Scene::up(run(2), MINE, mine)),
                (
                    "runs by this operation, on the release that it was to have",
                    Scene::up(run(2), MINE, mine).touched(),
                ),
                ("ran by this operation, and ended", Scene::ended(MINE, mine)),
                ("ran by this operation, and ended", Scene::looping(MINE, mine)),
                (
                    "runs by this operation, on the release that it was to have",
                    Scene::changing(run(2), MINE, mine),
                ),
                ("ran by this operation, and ended", Scene::ended(MINE, mine).rebooted()),
                ("runs by this operation, on another release", Scene::up(run(2), MINE, "v3")),
            ];
            all.extend(cases.map(|(now, scene)| (now, way.clone(), Begun::Doubt(evidence.clone()), scene)));
        }
    }
    for way in [Way::Start, Way::Stop, Way::Restart, upload()] {
        let up = [
            (
                "the run from before, on the release from before: nothing was done yet",
                Scene::up(run(1), "y", "v1"),
            ),
            (
                "the run from before, on the release from before: nothing was done yet",
                Scene::up(run(1), "y", "v1").touched(),
            ),
            (
                "the run from before, on the release from before: nothing was done yet",
                Scene::changing(run(1), "y", "v1"),
            ),
            (
                "restarting again and again, by its runtime, on the release from before",
                Scene::looping("y", "v1"),
            ),
            ("any other run, by another task, by hand, by nobody known", Scene::looping("z", "v1").touched()),
            ("any other run, by another task, by hand, by nobody known", Scene::changing(run(3), "", "v1")),
            ("the run from before, on another release", Scene::up(run(1), "y", "v3")),
            ("any other run, by another task, by hand, by nobody known", Scene::up(run(3), "y", "v1")),
            ("any other run, by another task, by hand, by nobody known", Scene::up(run(3), "", "v1")),
            (
                "any other run, by another task, by hand, by nobody known",
                Scene::up(run(3), "z", "v3").touched(),
            ),
            (
                "any other run, by another task, by hand, by nobody known",
                Scene::up(run(3), "y", "v1").changed(),
            ),
            ("down and touched", Scene::down("v1").touched()),
            ("down and touched", Scene::down("v3").touched()),
            ("down and touched", Scene::ended("z", "v1").touched()),
            ("down and touched", Scene::down("v1").rebooted().touched()),
            ("down, on a release that it had neither before nor was to have", Scene::down("v3")),
        ];
        all.extend(up.map(|(now, scene)| (now, way.clone(), Begun::Doubt(was_up()), scene)));
        let again = "the run from before, started again by its runtime, or by the machine";
        for scene in
            [Scene::up(unit("a", "i2"), "y", "v1").restarted(), Scene::up(unit("b", "i2"), "y", "v1")]
        {
            all.push((again, way.clone(), doubt_of_unit(), scene));
        }
        let other = "any other run, by another task, by hand, by nobody known";
        let by_hand = [
            (doubt_of_unit(), Scene::up(unit("a", "i2"), "y", "v1")),
            (doubt_of_unit(), Scene::up(unit("b", "i2"), "y", "v1").touched()),
            (doubt_of_unit(), Scene::up(unit("a", "i2"), "y", "v1").restarted().touched()),
            (Begun::Doubt(was_down()), Scene::up(run(3), "", "v1")),
        ];
        all.extend(by_hand.map(|(begun, scene)| (other, way.clone(), begun, scene)));
    }
    all.into_iter().map(|(now, way, begun, scene)| ("in doubt", now, way, begun, scene)).collect()
}

/// In doubt, where it matters which way it is.
fn in_doubt_and_down() -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    let stopped = ("in doubt: STOP, RESTART, deploys", "down: the operation stopped it");
    for way in [Way::Stop, Way::Restart, upload()] {
        for scene in [Scene::down("v1"), Scene::ended("y", "v1"), Scene::down("v1").rebooted()] {
            all.push((stopped.0, stopped.1, way.clone(), Begun::Doubt(was_up()), scene));
        }
    }
    // Between the switch and the start.
    all.push((stopped.0, stopped.1, upload(), Begun::Doubt(was_up()), Scene::down("v2")));
    let start = "in doubt: START";
    all.extend([
        (start, "down, and so it was before", Way::Start, Begun::Doubt(was_down()), Scene::down("v1")),
        (
            start,
            "down, and it ran before: START ends nothing",
            Way::Start,
            Begun::Doubt(was_up()),
            Scene::ended("y", "v1"),
        ),
    ]);
    all
}

fn cases() -> Vec<Case> {
    [ended_well(), not_begun(), in_doubt(), in_doubt_and_down()].concat()
}

#[test]
fn each_row_of_the_table_is_what_the_guard_says() {
    let rows: BTreeMap<(String, String), bool> = include_str!("../../drift.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::to_string).collect::<Vec<_>>())
        .filter(|cells| cells[2] != "drift")
        .map(|cells| ((cells[0].clone(), cells[1].clone()), cells[2] == "yes"))
        .collect();
    let mut tried = BTreeSet::new();
    for (begun, now, way, done, scene) in cases() {
        let row = (begun.to_string(), now.to_string());
        let wanted = *rows.get(&row).unwrap_or_else(|| panic!("no row {row:?}"));
        let found = scene.drift(&at_rest(&way, &done));
        assert_eq!(!found.is_empty(), wanted, "{row:?}: {way:?} {done:?} {scene:#?}: {found:#?}");
        // Whoever touched it later is named.
        let by = (scene.touch.is_some_and(|(seq, _)| seq > LAST)
            || scene.changes.iter().any(|(seq, _)| *seq > LAST))
        .then(|| (TaskId(6), "alice".to_string()));
        assert!(found.iter().all(|drift| drift.by == by), "{found:#?}");
        tried.insert(row);
    }
    let untried: Vec<_> = rows.keys().filter(|row| !tried.contains(*row)).collect();
    assert!(rows.len() > 20 && untried.is_empty(), "no case of {untried:?}");
}
