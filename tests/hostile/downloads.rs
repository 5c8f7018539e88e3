//! Servers that lie, stall, cut, flood and send elsewhere.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deployd::artifact::fetch::{FetchError, FetchRequest, Fetcher, Limits, Timeouts};
use deployd::artifact::unpack::unpack;
use deployd::artifact::{Artifact, ArtifactStore};
use deployd::foreign::Reader;
use deployd::plan::check::{Policy, check_package_uri};
use tokio_util::sync::CancellationToken;

use crate::answers::{answer, answers, package, timed};
use crate::server::Server;

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_unpacked_bytes: 8 << 20, max_entries: 100 };
const TIMEOUTS: Timeouts = Timeouts {
    fetch: Duration::from_secs(6),
    idle: Duration::from_secs(2),
    backoff: Duration::from_millis(5),
};
/// What a try may take beyond its limit, on a busy machine.
const GRACE: Duration = Duration::from_secs(20);

struct House {
    directory: tempfile::TempDir,
    store: Arc<ArtifactStore>,
    fetcher: Fetcher,
}

impl House {
    fn new(allowed: Option<Vec<String>>) -> Self {
        // In memory, where it can be: a release is synced with all that anybody else writes to the disk.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Arc::new(ArtifactStore::open(directory.path().join("artifacts")).unwrap());
        let policy = Policy { allowed_uris: allowed, ..Policy::default() };
        let fetcher = Fetcher::new(store.clone(), LIMITS, policy, TIMEOUTS, Reader::in_threads()).unwrap();
        Self { directory, store, fetcher }
    }

