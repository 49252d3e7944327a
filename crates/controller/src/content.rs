//! What clients sent by content, and when it may go.

use crate::handle::{Controller, SubmitError};
use spawnery_cluster::State;
use spawnery_environment::{Content, ContentError, Tree};
use spawnery_model::{ContentDigest, Environment, Workload};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time between two looks for content that nobody needs.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// How long content that no workload names is kept: whoever sends content applies a manifest
/// right after it, or an environment that was built of it is asked for again soon.
const KEPT_UNNAMED_MS: u64 = 24 * 3600 * 1000;

/// Content could not be looked through.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Controller {
    /// What clients sent by content.
    pub fn content(&self) -> &Content {
        self.content_store()
    }

    async fn sweep_once(&self) -> Result<usize, SweepError> {
        let trees = self.query(trees).await?;
        let content = self.content_store().clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before_ms = (now.as_millis() as u64).saturating_sub(KEPT_UNNAMED_MS);
        let swept = tokio::task::spawn_blocking(move || sweep(&content, &trees, before_ms));
        Ok(swept.await??)
    }
}

/// Removes what nobody needs, now and from time to time, until the controller stops.
pub(crate) async fn sweep_content(controller: impl Fn() -> Option<Controller>) {
    while let Some(found) = controller() {
        match found.sweep_once().await {
            Err(SweepError::Submit(SubmitError::Stopped)) => return,
            Err(error) => tracing::warn!(%error, "content is not looked through"),
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "content that nobody needs was removed"),
        }
        drop(found);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Removes content that was last used before a time and is not part of one of the trees. Answers
/// how many files it were.
fn sweep(
    content: &Content,
    trees: &BTreeSet<ContentDigest>,
    before_ms: u64,
) -> Result<usize, ContentError> {
    let mut needed = trees.clone();
    for tree in trees {
        // A tree that is gone, or is none, needs nothing.
        let listing = content.get_bytes(tree).ok().and_then(|bytes| Tree::decode(&bytes).ok());
        needed.extend(listing.iter().flat_map(|it| it.files().into_iter().cloned()));
    }
    let mut removed = 0;
    for entry in content.list()? {
        if entry.used_ms < before_ms && !needed.contains(&entry.digest) {
            removed += usize::from(content.remove(&entry.digest)?);
        }
    }
    Ok(removed)
}

/// The trees that workloads and live instances name.
fn trees(state: &State) -> BTreeSet<ContentDigest> {
    let applied = state.workloads().map(|entry| &entry.workload);
    let of_instances = state.instances().map(|instance| state.definition_of(instance));
    applied.chain(of_instances).flat_map(trees_of).collect()
}

fn trees_of(workload: &Workload) -> Vec<ContentDigest> {
    let surroundings = workload.surroundings.as_deref();
    let environment = surroundings.and_then(|it| it.environment.as_deref());
    let locals = environment.into_iter().flat_map(Environment::locals);
    locals.filter_map(|local| local.tree.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_names_stays_and_the_rest_goes_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::open(&folder.path().join("content")).unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), "needed").unwrap();
        let (tree, files) = Tree::read(&source).unwrap();
        for path in files.values() {
            content.put(None, &mut std::fs::File::open(path).unwrap()).unwrap();
        }
        let named = content.put_bytes(&tree.encode()).unwrap();
        let other = content.put_bytes(b"nobody names it").unwrap();
        let trees = BTreeSet::from([named.clone()]);
        assert_eq!(sweep(&content, &trees, 0).unwrap(), 0, "all of it is young");
        assert_eq!(sweep(&content, &trees, u64::MAX).unwrap(), 1);
        assert!(!content.has(&other));
        assert!(content.has(&named) && files.keys().all(|file| content.has(file)));
    }
}
