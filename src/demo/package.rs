//! The demo's package server: one package over HTTP on loopback.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// The package of the service `web`.
///
/// # Errors
/// None that can happen: it is made in memory.
pub fn web() -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let files = [
        ("bin/server", include_str!("../../examples/web/bin/server"), 0o755),
        ("VERSION", include_str!("../../examples/web/VERSION"), 0o644),
    ];
    for (path, text, mode) in files {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, path, text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}

/// Serves `package` at every address until the process ends; the port.
pub fn serve(package: Vec<u8>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("packages".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(&stream, &package).ok();
        }
    })?;
    Ok(port)
}

fn answer(stream: &TcpStream, package: &[u8]) -> io::Result<()> {
    let mut from = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0).min(package.len());
        }
    }
    let (body, whole) = (&package[from..], package.len());
    let status = match from {
        0 => "200 OK\r\n".to_string(),
        from => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{whole}\r\n", whole - 1),
    };
    let head = format!("HTTP/1.1 {status}Content-Length: {}\r\nETag: \"1\"\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
