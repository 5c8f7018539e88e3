//! What every command works with.

use super::args::Output;
use super::terminal::Terminal;
use crate::client::Client;

/// The daemon, the form of the answer, and where it goes.
pub struct Session<'a> {
    /// The daemon.
    pub client: &'a Client,
    /// The form of the answer.
    pub output: Output,
    /// Where it goes.
    pub terminal: &'a mut Terminal,
}
