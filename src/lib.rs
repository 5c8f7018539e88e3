//! deployd: a release daemon. This page is its architecture.
//!
//! # What it is
//!
//! A user stores a *release plan*, and executes it: that is a *task*. The items of equal priority form a
//! *batch*; what a task does for one item is a *deployment*, and what that does to one container an
//! *operation*. Everything that happens is an event in the *journal*.
//!
//! ```text
//! plan.yaml ─parse→ RawPlan ─check(Catalog)→ Plan ─compile→ Task ⊃ Batch ⊃ Deployment ⊃ Operation
//!    Operation ─executor→ outcome ─decide→ Event ─commit→ journal ─fold→ Task, Report ─convert→ wire
//! ```
//!
//! # The laws
//!
//! 1. **Decide, commit, act.** A pure function decides what happens next, the journal makes it durable,
//!    and only then is the host touched. The intent is durable before the deed, the result after it.
//! 2. **The journal is the truth.** A task is the fold of its events ([`task::Task::apply`]). Recovery,
//!    report and event stream read the same events. An event that is illegal in the state it meets means
//!    that the journal is corrupt, and says so. Rows that make lists fast are written in the same commit.
//! 3. **What to do follows from what is.** The next step ([`task::decide`],
//!    [`task::deployment::Deployment::next_step`]) is derived, never stored: *resume* is no second path.
//! 4. **One actor for each owner of mutable state, none for anything else**: plan supervisor, task, batch,
//!    deployment. Runtimes, fetchers, builders and probes are async functions and traits.
//! 5. **Ask down, tell up.** A parent asks its children and awaits; a child tells its parent. No cycle can
//!    wait for itself.
//! 6. **Every crash is the same crash.** A panicked actor leaves its task INTERRUPTED, as a killed daemon
//!    leaves all of them. Without the store or the supervisor the daemon ends, and is started again. What
//!    breaks off because of a shutdown is never recorded as a failure.
//! 7. **Three contracts, three types**: the domain, the rows on disk ([`store`]) and the wire
//!    (`deployctl::wire`) are separate types, joined by exhaustive matches.
//! 8. **The state is assigned in one place**: [`task::state::TaskState::next`].
//! 9. **Reading never waits for work.** Lists, reports and events come from the store's snapshots.
//!
//! # Exactly once
//!
//! `OperationBegun{evidence}` is durable before a container is touched, `OperationEnded` follows the deed.
//! An operation that has begun and not ended is *in doubt* after a crash, and is settled by looking
//! ([`task::evidence`]): a started process carries the id of the operation that started it, in its
//! environment and in a file that it writes itself before its `exec`. What carries this operation's id
//! was started by it; anything else was not.
//!
//! Two gaps would let a container be started twice, and are closed:
//! - A process that was asked for may not exist yet when the daemon dies. Processes are started by small
//!   *spawner* processes ([`spawn`]), each of which holds a lock as long as it lives, and each child until its
//!   exec; the daemon takes it before there is a spawner, and hands it over. The next daemon waits for these
//!   locks before it looks at anything; and when a spawner dies, nobody is told that a request was lost before
//!   its lock is free.
//! - A task whose actors crashed may be resumed at once, in the same daemon. A deed that was begun is
//!   never cut ([`executor::Deeds`]): the next look at its container waits for it.
//!
//! A container is known by pid, start time and boot id, so that a pid that is used again fools nobody; one
//! that is a systemd unit, by the InvocationID of its run. A generated unit notes the operation that starts
//! it together with that id ([`runtime::unit`]), before its program's first instruction. For a unit that is
//! not ours the note is made before its start is asked for, and says which run was there before: any other
//! one is this operation's. A look waits first until no job of the unit is under way.
//! An engine's container ([`runtime::engine`]) is made anew for each start, with the operation as a label, and
//! started by its id: the start that a dead daemon had asked for can start nothing but what that label names. What an
//! engine says of a container is read by one table (`engine::State::phase`); what it does not know counts as running.
//!
//! Builds and hooks are transient units where systemd runs ([`systemd::transient`]). They outlive the daemon, and
//! the last thing a unit does is to note how it ended, so that the next daemon joins it, running or over. Only when
//! what came of it is recorded, or its task is over, is the note forgotten. Cancelling a task for a fault leaves
//! them alone; only a user's cut ends them.
//!
//! # Whose a thing is
//!
//! A daemon has an identity ([`identity`]): a random number in its state directory. Everything that it makes carries it:
//! units (`X-Deployd-Owner=`), engine containers (a label), and every process, build and hook in the id of its operation,
//! which is `<identity>.<task>.<deployment>.<operation>.<nonce>`. The nonce is drawn when the task begins. What has the
//! name of something of ours and carries another identity, or none, is refused and never touched. A state directory that
//! was copied draws an identity of its own; one that was moved keeps its own.
//!
//! A store that was restored or copied begins an epoch before it gives anything out ([`store::Store::open_for`]): its tasks
//! and events go on with numbers that were never given out, and readers who know a lost event are told (410). It is noticed
//! by a mark in the backup, by the identity, and by the number of the last session, which stands in the store and beside
//! it.
//!
//! # Pinned
//!
//! Commit and package are pinned in the journal when they are first resolved, and kept by resume. With
//! `prefetch` that may be before their deployment's turn: it stays PENDING, and goes on from there.
//!
//! # Up
//!
//! A container is up while its own main process runs and is not on its way down ([`runtime::Observation`]): what
//! restarts, starts or stops has states of its own. START leaves alone what runs once it has answered well; a start
//! that failed is given up, so that nothing of it runs on or restarts ([`runtime::Runtime::give_up`]). Each deed has
//! a limit of its runtime, and a user can end the waiting at any time (`executor::patience`): the deed is never cut,
//! it goes on alone and keeps its container until it is over.
//!
//! # The socket
//!
//! - The table of routes ([`control::routes::ROUTES`]) is what is served: each call stands behind its role
//!   there, so that no other spelling of a path leads past it. Who calls is the kernel's word alone.
//! - The socket gets mode and owner before its name, and the name without replacing a daemon that lives.
//! - What a client can make the daemon hold is bounded: connections by descriptors and by user, heads and
//!   bodies by size and time, plans by a common budget. Event streams pull from the store: who does not
//!   read costs nothing, and goes on from any id.
//!
//! # Durability
//!
//! - One thread owns the write transaction; whatever waits shares a commit. A commit that fails *may* be
//!   durable: the daemon ends, and the truth is read at its next start.
//! - What nobody waits for is kept for the next commit, 2 ms at most ([`store::Store::queue`]): the ends of a batch, the
//!   beginnings of the next one and their intents are one sync. The journal's order is that of the fold all the same,
//!   so whoever waits for something has waited for all before it.
//! - A row is one version byte, bincode, and a CRC-32. What can't be read is refused by name, and the
//!   daemon never starts with an empty store in the place of a damaged one.
//! - What a commit claims (an artifact, a release, `current`, a pinned commit, a repository) is durable before it, with
//!   every name that leads to it: not only what this daemon has made, but also what it finds.
//! - Downloads are `.part`, releases and builds `.tmp` until they are complete and synced; what is left of
//!   these is swept at start, but for builds that may still be joined. A container's `current` is switched by one rename.
//!
//! # The daemon's own box
//!
//! Its unit takes from it what it does not need: to become somebody else, to see devices and homes, to write
//! anywhere but to its state and to the units that it generates. So nothing on the systemd path may start
//! processes of other users itself, health commands included: that is what [`spawn::command::Commands`] is for.
//! Plain processes would live in that box, too; they are refused until a drop-in loosens it ([`spawn::is_confined`]).
//!
//! # The code, from the inside out
//!
//! Each layer sees only those above it; a test (`tests/tidy`) holds it to that.
//!
//! | layer | modules |
//! |---|---|
//! | domain: no runtime, no files, no clock, no network | [`plan`], [`catalog`], [`task`], [`mistake`], [`yaml`], [`reading`], [`address`] |
//! | host: these never see each other | [`store`], [`artifact`], [`runtime`], [`probe`]; below them [`foreign`], [`spawn`], [`systemd`], [`engine`], [`blocking`], [`clock`], [`random`], [`identity`], [`crashpoint`], [`metrics`], [`tls`] |
//! | deeds | [`executor`]: an operation becomes calls to the host; evidence is taken before |
//! | actors: never see a runtime | [`actors`], [`compile`](mod@compile) |
//! | control | [`control`]: the socket; `deployctl` (the crate beside this one): wire, client, command line |
//! | root | [`config`], [`log`], [`catalog_dir`], [`retention`], [`daemon`] (the daemon is a library call), [`notify`], [`preflight`], [`assets`], [`demo`] |
//!
//! # What was tried or considered, and rejected
//!
//! - *`actix::Supervisor`, `SyncArbiter`*: neither notices a panic. Actors run in tasks of their own that
//!   catch it ([`actors::guard`]); the store is a plain thread with a channel.
//! - *fork and exec in the daemon*: copies its page tables on the executor's thread, and leaves no way to
//!   know whether a process that was asked for will still appear. Hence the spawner.
//! - *fork in the spawner*: copies its memory for each child. The child borrows it until its exec (`spawn::child`).
//! - *actix-web's server*: a timer and a thread more, for ever (`control::serve`).
//! - *libdeflate*: faster than zlib-rs, but root would inflate with C what others have packed.
//! - *bollard, the library for Docker's interface*: its closed lists of states refuse what Podman adds to them,
//!   and it brings forty crates for ten calls. They are made with the HTTP client that is here already.
//! - *systemd's private socket* (no bus needed): the D-Bus library refuses the sender of its messages.
//! - *The operation's id in the unit file*: each start would need a reload of all units. It stands in the
//!   unit's environment file, which is read at each start; a unit file changes only with the catalog.
//! - *openat2* for what lies in archives and builds: the filter that forbids setuid bits forbids it, as it can't look
//!   into its arguments. Each part of a path is opened by itself, without following links (`artifact::beneath`).
//! - *A pipe for the output of builds*: it breaks with the daemon. They write to a file, which is told line by line.
//! - *Reading the result of a build from its unit*: it would have to stay loaded until somebody asks, for ever if
//!   nobody does.
//! - *The boot's id from /proc alone*: a unit with a /proc of its own sees another one in a container.
//! - *tracing-journald*: waits for a journal that stands still, and so would the daemon.
//! - *pid files*: a pid is used again.
//! - *Reading the release before from a directory*: a listing does not say what was switched; `current`
//!   and the journal do.
//! - *`bind_uds` of actix-web*: takes a living daemon's socket, and never tells who connects. The socket is
//!   bound in a private directory, gets mode and owner, and is then renamed to its place.
//! - *A library for git*: doubles the binary. The command is run with our own configuration only, and no
//!   hooks, filters, helpers, submodules or options from values.

pub mod actors;
pub mod address;
pub mod artifact;
pub mod assets;
pub mod blocking;
pub mod catalog;
pub mod catalog_dir;
pub mod clock;
pub mod compile;
pub mod config;
pub mod control;
pub mod crashpoint;
pub mod daemon;
pub mod demo;
pub mod engine;
pub mod executor;
pub mod foreign;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod mistake;
pub mod notify;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod random;
pub mod reading;
pub mod retention;
pub mod runtime;
pub mod spawn;
pub mod store;
pub mod systemd;
pub mod task;
pub mod tls;
pub mod yaml;
