//! Files that the user names: plans. They may be pipes, as of `<(…)`, but nothing fills the memory or waits for nobody.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};

/// Maximum number of bytes of a plan.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a file, or standard input for `-`. Of what is larger than a plan may be, one byte more is read: whoever checks
/// the plan says that it is too large.
///
/// # Errors
/// When it cannot be read, is a directory, or is a FIFO that nobody writes to.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    // To open a FIFO would wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        let mut first = [0; 4096];
        match file.read(&mut first) {
            Ok(0) => return Err(io::Error::other("it is a FIFO, and nobody writes to it")),
            Ok(count) => bytes.extend_from_slice(&first[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    fcntl_setfl(&file, OFlags::empty())?;
    file.take(MAX_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn pipes_are_read_to_their_end_and_nothing_is_waited_for_in_vain() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let written = std::thread::spawn(move || writer.write_all(&b"x".repeat(100_000)));
        assert_eq!(read(Path::new(&path)).unwrap().len(), 100_000);
        written.join().unwrap().unwrap();
        let directory = std::env::temp_dir().join(format!("deployctl-given-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let said = read(&fifo).unwrap_err().to_string();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(said, "it is a FIFO, and nobody writes to it");
        assert_eq!(read(Path::new("/dev/zero")).unwrap().len() as u64, MAX_BYTES + 1);
        assert!(read(Path::new("/dev/null")).unwrap().is_empty());
        assert!(read(Path::new("/")).is_err());
    }
}
