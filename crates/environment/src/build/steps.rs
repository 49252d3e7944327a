//! One step: what is done for it, over the layers of the steps before.

use spawnery_model::{Base, ContentDigest};

use super::failure::Failure;
use super::plan::{Step, Work as StepWork};
use super::progress::{Cancel, Output};
use super::python::{self, VENV};
use super::sandboxed::Work;
use super::{Built, Job, command, debian, files, git};
use crate::layer::LayerDraft;

/// Where programs are looked for if an image says nothing, as in the sandbox.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Carries out one step. Blocks as long as that takes.
pub(super) fn run(
    job: &Job,
    step: &Step,
    host: bool,
    below: Built,
    cancel: &Cancel,
) -> Result<Built, Failure> {
    let output = Output::new(job.progress.clone(), &job.secrets);
    let work = job.work(&output, cancel, &below, host);
    let draft = || work.draft(&step.key, &step.title);
    let layer = match &step.work {
        StepWork::Directory(local) => files::write_base(&work, draft()?, local)?,
        StepWork::Python { python, version, requirements } => {
            python::install(&work, draft()?, python, version, requirements)?
        }
        StepWork::Source { source, commit } => git::check_out(&work, draft()?, source, commit)?,
        StepWork::Files(list) => files::write(&work, draft()?, list)?,
        StepWork::Command { number, command, network, working_directory } => {
            let mut env = below.config.env.clone();
            if job.recipe.python.is_some() {
                env = with_python(&env);
            }
            let draft = draft()?;
            command::run(&work, draft, *number, command, *network, working_directory, &env)?
        }
        StepWork::DebianExtract { suite, packages } => {
            debian::extract(&work, draft()?, suite, packages)?
        }
        StepWork::DebianConfigure { suite, packages } => {
            debian::configure(&work, draft()?, suite, packages)?
        }
        StepWork::Apt(packages) => debian::install(&work, draft()?, packages)?,
        StepWork::Image { .. } | StepWork::ImageFile(_) => {
            return Err(Failure::new("the layers of an image are not made here"));
        }
    };
    let mut built = below;
    built.layers.push(layer);
    Ok(built)
}

impl Job {
    /// What a step works with.
    pub(super) fn work<'a>(
        &'a self,
        output: &'a Output,
        cancel: &'a Cancel,
        below: &'a Built,
        host: bool,
    ) -> Work<'a> {
        Work {
            store: &self.inner.store,
            executor: &*self.inner.executor,
            settings: &self.inner.settings,
            secrets: &self.secrets,
            output,
            cancel,
            below: &below.layers,
            host,
            trusted: matches!(self.recipe.base, Base::Host | Base::Debian { .. }),
        }
    }
}

impl Work<'_> {
    /// A new layer over those below.
    fn draft(&self, key: &ContentDigest, title: &str) -> Result<LayerDraft, Failure> {
        let parents: Vec<ContentDigest> =
            self.below.iter().map(|layer| layer.record.key.clone()).collect();
        let base = self.host.then(|| self.executor.host_base());
        self.store.begin_layer(key, &parents, base.as_deref(), title).map_err(Failure::of)
    }
}

/// Variables with which the Python environment comes first.
pub(super) fn with_python(env: &[(String, String)]) -> Vec<(String, String)> {
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let path = format!("{VENV}/bin:{}", path.unwrap_or(PATH_DEFAULT));
    let kept = env.iter().filter(|(name, _)| name != "PATH" && name != "VIRTUAL_ENV");
    let mut env: Vec<(String, String)> = kept.cloned().collect();
    env.push(("PATH".to_owned(), path));
    env.push(("VIRTUAL_ENV".to_owned(), VENV.to_owned()));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_environment_comes_first() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first = with_python(&[pair("A", "1"), pair("PATH", "/x")]);
        assert_eq!(
            first,
            [pair("A", "1"), pair("PATH", "/opt/venv/bin:/x"), pair("VIRTUAL_ENV", "/opt/venv")]
        );
        assert_eq!(with_python(&first).len(), 3);
        assert!(with_python(&[])[0].1.ends_with(PATH_DEFAULT));
    }
}
