//! A package server on loopback that behaves as its addresses say.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Ends with the test's process; each connection is answered once.
pub struct PackageServer {
    port: u16,
    /// The paths that were asked for, with the range if there was one.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// Whether what is asked for under `/held` comes to its end.
    held: Arc<Held>,
}

#[derive(Default)]
struct Held {
    open: Mutex<bool>,
    changed: Condvar,
}

impl PackageServer {
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, cuts, held) = (asked.clone(), Arc::new(AtomicUsize::new(0)), Arc::<Held>::default());
        let gate = held.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, cuts, gate) = (list.clone(), cuts.clone(), gate.clone());
                std::thread::spawn(move || answer(&stream, &list, &cuts, &gate).ok());
            }
        });
        Self { port, asked, held }
    }

    /// Lets what is held come to its end.
    #[allow(dead_code, reason = "not every binary of tests holds a package")]
    pub fn release(&self) {
        *self.held.open.lock().unwrap() = true;
        self.held.changed.notify_all();
    }

    /// Waits until a path was asked for.
    #[allow(dead_code, reason = "not every binary of tests waits for it")]
    pub fn until_asked(&self, path: &str) {
        let begun = std::time::Instant::now();
        while self.count(path) == 0 {
            assert!(begun.elapsed() < std::time::Duration::from_mins(1), "nobody asks for {path}");
            std::thread::yield_now();
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(path)).count()
    }
}

fn answer(
    stream: &TcpStream,
    asked: &Mutex<Vec<String>>,
    cuts: &AtomicUsize,
    held: &Held,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    // A daemon that was killed has connected and says nothing.
    let Some(Ok(first)) = lines.next() else { return Ok(()) };
    let path = first.split(' ').nth(1).unwrap().to_string();
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    asked.lock().unwrap().push(format!("{path} {from}"));
    let body = match &*path {
        path if path.starts_with("/evil") => tar(&[("../../evil", b"out")]),
        path if path.starts_with("/big") || path.starts_with("/cut") => {
            tar(&[("file", &vec![b'x'; 300_000])])
        }
        path if path.starts_with("/html") => b"<html>not found</html>".to_vec(),
        path => tar(&[("file", path.as_bytes())]),
    };
    let mut stream = stream;
    let mut head = |status: &str, length: usize, more: &str| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"1\"\r\n{more}\r\n");
        stream.write_all(head.as_bytes())
    };
    let rest = body[from.min(body.len())..].to_vec();
    let is_first = asked.lock().unwrap().iter().filter(|asked| asked.starts_with(&path)).count() == 1;
    if path.starts_with("/404") || path.starts_with("/later") && is_first {
        return head("404 Not Found", 0, "");
    }
    if path.starts_with("/busy")
        && asked.lock().unwrap().iter().filter(|asked| asked.starts_with("/busy")).count() < 3
    {
        return head("503 Service Unavailable", 0, "Retry-After: 0\r\n");
    }
    match from {
        0 => head("200 OK", rest.len(), "")?,
        from => head(
            "206 Partial Content",
            rest.len(),
            &format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len()),
        )?,
    }
    // The first answer is cut in the middle.
    let end = if path.starts_with("/cut") && cuts.fetch_add(1, Ordering::Relaxed) == 0 {
        100_000
    } else {
        rest.len()
    };
    if path.starts_with("/held") {
        stream.write_all(&rest[..end / 2])?;
        let open = held.open.lock().unwrap();
        drop(held.changed.wait_while(open, |open| !*open).unwrap());
        return stream.write_all(&rest[end / 2..end]);
    }
    stream.write_all(&rest[..end])
}

/// A tar with these files, whatever their names.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
