//! The configuration file as it is written: each key is optional, and an unknown one is refused.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct File {
    pub socket: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub services_dir: Option<PathBuf>,
    pub access: Access,
    pub git: GitFile,
    pub packages: Packages,
    pub concurrency: ConcurrencyFile,
    pub timeouts: TimeoutsFile,
    pub prefetch: bool,
    pub resume_on_start: bool,
    pub retention: RetentionFile,
    pub notify: NotifyFile,
    pub engines: Engines,
    pub shutdown_grace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    pub operators: Option<Vec<String>>,
    pub viewers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GitFile {
    pub allowed_repositories: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Packages {
    pub allowed_uris: Option<Vec<String>>,
    pub max_bytes: Option<serde_yaml::Value>,
    pub max_unpacked_bytes: Option<serde_yaml::Value>,
    pub max_entries: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConcurrencyFile {
    pub services: Option<usize>,
    pub downloads: Option<usize>,
    pub builds: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeoutsFile {
    pub fetch: Option<String>,
    pub git: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetentionFile {
    pub tasks: Option<u64>,
    pub days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NotifyFile {
    pub command: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Engines {
    pub podman: Option<PathBuf>,
    pub docker: Option<PathBuf>,
}
