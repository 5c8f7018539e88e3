//! deployd: a release daemon.

pub mod catalog;
pub mod plan;
pub mod spawn;
pub mod task;