    fn fetch(&self, uri: &str) -> Result<Artifact, FetchError> {
        let request = FetchRequest { task: 1, uri: uri.into(), sha256: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        let fetched = runtime.block_on(self.fetcher.fetch(request, &CancellationToken::new(), &|_, _| {}));
        assert!(begun.elapsed() < TIMEOUTS.fetch + GRACE, "{uri}: {:?}", begun.elapsed());
        let parts: Vec<PathBuf> = fs::read_dir(self.directory.path().join("artifacts"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "part"))
            .collect();
        assert!(parts.is_empty(), "{uri} left {parts:?}");
        if let Err(error) = &fetched {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        fetched
    }

    /// Fetched, and unpacked: the content; or why not.
    fn taken(&self, uri: &str) -> Result<Vec<u8>, String> {
        let artifact = self.fetch(uri).map_err(|error| error.to_string())?;
        let path = self.store.path(&artifact.sha256);
        let release = self.directory.path().join("release");
        let unpacked = unpack(&path, &release, &LIMITS, 0, |_| Ok(()));
        fs::remove_dir_all(release).ok();
        unpacked.map_err(|error| error.to_string())?;
        Ok(fs::read(path).unwrap())
    }
}

#[test]
fn whatever_a_server_says_only_the_package_is_taken() {
    let mut wrong = Vec::new();
    let cases = answers();
    std::thread::scope(|scope| {
        let judged: Vec<_> = cases
            .iter()
            .map(|(case, raw, words)| {
                scope.spawn(move || {
                    let server = Server::saying(raw);
                    let house = House::new(Some(vec![server.url("/")]));
                    let taken = house.taken(&server.url("/package"));
                    match (&taken, words.is_empty()) {
                        (Ok(bytes), true) if *bytes == package() => None,
                        (Err(why), false) if why.contains(words) && !why.contains("S3CR3T") => None,
                        _ => Some(format!("{case}: {:?} instead of {words}", taken.map(|bytes| bytes.len()))),
                    }
                })
            })
            .collect();
        wrong.extend(judged.into_iter().filter_map(|thread| thread.join().unwrap()));
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whatever_a_server_does_a_download_ends_in_time() {
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let judged: Vec<_> = timed()
            .into_iter()
            .map(|(case, script, words)| {
                scope.spawn(move || {
                    let server = Server::new(script);
                    let house = House::new(Some(vec![server.url("/")]));
                    match (house.taken(&server.url("/package")), words.is_empty()) {
                        (Ok(bytes), true) if bytes == package() => None,
                        (Err(why), false) if why.contains(words) => None,
                        (taken, _) => {
                            Some(format!("{case}: {:?} instead of {words}", taken.map(|bytes| bytes.len())))
                        }
                    }
                })
            })
            .collect();
        wrong.extend(judged.into_iter().filter_map(|thread| thread.join().unwrap()));
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn credentials_go_to_the_address_of_the_plan_and_nowhere_else() {
    let end = Server::saying(&answer("200 OK", "", &package()));
    let to = format!("Location: {}\r\nContent-Length: 0\r\n", end.url("/end"));
    let begin = Server::saying(&answer("302 Found", &to, b""));
    let house = House::new(None);
    let uri = begin.url("/begin").replace("http://", "http://user:S3CR3T@");
    house.fetch(&uri).unwrap();
    let asked = |server: &Server| server.asked.lock().unwrap().concat().to_lowercase();
    assert!(asked(&begin).contains("authorization: basic"), "{}", asked(&begin));
    assert!(end.count() == 1 && !asked(&end).contains("authorization"), "{}", asked(&end));
    // `dXNlcjpTM0NSM1Q=` is how they are sent.
    assert!(!asked(&end).contains("s3cr3t") && !asked(&end).contains("dxnlcjptm0nsm1q"), "{}", asked(&end));
    // Nor does a header that names the page before lead there.
    assert!(!asked(&end).contains("referer"), "{}", asked(&end));
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let closed = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let plain = Server::saying(&answer("200 OK", "", &package()));
    for uri in [
        format!("http://127.0.0.1:{port}/x"),
        // No such name is ever given to anybody.
        "http://nobody.invalid/x".to_string(),
        plain.url("/x").replace("http:", "https:"),
    ] {
        let why = House::new(None).fetch(&uri).unwrap_err().to_string();
        assert!(
            why.starts_with("cannot")
                && why.contains(&uri)
                && (why.contains("tries") || why.contains("the last try")),
            "{why}"
        );
    }
}

/// Addresses by which other machines, or this one, were asked for what was none of the asker's business.
const STRANGE: [&str; 26] = [
    "file:///etc/shadow",
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:2375/v1.41/containers/json",
    "http://[::1]:22/",
    "http://0/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://127.1/",
    "gopher://127.0.0.1:6379/_x",
    "http://user:pa55@host/x.zip",
    "http://host.evil/x.zip#@host/",
    "http://evil\\@host/",
    "http://host/%0d%0aX: y",
    "http://localhost.localdomain/",
    "http://[::ffff:127.0.0.1]/",
    "unix:///run/deployd/deployd.sock",
    "http://10.0.0.1/",
    "http://metadata.google.internal/",
    "data:application/zip;base64,UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==",
    "HTTP://HOST/x",
    "http:/x",
    "//host/x",
    "http://host:99999/x",
    "http://xn--/",
    "http://host/../../x.zip",
    "http://host@evil/x.zip?token=SECRET123",
];

#[test]
fn strange_addresses_are_what_the_configuration_says() {
    let allowed = |uris: Option<&[&str]>, address: &str| {
        let allowed_uris = uris.map(|uris| uris.iter().map(|uri| (*uri).to_string()).collect());
        let policy = Policy { allowed_uris, ..Policy::default() };
        let checked = check_package_uri(address, &policy);
        if let Err(why) = &checked {
            assert!(!why.contains("pa55") && !why.contains("SECRET123"), "{why}");
        }
        checked.is_ok()
    };
    // Scheme, host, port and path are compared; who asks and with which signature is not.
    let on_the_host = ["http://user:pa55@host/x.zip", "HTTP://HOST/x"];
    // No web client would ask there.
    let broken = ["http://host:99999/x", "http://xn--/", "http://evil\\@host/", "http://host/%0d%0aX: y"];
    for address in STRANGE {
        let listed =
            allowed(Some(&["https://packages.example.com/", "http://host/", "http://host"]), address);
        assert_eq!(listed, on_the_host.contains(&address), "{address}");
        // Without a list any web address is allowed, wherever it is; nothing else is.
        let web = address.to_lowercase().starts_with("http://") && !broken.contains(&address);
        assert_eq!(allowed(None, address), web, "{address}");
    }
    assert!(allowed(Some(&["http://host/"]), "http://host/x.zip?token=SECRET123"));
}
