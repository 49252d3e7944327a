//! What the controller asks about environments and volumes.

use super::Streams;
use crate::environments::{News, SecretsFrom, made};
use crate::link::{LinkError, Stream, write_frame};
use spawnery_environment::archive::{self, ExportFormat};
use spawnery_model::{ContentDigest, Environment, Name};
use spawnery_wire::link::{
    BuildFrame, EnvironmentList, RefusalKind, SecretValue, StreamReply, VolumeList,
};
use std::fmt::Display;
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

/// Pieces of news of a build that wait to be sent; further ones wait with the build's output.
const NEWS_WAITING_MAX: usize = 64;

impl Streams {
    pub(super) async fn build(
        &self,
        recipe: Environment,
        secrets: Vec<SecretValue>,
        resolve: bool,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        write_frame(stream, &StreamReply::Accepted).await?;
        let (news, mut told) = mpsc::channel(NEWS_WAITING_MAX);
        let environments = &self.preparer.environments;
        let ready = environments.ready(&recipe, SecretsFrom::Given(secrets), resolve, |it| {
            // A listener that is too slow misses some; the builder keeps all.
            let _ = news.try_send(it);
        });
        tokio::pin!(ready);
        let result = loop {
            tokio::select! {
                biased;
                Some(news) = told.recv() => write_frame(stream, &frame(news)).await?,
                result = &mut ready => break result,
            }
        };
        let last = match result {
            Err(message) => BuildFrame::Failed { message },
            Ok(ready) => {
                let digest = ready.record.digest.clone();
                match self.listed().await {
                    Ok(list) => done(list, &digest),
                    Err(message) => BuildFrame::Failed { message },
                }
            }
        };
        write_frame(stream, &last).await
    }

    async fn listed(&self) -> Result<EnvironmentList, String> {
        let preparer = self.preparer.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let environments = preparer.environments.list(&preparer.in_use.environments())?;
            let store_bytes = preparer.environments.store().size_bytes()?;
            Ok::<_, spawnery_environment::StoreError>(EnvironmentList { environments, store_bytes })
        });
        let listed = listed.await.map_err(|error| error.to_string())?;
        listed.map_err(|error| error.to_string())
    }

    pub(super) async fn environments(&self, stream: &mut Stream) -> Result<(), LinkError> {
        answer(self.listed().await, stream).await
    }

    pub(super) async fn prune(
        &self,
        bytes_max: Option<u64>,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        let preparer = self.preparer.clone();
        let pruned = tokio::task::spawn_blocking(move || {
            preparer.environments.prune(bytes_max, &preparer.in_use.digests())
        });
        answer(flat(pruned.await), stream).await
    }

    pub(super) async fn made(
        &self,
        wanted: &ContentDigest,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        match self.preparer.environments.known(wanted) {
            Ok(Some(ready)) => answer(Ok::<_, String>(made(&ready.record)), stream).await,
            Ok(None) => refuse(RefusalKind::Unknown, "it is not here".to_owned(), stream).await,
            Err(error) => refuse(RefusalKind::Failed, error, stream).await,
        }
    }

    /// Writes a layer or an environment as an archive. What fails on the way ends the stream
    /// early, which the other side notices.
    pub(super) async fn archive<E: Display + Send + 'static>(
        &self,
        stream: Stream,
        write: impl FnOnce(&mut SyncIoBridge<Stream>) -> Result<(), E> + Send + 'static,
    ) -> Result<(), LinkError> {
        let mut writer = SyncIoBridge::new(stream);
        let written = tokio::task::spawn_blocking(move || {
            let result = write(&mut writer).map_err(|error| error.to_string());
            if result.is_ok() {
                let _ = writer.shutdown();
            }
            result
        });
        if let Err(error) = flat(written.await) {
            tracing::warn!(error, "an archive could not be sent");
        }
        Ok(())
    }

    pub(super) async fn layer(
        &self,
        key: ContentDigest,
        mut stream: Stream,
    ) -> Result<(), LinkError> {
        let store = self.preparer.environments.store().clone();
        let _lease = store.lease([key.clone()]);
        match store.layer(&key) {
            Ok(Some(layer)) => {
                write_frame(&mut stream, &StreamReply::Accepted).await?;
                write_frame(&mut stream, &layer.record).await?;
                self.archive(stream, move |to| archive::pack(&layer, to)).await
            }
            Ok(None) => {
                refuse(RefusalKind::Unknown, "it is not here".to_owned(), &mut stream).await
            }
            Err(error) => refuse(RefusalKind::Failed, error.to_string(), &mut stream).await,
        }
    }

    pub(super) async fn export(
        &self,
        digest: ContentDigest,
        oci: bool,
        mut stream: Stream,
    ) -> Result<(), LinkError> {
        let store = self.preparer.environments.store().clone();
        let lease = store.lease([digest.clone()]);
        match store.environment(&digest) {
            Ok(Some(_)) => {
                write_frame(&mut stream, &StreamReply::Accepted).await?;
                self.archive(stream, move |to| {
                    let _lease = lease;
                    let format = if oci { ExportFormat::OciArchive } else { ExportFormat::Tar };
                    archive::export(&store, &digest, format, to)
                })
                .await
            }
            Ok(None) => {
                let reason = format!("there is no environment {digest}");
                refuse(RefusalKind::Unknown, reason, &mut stream).await
            }
            Err(error) => refuse(RefusalKind::Failed, error.to_string(), &mut stream).await,
        }
    }

    pub(super) async fn volumes(&self, stream: &mut Stream) -> Result<(), LinkError> {
        let volumes = self.preparer.volumes.clone();
        let listed = tokio::task::spawn_blocking(move || volumes.list());
        let listed = flat(listed.await).map(|volumes| VolumeList { volumes });
        answer(listed, stream).await
    }

    pub(super) async fn remove_volume(
        &self,
        name: Name,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        if let Some(instance) = self.preparer.in_use.user_of(&name) {
            let reason = format!("volume {name} is still in use by instance {instance}");
            return refuse(RefusalKind::Failed, reason, stream).await;
        }
        let volumes = self.preparer.volumes.clone();
        let removed = tokio::task::spawn_blocking(move || volumes.remove(&name));
        match flat(removed.await) {
            Ok(()) => write_frame(stream, &StreamReply::Accepted).await,
            Err(reason) => refuse(RefusalKind::Failed, reason, stream).await,
        }
    }
}

fn frame(news: News) -> BuildFrame {
    match news {
        News::Progress(text) => BuildFrame::Progress { text },
        News::Output(bytes) => BuildFrame::Output { bytes },
    }
}

fn done(list: EnvironmentList, digest: &ContentDigest) -> BuildFrame {
    let mut environments = list.environments.into_iter();
    match environments.find(|environment| environment.digest == *digest) {
        Some(environment) => BuildFrame::Done { environment: Box::new(environment) },
        None => BuildFrame::Failed { message: "it was built, and is gone again".to_owned() },
    }
}

/// The result of a task in a thread of its own.
fn flat<T, E: Display>(result: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn answer<T: minicbor::Encode<()>>(
    result: Result<T, String>,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    match result {
        Ok(answer) => {
            write_frame(stream, &StreamReply::Accepted).await?;
            write_frame(stream, &answer).await
        }
        Err(reason) => refuse(RefusalKind::Failed, reason, stream).await,
    }
}

async fn refuse(kind: RefusalKind, reason: String, stream: &mut Stream) -> Result<(), LinkError> {
    write_frame(stream, &StreamReply::Refused { kind, reason }).await
}
