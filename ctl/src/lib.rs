//! deployctl
