//! A disk of files that keeps only what was synced: a file's content and mode when the file was synced after
//! they were changed, a name when its directory was. Real disks keep more; none may be relied on for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::calls::{Call, Step};

/// What the umask of the daemon takes away.
const UMASK: u32 = 0o022;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link(String),
}

/// Whether a name is that of something complete.
pub fn is_complete(name: &str) -> bool {
    !name.ends_with(".tmp") && !name.ends_with(".part")
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    /// When its content, owner or mode was changed last, and up to when they are durable.
    changed: usize,
    synced: usize,
    /// What a directory holds now, what it holds for sure, and what was changed of that since, when.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<(usize, String, Option<usize>)>,
}

/// The disk below a directory that is there for sure.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    nodes: Vec<Node>,
}

impl Files {
    /// What lies elsewhere than in this directory of `root`'s is not looked at.
    pub fn below(root: &Path) -> Self {
        let mut files = Self { root: root.to_path_buf(), nodes: Vec::new() };
        files.node(Kind::Directory, 0o755);
        files
    }

    fn node(&mut self, kind: Kind, mode: u32) -> usize {
        let (names, durable, pending) = Default::default();
        self.nodes.push(Node { kind, mode, changed: 0, synced: 0, names, durable, pending });
        self.nodes.len() - 1
    }

    /// The names that lead to a path from the root; `None` if it lies elsewhere.
    fn parts(&self, path: &Path) -> Option<Vec<String>> {
        let path = path.strip_prefix(&self.root).ok()?;
        Some(path.iter().map(|part| part.to_str().unwrap().to_string()).collect())
    }

    fn find(&self, path: &Path) -> Option<usize> {
        self.parts(path)?.iter().try_fold(0, |node, name| self.nodes[node].names.get(name).copied())
    }

    /// Lets a name lead there, or nowhere.
    fn set(&mut self, path: &Path, to: Option<usize>, when: usize) {
        let Some(directory) = path.parent().and_then(|parent| self.find(parent)) else { return };
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let directory = &mut self.nodes[directory];
        directory.pending.push((when, name.clone(), to));
        match to {
            Some(to) => directory.names.insert(name, to),
            None => directory.names.remove(&name),
        };
    }

    fn make(&mut self, path: &Path, kind: Kind, mode: u32, when: usize) {
        if self.find(path).is_none() {
            let node = self.node(kind, mode & !UMASK);
            self.set(path, Some(node), when);
        }
    }

    fn change(&mut self, path: &Path, when: usize) {
        if let Some(node) = self.find(path) {
            self.nodes[node].changed = when;
        }
    }

    /// What a sync that was begun then makes durable.
    fn sync(&mut self, node: usize, begun: usize) {
        let node = &mut self.nodes[node];
        node.synced = node.synced.max(begun);
        let later = node.pending.split_off(node.pending.partition_point(|(when, ..)| *when <= begun));
        for (_, name, to) in std::mem::replace(&mut node.pending, later) {
            match to {
                Some(to) => node.durable.insert(name, to),
                None => node.durable.remove(&name),
            };
        }
    }

    pub fn take(&mut self, step: &Step) {
        let when = step.ended;
        match &step.call {
            Call::Create(path) => self.make(path, Kind::File, 0, when),
            Call::Directory(path, mode) => self.make(path, Kind::Directory, *mode, when),
            Call::Symlink(path, target) => self.make(path, Kind::Link(target.clone()), 0, when),
            Call::Link(from, to) => {
                let node = self.find(from);
                self.set(to, node, when);
            }
            Call::Rename(from, to) => {
                let node = self.find(from);
                self.set(to, node, when);
                self.set(from, None, when);
            }
            Call::Remove(path) => self.set(path, None, when),
            Call::Change(path) => self.change(path, when),
            Call::Mode(path, mode) => {
                if let Some(node) = self.find(path)
                    && self.nodes[node].mode != *mode
                {
                    self.nodes[node].mode = *mode;
                    self.change(path, when);
                }
            }
            Call::Sync(path) => {
                if let Some(node) = self.find(path) {
                    self.sync(node, step.begun);
                }
            }
            Call::SyncAll => (0..self.nodes.len()).for_each(|node| self.sync(node, step.begun)),
            Call::Said(..) => {}
        }
    }

