//! The store: what was committed is there, and what can't be read is refused.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::row::event::EntryV1;
use super::row::{decode, encode};
use super::{Change, Integrity, JournalEvent, StateLock, Store, StoreError, verify};
use crate::task::deployment::{Hook, Pin};
use crate::task::event::{Definition, Event};
use crate::task::host_event::HostEvent;
use crate::task::operation::{Done, Evidence, Incarnation, OperationEnd, Settled};
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{Caller, Failure, Reason, Task, TaskId, Timestamp};

fn by() -> Caller {
    Caller { uid: 7, user: "u".into(), pid: Some(3), program: Some("p".into()) }
}

fn started() -> Event {
    let definition =
        Definition { plan: "shop".into(), revision: 2, comment: Some("c".into()), deployments: Vec::new() };
    Event::Started { by: by(), definition }
}

fn create(at: i64) -> Change {
    Change::CreateTask { at: Timestamp(at), event: started(), key: Some(format!("key {at}")) }
}

fn open(path: &std::path::Path) -> Store {
    Store::open(path, &Integrity::Unchecked).unwrap()
}

fn in_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deployd.redb");
    (directory, path)
}

/// Every event there is, with everything in it.
fn all_events() -> Vec<Event> {
    let incarnation = Incarnation::Process { boot_id: "b".into(), pid: 4, start_ticks: 5 };
    let failure = Failure { code: "c".into(), message: "m".into(), log: vec!["l".into()] };
    let pin = Pin { source: "s".into(), sha256: "h".into(), bytes: 9, commit: Some("c".into()) };
    let evidence = Evidence { incarnation: Some(incarnation.clone()), release: Some("r".into()) };
    let end = |result, settled| OperationEnd { result, detail: "d".into(), settled };
    let (deployment, operation) = (1, 2);
    vec![
        started(),
        Event::StopRequested { by: by() },
        Event::PauseRequested { by: by() },
        Event::Resumed { by: by(), force: true },
        Event::DeploymentBegun { deployment },
        Event::CommitPinned { deployment, commit: "c".into() },
        Event::ArtifactPinned { deployment, pin },
        Event::ReleasePrepared { deployment, release: "r".into() },
        Event::HookDone { deployment, hook: Hook::PreDeploy },
        Event::HookDone { deployment, hook: Hook::PostDeploy },
        Event::Noted { deployment, note: "n".into() },
        Event::OperationBegun { deployment, operation, evidence, to_release: Some("t".into()) },
        Event::OperationEnded { deployment, operation, end: end(Ok(Done::Changed(Some(incarnation))), None) },
        Event::OperationEnded {
            deployment,
            operation,
            end: end(Ok(Done::Unchanged), Some(Settled::FoundDone)),
        },
        Event::OperationEnded {
            deployment,
            operation,
            end: end(Err(failure.clone()), Some(Settled::Completed)),
        },
        Event::DeploymentEnded { deployment, result: Ok(()) },
        Event::DeploymentEnded { deployment, result: Err(failure) },
        Event::DeploymentCut { deployment },
        Event::CutRequested { by: by() },
        Event::Interrupted { reason: Reason::ActorCrashed },
        Event::Completed,
        Event::Failed,
        Event::Drained,
    ]
}

#[actix::test]
async fn what_was_committed_is_there_after_reopening() {
    let (_directory, path) = in_directory();
    let instance = {
        let store = open(&path);
        let first = store.commit(vec![create(1)]).await.unwrap();
        let second = store.commit(vec![create(2)]).await.unwrap();
        assert_eq!((first.task, second.task), (Some(TaskId(1)), Some(TaskId(2))));
        let mut task = Task::begin(TaskId(1), &started(), Timestamp(1)).unwrap();
        task.apply(&Event::Completed, Timestamp(5)).unwrap();
        let summary = TaskSummary::of(&task, 2);
        let (at, event) = (Timestamp(5), Event::Completed);
        store
            .commit(vec![Change::Append { task: TaskId(1), n: 2, at, event, summary, records: Vec::new() }])
            .await
            .unwrap();
        store.close();
        assert!(matches!(store.commit(vec![create(3)]).await, Err(StoreError::Closed)));
        store.instance().to_string()
    };
    let store = open(&path);
    assert_eq!(store.instance(), instance);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.open_tasks().unwrap(), [TaskId(2)]);
    let (task, events) = snapshot.task_with_events(TaskId(1)).unwrap().unwrap();
    assert_eq!((task.state, task.finished_at, events.len()), (TaskState::Succeeded, Some(Timestamp(5)), 2));
    assert_eq!(snapshot.task_of_key("key 2").unwrap(), Some(TaskId(2)));
    assert_eq!(snapshot.task_of_key("key 9").unwrap(), None);
    let newest: Vec<_> =
        snapshot.task_summaries(&[], None, 9).unwrap().iter().map(|task| task.id.0).collect();
    assert_eq!(newest, [2, 1]);
    assert_eq!(snapshot.task_summaries(&[TaskState::Succeeded], None, 9).unwrap().len(), 1);
    assert_eq!(snapshot.task_summaries(&[], Some(TaskId(2)), 9).unwrap().len(), 1);
    // Numbers are never used again, even when what had them is gone.
    store.commit(vec![Change::DeleteTask { task: TaskId(2), at: Timestamp(6), by: None }]).await.unwrap();
    assert_eq!(store.commit(vec![create(7)]).await.unwrap().task, Some(TaskId(3)));
    store.close();
    drop((snapshot, store));
    verify(&path).unwrap();
}

