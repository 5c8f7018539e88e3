//! What a container is made of. Its network is the host's, so that a service is reached, and asked for its health,
//! in the same way whatever runs it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::volumes::Volumes;
use super::{OPERATION, RELEASE, owner};
use crate::runtime::StartSpec;

/// Where a container sees its release.
const APP: &str = "/app";

/// What a container is given beside its specification.
pub struct Given {
    /// The container's directory, which says whose it is.
    pub own: PathBuf,
    /// Where the service's shared paths lie, if it has any.
    pub shared: Option<PathBuf>,
    /// As whom it runs, by numbers.
    pub user: Option<String>,
}

/// Where something of ours is mounted.
pub fn covered(spec: &StartSpec, shared: Option<&Path>) -> BTreeSet<String> {
    let app = spec.release.is_some().then(|| APP.to_string());
    app.into_iter().chain(shared.map(|shared| shared.to_string_lossy().into_owned())).collect()
}

/// The body of the call that makes a container.
pub fn made_of(spec: &StartSpec, given: &Given, volumes: &Volumes) -> Value {
    let bind = |source: &Path, target: &str, read_only: bool| json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only });
    let mut mounts = Vec::new();
    if spec.release.is_some() {
        mounts.push(bind(&spec.directory, APP, true));
    }
    // The release's links to what outlives it say where that is on the host.
    if let Some(shared) = &given.shared {
        mounts.push(bind(shared, &shared.to_string_lossy(), false));
    }
    let volume = |(path, volume)| json!({ "Type": "volume", "Source": volume, "Target": path });
    mounts.extend(volumes.iter().map(volume));
    let mut argv = spec.argv.clone();
    if let Some(program) = argv.first_mut()
        && program.contains('/')
        && !program.starts_with('/')
    {
        *program = format!("{APP}/{}", program.trim_start_matches("./"));
    }
    let is_root = given.user.as_deref().is_some_and(|user| user.starts_with("0:"));
    let limits = &spec.limits;
    let files = limits.open_files.map(|files| json!([{ "Name": "nofile", "Soft": files, "Hard": files }]));
    let environment: Vec<_> =
        spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut labels = owner::labels(&given.own);
    labels.insert(OPERATION.into(), spec.operation.clone());
    labels.insert(RELEASE.into(), spec.release.clone().unwrap_or_default());
    json!({
        "Image": spec.image,
        "Entrypoint": argv,
        "Cmd": [],
        "Env": environment,
        "WorkingDir": if spec.release.is_some() { APP } else { "" },
        "User": given.user.clone().unwrap_or_default(),
        "StopSignal": spec.stop_signal,
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": "host",
            "Mounts": mounts,
            // Also with the machine; what was stopped is removed, and so does not come back.
            "RestartPolicy": { "Name": "always" },
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": if is_root { json!([]) } else { json!(["ALL"]) },
            "Memory": limits.memory_max.unwrap_or(0),
            "NanoCpus": limits.cpu_quota.map_or(0, |percent| u64::from(percent) * 10_000_000),
            "PidsLimit": limits.tasks_max,
            "Ulimits": files.unwrap_or_else(|| json!([])),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::catalog::{Engine, Limits};
    use crate::runtime::{ContainerRef, Form};

    fn spec(program: &str, release: Option<&str>) -> StartSpec {
        let container = ContainerRef {
            service: "web".into(),
            container: "web-1".into(),
            form: Form::Engine(Engine::Podman),
        };
        StartSpec {
            container,
            argv: vec![program.into(), "--port".into()],
            environment: BTreeMap::from([("A".into(), "1".into())]),
            directory: "/srv/releases/r1".into(),
            user: Some("web".into()),
            limits: Limits { memory_max: Some(1 << 20), cpu_quota: Some(50), ..Limits::default() },
            stop_signal: "SIGINT".into(),
            stop_timeout: Duration::from_secs(1),
            operation: "i.7.0.0".into(),
            release: release.map(Into::into),
            image: Some("lab:1".into()),
        }
    }

    fn given(shared: Option<&str>, user: &str) -> Given {
        Given { own: "/own".into(), shared: shared.map(PathBuf::from), user: Some(user.into()) }
    }

    #[test]
    fn a_container_has_its_release_and_little_else() {
        let made = made_of(&spec("./bin/x", Some("r1")), &given(None, "7:8"), &Volumes::new());
        assert_eq!(made["Entrypoint"], json!(["/app/bin/x", "--port"]));
        assert_eq!(made["User"], "7:8");
        assert_eq!(made["Labels"][OPERATION], "i.7.0.0");
        let host = &made["HostConfig"];
        let release =
            json!([{ "Type": "bind", "Source": "/srv/releases/r1", "Target": "/app", "ReadOnly": true }]);
        assert_eq!(host["Mounts"], release);
        assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(1 << 20), &json!(500_000_000)));
        assert_eq!(host["CapDrop"], json!(["ALL"]));
    }

    #[test]
    fn one_without_a_release_works_where_its_image_says() {
        let made = made_of(&spec("sleep", None), &given(Some("/shared"), "0:0"), &Volumes::new());
        assert_eq!(made["Entrypoint"][0], "sleep");
        assert_eq!(made["WorkingDir"], "");
        assert_eq!(made["HostConfig"]["Mounts"][0]["Target"], "/shared");
        assert_eq!(made["HostConfig"]["CapDrop"], json!([]));
    }

    #[test]
    fn the_data_of_an_image_lies_in_volumes_with_names() {
        let spec = spec("sleep", Some("r1"));
        let volumes = Volumes::from([("/data".to_string(), "deployd-x".to_string())]);
        let made = made_of(&spec, &given(None, "0:0"), &volumes);
        let volume = json!({ "Type": "volume", "Source": "deployd-x", "Target": "/data" });
        assert_eq!(made["HostConfig"]["Mounts"][1], volume);
        let mounted = covered(&spec, Some(Path::new("/shared")));
        assert_eq!(mounted, BTreeSet::from(["/app".to_string(), "/shared".to_string()]));
    }
}