    /// Takes in what somebody else has written, who has synced nothing.
    pub fn discover(&mut self, path: &Path, when: usize) {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            self.make(path, Kind::Directory, 0o755, when);
            for entry in path.read_dir().unwrap() {
                self.discover(&entry.unwrap().path(), when);
            }
        } else {
            self.make(path, Kind::File, 0, when);
            self.change(path, when);
        }
    }

    /// What lies in a directory.
    pub fn children(&self, path: &Path) -> Vec<PathBuf> {
        let names = self.find(path).map(|node| self.nodes[node].names.keys());
        names.into_iter().flatten().map(|name| path.join(name)).collect()
    }

    pub fn kind(&self, path: &Path) -> Option<&Kind> {
        self.find(path).map(|node| &self.nodes[node].kind)
    }

    /// Everything with what it is, as it would be without a power cut.
    pub fn all(&self, path: &Path) -> BTreeMap<PathBuf, Kind> {
        let mut all: BTreeMap<_, _> =
            self.kind(path).map(|kind| (path.to_path_buf(), kind.clone())).into_iter().collect();
        all.extend(self.children(path).iter().flat_map(|child| self.all(child)));
        all
    }

    /// What a power cut may take, or bring back, of a path with all that is below it, and of the way to it.
    pub fn not_durable(&self, path: &Path) -> Vec<String> {
        let mut missing = Vec::new();
        let (mut node, mut way) = (0, self.root.clone());
        for name in self.parts(path).unwrap() {
            let directory = &self.nodes[node];
            way.push(&name);
            let Some(next) = directory.names.get(&name) else {
                return vec![format!("{} is not there", way.display())];
            };
            if directory.durable.get(&name) != Some(next) {
                missing.push(format!("the name {}", way.display()));
            }
            node = *next;
            self.content(node, &way, &mut missing);
        }
        self.tree(node, path, &mut missing);
        missing
    }

    fn content(&self, node: usize, path: &Path, missing: &mut Vec<String>) {
        let node = &self.nodes[node];
        if node.changed > node.synced {
            missing.push(format!("content, owner or mode of {}", path.display()));
        }
    }

    fn tree(&self, node: usize, path: &Path, missing: &mut Vec<String>) {
        let directory = &self.nodes[node];
        for name in directory.names.keys().chain(directory.durable.keys()).filter(|name| is_complete(name)) {
            if directory.names.get(name) != directory.durable.get(name) {
                missing.push(format!("the name {}", path.join(name).display()));
            }
        }
        for (name, child) in directory.names.iter().filter(|(name, _)| is_complete(name)) {
            self.content(*child, &path.join(name), missing);
            self.tree(*child, &path.join(name), missing);
        }
    }
}

/// A release, as strace would tell of it.
const RELEASE: &str = r#"
1 mkdir("/d/state", 0755) = 0
1 fsync(3</d>) = 0
1 mkdirat(AT_FDCWD</>, "/d/state/r.tmp", 0755) = 0
1 openat(5</d/state/r.tmp>, "file", O_WRONLY|O_CREAT|O_EXCL, 0644) = 6</d/state/r.tmp/file>
2 fsync(6</d/state/r.tmp/file> <unfinished ...>
1 write(6</d/state/r.tmp/file>, "a, \"b\")", 8) = 8
2 <... fsync resumed>) = 0
1 fchmod(6</d/state/r.tmp/file>, 0755) = 0
1 symlink("file", "/d/state/r.tmp/link") = 0
1 fsync(6</d/state/r.tmp/file>) = 0
1 fsync(5</d/state/r.tmp>) = 0
1 rename("/d/state/r.tmp", "/d/state/r") = 0
1 fsync(4</d/state> <unfinished ...>
2 mkdir("/d/state/r/more", 0755) = -1 EEXIST (File exists)
1 <... fsync resumed>)              = 0
"#;

/// What a release that is written like that would lack after a power cut.
fn lacks(trace: &str) -> Vec<String> {
    let root = Path::new("/d");
    let mut files = Files::below(root);
    for step in crate::calls::read(trace, Path::new("/note"), 1) {
        files.take(&step);
    }
    files.not_durable(&root.join("state/r"))
}

/// The disk has teeth: it finds each sync that is left out, and each that comes too early.
#[test]
fn a_sync_that_is_missing_is_found() {
    assert_eq!(lacks(RELEASE), Vec::<String>::new());
    let lines: Vec<&str> = RELEASE.lines().collect();
    let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat().join("\n");
    let syncs = (0..lines.len()).filter(|n| lines[*n].contains("1 fsync("));
    let lacking: Vec<_> = syncs.map(|n| lacks(&without(n))).collect();
    assert_eq!(
        lacking,
        [
            vec!["the name /d/state"],
            vec!["content, owner or mode of /d/state/r/file"],
            vec!["the name /d/state/r/file", "the name /d/state/r/link"],
            vec!["the name /d/state/r"],
        ]
    );
    let early = RELEASE.replace(">, 0755) = 0", ">, 0700) = 0\n1 fsync(6</d/state/r.tmp/file>) = 0")
        + "1 chmod(\"/d/state/r/file\", 0755) = 0";
    assert_eq!(lacks(&early), ["content, owner or mode of /d/state/r/file"]);
}
