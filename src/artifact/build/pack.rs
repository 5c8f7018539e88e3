//! The output of a build becomes an artifact: an archive as it is, anything else as a tar in which
//! nothing depends on when and by whom it was built.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use super::room::{Refused, Room};
use crate::artifact::beneath;

/// Packs `output`, a path in `source`, into `part`, as far as there is room.
///
/// # Errors
/// What is wrong with the output, for people.
pub fn pack(source: &Path, output: &str, part: &Path, room: &mut Room<'_>) -> Result<(), Refused> {
    let root = rustix::fs::open(source, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| error.to_string())?;
    // The build may have planted links: none is followed, whatever it leads to.
    let node = beneath::open(&root, output, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    let node = node.map_err(|error| explain(source, output, error))?;
    let mut file = File::from(node);
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let part = File::create(part).map_err(|error| error.to_string())?;
    if metadata.is_file() {
        return pack_file(&mut file, output, part, room);
    }
    if !metadata.is_dir() {
        return Err(format!("{output} is neither a file nor a directory").into());
    }
    let mut tar = Builder::new(BufWriter::new(part));
    pack_directory(&OwnedFd::from(file), &mut tar, output, room)?;
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

fn pack_file(file: &mut File, output: &str, mut part: File, room: &mut Room<'_>) -> Result<(), Refused> {
    let name = output.rsplit('/').next().unwrap_or(output);
    let failed = |error: io::Error| room.explain(&error, output);
    let mut head = [0; 512];
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]).map_err(failed)? {
            0 => break,
            count => filled += count,
        }
    }
    file.rewind().map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let is_archive = super::super::unpack::begins_archive(&head[..filled]);
    room.take(name, metadata.len(), is_archive)?;
    let reader = room.reader(file).take(metadata.len());
    let packed = if is_archive {
        io::copy(&mut { reader }, &mut part).map(drop)
    } else {
        let mut tar = Builder::new(part);
        let mut header = header(EntryType::Regular, metadata.permissions().mode() & 0o111 != 0);
        header.set_size(metadata.len());
        tar.append_data(&mut header, name, reader).and_then(|()| tar.finish())
    };
    packed.map_err(|error| room.explain(&error, output))
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
fn pack_directory(
    root: &OwnedFd,
    tar: &mut Builder<BufWriter<File>>,
    output: &str,
    room: &mut Room<'_>,
) -> Result<(), Refused> {
    let mut open_directories = vec![PathBuf::new()];
    while let Some(directory) = open_directories.pop() {
        let failed = |error: io::Error| room.explain(&error, output);
        let fd = beneath::open(root, &directory.to_string_lossy(), OFlags::DIRECTORY, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let mut below = Vec::new();
        for name in names_in(&fd).map_err(failed)? {
            let path = directory.join(&name);
            let stat = statat(&fd, &*name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| room.explain(&error.into(), output))?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let bytes = if is_directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
            room.take(&path.to_string_lossy(), bytes, false)?;
            pack_entry(&fd, &name, &path, stat.st_mode, tar, room)
                .map_err(|error| room.explain(&error, output))?;
            if is_directory {
                below.push(path);
            }
        }
        // Depth first, in the order of the names: the same content gives the same tar.
        open_directories.extend(below.into_iter().rev());
    }
    Ok(())
}

fn names_in(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            let refused = |_| io::Error::other("a file's name is not UTF-8");
            names.push(String::from_utf8(name).map_err(refused)?);
        }
    }
    names.sort();
    Ok(names)
}

fn pack_entry(
    directory: &OwnedFd,
    name: &str,
    path: &Path,
    mode: u32,
    tar: &mut Builder<BufWriter<File>>,
    room: &Room<'_>,
) -> io::Result<()> {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => tar.append_data(&mut header(EntryType::Directory, true), path, io::empty()),
        FileType::RegularFile => {
            // Whatever was put into its place meanwhile makes nobody wait.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let content = File::from(beneath::open(directory, name, flags, Mode::empty())?);
            let metadata = content.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other(format!("{} changes while it is read", name.escape_debug())));
            }
            let mut header = header(EntryType::Regular, mode & 0o111 != 0);
            header.set_size(metadata.len());
            tar.append_data(&mut header, path, room.reader(content).take(metadata.len()))
        }
        FileType::Symlink => {
            let target = readlinkat(directory, name, Vec::new())?;
            let target = target.to_str().map_err(|_| io::Error::other("a link's target is not UTF-8"))?;
            tar.append_link(&mut header(EntryType::Symlink, true), path, target)
        }
        _ => {
            let text = format!("{} is neither a file, a directory nor a link", name.escape_debug());
            Err(io::Error::other(text))
        }
    }
}
