//! git on the control socket: a connection that begins with a request of git's own protocol, as `git://` has it, is a
//! push or a fetch. Everything else is HTTP.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::ControlState;
use super::peer::{Role, credentials};
use super::places::Places;
use crate::actors::{GitRequest, GitService};

/// The length of a packet, and then a command of git: `0032git-upload-pack /shop.git`. No HTTP method looks like that.
const LENGTH: usize = 4;
const BEGINNING: &[u8] = b"git-";
/// Maximum length of a request.
const MAX_REQUEST: usize = 1024;
/// How long a beginning may take to come in pieces.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look for the rest of a beginning that came in pieces.
const PIECES: Duration = Duration::from_millis(10);
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether git speaks on this connection. Nothing is taken from it. Resolves when that is known.
pub async fn speaks(stream: &UnixStream) -> bool {
    let mut beginning = [0; LENGTH + BEGINNING.len()];
    let begun = tokio::time::Instant::now();
    // A client that has closed after a part of it is never told apart from one that is slow.
    while begun.elapsed() < PATIENCE {
        if stream.readable().await.is_err() {
            return false;
        }
        let peek = || recv(stream.as_raw_fd(), &mut beginning, MsgFlags::MSG_PEEK).map_err(io::Error::from);
        let count = match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) | Ok(0) => return false,
            Ok(count) => count,
        };
        let (length, command) = beginning[..count].split_at(count.min(LENGTH));
        if !length.iter().all(u8::is_ascii_hexdigit) || !BEGINNING.starts_with(command) {
            return false;
        }
        if count == beginning.len() {
            return true;
        }
        sleep(PIECES).await;
    }
    false
}

/// Answers git; a refusal is a packet that git shows its user.
pub async fn serve(mut stream: UnixStream, state: &ControlState, places: &Arc<Places>) {
    let Some((caller, role)) = credentials(&stream, &state.access) else { return };
    let Some(_place) = places.take(caller.uid, role) else { return };
    let refuse = async |mut stream: UnixStream, why: &str| {
        let text = format!("ERR deployd: {why}");
        let packet = format!("{:04x}{text}", text.len() + LENGTH);
        stream.write_all(packet.as_bytes()).await.ok();
    };
    let request = match timeout(REQUEST_TIMEOUT, request(&mut stream)).await {
        Ok(Ok(packet)) => parse(&packet, &state.repositories),
        _ => Err("the request did not arrive. Try again".into()),
    };
    let request = request.and_then(|request| may(request, role));
    let request = match request {
        Ok(request) => request,
        Err(why) => return refuse(stream, &why).await,
    };
    let (repository, push) = (request.repository.clone(), request.service == GitService::Push);
    tracing::info!(user = caller.user, uid = caller.uid, repository, push, "git was asked for a repository");
    // For the reason, if git cannot be started.
    let standard = stream.into_std().and_then(|stream| Ok((stream.try_clone()?, stream)));
    let Ok((spare, stream)) = standard.and_then(|(spare, stream)| {
        // git expects a stream that waits.
        stream.set_nonblocking(false)?;
        Ok((spare, stream))
    }) else {
        return;
    };
    if let Err(error) = state.commander.serve_git(request, stream).await {
        let spare = spare.set_nonblocking(true).and_then(|()| UnixStream::from_std(spare));
        if let Ok(spare) = spare {
            refuse(spare, &error.to_string()).await;
        }
    }
}

/// The request: exactly its packet, for what follows is git's.
async fn request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; LENGTH];
    stream.read_exact(&mut length).await?;
    let length = std::str::from_utf8(&length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.filter(|length| (LENGTH..=MAX_REQUEST).contains(length));
    let mut packet = vec![0; length.ok_or(io::ErrorKind::InvalidData)? - LENGTH];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// `git-receive-pack /shop.git\0host=deployd\0\0version=2\0`
fn parse(packet: &[u8], repositories: &str) -> Result<(GitService, String, String), String> {
    let text = std::str::from_utf8(packet).map_err(|_| "the request is not UTF-8".to_string())?;
    let mut parts = text.split('\0');
    let (name, path) = parts.next().and_then(|command| command.split_once(' ')).unwrap_or_default();
    let service = GitService::named(name).ok_or_else(|| {
        format!("expected git-upload-pack or git-receive-pack, found `{}`", name.escape_debug())
    })?;
    let path = path.trim_end_matches(['\n', '/']);
    let inner = path.strip_prefix(repositories).unwrap_or(path).trim_start_matches('/');
    if inner.contains('/') {
        return Err(format!(
            "`{}` is not in {repositories}, where this deployd keeps its repositories. Use a name: git://deployd/shop.git",
            path.escape_debug()
        ));
    }
    let name = inner.strip_suffix(".git").unwrap_or(inner).to_string();
    let is_version = |part: &&str| part.starts_with("version=") && part.len() < 16;
    let protocol = parts.find(is_version).filter(|it| it[8..].bytes().all(|byte| byte.is_ascii_digit()));
    Ok((service, name, protocol.unwrap_or_default().to_string()))
}

/// Whether this caller may do that.
fn may(
    (service, repository, protocol): (GitService, String, String),
    role: Option<Role>,
) -> Result<GitRequest, String> {
    let needed = if service == GitService::Push { Role::Operator } else { Role::Viewer };
    match role {
        Some(role) if role >= needed => {
            Ok(GitRequest { repository, service, protocol, is_own: role == Role::Admin })
        }
        Some(role) => Err(format!(
            "you are {} and this needs the role {}. Ask an administrator of this host",
            role.name(),
            needed.name()
        )),
        None => Err("you are in none of the groups of `access` in its configuration. \
                     Ask an administrator of this host"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_a_repository_by_its_name_or_path() {
        let parsed = |text: &str| parse(text.as_bytes(), "/var/lib/deployd/git");
        let push = |name: &str, version: &str| Ok((GitService::Push, name.into(), version.into()));
        assert_eq!(parsed("git-receive-pack /shop.git\0host=deployd\0"), push("shop", ""));
        assert_eq!(parsed("git-receive-pack /shop\0host=x\0\0version=2\0"), push("shop", "version=2"));
        assert_eq!(parsed("git-receive-pack /var/lib/deployd/git/shop.git\0"), push("shop", ""));
        assert_eq!(parsed("git-receive-pack /shop.git/\0\0version=2\nx\0"), push("shop", ""));
        assert_eq!(parsed("git-receive-pack /..\0"), push("..", ""));
        assert!(parsed("git-receive-pack /../shop\0").unwrap_err().contains("/var/lib/deployd/git"));
        assert!(parsed("git-upload-archive /shop\0").unwrap_err().contains("git-upload-archive"));
        assert!(parsed("git-receive-pack").is_err() && parse(b"git-receive-pack /\xff", "/").is_err());
    }

    async fn is_git(bytes: &[u8]) -> bool {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(bytes).await.unwrap();
        drop(client);
        timeout(Duration::from_secs(10), speaks(&server)).await.unwrap()
    }

    #[tokio::test]
    async fn git_is_told_from_http_by_its_first_bytes() {
        assert!(is_git(b"0032git-receive-pack /shop.git\0host=deployd\0").await);
        for other in [
            &b"GET /v1/info HTTP/1.1\r\n"[..],
            b"DELETE / HTTP/1.1\r\n",
            b"",
            b"0032",
            b"0032gitX-",
            b"\x16\x03",
        ] {
            assert!(!is_git(other).await, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_beginning_in_pieces_is_waited_for() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let ask = tokio::spawn(async move { speaks(&server).await });
        for byte in b"0032git-" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(ask.await.unwrap());
    }
}
