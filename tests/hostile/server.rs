//! A server on loopback that says exactly what it is told to, byte for byte, and notes what it is asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does on a connection, after the head of a request has come.
#[derive(Clone)]
pub enum Step {
    /// Says this.
    Say(Vec<u8>),
    /// Waits for the test.
    Wait(Arc<dyn Fn() + Send + Sync>),
    /// Says nothing more until the other side hangs up.
    Stall,
    /// Says this again and again, until the other side hangs up; waits in between.
    Repeat(Vec<u8>, Duration),
}

/// Ends with the test's process.
pub struct Server {
    pub port: u16,
    /// The heads of all requests.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server whose `number`-th connection goes as `script` says; after it the connection is closed.
    pub fn new(script: impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, script) = (asked.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let (list, script) = (list.clone(), script.clone());
                std::thread::spawn(move || {
                    serve(stream, |head| {
                        list.lock().unwrap().push(head.to_string());
                        script(number, head)
                    });
                });
            }
        });
        Self { port, asked }
    }

    /// A server that answers everything with these bytes, and hangs up.
    pub fn saying(answer: &[u8]) -> Self {
        let answer = answer.to_vec();
        Self::new(move |_, _| vec![Step::Say(answer.clone())])
    }

    /// A server that says something, waits, and says the rest.
    pub fn pausing(first: Vec<u8>, rest: Vec<u8>, wait: impl Fn() + Send + Sync + 'static) -> Self {
        let wait: Arc<dyn Fn() + Send + Sync> = Arc::new(wait);
        Self::new(move |_, _| {
            vec![Step::Say(first.clone()), Step::Wait(wait.clone()), Step::Say(rest.clone())]
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn serve(mut stream: TcpStream, script: impl Fn(&str) -> Vec<Step>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    for step in script(&String::from_utf8_lossy(&head)) {
        match step {
            Step::Say(bytes) => {
                stream.write_all(&bytes).ok();
            }
            Step::Wait(wait) => wait(),
            Step::Stall => {
                std::io::copy(&mut stream, &mut std::io::sink()).ok();
            }
            Step::Repeat(bytes, wait) => {
                while stream.write_all(&bytes).is_ok() {
                    std::thread::sleep(wait);
                }
            }
        }
    }
    // A hard close could take away what was said last.
    stream.shutdown(Shutdown::Write).ok();
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}
