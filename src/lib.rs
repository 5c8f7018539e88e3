//! deployd: a release daemon.

pub mod actors;
pub mod catalog;
pub mod clock;
pub mod mistake;
pub mod plan;
pub mod probe;
pub mod runtime;
pub mod spawn;
pub mod store;
pub mod task;
pub mod tls;
pub mod yaml;
