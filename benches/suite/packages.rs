//! W3: packages over loopback HTTP, verified, unpacked, switched to, restarted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use crate::daemon::{Daemon, timed};
use crate::series::Series;
use crate::{Options, limits};

/// What is deployed.
struct Packages {
    directory: tempfile::TempDir,
    /// Hash and name.
    list: Vec<(String, String)>,
    address: String,
}

/// W3.
pub fn deploy(options: &Options) -> Result<()> {
    let (count, files, bytes) = if options.small { (3, 100, 2 << 20) } else { (20, 2_000, 50_000_000) };
    let packages = Packages::make(count, files, bytes)?;
    let list = packages.directory.path().join("list");
    let lines: Vec<_> = packages.list.iter().map(|(sha256, name)| format!("{sha256} {name}\n")).collect();
    fs::write(&list, lines.concat())?;
    let mut series = Series::default();
    series.case("limit: two threads, one sync", || {
        let to = tempfile::tempdir()?;
        let arguments = ["deploy", &packages.address, &list.to_string_lossy(), &to.path().to_string_lossy()];
        Ok(vec![("all", limits::ask(&arguments)?[0])])
    });
    series.case("deployd", || {
        let says = "run: { command: [./bin/run]@user }\nhealth: { settle: 0s }";
        let daemon = Daemon::with_services(packages.list.len(), says)?;
        daemon.store_plan("up", &packages.plan())?;
        let took = daemon.execute("up")?;
        ensure!(daemon.running() == packages.list.len(), "{} run", daemon.running());
        Ok(vec![("all", took)])
    });
    if Path::new("/usr/bin/unzip").exists() && Path::new("/usr/bin/curl").exists() {
        series.at_most(2, "shell: curl, sha256sum, unzip, two at a time", || {
            let to = tempfile::tempdir()?;
            let script = format!(
                "one() {{ mkdir -p $2 && cd $2 && curl -sfo p.zip http://{}/$2 && echo \"$1  p.zip\" | \
                 sha256sum -c --quiet && unzip -q p.zip -d release && ln -s release current; }}\n\
                 export -f one; xargs -P2 -L1 bash -ec 'one $0 $1' <{}; sync -f .",
                packages.address,
                list.display()
            );
            Ok(vec![("all", timed(Command::new("bash").args(["-euc", &script]).current_dir(&to))?)])
        });
    }
    series.run(options.rounds);
    Ok(())
}

impl Packages {
    /// Makes them: text that deflates well, files that half do, and a few that don't.
    fn make(count: usize, files: usize, bytes: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("deployd-bench-packages").tempdir()?;
        let mut list = Vec::new();
        for number in 1..=count {
            let name = format!("p{number}.zip");
            let package = Zip::of(number as u64, files, bytes);
            fs::write(directory.path().join(&name), &package)?;
            let sha256: String = Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
            list.push((sha256, name));
        }
        let address = serve(directory.path())?;
        Ok(Self { directory, list, address })
    }

    fn plan(&self) -> String {
        let items = self.list.iter().enumerate().map(|(index, (sha256, name))| {
            let (id, uri) = (index + 1, format!("http://{}/{name}", self.address));
            format!(
                "  - {{ serviceId: {id}, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: \"{uri}\", httpSrcSha256: {sha256} }}\n"
            )
        });
        format!("deployPlanItems:\n{}", items.collect::<String>())
    }
}

/// Serves a directory on loopback, for as long as we live.
fn serve(directory: &Path) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, directory) = (listener.local_addr()?.to_string(), directory.to_path_buf());
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let directory = directory.clone();
            std::thread::spawn(move || answer(stream, &directory).ok());
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, directory: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut closes = false;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            closes |= line.trim_end() == "Connection: close";
            if line.trim_end().is_empty() {
                break;
            }
        }
        let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let mut file = File::open(directory.join(name))?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.metadata()?.len())?;
        // The kernel copies: what serves costs as little as a server can.
        std::io::copy(&mut file, &mut stream)?;
        if closes {
            return Ok(());
        }
    }
}

