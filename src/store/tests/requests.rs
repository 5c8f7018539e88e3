//! Idempotency keys in the store.

use super::{by, create, in_directory, key, keyed, open, started};
use crate::store::{Change, Put, tables, verify};
use crate::task::request::{Call, KEPT_MICROS, RequestKey};
use crate::task::{TaskId, Timestamp};

#[actix::test]
async fn a_key_outlives_its_task_by_a_day_and_is_one_users_and_one_calls() {
    let (_directory, path) = in_directory();
    let store = open(&path);
    assert!(!store.snapshot().unwrap().has_outdated_keys(Timestamp(i64::MAX)).unwrap());
    store.commit(vec![create(1)]).await.unwrap();
    let first = |key: &RequestKey| store.snapshot().unwrap().first_request(key).unwrap();
    let of_it = key(7, Call::Execute, "key 1");
    assert_eq!(first(&of_it).unwrap().task, Some(TaskId(1)));
    assert_eq!(first(&key(8, Call::Execute, "key 1")), None);
    assert_eq!(first(&key(7, Call::StorePlan, "key 1")), None);
    assert!(!store.snapshot().unwrap().has_outdated_keys(Timestamp(i64::MAX)).unwrap());
    store.commit(vec![Change::DeleteTask { task: TaskId(1), at: Timestamp(5), by: None }]).await.unwrap();
    assert_eq!(first(&of_it).unwrap().deleted_at, Some(Timestamp(5)));
    for (now, kept) in [(5 + KEPT_MICROS, true), (6 + KEPT_MICROS, false)] {
        let now = Timestamp(now);
        assert_eq!(store.snapshot().unwrap().has_outdated_keys(now).unwrap(), !kept);
        store.commit(vec![Change::ForgetKeys { now }]).await.unwrap();
        assert_eq!(first(&of_it).is_some(), kept);
        assert_eq!(store.snapshot().unwrap().key_of_task(TaskId(1)).unwrap().is_some(), kept);
    }
    store.close();
    verify(&path).unwrap();
}

#[actix::test]
async fn a_plan_is_stored_once_for_its_text_and_its_key() {
    let (_directory, path) = in_directory();
    let store = open(&path);
    let put = async |text: &str, name: Option<&str>| {
        let change = Change::PutPlan {
            name: "shop".into(),
            at: Timestamp(1),
            by: by(),
            comment: None,
            items: 1,
            batches: 1,
            text: text.into(),
            key: name.map(|name| keyed(7, Call::StorePlan, name, text)),
        };
        let committed = store.commit(vec![change]).await.unwrap();
        (committed.revision.unwrap(), committed.put)
    };
    assert_eq!(put("a", Some("k")).await, (1, Put::Stored));
    assert_eq!(put("a", None).await, (1, Put::Unchanged));
    assert_eq!(put("b", Some("k")).await, (1, Put::KeyReused));
    assert_eq!(put("b", None).await, (2, Put::Stored));
    assert_eq!(put("a", Some("k")).await, (1, Put::Repeated));
    assert_eq!(put("a", Some("l")).await, (3, Put::Stored));
    assert_eq!(put("a", Some("m")).await, (3, Put::Unchanged));
    assert_eq!(put("b", Some("m")).await, (3, Put::KeyReused));
    let snapshot = store.snapshot().unwrap();
    let events = snapshot.feed(0, None, 100).unwrap();
    assert_eq!(events.len(), 3, "what is not stored is no event");
}

/// The first version kept a task's number with a key, for all users together.
#[actix::test]
async fn keys_of_the_first_version_become_their_users() {
    let (_directory, path) = in_directory();
    let store = open(&path);
    let change = Change::CreateTask { at: Timestamp(3), event: started(), key: None };
    store.commit(vec![change]).await.unwrap();
    store.close();
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut keys = transaction.open_table(tables::KEYS).unwrap();
            keys.insert("old", (1, 3)).unwrap();
            keys.insert("of a task that is gone", (9, 3)).unwrap();
        }
        transaction.delete_table(tables::REQUESTS).unwrap();
        transaction.delete_table(tables::TASK_KEYS).unwrap();
        transaction.commit().unwrap();
    }
    verify(&path).unwrap();
    let store = open(&path);
    let snapshot = store.snapshot().unwrap();
    let first = snapshot.first_request(&key(7, Call::Execute, "old")).unwrap().unwrap();
    assert_eq!(
        (first.task, &*first.plan, first.revision, first.fingerprint),
        (Some(TaskId(1)), "shop", 2, None)
    );
    assert_eq!(snapshot.first_request(&key(8, Call::Execute, "old")).unwrap(), None);
    assert_eq!(snapshot.key_of_task(TaskId(1)).unwrap().as_deref(), Some("old"));
    assert_eq!(snapshot.first_request(&key(7, Call::Execute, "of a task that is gone")).unwrap(), None);
    store.close();
}
