//! The bodies of requests, and what `deployctl` reads of a daemon's answers.
#![no_main]

use std::fmt::Debug;

use deployctl::wire::event::Event;
use deployctl::wire::plan::{PlanCheck, PlanList};
use deployctl::wire::problem::Problem;
use deployctl::wire::report::Report;
use deployctl::wire::service::{CreateRepository, Reloaded, ServiceList};
use deployctl::wire::task::{Execute, Resume, Task, TaskList, TaskStatus};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::from_slice;

/// What can be read is written and read again as the same.
fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = from_slice::<T>(bytes) else { return };
    let written = serde_json::to_vec(&value).expect("the wire's types can be written");
    let read: T = from_slice(&written).expect("and read again");
    assert_eq!(read, value);
}

fuzz_target!(|bytes: &[u8]| {
    again::<Execute>(bytes);
    again::<Resume>(bytes);
    again::<CreateRepository>(bytes);
    again::<Problem>(bytes);
    again::<Event>(bytes);
    again::<Report>(bytes);
    again::<Task>(bytes);
    again::<TaskList>(bytes);
    again::<TaskStatus>(bytes);
    again::<PlanList>(bytes);
    again::<PlanCheck>(bytes);
    again::<ServiceList>(bytes);
    again::<Reloaded>(bytes);
});
