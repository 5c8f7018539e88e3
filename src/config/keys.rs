//! The keys of the configuration, each with what to do instead of leaving its value empty.

use crate::reading::Key;

const DEFAULT: &str = "remove the key for its default";

/// The keys of the file.
pub const FILE: [Key; 16] = [
    Key::new("socket", DEFAULT),
    Key::new("stateDir", DEFAULT),
    Key::new("servicesDir", DEFAULT),
    Key::new("access", "remove the key to let the group deployd operate"),
    Key::new("git", "remove the key to allow only built-in repositories"),
    Key::new("packages", DEFAULT),
    Key::new("builds", DEFAULT),
    Key::new("concurrency", DEFAULT),
    Key::new("timeouts", DEFAULT),
    Key::new("prefetch", "remove the key for false"),
    Key::new("resumeOnStart", "remove the key for false"),
    Key::new("retention", DEFAULT),
    Key::new("notify", "remove the key to notify nobody"),
    Key::new("engines", DEFAULT),
    Key::new("systemd", "remove the key to drive systemd where it runs"),
    Key::new("shutdownGrace", "remove the key for 30s"),
];

/// The keys of `access`.
pub const ACCESS: [Key; 2] = [
    Key::new("operators", "remove the key to let the group deployd operate, or write [] to let nobody"),
    Key::new("viewers", "remove the key to let nobody"),
];

/// The keys of `git`.
pub const GIT: [Key; 1] =
    [Key::new("allowedRepositories", "remove the key to allow only built-in repositories")];

/// The keys of `packages`.
pub const PACKAGES: [Key; 4] = [
    Key::new("allowedUris", "remove the key to allow any http and https address, or write [] to allow none"),
    Key::new("maxBytes", "remove the key for 4G"),
    Key::new("maxUnpackedBytes", "remove the key for 16G"),
    Key::new("maxEntries", "remove the key for 200000"),
];

/// The keys of `builds`.
pub const BUILDS: [Key; 1] = [Key::new("maxOutputBytes", "remove the key for 1GiB")];

/// The keys of `concurrency`.
pub const CONCURRENCY: [Key; 3] = [
    Key::new("services", "remove the key for 512"),
    Key::new("downloads", "remove the key for 4"),
    Key::new("builds", "remove the key for 2"),
];

/// The keys of `timeouts`.
pub const TIMEOUTS: [Key; 3] = [
    Key::new("fetch", "remove the key for 10m"),
    Key::new("git", "remove the key for 15m"),
    Key::new("unit", "remove the key for what each unit allows"),
];

/// The keys of `retention`.
pub const RETENTION: [Key; 2] =
    [Key::new("tasks", "remove the key for 10000"), Key::new("days", "remove the key for no limit")];

/// The keys of `notify`.
pub const NOTIFY: [Key; 1] = [Key::new("command", "remove the key to notify nobody")];

/// The keys of `engines`.
pub const ENGINES: [Key; 2] = [Key::new("podman", DEFAULT), Key::new("docker", DEFAULT)];
