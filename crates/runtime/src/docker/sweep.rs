//! Containers whose stand-in has ended without removing them.

use super::Job;
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Label with the path of the file that the container's stand-in has locked.
pub(super) const LOCK_LABEL: &str = "spawnery.lock";

/// The locked file, in the instance's folder.
pub(super) const LOCK_FILE: &str = "docker.lock";

/// Locks the instance's folder for the life of this process.
pub(super) fn hold(job: &Job) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(job.dir().join(LOCK_FILE))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // Open until the end.
    std::mem::forget(file);
    Ok(())
}

/// Removes the containers that nobody stands in for any more. What cannot be removed is left to
/// the next time.
pub(crate) async fn sweep(docker: &Docker) {
    let filters = HashMap::from([("label".to_owned(), vec![LOCK_LABEL.to_owned()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let lock = container.labels.as_ref().and_then(|labels| labels.get(LOCK_LABEL));
        let (Some(id), Some(lock)) = (container.id.as_deref(), lock) else {
            continue;
        };
        if is_abandoned(Path::new(lock)) {
            let remove = RemoveContainerOptions { force: true, v: true, ..Default::default() };
            let _ = docker.remove_container(id, Some(remove)).await;
        }
    }
}

/// Whether nobody has the lock: another user's, which cannot be opened, counts as held.
fn is_abandoned(lock: &Path) -> bool {
    match File::open(lock) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_that_is_free_or_gone_is_abandoned() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(LOCK_FILE);
        assert!(is_abandoned(&path));
        let file = File::create(&path).expect("made");
        assert!(is_abandoned(&path));
        flock(&file, FlockOperation::LockExclusive).expect("locked");
        assert!(!is_abandoned(&path));
    }
}
