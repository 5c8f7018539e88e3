//! What strace wrote down of a daemon: the calls that change files and names, and those that sync them.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The calls that have to be traced.
pub const TRACED: &str = "?open,openat,?openat2,?creat,write,writev,pwrite64,pwritev,?pwritev2,ftruncate,truncate,\
    fallocate,sendfile,copy_file_range,splice,fsync,fdatasync,syncfs,sync,?mkdir,mkdirat,?rename,?renameat,renameat2,\
    ?symlink,symlinkat,?link,linkat,?unlink,unlinkat,?rmdir,?chmod,fchmod,fchmodat,?chown,fchown,?lchown,fchownat";

/// A call that did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A file was opened that was to be created if it was not there.
    Create(PathBuf),
    Directory(PathBuf, u32),
    Symlink(PathBuf, String),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// A file's content or owner.
    Change(PathBuf),
    Mode(PathBuf, u32),
    Sync(PathBuf),
    /// Everything on the file system.
    SyncAll,
    /// Something was written to the file of that name: what was.
    Said(PathBuf, String),
}

/// A call, and between which lines it happened.
#[derive(Debug, Clone)]
pub struct Step {
    pub call: Call,
    pub begun: usize,
    pub ended: usize,
}

/// The calls of a trace (`strace -f -y`) that went well, in the order of their ends; its lines are counted from
/// `first`. What was written to `notes` counts from its beginning.
pub fn read(trace: &str, notes: &Path, first: usize) -> Vec<Step> {
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    let mut steps = Vec::new();
    for (line, text) in (first..).zip(trace.lines()) {
        let Some((process, rest)) = text.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let resumed = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"));
        let begin = rest.strip_suffix(" <unfinished ...>");
        let (begun, whole) = if let Some(begin) = begin {
            unfinished.insert(process, (line, begin.to_string()));
            (line, format!("{begin}) = 0"))
        } else if let Some((_, end)) = resumed {
            let Some((begun, begin)) = unfinished.remove(process) else { continue };
            (begun, begin + end)
        } else {
            (line, rest.to_string())
        };
        let Some(call) = call(&whole, notes) else { continue };
        let counts = if matches!(call, Call::Said(..)) { begun == line } else { begin.is_none() };
        if counts {
            steps.push(Step { call, begun, ended: line });
        }
    }
    steps
}

/// A whole call in strace's words; `None` when it failed, or changes nothing.
fn call(text: &str, notes: &Path) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (rest, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') || result.starts_with('?') {
        return None;
    }
    let all = arguments(rest.trim_end().strip_suffix(')')?);
    let argument = |n: usize| all.get(n).map_or("", |text| &**text);
    let named = |n| at(None, argument(n));
    let beside = |n| at(Some(argument(n)), argument(n + 1));
    let open = |n| descriptor(argument(n));
    let opened = |path: PathBuf, flags: &str| flags.contains("O_CREAT").then_some(Call::Create(path));
    Some(match name {
        "open" => opened(named(0)?, argument(1))?,
        "openat" | "openat2" => opened(beside(0)?, argument(2))?,
        "creat" => Call::Create(named(0)?),
        "write" if open(0)? == notes => Call::Said(open(0)?, quoted(argument(1))),
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "ftruncate" | "fallocate" | "sendfile"
        | "fchown" => Call::Change(open(0)?),
        "copy_file_range" | "splice" => Call::Change(open(2)?),
        "truncate" | "chown" | "lchown" => Call::Change(named(0)?),
        "fchownat" => Call::Change(beside(0)?),
        "chmod" => Call::Mode(named(0)?, octal(argument(1))),
        "fchmod" => Call::Mode(open(0)?, octal(argument(1))),
        "fchmodat" => Call::Mode(beside(0)?, octal(argument(2))),
        "mkdir" => Call::Directory(named(0)?, octal(argument(1))),
        "mkdirat" => Call::Directory(beside(0)?, octal(argument(2))),
        "symlink" => Call::Symlink(named(1)?, quoted(argument(0))),
        "symlinkat" => Call::Symlink(beside(1)?, quoted(argument(0))),
        "link" => Call::Link(named(0)?, named(1)?),
        "linkat" => Call::Link(beside(0)?, beside(2)?),
        "rename" => Call::Rename(named(0)?, named(1)?),
        "renameat" | "renameat2" => Call::Rename(beside(0)?, beside(2)?),
        "unlink" | "rmdir" => Call::Remove(named(0)?),
        "unlinkat" => Call::Remove(beside(0)?),
        "fsync" | "fdatasync" => Call::Sync(open(0)?),
        "sync" | "syncfs" => Call::SyncAll,
        _ => return None,
    })
}

/// The arguments of a call, as they stand there.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut quoted, mut escaped, mut depth) = (vec![String::new()], false, false, 0);
    for char in text.chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().unwrap().push(char);
    }
    all.into_iter().map(|argument| argument.trim().to_string()).collect()
}

/// `7</a/path>`; `None` for what is no file.
fn descriptor(argument: &str) -> Option<PathBuf> {
    let path = argument.split_once('<')?.1.strip_suffix('>')?;
    path.starts_with('/').then(|| path.into())
}

/// The path that a call names, without dots. Nothing of ours goes by a working directory: what does is a build's.
fn at(directory: Option<&str>, name: &str) -> Option<PathBuf> {
    let whole = directory.and_then(descriptor).unwrap_or_default().join(quoted(name));
    let mut path = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.is_absolute().then_some(path)
}

/// What stands between quotes.
fn quoted(argument: &str) -> String {
    let text = argument.trim_start_matches('"').trim_end_matches('"');
    text.replace("\\n", "\n").replace("\\\"", "\"")
}

fn octal(argument: &str) -> u32 {
    u32::from_str_radix(argument, 8).unwrap_or(0)
}
