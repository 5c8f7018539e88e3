//! What the containers of a test write down themselves, and what the daemon answers.

use std::io::Read;
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// What a container wrote down when it was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub container: String,
    pub operation: String,
    pub pid: i32,
    /// Seconds since the epoch.
    pub at: f64,
}

impl Start {
    /// A line of the witness.
    pub fn of(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [container, operation, pid, at] = words.as_slice() else { panic!("{line}") };
        Self {
            container: (*container).into(),
            operation: (*operation).into(),
            pid: pid.parse().unwrap(),
            at: at.parse().unwrap(),
        }
    }
}

/// An event stream.
pub struct Events {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Events {
    /// The events that come over this connection.
    pub fn of(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// The next event; `None` when the stream has ended.
    #[allow(clippy::should_implement_trait, reason = "no iterator: it blocks")]
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let whole = self.bytes.iter().position(|&byte| byte == b'\n');
            if let Some(end) = whole {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ") {
                    return Some(serde_json::from_slice(data).unwrap());
                }
                continue;
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend(&buffer[..count]),
                // A read with a time limit is not restarted by the kernel.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// The body of an answer that may have come in chunks.
pub fn unchunked(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_string();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
    whole
}
