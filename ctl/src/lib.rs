//! The command line of deployd, its client and its wire types.
//!
//! Without features this library is the wire types alone; `client` adds a client of the socket,
//! `cli` the command line.

pub mod wire;
