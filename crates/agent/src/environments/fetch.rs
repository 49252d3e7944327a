//! Getting what lies elsewhere: content from the controller, layers from other nodes.

use super::Environments;
use crate::link::read_frame;
use spawnery_environment::layer::LayerRecord;
use spawnery_environment::{EnvironmentParts, EnvironmentRecord, Tree, archive};
use spawnery_model::{ContentDigest, Environment, NodeId};
use spawnery_wire::link::EnvironmentMade;
use tokio::io::AsyncReadExt;
use tokio_util::io::SyncIoBridge;

/// What fails when a task of this module does.
const TASK: &str = "reading from the link";

impl Environments {
    /// Gets everything from beside the manifest that the recipe names and this node lacks.
    pub(super) async fn get_content(&self, environment: &Environment) -> Result<(), String> {
        for local in environment.locals() {
            let tree = local.tree.as_ref().ok_or_else(|| {
                format!(
                    "`{}` was not sent: apply the manifest with the spawnery client",
                    local.path
                )
            })?;
            let failed = |error: String| format!("cannot get `{}`: {error}", local.path);
            self.get_one(tree).await.map_err(failed)?;
            let content = self.inner.store.content().clone();
            let listing = content.get_bytes(tree).map_err(|error| failed(error.to_string()))?;
            let listing = Tree::decode(&listing).map_err(|error| failed(error.to_string()))?;
            for file in listing.files() {
                self.get_one(file).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn get_one(&self, digest: &ContentDigest) -> Result<(), String> {
        let content = self.inner.store.content().clone();
        if content.has(digest) {
            return Ok(());
        }
        let sent = self.inner.upstream.content(digest).await.map_err(|it| it.to_string())?;
        let (size_bytes, stream) = sent;
        let mut reader = SyncIoBridge::new(stream.take(size_bytes));
        let expected = digest.clone();
        let put = tokio::task::spawn_blocking(move || content.put(Some(&expected), &mut reader));
        let put = put.await.map_err(|error| format!("{TASK}: {error}"))?;
        put.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Gets an environment from another node, layer by layer; those that are here stay.
    pub(super) async fn fetch(
        &self,
        from: NodeId,
        made: EnvironmentMade,
    ) -> Result<EnvironmentRecord, String> {
        let record: EnvironmentRecord = minicbor::decode(&made.record)
            .map_err(|error| format!("the other node tells of it in another form: {error}"))?;
        let _lease = self.lease(&record);
        for key in &record.layers {
            if matches!(self.inner.store.layer(key), Ok(Some(_))) {
                continue;
            }
            let stream = self.inner.upstream.layer(from, key).await;
            let mut stream = stream.map_err(|error| error.to_string())?;
            let announced = read_frame::<LayerRecord, _>(&mut stream).await;
            let announced = announced.map_err(|error| format!("{TASK}: {error}"))?;
            let store = self.inner.store.clone();
            let mut reader = SyncIoBridge::new(stream);
            let unpacked = tokio::task::spawn_blocking(move || {
                archive::unpack_packed(&store, &announced, &mut reader)
            });
            let unpacked = unpacked.await.map_err(|error| format!("{TASK}: {error}"))?;
            unpacked.map_err(|error| format!("cannot fetch the environment: {error}"))?;
        }
        let parts = EnvironmentParts {
            digest: record.digest.clone(),
            name: record.name.clone(),
            layers: record.layers.clone(),
            host: record.host,
            config: record.config.clone(),
            lock: record.lock.clone(),
        };
        let put = self.inner.store.put_environment(parts).map_err(|error| error.to_string())?;
        if put.content != record.content {
            let _ = self.inner.store.remove_environment(&put.digest);
            return Err("the environment of the other node is not what it says".to_owned());
        }
        Ok(put)
    }
}