/// A source of numbers that are the same everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next one below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    /// Text of some words.
    pub fn text(&mut self, bytes: usize) -> Vec<u8> {
        const PARTS: [&str; 16] = [
            "ser", "vice", "de", "ploy", "con", "fig", "re", "lease", "array", "index", "value", "string",
            "return", "if", "for", "map",
        ];
        let mut text = Vec::with_capacity(bytes + 32);
        while text.len() < bytes {
            for _ in 0..=self.below(3) {
                text.extend_from_slice(PARTS[self.below(PARTS.len())].as_bytes());
            }
            text.extend_from_slice(&[b' ', b' ', b'\n', b'(', b';', b'.'][self.below(6)..][..1]);
            text.extend_from_slice(self.below(9_999).to_string().as_bytes());
        }
        text.truncate(bytes);
        text
    }

    /// Bytes that can't be made smaller.
    pub fn noise(&mut self, bytes: usize) -> Vec<u8> {
        let mut noise = Vec::with_capacity(bytes + 8);
        while noise.len() < bytes {
            noise.extend_from_slice(&self.next().to_le_bytes());
        }
        noise.truncate(bytes);
        noise
    }
}

/// A zip file that is being made.
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
    deflate: libdeflater::Compressor,
}

impl Zip {
    fn of(seed: u64, files: usize, bytes: usize) -> Vec<u8> {
        let level = libdeflater::CompressionLvl::new(6).expect("6 is a level");
        let mut zip = Self {
            bytes: Vec::new(),
            directory: Vec::new(),
            entries: 0,
            deflate: libdeflater::Compressor::new(level),
        };
        let mut numbers = Numbers(seed * 7_919 + 1);
        let text = numbers.text(1 << 20);
        zip.add(Path::new("bin/run"), b"#!/bin/sh\nexec sleep infinity\n", 0o755);
        let (half, large) = (files / 25, files / 100 + 1);
        for number in 0..files - half - large - 1 {
            let size = 400 + numbers.below(200) * numbers.below(200);
            let from = numbers.below(text.len() - size);
            let name = format!("lib/d{}/e{}/f{number}.txt", numbers.below(96), numbers.below(6));
            zip.add(&PathBuf::from(name), &text[from..from + size], 0o644);
        }
        for number in 0..half {
            let noise = numbers.noise(bytes / 250);
            let mixed: Vec<u8> = noise.chunks(512).flat_map(|chunk| [chunk, &text[..512]].concat()).collect();
            zip.add(&PathBuf::from(format!("share/data/d{number}.bin")), &mixed, 0o644);
        }
        let left = bytes.saturating_sub(zip.bytes.len()) / large;
        for number in 0..large {
            let noise = numbers.noise(left.max(1_000));
            zip.add(&PathBuf::from(format!("share/big/b{number}.dat")), &noise, 0o644);
        }
        zip.finish()
    }

    fn add(&mut self, name: &Path, content: &[u8], mode: u32) {
        let name = name.to_string_lossy();
        let mut packed = vec![0; self.deflate.deflate_compress_bound(content.len())];
        let count = self.deflate.deflate_compress(content, &mut packed).expect("the bound is one");
        packed.truncate(count);
        let small = |number: usize| u32::try_from(number).expect("the files are small").to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0x5c];
        common.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        common.extend_from_slice(&small(packed.len()));
        common.extend_from_slice(&small(content.len()));
        common.extend_from_slice(&small(name.len())[..2]);
        common.extend_from_slice(&[0, 0]);
        self.directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        self.directory.extend_from_slice(&common);
        self.directory.extend_from_slice(&[0; 6]);
        self.directory.extend_from_slice(&[0, 0]);
        self.directory.extend_from_slice(&((0o100_000 | mode) << 16).to_le_bytes()[2..]);
        self.directory.extend_from_slice(&small(self.bytes.len()));
        self.directory.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"PK\x03\x04");
        self.bytes.extend_from_slice(&common);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(&packed);
        self.entries += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let small = |number: usize| u32::try_from(number).expect("the files are small").to_le_bytes();
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&self.directory);
        self.bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend_from_slice(&[self.entries.to_le_bytes(), self.entries.to_le_bytes()].concat());
        self.bytes.extend_from_slice(&[small(self.directory.len()), small(at)].concat());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
    }
}