#[actix::test]
async fn the_feed_has_everything_in_order_and_leaves_out_what_was_deleted() {
    let (_directory, path) = in_directory();
    let store = open(&path);
    let host = |version: &str| Change::Host {
        at: Timestamp(1),
        event: HostEvent::DaemonStarted { version: version.into() },
    };
    // Queued together, they share commits; their order is the order of the calls.
    let queued: Vec<_> =
        (0..300).map(|n| store.commit(vec![if n % 3 == 0 { create(n) } else { host("1") }])).collect();
    for committed in queued {
        committed.await.unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    let feed = snapshot.feed(0, None, 1000).unwrap();
    let places: Vec<u64> = feed.iter().map(|entry| entry.seq).collect();
    assert_eq!(places, (1..=300).collect::<Vec<_>>());
    let task = feed[3].task.unwrap();
    assert!(matches!(feed[3].event, JournalEvent::Task(Event::Started { .. })));
    assert_eq!(snapshot.feed(feed[3].seq, Some(task), 10).unwrap(), []);
    assert_eq!(snapshot.feed(feed[2].seq, Some(task), 10).unwrap().len(), 1);
    store.commit(vec![Change::DeleteTask { task, at: Timestamp(9), by: Some(by()) }]).await.unwrap();
    let after = store.snapshot().unwrap().feed(0, None, 1000).unwrap();
    assert_eq!(after.len(), 300, "one entry is gone, and one says so");
    assert!(after.iter().all(|entry| entry.task != Some(task)));
    // A snapshot stays as it was.
    assert!(snapshot.task(task).unwrap().is_some());
}

#[test]
fn every_event_comes_back_from_its_row() {
    for event in all_events() {
        let row: EntryV1 = decode(&encode(&EntryV1::of_task(8, Timestamp(9), &event))).unwrap();
        let super::row::event::JournalV1::Task(read) = row.event else { panic!("a task's event") };
        assert_eq!(Event::try_from(read).unwrap(), event);
        assert_eq!((row.seq, row.at), (8, 9));
    }
}

#[test]
fn a_newer_row_is_told_from_a_damaged_one() {
    let mut bytes = encode(&EntryV1::of_task(1, Timestamp(1), &Event::Completed));
    bytes[0] = 9;
    assert!(decode::<EntryV1>(&bytes).is_err_and(|error| error.to_string().contains("checksum")));
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    assert!(decode::<EntryV1>(&bytes).is_err_and(|error| error.to_string().contains("version 9")));
}

proptest! {
    #[test]
    fn any_damage_to_a_row_is_noticed(which in 0usize..21, at: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let bytes = encode(&EntryV1::of_task(3, Timestamp(4), &all_events()[which]));
        let mut damaged = bytes.clone();
        let index = at.index(damaged.len());
        if cut {
            damaged.truncate(index);
        } else {
            damaged[index] ^= 1 << bit;
        }
        prop_assert!(decode::<EntryV1>(&damaged).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = [vec![1], bytes].concat();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        decode::<EntryV1>(&bytes).ok();
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    for content in [&b""[..], b"x", &[0; 4096], b"redb\x1a\x0a\xa9\x0d\x0a and then nothing"] {
        let (_directory, path) = in_directory();
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
        let refused = Store::open(&path, &Integrity::Unchecked).err().unwrap();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_store_of_a_newer_deployd_is_refused() {
    let (_directory, path) = in_directory();
    open(&path).close();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(super::tables::COUNTERS).unwrap().insert("schema", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = Store::open(&path, &Integrity::Unchecked).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
}

#[test]
fn one_daemon_for_each_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    let held = StateLock::acquire(directory.path()).unwrap();
    let refused = StateLock::acquire(directory.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(held);
    StateLock::acquire(directory.path()).unwrap();
}

#[actix::test]
async fn retention_keeps_what_is_open_and_the_newest() {
    let (_directory, path) = in_directory();
    let store = open(&path);
    for at in 1..=5 {
        store.commit(vec![create(at)]).await.unwrap();
        if at == 2 {
            continue;
        }
        let id = TaskId(u64::try_from(at).unwrap());
        let mut task = Task::begin(id, &started(), Timestamp(at)).unwrap();
        task.apply(&Event::Completed, Timestamp(at * 10)).unwrap();
        let summary = TaskSummary::of(&task, 2);
        let (at, event) = (Timestamp(at * 10), Event::Completed);
        store
            .commit(vec![Change::Append { task: id, n: 2, at, event, summary, records: Vec::new() }])
            .await
            .unwrap();
    }
    let outdated = |keep, oldest: Option<i64>| -> Vec<u64> {
        let found = store.snapshot().unwrap().outdated(keep, oldest.map(Timestamp), 10).unwrap();
        found.into_iter().map(|task| task.0).collect()
    };
    assert!(outdated(5, None).is_empty());
    assert_eq!(outdated(3, None), [1, 3]);
    assert_eq!(outdated(0, None), [1, 3, 4, 5]);
    assert_eq!(outdated(9, Some(40)), [1, 3]);
}
