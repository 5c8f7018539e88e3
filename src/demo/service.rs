//! `deployd demo-service PORT [WORDS…]`: a program for the demo's containers to run. It says that
//! it was started, and answers every HTTP request with 200.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// Serves until it is ended.
pub fn serve(arguments: &[String]) -> ExitCode {
    match arguments.split_first() {
        Some((port, words)) => match port.parse().map_err(|_| format!("{port} is no port")) {
            Ok(port) => run(port, &words.join(" ")),
            Err(error) => fail(&error),
        },
        None => fail("usage: deployd demo-service PORT [WORDS...]"),
    }
}

fn fail(text: &str) -> ExitCode {
    writeln!(std::io::stderr(), "demo-service: {text}").ok();
    ExitCode::from(2)
}

fn run(port: u16, words: &str) -> ExitCode {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(error) => return fail(&format!("cannot listen on port {port}: {error}")),
    };
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let (container, operation) = (set("DEPLOYD_CONTAINER"), set("DEPLOYD_OPERATION"));
    writeln!(std::io::stdout(), "{} {container} by {operation} {words}", super::STARTED).ok();
    for stream in listener.incoming().flatten() {
        answer(stream, &format!("{container} {words}\n")).ok();
    }
    ExitCode::FAILURE
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = [0; 1024];
    // A TCP health check connects and says nothing.
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())
}
