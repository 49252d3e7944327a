//! Archives for the engine, in the format of `tar(5)`.

use spawnery_sandbox::limits::{HOST_ID_BASE, HOST_ID_COUNT, USER_ID};
use spawnery_sandbox::spec::FileSpec;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// The files of an instance; folders that are missing are made by the engine.
pub(super) fn of_files(files: &[FileSpec], (uid, gid): (u32, u32)) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for file in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(file.mode);
        header.set_size(file.bytes.len() as u64);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        let path = file.path.trim_start_matches('/');
        archive.append_data(&mut header, path, file.bytes.as_slice())?;
    }
    archive.into_inner()
}

/// A root, with the ids that its owners have inside: folders, files and symbolic links. Times are
/// left out, so that the same root gives the same bytes.
///
/// With `programs`, `/sbin` is a folder with links to these in `/usr/sbin`, not a link to it: the
/// engine puts its own first process there, where the host's `/usr` would hide it.
pub(super) fn of_root(root: &Path, programs: &[String], to: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(to);
    append(&mut archive, root, Path::new(""), !programs.is_empty())?;
    if !programs.is_empty() {
        archive.append_data(&mut header(EntryType::Directory, 0o755), "sbin", io::empty())?;
    }
    for name in programs {
        let mut header = header(EntryType::Symlink, 0o777);
        let target = format!("../usr/sbin/{name}");
        archive.append_link(&mut header, format!("sbin/{name}"), target)?;
    }
    archive.into_inner()?.flush()
}

/// Of user 0.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

fn append(
    archive: &mut Builder<impl Write>,
    root: &Path,
    below: &Path,
    without_sbin: bool,
) -> io::Result<()> {
    let mut names: Vec<_> = std::fs::read_dir(root.join(below))?
        .map(|it| Ok(it?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort_unstable();
    for name in names {
        let path = below.join(name);
        if without_sbin && path == Path::new("sbin") {
            continue;
        }
        let full = root.join(&path);
        let metadata = std::fs::symlink_metadata(&full)?;
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(inside(metadata.uid()).into());
        header.set_gid(inside(metadata.gid()).into());
        header.set_size(0);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, &path, io::empty())?;
            append(archive, root, &path, false)?;
        } else if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, &path, std::fs::read_link(&full)?)?;
        } else if metadata.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            archive.append_data(&mut header, &path, File::open(&full)?)?;
        }
    }
    Ok(())
}

/// An id inside, from that on the disk: a range of its own if the launcher is root, else its own id
/// for everything.
fn inside(id: u32) -> u32 {
    match id.checked_sub(HOST_ID_BASE) {
        Some(inside) if inside < HOST_ID_COUNT => inside,
        _ => USER_ID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_root_is_packed_in_order_with_its_links_and_modes() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("etc")).expect("made");
        std::fs::write(root.path().join("etc/motd"), "hello").expect("written");
        symlink("usr/bin", root.path().join("bin")).expect("made");
        let mut bytes = Vec::new();
        of_root(root.path(), &[], &mut bytes).expect("packed");
        let mut again = Vec::new();
        of_root(root.path(), &[], &mut again).expect("packed");
        assert_eq!(bytes, again);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("one").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["bin", "etc", "etc/motd"]);
    }

    #[test]
    fn ids_are_those_of_the_inside() {
        for (id, expected) in [(HOST_ID_BASE, 0), (HOST_ID_BASE + 33, 33), (0, USER_ID)] {
            assert_eq!(inside(id), expected, "{id}");
        }
    }
}
