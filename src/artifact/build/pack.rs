//! The output of a build becomes an artifact: an archive as it is, anything else as a tar in which
//! nothing depends on when and by whom it was built.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::artifact::beneath;

/// Packs `output`, a path in `source`, into `part`.
///
/// # Errors
/// What is wrong with the output, for people.
pub fn pack(source: &Path, output: &str, part: &Path) -> Result<(), String> {
    let root = rustix::fs::open(source, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| error.to_string())?;
    // The build may have planted links: none is followed, whatever it leads to.
    let node = beneath::open(&root, output, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    let node = node.map_err(|error| explain(source, output, error))?;
    let mut file = File::from(node);
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let part = File::create(part).map_err(|error| error.to_string())?;
    if metadata.is_file() {
        return pack_file(&mut file, output, part).map_err(|error| error.to_string());
    }
    if !metadata.is_dir() {
        return Err(format!("{output} is neither a file nor a directory"));
    }
    let mut tar = Builder::new(BufWriter::new(part));
    pack_directory(&OwnedFd::from(file), &mut tar).map_err(|error| format!("{output}: {error}"))?;
    tar.finish().map_err(|error| error.to_string())?;
    tar.into_inner()
        .and_then(|writer| writer.into_inner().map_err(Into::into))
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn explain(source: &Path, output: &str, error: rustix::io::Errno) -> String {
    if error == rustix::io::Errno::LOOP {
        return format!("{output} is, or leads through, a symbolic link");
    }
    let mut there: Vec<String> = std::fs::read_dir(source)
        .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    there.sort();
    there.truncate(20);
    let there: Vec<_> = there.iter().map(|name| name.escape_debug().to_string()).collect();
    format!("{output}: {error}; the checkout holds: {}", there.join(", "))
}

fn pack_file(file: &mut File, output: &str, part: File) -> io::Result<()> {
    let name = output.rsplit('/').next().unwrap_or(output);
    let mut head = [0; 512];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    file.rewind()?;
    let mut part = part;
    if super::super::unpack::begins_archive(&head[..filled]) {
        io::copy(file, &mut part)?;
        return Ok(());
    }
    let metadata = file.metadata()?;
    let mut tar = Builder::new(part);
    let mut header = header(EntryType::Regular, metadata.permissions().mode() & 0o111 != 0);
    header.set_size(metadata.len());
    tar.append_data(&mut header, name, file)?;
    tar.finish()
}

fn header(kind: EntryType, executable: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Packs what is in a directory, by name, without ever leaving it.
fn pack_directory(root: &OwnedFd, tar: &mut Builder<BufWriter<File>>) -> io::Result<()> {
    let mut open_directories = vec![PathBuf::new()];
    while let Some(directory) = open_directories.pop() {
        let fd = beneath::open(root, &directory.to_string_lossy(), OFlags::DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                let refused = |_| io::Error::other("a file's name is not UTF-8");
                names.push(String::from_utf8(name).map_err(refused)?);
            }
        }
        names.sort();
        let mut below = Vec::new();
        for name in names {
            let path = directory.join(&name);
            let stat = statat(&fd, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    tar.append_data(&mut header(EntryType::Directory, true), &path, io::empty())?;
                    below.push(path);
                }
                FileType::RegularFile => {
                    let content = File::from(beneath::open(&fd, &name, OFlags::RDONLY, Mode::empty())?);
                    let mut header = header(EntryType::Regular, stat.st_mode & 0o111 != 0);
                    let size = content.metadata()?.len();
                    header.set_size(size);
                    tar.append_data(&mut header, &path, content.take(size))?;
                }
                FileType::Symlink => {
                    let target = readlinkat(&fd, &*name, Vec::new())?;
                    let target =
                        target.to_str().map_err(|_| io::Error::other("a link's target is not UTF-8"))?;
                    tar.append_link(&mut header(EntryType::Symlink, true), &path, target)?;
                }
                _ => {
                    let text = format!("{} is neither a file, a directory nor a link", name.escape_debug());
                    return Err(io::Error::other(text));
                }
            }
        }
        // Depth first, in the order of the names: the same content gives the same tar.
        open_directories.extend(below.into_iter().rev());
    }
    Ok(())
}
