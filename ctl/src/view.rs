//! What a person wants to know, computed once for every face: terminal, report file, page.
//!
//! Everything here is a pure function of what the daemon says. Nothing here knows colours, tags or widths.

pub mod event;
pub mod forecast;
pub mod report;
pub mod text;
pub mod time;
pub mod timeline;
pub mod tone;
