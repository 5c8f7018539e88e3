//! Git: how much of a repository is fetched, and what becomes of a commit whose cache is gone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A repository to which commits are added, and a cache.
struct Room {
    directory: tempfile::TempDir,
    git: Git,
    origin: Origin,
    cancel: CancellationToken,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [own, cache] = ["own", "cache"].map(|name| directory.path().join(name));
        let git = Git::open(own, cache, TIMEOUT).unwrap();
        let origin = Origin::Url(format!("file://{}", directory.path().join("app").display()));
        let room = Self { directory, git, origin, cancel: CancellationToken::new() };
        fs::create_dir(room.path("app")).unwrap();
        room.run("app", &["init", "-q", "-b", "main"]);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, folder: impl AsRef<Path>, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let ran = command.current_dir(self.directory.path().join(folder)).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_string()
    }

    /// Adds a commit of this number; its name.
    fn commit(&self, number: usize) -> String {
        fs::create_dir(self.path(&format!("app/{number}"))).unwrap();
        std::os::unix::fs::symlink("nothing", self.path(&format!("app/{number}/link"))).unwrap();
        self.run("app", &["add", "."]);
        self.run("app", &["commit", "-q", "-m", "a commit"]);
        self.run("app", &["rev-parse", "HEAD"])
    }

    async fn resolve(&self, commit: Option<&str>) -> Pin {
        self.git.resolve(&self.origin, "main", commit, &self.cancel).await.unwrap()
    }

    /// How many commits the cache has.
    fn cached(&self) -> String {
        let cache = self.git.cache_of(&self.origin);
        self.run(cache, &["rev-list", "--count", "refs/deployd/main"])
    }

    async fn check_out(&self, commit: &str) -> Result<usize, GitError> {
        let into = self.path("out");
        fs::create_dir(&into).unwrap();
        let done = self.git.checkout(&self.origin, commit, &into, &self.cancel).await;
        let count = fs::read_dir(&into).unwrap().count();
        fs::remove_dir_all(&into).unwrap();
        done.map(|()| count)
    }
}

#[tokio::test]
async fn the_history_is_fetched_when_it_is_asked_about_and_not_before() {
    let room = Room::new();
    let first = room.commit(1);
    room.commit(2);
    let tip = room.commit(3);
    assert_eq!(room.resolve(None).await.commit, tip);
    assert_eq!(room.cached(), "1");
    assert_eq!(room.check_out(&tip).await.unwrap(), 3);
    let next = room.commit(4);
    assert_eq!(room.resolve(None).await.commit, next);
    assert_eq!(room.cached(), "1");
    let pin = room.resolve(Some(&first)).await;
    assert_eq!(pin, Pin { commit: first.clone(), branch_tip: next });
    assert_eq!(room.cached(), "4");
    assert_eq!(room.check_out(&first).await.unwrap(), 1);
    room.commit(5);
    room.resolve(None).await;
    assert_eq!(room.cached(), "5");
}

#[tokio::test]
async fn a_commit_that_was_resolved_is_found_again_when_the_cache_is_gone() {
    let room = Room::new();
    let pinned = room.commit(1);
    assert_eq!(room.resolve(None).await.commit, pinned);
    room.commit(2);
    fs::remove_dir_all(room.git.cache_of(&room.origin)).unwrap();
    room.resolve(None).await;
    assert_eq!(room.check_out(&pinned).await.unwrap(), 1);
    let nowhere = room.check_out(&"1".repeat(40)).await;
    assert!(matches!(nowhere, Err(GitError::Failed { what: "fetch from" | "check out", .. })), "{nowhere:?}");
}

/// A server that knows nothing of git: its files are all there is.
fn serve_files(root: PathBuf) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = request.split([' ', '?']).nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) =
                fs::read(root.join(path)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).ok();
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_can_only_give_all_of_a_repository_is_asked_for_all() {
    let mut room = Room::new();
    let first = room.commit(1);
    room.commit(2);
    let tip = room.commit(3);
    room.run("app", &["update-server-info"]);
    let port = serve_files(room.path("app/.git"));
    room.origin = Origin::Url(format!("http://127.0.0.1:{port}/"));
    assert_eq!(room.resolve(None).await.commit, tip);
    assert_eq!(room.cached(), "3");
    assert_eq!(room.check_out(&tip).await.unwrap(), 3);
    let next = room.commit(4);
    room.run("app", &["update-server-info"]);
    assert_eq!(room.resolve(None).await.commit, next);
    assert_eq!(room.resolve(Some(&first)).await.commit, first);
    // What was resolved before is found again, by way of the whole.
    fs::remove_dir_all(room.git.cache_of(&room.origin)).unwrap();
    assert_eq!(room.check_out(&first).await.unwrap(), 1);
}

#[tokio::test]
async fn a_fetch_that_was_cut_does_not_make_the_next_one_larger() {
    let room = Room::new();
    room.commit(1);
    let tip = room.commit(2);
    let cache = room.git.cache_of(&room.origin);
    room.run("", &["init", "-q", "--bare", "--template=", &cache.display().to_string()]);
    assert_eq!(room.resolve(None).await.commit, tip);
    assert_eq!(room.cached(), "1");
}
