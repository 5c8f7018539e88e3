//! The keys of a catalog file, each with what to do instead of leaving its value empty.

use crate::reading::Key;

/// The keys of a service.
pub const SERVICE: [Key; 12] = [
    Key::new("serviceId", "write the number by which plans name the service"),
    Key::new("name", "write the service's name"),
    Key::new("description", "remove the key for a service without a description"),
    Key::new("runtime", "remove the key to let deployd choose (auto)"),
    Key::new("containers", "list at least one container"),
    Key::new("run", "write how a container is run, or remove the key if every container names a unit"),
    Key::new("health", "remove the key to take a container for up that stays alive for 1s"),
    Key::new("build", "remove the key for a service that is never built"),
    Key::new("hooks", "remove the key for a service without hooks"),
    Key::new("sharedPaths", "remove the key for a service without shared paths"),
    Key::new("releases", "remove the key to keep 5 releases"),
    Key::new("stripComponents", "remove the key to unpack a package as it is"),
];

/// The keys of a container.
pub const CONTAINER: [Key; 4] = [
    Key::new("name", "write the container's name"),
    Key::new("labels", "remove the key for a container without labels"),
    Key::new("environment", "remove the key for a container without variables of its own"),
    Key::new("unit", "write the unit to drive, or remove the key to let deployd generate one"),
];

/// The keys of `run`.
pub const RUN: [Key; 8] = [
    Key::new("command", "write [program, argument, …]"),
    Key::new("user", "write the user; only a daemon that is not root may do without the key"),
    Key::new("environment", "remove the key to set no variables"),
    Key::new("environmentFile", "remove the key to read no file"),
    Key::new("stopSignal", "remove the key for SIGTERM"),
    Key::new("stopTimeout", "remove the key for 10s"),
    Key::new("limits", "remove the key for no limits"),
    Key::new("image", "write the image; only podman and docker need the key"),
];

/// The keys of `run.limits` and `build.limits`.
pub const LIMITS: [Key; 4] = [
    Key::new("memoryMax", "remove the key for no limit"),
    Key::new("cpuQuota", "remove the key for no limit"),
    Key::new("tasksMax", "remove the key for no limit"),
    Key::new("openFiles", "remove the key for the limit that deployd itself has"),
];

/// The keys of `health`.
pub const HEALTH: [Key; 6] = [
    Key::new("http", "write the address to ask, or remove the key to ask none"),
    Key::new("tcp", "write host:port, or remove the key to connect to none"),
    Key::new("command", "write [program, argument, …], or remove the key to run none"),
    Key::new("interval", "remove the key for 500ms"),
    Key::new("timeout", "remove the key for 30s"),
    Key::new("settle", "remove the key for 1s"),
];

/// The keys of `build`.
pub const BUILD: [Key; 9] = [
    Key::new("command", "write [program, argument, …]"),
    Key::new("output", "write the file or directory that the build makes"),
    Key::new("timeout", "remove the key for 30m"),
    Key::new("environment", "remove the key to set no variables"),
    Key::new("user", "remove the key to build as deployd-build, else as nobody"),
    Key::new("network", "remove the key to build without network"),
    Key::new("limits", "remove the key for no limits"),
    Key::new("submodules", "write ignore, or remove the key to build no commit that has submodules"),
    Key::new("lfs", "write ignore, or remove the key to build no commit that has Git LFS files"),
];

/// The keys of `hooks`.
pub const HOOKS: [Key; 2] = [
    Key::new("preDeploy", "remove the key to run nothing before a deployment"),
    Key::new("postDeploy", "remove the key to run nothing after a deployment"),
];

/// The keys of `releases`.
pub const RELEASES: [Key; 1] = [Key::new("keep", "remove the key to keep 5 releases")];
