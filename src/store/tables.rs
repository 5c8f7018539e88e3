//! The key space.
//!
//! ```text
//! counters     name                -> number      schema, task (last id), seq (last entry), instance
//! revisions    plan                -> number      last revision of a plan, also of a deleted one
//! plans        (plan, revision)    -> PlanV1
//! tasks        task                -> TaskV1      what lists show, in the same commit as the events
//! states       state               -> number      how many tasks are in it
//! open_tasks   task                -> ()          tasks that are not over: read at start
//! events       (task, n)           -> EntryV1     a task's journal, n = 1, 2, 3, …
//! host_events  seq                 -> EntryV1     the journal of everything else
//! feed         seq                 -> (task, n)   all entries in their order; (0, 0): host_events
//! keys         idempotency key     -> (task, at)
//! releases     (service, release)  -> ReleaseV1   how each release was made
//! needs        (artifact, task)    -> ()          what a plan out of a task that is kept could need
//! durations    (service, way, seq) -> microseconds of deployments that ended well
//! changes      (service, seq)      -> ChangeV1    what was done to containers
//! ```
//!
//! Keys ascend, so that a commit of many records touches few pages.

use redb::TableDefinition;

pub const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
pub const REVISIONS: TableDefinition<&str, u32> = TableDefinition::new("revisions");
pub const PLANS: TableDefinition<(&str, u32), &[u8]> = TableDefinition::new("plans");
pub const TASKS: TableDefinition<u64, &[u8]> = TableDefinition::new("tasks");
pub const STATES: TableDefinition<&str, u64> = TableDefinition::new("states");
pub const OPEN_TASKS: TableDefinition<u64, ()> = TableDefinition::new("open_tasks");
pub const EVENTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("events");
pub const HOST_EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("host_events");
pub const FEED: TableDefinition<u64, (u64, u64)> = TableDefinition::new("feed");
pub const KEYS: TableDefinition<&str, (u64, i64)> = TableDefinition::new("keys");
pub const RELEASES: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("releases");
pub const NEEDS: TableDefinition<(&str, u64), ()> = TableDefinition::new("needs");
pub const DURATIONS: TableDefinition<(u64, &str, u64), u64> = TableDefinition::new("durations");
pub const CHANGES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("changes");

/// Does something with each table, so that none is forgotten.
macro_rules! each_table {
    ($table:ident => $work:expr) => {
        $crate::store::tables::each_table!(
            $table => $work;
            COUNTERS REVISIONS PLANS TASKS STATES OPEN_TASKS EVENTS HOST_EVENTS FEED KEYS RELEASES NEEDS DURATIONS
            CHANGES
        )
    };
    ($table:ident => $work:expr; $($name:ident)*) => {
        $({
            let $table = $crate::store::tables::$name;
            $work;
        })*
    };
}
pub(super) use each_table;

/// The layout above. A newer one is refused, an older one is migrated.
pub const SCHEMA: u64 = 1;

/// Names in [`COUNTERS`].
pub mod counter {
    pub const SCHEMA: &str = "schema";
    pub const TASK: &str = "task";
    pub const SEQ: &str = "seq";
    pub const INSTANCE: &str = "instance";
}
