//! The configuration of git: nobody else's is read, but for the one of the repository itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// For every git that the daemon starts. It reaches the processes at the other end of a local fetch, too, which
/// options of the command line do not.
const ALWAYS: &str = "\
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tattributesFile = /dev/null
\tfsync = objects,reference
[transfer]
\tfsckObjects = true
[submodule]
\trecurse = false
[fetch]
\trecurseSubmodules = false
[credential]
\thelper =
[protocol \"ext\"]
\tallow = never
[receive]
\tdenyCurrentBranch = ignore
";

/// What old and widespread history has, and what leads nowhere: how commits name authors and dates, and modes of
/// trees that are written with a zero more. git itself only warns of it.
const HARMLESS: [&str; 15] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badTagName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// For what the daemon fetches into its cache. A server may count objects for a long time before it says anything:
/// `timeouts.git` alone ends that.
const CACHE: &str = "\
[http]
\tfollowRedirects = initial
[gc]
\tauto = 0
[maintenance]
\tauto = false
";

/// For what is pushed to the built-in repositories: git tidies up before it hangs up, and not in the background.
const BUILT_IN: &str = "\
[gc]
\tautoDetach = false
[maintenance]
\tautoDetach = false
[receive]
\tmaxInputSize = 16g
";

/// Where the configuration of the cache is.
pub fn of_cache(cache: &Path) -> PathBuf {
    cache.join("config")
}

/// Where the configuration of those who read and write the built-in repositories is.
pub fn of_repositories(repositories: &Path) -> PathBuf {
    repositories.join(".config")
}

/// Writes both configurations.
pub fn write(cache: &Path, repositories: &Path) -> io::Result<()> {
    let ignore = |section: &str| {
        let lines = HARMLESS.map(|id| format!("\t{id} = ignore\n")).concat();
        format!("[{section} \"fsck\"]\n{lines}")
    };
    write_file(&of_cache(cache), &[ALWAYS, CACHE, &ignore("fetch")])?;
    write_file(&of_repositories(repositories), &[ALWAYS, BUILT_IN, &ignore("receive")])
}

fn write_file(path: &Path, parts: &[&str]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::remove_file(&temporary).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut file = fs::File::create_new(&temporary)?;
    file.write_all(parts.concat().as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(temporary, path)
}

/// The environment of a git that reads nothing but this configuration.
pub fn environment(config: &Path) -> BTreeMap<String, String> {
    let config = config.to_string_lossy();
    let all = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", &*config),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes"),
        ("GIT_ALLOW_PROTOCOL", "file:https:http:ssh"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_DEFAULT_REF_FORMAT", "files"),
    ];
    all.map(|(name, value)| (name.to_string(), value.to_string())).into()
}
