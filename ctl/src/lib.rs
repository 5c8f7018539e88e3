//! The command line of deployd, its client and its wire types.
//!
//! Without features this library is the wire types alone; `client` adds a client of the socket,
//! `cli` the command line.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod wire;

/// The JSON Schema of a release plan.
pub const PLAN_SCHEMA: &str = include_str!("plan.schema.json");
