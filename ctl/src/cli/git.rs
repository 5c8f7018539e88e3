//! What git runs to reach the daemon. On the same host `core.gitProxy` names deployctl for the host `deployd`, and git
//! runs `deployctl deployd PORT` for addresses such as `git://deployd/shop.git`. Over ssh, git runs
//! `deployctl git-receive-pack shop` if it was told to: `git push --receive-pack='deployctl git-receive-pack' …`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::client::{Client, default_socket};

/// The host of the daemon's repositories in addresses of git.
pub const HOST: &str = "deployd";

/// The exit code for a daemon that cannot be reached.
const NOT_REACHABLE: u8 = 6;

/// Whether git has started this process; then this is the process's exit code.
pub fn answered() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [verb, word] = arguments.as_slice() else { return None };
    let (verb, word) = (verb.to_str()?, word.to_str()?);
    let request = match verb {
        HOST if word.parse::<u16>().is_ok() => None,
        // The other end is git, and not its proxy: it has not said yet what it wants.
        "git-receive-pack" | "git-upload-pack" => {
            let protocol =
                std::env::var("GIT_PROTOCOL").map_or_else(|_| String::new(), |it| format!("\0{it}\0"));
            let slash = if word.starts_with('/') { "" } else { "/" };
            Some(packet(&format!("{verb} {slash}{word}\0host={HOST}\0{protocol}")))
        }
        _ => return None,
    };
    let socket = std::env::var_os("DEPLOYD_SOCKET").map_or_else(default_socket, PathBuf::from);
    Some(match relay(socket, request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // git shows a packet of this kind to its user, and only adds to what stands on standard error.
            io::stdout().write_all(packet(&format!("ERR {why}")).as_bytes()).ok();
            ExitCode::from(NOT_REACHABLE)
        }
    })
}

/// A packet of git's protocol: its length, then its text.
fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// Carries what git says to the daemon, and what the daemon says to git, until the daemon hangs up.
fn relay(socket: PathBuf, request: Option<String>) -> Result<(), String> {
    // The daemon does not wait long for the first bytes: git gives them before there is a connection.
    let first = match request {
        Some(request) => request.into_bytes(),
        None => first_bytes().map_err(|error| format!("cannot read what git says: {error}"))?,
    };
    let connected = UnixStream::connect(&socket);
    let mut stream = connected.map_err(|error| Client::new(socket).not_reachable(&error).to_string())?;
    let cut = |error: io::Error| format!("the connection to deployd was cut: {error}");
    stream.write_all(&first).map_err(cut)?;
    let mut sending = stream.try_clone().map_err(cut)?;
    std::thread::spawn(move || {
        io::copy(&mut io::stdin(), &mut sending).ok();
        sending.shutdown(Shutdown::Write).ok();
    });
    let mut stdout = io::stdout().lock();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).map_err(cut)?;
        if count == 0 {
            return Ok(());
        }
        // git hangs up when it has what it needs.
        if stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
    }
}

fn first_bytes() -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 16 << 10];
    let count = io::stdin().read(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
