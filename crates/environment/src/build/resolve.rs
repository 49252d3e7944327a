//! Finds out what a recipe leaves open.

use std::sync::Arc;

use spawnery_model::{Base, Environment, EnvironmentLock};

use super::failure::{BuildError, Failure};
use super::plan::plan;
use super::progress::{Cancel, CancelOnDrop, Output, Progress, Secrets};
use super::sandboxed::Work;
use super::{Builder, Built, Job, debian, git, python};
use crate::recipe;

impl Builder {
    /// Finds out the exact versions of all that a recipe leaves open, whatever lock it has. What
    /// is needed for that is built: the versions of Python packages depend on the base.
    ///
    /// # Errors
    ///
    /// When the recipe cannot be used, something that it names does not exist, or the step of the
    /// base fails.
    pub async fn resolve(
        &self,
        recipe: &Environment,
        secrets: Secrets,
        progress: Arc<dyn Progress>,
    ) -> Result<EnvironmentLock, BuildError> {
        recipe::check(recipe)?;
        let job = self.job(recipe, secrets, progress);
        let mut lock = EnvironmentLock {
            recipe: recipe::resolved_digest(recipe).to_string(),
            ..EnvironmentLock::default()
        };
        if let Some(source) = recipe.source.clone() {
            let commit = job
                .look_up("the commit of the source", Built::default(), true, move |work| {
                    git::resolve(work, &source)
                })
                .await?;
            lock.commit = Some(commit);
        }
        if let Base::Image { reference, credentials } = &recipe.base {
            let what = format!("the image {reference}");
            job.progress.resolving(&what);
            let image = job.pull(reference, None, credentials.as_ref()).await;
            let image = image.map_err(|failure| failure.resolving(&what))?;
            lock.image = Some(image.digest.clone());
            // So that it is not fetched again by the step.
            if let Some(step) = plan(recipe, &lock).steps.first() {
                let kept = job.keep_image(&step.key, image);
                drop(kept.map_err(|failure| failure.resolving(&what))?);
            }
        }
        if let Base::Debian { suite } = recipe.base.clone() {
            let what = format!("the packages of Debian {suite}");
            let question = move |work: &Work<'_>| debian::resolve_base(work, &suite);
            lock.base = job.look_up(&what, Built::default(), true, question).await?;
        }
        if !recipe.apt.is_empty() {
            let wanted = recipe.apt.clone();
            let (below, host) = job.base_of(&lock, false).await?;
            let question = move |work: &Work<'_>| debian::resolve(work, &wanted);
            lock.apt = job.look_up("the Debian packages", below, host, question).await?;
        }
        if let Some(wanted) = recipe.python.clone() {
            let (below, host) = job.base_of(&lock, true).await?;
            let resolved = job
                .look_up("the versions of the python packages", below, host, move |work| {
                    python::resolve(work, &wanted)
                })
                .await?;
            lock.python = Some(resolved.version);
            lock.requirements = resolved.requirements;
        }
        Ok(lock)
    }
}

impl Job {
    /// The layers of the base, and perhaps of Debian packages on it, which are built if they are
    /// not there.
    async fn base_of(
        &self,
        lock: &EnvironmentLock,
        with_packages: bool,
    ) -> Result<(Built, bool), BuildError> {
        let apt = if with_packages { self.recipe.apt.clone() } else { Vec::new() };
        let recipe = Environment {
            apt,
            python: None,
            source: None,
            files: Vec::new(),
            build: Vec::new(),
            ..Environment::clone(&self.recipe)
        };
        let plan = plan(&recipe, lock);
        Ok((self.carry_out(&plan).await?, plan.host))
    }

    /// Runs something that blocks, over these layers.
    async fn look_up<T: Send + 'static>(
        &self,
        what: &str,
        below: Built,
        host: bool,
        question: impl FnOnce(&Work<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, BuildError> {
        self.progress.resolving(what);
        let cancel = Cancel::default();
        let _guard = CancelOnDrop(cancel.clone());
        let job = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let output = Output::new(job.progress.clone(), &job.secrets);
            question(&job.work(&output, &cancel, &below, host))
        });
        let answer = answer.await;
        let answer =
            answer.unwrap_or_else(|error| Err(Failure::new(format!("it crashed: {error}"))));
        answer.map_err(|failure| failure.resolving(what))
    }
}
