//! What is sent to the spawner: at once if its socket takes it, and otherwise by a thread of its own, so that
//! nobody waits for the spawner.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Bytes, with a descriptor beside the first of them.
#[derive(Debug)]
pub(super) struct Message {
    pub bytes: Vec<u8>,
    /// So many of them are sent.
    pub sent: usize,
    pub output: Option<OwnedFd>,
}

impl Message {
    /// Sends as much as the socket takes; whether that was all.
    fn send(&mut self, socket: &UnixStream, flags: MsgFlags) -> nix::Result<bool> {
        while self.sent < self.bytes.len() {
            let fds: Vec<_> = self.output.iter().map(AsRawFd::as_raw_fd).collect();
            let beside = [ControlMessage::ScmRights(&fds)];
            let beside = if fds.is_empty() { &[][..] } else { &beside };
            let rest = [IoSlice::new(&self.bytes[self.sent..])];
            match sendmsg::<()>(socket.as_raw_fd(), &rest, beside, flags | MsgFlags::MSG_NOSIGNAL, None) {
                Ok(count) => {
                    self.sent += count;
                    self.output = None;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The daemon's end of the socket, for writing.
pub(super) struct Outbox {
    socket: Arc<UnixStream>,
    /// How many messages wait: as long as one does, none overtakes it.
    waiting: Arc<Mutex<usize>>,
    late: mpsc::Sender<Message>,
}

impl Outbox {
    /// Ends, and shuts its end of the socket, when it is dropped or the spawner is gone.
    pub fn open(socket: UnixStream) -> io::Result<Self> {
        let (late, queue) = mpsc::channel();
        let (socket, waiting) = (Arc::new(socket), Arc::new(Mutex::new(0)));
        let (its_socket, its_waiting) = (socket.clone(), waiting.clone());
        let send_late = move || {
            while let Ok(message) = queue.recv() {
                let mut message: Message = message;
                if message.send(&its_socket, MsgFlags::empty()).is_err() {
                    break;
                }
                *lock(&its_waiting) -= 1;
            }
            // The reader notices, and tells everybody who waits.
            its_socket.shutdown(std::net::Shutdown::Write).ok();
        };
        std::thread::Builder::new().name("spawner-write".into()).spawn(send_late)?;
        Ok(Self { socket, waiting, late })
    }

    /// Shuts our end of the socket: the spawner ends when it has read what was sent.
    pub fn close(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).ok();
    }

    /// Sends a message, or sees to it that it is sent.
    ///
    /// # Errors
    /// When the spawner is gone.
    pub fn send(&self, mut message: Message) -> io::Result<()> {
        let mut waiting = lock(&self.waiting);
        if *waiting == 0 && message.send(&self.socket, MsgFlags::MSG_DONTWAIT)? {
            return Ok(());
        }
        *waiting += 1;
        self.late.send(message).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn lock(waiting: &Mutex<usize>) -> std::sync::MutexGuard<'_, usize> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// More than the socket holds: nobody waits, and all arrives in its order.
    #[test]
    fn what_the_socket_does_not_take_is_sent_in_its_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::open(ours).unwrap();
        let long = 1 << 20;
        for (byte, length) in [(b'a', 3), (b'b', long), (b'c', 3), (b'd', long), (b'e', 3)] {
            outbox.send(Message { bytes: vec![byte; length], sent: 0, output: None }).unwrap();
        }
        drop(outbox);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        let runs: Vec<_> = all.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(b'a', 3), (b'b', long), (b'c', 3), (b'd', long), (b'e', 3)]);
    }

    #[test]
    fn a_spawner_that_is_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::open(ours).unwrap();
        drop(theirs);
        assert!(outbox.send(Message { bytes: vec![0; 3], sent: 0, output: None }).is_err());
    }
}
