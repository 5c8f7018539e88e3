//! deployd: a release daemon.

pub mod actors;
pub mod artifact;
pub mod blocking;
pub mod catalog;
pub mod catalog_dir;
pub mod clock;
pub mod compile;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod executor;
pub mod mistake;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod retention;
pub mod runtime;
pub mod spawn;
pub mod store;
pub mod task;
pub mod tls;
pub mod yaml;
