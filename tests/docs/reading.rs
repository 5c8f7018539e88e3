//! What the pages of the reference are made of: docstrings and names out of the source, and what no source says.

use std::fs;

use super::root;

pub fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The variants of an enum, each with the first paragraph of its docstring.
pub fn variants(text: &str, declaration: &str) -> Vec<(String, String)> {
    let body = text.split(declaration).nth(1).unwrap_or_else(|| panic!("no {declaration}"));
    let body = body.split("\n}").next().unwrap();
    let (mut found, mut doc) = (Vec::new(), Vec::new());
    for line in body.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")) {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim().to_string());
        } else if line.starts_with(|c: char| c.is_ascii_uppercase()) {
            let name: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
            found.push((name, std::mem::take(&mut doc).join(" ").trim_end_matches('.').to_string()));
        }
    }
    found
}

/// The name that a variant has for programs.
pub fn named(text: &str, variant: &str) -> String {
    let names = text.split("fn name").nth(1).unwrap();
    let of_it = |line: &&str| {
        let line = line.trim().trim_start_matches("Self::");
        line.strip_prefix(variant).is_some_and(|rest| rest.starts_with([' ', '{', '(']))
    };
    let line = names.lines().find(of_it).unwrap_or_else(|| panic!("no name of {variant}"));
    line.split('"').nth(1).unwrap().to_string()
}

/// The codes of problems: constant, value, docstring.
pub fn problems() -> Vec<(String, String, String)> {
    let text = file("ctl/src/wire/problem.rs");
    let module = text.split("pub mod code {").nth(1).unwrap().split("\n}").next().unwrap();
    let (mut found, mut doc) = (Vec::new(), Vec::new());
    for line in module.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim().to_string());
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let value = constant.split('"').nth(1).unwrap().to_string();
            let name = constant.split(':').next().unwrap().to_string();
            found.push((name, value, std::mem::take(&mut doc).join(" ")));
        }
    }
    found
}

/// Part of a page.
pub const CONFIGURATION: &str = "# Configuration

`/etc/deployd/deployd.yaml`, with `deployd --user` `~/.config/deployd/deployd.yaml`. Every key is optional. `deployd check`
checks it; it is read at the daemon's start. `--config`, `--socket`, `--state-dir` and `--services-dir` win over it.

";

/// Part of a page.
pub const FILES: &str = "
## Files

| what | where |
|---|---|
| configuration, catalog | `/etc/deployd/deployd.yaml`, `/etc/deployd/services.d/*.yaml` |
| store | `/var/lib/deployd/deployd.redb` |
| artifacts, releases | `/var/lib/deployd/artifacts/`, `/var/lib/deployd/services/<name>/releases/<release>/` |
| a container's release and output | `/var/lib/deployd/services/<name>/containers/<container>/current`, `…/output.log` |
| task logs | `/var/lib/deployd/tasks/<id>/<serviceId>.log` |
| built-in repositories | `/var/lib/deployd/git/<name>.git` |
| socket | `/run/deployd/deployd.sock` |

With `deployd --user`: `~/.config/deployd`, `~/.local/state/deployd` and `$XDG_RUNTIME_DIR/deployd` (without it, the
socket is in the state directory).

## Signals and environment

SIGTERM and SIGINT end the daemon: it takes no new work, lets what is going on end within `shutdownGrace`, and marks
the rest INTERRUPTED. No container is touched. SIGHUP reads the catalog anew. `DEPLOYD_LOG=debug` shows more.

Containers, builds and hooks find `DEPLOYD_TASK`, `DEPLOYD_SERVICE`, `DEPLOYD_SERVICE_ID`, `DEPLOYD_CONTAINER`,
`DEPLOYD_RELEASE` and `DEPLOYD_OPERATION` in their environment.
";

/// Part of a page.
pub const PLAN_RULES: &str = "
`HTTP_UPLOAD_DEPLOY` needs `httpSrcUri`; `COMPILE_DEPLOY` needs `compileRepoPath` and `compileRepoBranch`. Keys of
another way are allowed and ignored; any other unknown key is an error. The same service may stand in several
batches, but only once in a batch.

## The five ways

| `deployment` | running container | stopped container | success means |
|---|---|---|---|
| `START` | left alone | started on its current release | healthy |
| `STOP` | stopped, group and all | left alone | no process is left |
| `RESTART` | stopped, started | started | healthy, and a new process |
| `HTTP_UPLOAD_DEPLOY` | package fetched, verified, unpacked; then stop, switch, start | switched, started | healthy on the new release |
| `COMPILE_DEPLOY` | branch fetched and built once; then as above | as above | as above |

A package is a zip, tar, tar.gz, tar.zst or tar.xz, told by its content. It is complete on disk before a container
points to it, and the switch is one rename. Two services with the same package fetch it once; the same commit with the
same build definition is not built twice. What is fetched and built is pinned by the task, and kept by resume.

When a deployment fails, those of the same batch that are going on still end, and nothing new begins.
";
