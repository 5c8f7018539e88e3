//! The limit of a package deploy: get, hash, inflate, write, switch, start. Nothing is checked beyond
//! the hash, nothing is recorded; one sync of the file system at the end.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

const CHUNK: usize = 256 << 10;

/// Deploys what `list` names, a line `sha256 name` each, from this server; the seconds.
pub fn deploy(address: &str, list: &Path, to: &Path) -> Result<f64> {
    let list = fs::read_to_string(list)?;
    let list: Vec<(&str, &str)> = list.lines().filter_map(|line| line.split_once(' ')).collect();
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let ended: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
            while let Some((sha256, name)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                get(address, name, sha256, &mut packed)?;
                let release = to.join(name).join("release");
                unpack(&packed, &release, &mut unpacked)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..super::THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    ended.into_iter().collect::<Result<()>>()?;
    rustix::fs::syncfs(File::open(to)?)?;
    let mut started = Vec::new();
    for (_, name) in &list {
        let service = to.join(name);
        symlink("release", service.join("current.tmp"))?;
        fs::rename(service.join("current.tmp"), service.join("current"))?;
        let mut command = Command::new(service.join("current/bin/run"));
        started.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    let took = begun.elapsed().as_secs_f64();
    for mut child in started {
        child.kill()?;
        child.wait()?;
    }
    Ok(took)
}

/// Fetches into memory, hashing what comes as it comes.
fn get(address: &str, name: &str, sha256: &str, into: &mut Vec<u8>) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    into.clear();
    let mut chunk = vec![0; CHUNK];
    let body = loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the server has hung up");
        into.extend_from_slice(&chunk[..count]);
        if let Some(end) = into.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    into.drain(..body);
    let mut hash = Sha256::new();
    hash.update(&into);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        into.extend_from_slice(&chunk[..count]);
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == sha256, "{name} is {found}");
    Ok(())
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Unpacks a zip as the generator makes them.
fn unpack(zip: &[u8], to: &Path, buffer: &mut Vec<u8>) -> Result<()> {
    let end = zip.len().checked_sub(22).context("it is no zip")?;
    let (count, mut at) = (number(zip, end + 10, 2), number(zip, end + 16, 4));
    let mut inflate = libdeflater::Decompressor::new();
    let mut made = HashSet::new();
    fs::create_dir_all(to)?;
    for _ in 0..count {
        let (method, packed, size) =
            (number(zip, at + 10, 2), number(zip, at + 20, 4), number(zip, at + 24, 4));
        let (name_length, extra) =
            (number(zip, at + 28, 2), number(zip, at + 30, 2) + number(zip, at + 32, 2));
        let (mode, offset) = (number(zip, at + 40, 2), number(zip, at + 42, 4));
        let name = std::str::from_utf8(&zip[at + 46..at + 46 + name_length])?;
        at += 46 + name_length + extra;
        let data = offset + 30 + number(zip, offset + 26, 2) + number(zip, offset + 28, 2);
        let data = &zip[data..data + packed];
        if let Some((directory, _)) = name.rsplit_once('/')
            && made.insert(directory)
        {
            fs::create_dir_all(to.join(directory))?;
        }
        let mode = u32::try_from(mode & 0o777)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to.join(name))?;
        if method == 0 {
            file.write_all(data)?;
        } else {
            buffer.resize(size.max(buffer.len()), 0);
            let count = inflate.deflate_decompress(data, &mut buffer[..size])?;
            file.write_all(&buffer[..count])?;
        }
    }
    Ok(())
}
