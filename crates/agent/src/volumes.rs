//! The volumes of the node: folders that are kept between instances.

use spawnery_model::Name;
use spawnery_sandbox::limits::HOST_ID_BASE;
use spawnery_wire::link::VolumeInfo;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Permission bits of a volume: everybody inside may write, whichever user an instance runs as.
/// On the host nobody gets there, because the folder above is closed.
const VOLUME_MODE: u32 = 0o777;

/// Bytes of a block as `stat(2)` counts them.
const BLOCK_BYTES: u64 = 512;

/// The volumes of the node.
#[derive(Debug, Clone)]
pub(crate) struct Volumes {
    folder: PathBuf,
}

impl Volumes {
    /// Volumes as folders in `folder`, which is made when it is needed.
    pub(crate) fn new(folder: PathBuf) -> Volumes {
        Volumes { folder }
    }

    /// The folder of a volume, which is made if it is not there.
    pub(crate) fn ensure(&self, name: &Name) -> io::Result<PathBuf> {
        let closed = DirBuilder::new().mode(0o700).recursive(true).create(&self.folder);
        closed?;
        let path = fs::canonicalize(&self.folder)?.join(name.as_str());
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
            result => result?,
        }
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(HOST_ID_BASE), Some(HOST_ID_BASE))?;
        }
        // Last: whoever finds it without these bits finds it half made, and no instance has it.
        fs::set_permissions(&path, Permissions::from_mode(VOLUME_MODE))?;
        Ok(path)
    }

    /// All volumes with what they take on disk.
    pub(crate) fn list(&self) -> io::Result<Vec<VolumeInfo>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().and_then(|name| Name::new(name).ok());
            if let Some(name) = name {
                volumes.push(VolumeInfo { name, size_bytes: size_bytes(&entry.path())? });
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume with all that is in it. One that is not there is no error.
    pub(crate) fn remove(&self, name: &Name) -> io::Result<()> {
        match fs::remove_dir_all(self.folder.join(name.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// What a tree takes on disk. Symbolic links are not followed; what goes away meanwhile counts as
/// nothing.
fn size_bytes(path: &Path) -> io::Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        metadata => metadata?,
    };
    let mut size = metadata.blocks() * BLOCK_BYTES;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            size += size_bytes(&entry?.path())?;
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once_measured_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(folder.path().join("volumes"));
        assert_eq!(volumes.list().unwrap(), []);
        let name = Name::new("data").unwrap();
        let path = volumes.ensure(&name).unwrap();
        fs::write(path.join("file"), vec![1; 100_000]).unwrap();
        assert_eq!(volumes.ensure(&name).unwrap(), path);
        let listed = volumes.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].size_bytes >= 100_000, "{}", listed[0].size_bytes);
        volumes.remove(&name).unwrap();
        volumes.remove(&name).unwrap();
        assert_eq!(volumes.list().unwrap(), []);
    }
}
