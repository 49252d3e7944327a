//! Getting an environment that is not in the store: from another node, or by building it.

use super::{Environments, SecretsFrom, Teller};
use crate::link::{Stream, read_frame, write_frame};
use crate::upstream::{AskError, unexpected};
use spawnery_environment::EnvironmentRecord;
use spawnery_environment::build::{BuildError, Progress, Secrets};
use spawnery_model::{ContentDigest, Environment};
use spawnery_wire::link::{AgentReply, AgentRequest, BuildOutcome, EnvironmentMade};
use std::sync::Arc;
use tokio::sync::watch;

impl Environments {
    /// Asks the controller who makes the environment, and does what it says. A controller that
    /// cannot be reached is no reason to wait: then it is built here.
    pub(super) async fn obtain(
        &self,
        wanted: &ContentDigest,
        environment: Environment,
        secrets: SecretsFrom,
        resolve: bool,
        teller: Teller,
    ) -> Result<EnvironmentRecord, String> {
        if resolve {
            return self.build(environment, secrets, resolve, teller).await;
        }
        let asked = AgentRequest::Environment { wanted: wanted.clone() };
        let mut stream = match self.inner.upstream.open(&asked).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "an environment is built without asking other nodes");
                return self.build(environment, secrets, resolve, teller).await;
            }
        };
        loop {
            let reply = read_frame(&mut stream).await.map_err(AskError::from);
            match reply.map_err(|error| error.to_string())? {
                AgentReply::Progress { text } => teller.tell(text),
                AgentReply::Fetch { from, made } => {
                    teller.tell("fetching the environment from another node".to_owned());
                    return self.fetch(from, made).await;
                }
                AgentReply::Build => {
                    return self.build_for_all(environment, secrets, teller, &mut stream).await;
                }
                other => return Err(unexpected(other).to_string()),
            }
        }
    }

    /// Builds while other nodes wait for it, and tells them how it goes.
    async fn build_for_all(
        &self,
        environment: Environment,
        secrets: SecretsFrom,
        teller: Teller,
        stream: &mut Stream,
    ) -> Result<EnvironmentRecord, String> {
        let mut progress = teller.progress.subscribe();
        let build = self.build(environment, secrets, false, teller);
        tokio::pin!(build);
        let result = loop {
            tokio::select! {
                result = &mut build => break result,
                Ok(()) = progress.changed() => tell_progress(&mut progress, stream).await,
            }
        };
        let outcome = match &result {
            Ok(record) => BuildOutcome::Made(made(record)),
            Err(message) => BuildOutcome::Failed { message: message.clone() },
        };
        // Without a controller nobody waits.
        let _ = write_frame(stream, &outcome).await;
        result
    }

    async fn build(
        &self,
        environment: Environment,
        secrets: SecretsFrom,
        resolve: bool,
        teller: Teller,
    ) -> Result<EnvironmentRecord, String> {
        teller.tell("building environment, getting its files".to_owned());
        self.get_content(&environment).await?;
        let secrets = self.secrets(&environment, secrets).await?;
        let progress: Arc<dyn Progress> = Arc::new(teller);
        let builder = &self.inner.builder;
        let mut environment = environment;
        let text = |error: BuildError| error.to_string();
        if resolve {
            let lock = builder.resolve(&environment, secrets.clone(), progress.clone()).await;
            environment.lock = Some(lock.map_err(text)?);
        }
        let built = builder.build(&environment, secrets, progress).await.map_err(text)?;
        let record = self.inner.store.environment(&built.digest);
        let record = record.map_err(|error| error.to_string())?;
        record.ok_or_else(|| "it was built, and is gone again".to_owned())
    }

    /// The secrets that the recipe names, if it names any.
    async fn secrets(
        &self,
        environment: &Environment,
        from: SecretsFrom,
    ) -> Result<Secrets, String> {
        if environment.secrets().next().is_none() {
            return Ok(Secrets::default());
        }
        let upstream = &self.inner.upstream;
        let values = match from {
            SecretsFrom::Given(values) => Ok(values),
            SecretsFrom::Instance(instance) => upstream.instance_secrets(instance).await,
            SecretsFrom::Workload(workload) => upstream.workload_secrets(&workload).await,
        };
        let values = values.map_err(|error| format!("cannot get its secrets: {error}"))?;
        Ok(Secrets::new(values.into_iter().map(|secret| (secret.name, secret.value))))
    }
}

async fn tell_progress(progress: &mut watch::Receiver<String>, stream: &mut Stream) {
    let text = progress.borrow_and_update().clone();
    // Without a controller nobody waits.
    let _ = write_frame(stream, &BuildOutcome::Progress { text }).await;
}

/// What other nodes are told of an environment.
pub(crate) fn made(record: &EnvironmentRecord) -> EnvironmentMade {
    EnvironmentMade {
        digest: record.digest.clone(),
        record: minicbor::to_vec(record).expect("writing to memory does not fail"),
        layers: record.layers.clone(),
    }
}
