//! The steps of a recipe, each with a key that says what goes into it.

use minicbor::Encode;
use spawnery_model::{
    Base, ContentDigest, Environment, EnvironmentFile, EnvironmentLock, Local, LockedPackage, Name,
    Python, Source,
};

use super::limits::BUILDER_VERSION;
use crate::recipe;

/// The steps of a recipe with its lock, in the order in which they are carried out.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Whether the view of the host is below the layers.
    pub(super) host: bool,
    /// The digest of the whole environment.
    pub(super) digest: ContentDigest,
}

/// One step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The digest of all that goes into it, with the steps before.
    pub(super) key: ContentDigest,
    /// For people: `python packages`.
    pub(super) title: String,
    pub(super) work: Work,
}

/// What is done in a step.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Image {
        reference: String,
        digest: String,
        credentials: Option<Name>,
    },
    ImageFile(Local),
    Directory(Local),
    /// The first of two: the packages that everything else needs, extracted.
    DebianExtract {
        suite: String,
        packages: Vec<LockedPackage>,
    },
    /// The second: their scripts, run in the sandbox.
    DebianConfigure {
        suite: String,
        packages: Vec<LockedPackage>,
    },
    Apt(Vec<LockedPackage>),
    Python {
        python: Python,
        version: String,
        requirements: Vec<String>,
    },
    Source {
        source: Source,
        commit: String,
    },
    Files(Vec<EnvironmentFile>),
    Command {
        number: usize,
        command: String,
        network: bool,
        working_directory: String,
    },
}

/// What a key is the digest of.
#[derive(Encode)]
struct KeyInput<'a, T> {
    #[n(0)]
    version: u32,
    #[n(1)]
    architecture: &'a str,
    #[n(2)]
    parent: Option<&'a ContentDigest>,
    #[n(3)]
    kind: &'a str,
    #[n(4)]
    input: T,
}

/// Collects steps.
struct Planner {
    steps: Vec<Step>,
}

impl Planner {
    fn add<T: Encode<()>>(&mut self, kind: &str, input: T, title: impl Into<String>, work: Work) {
        let parent = self.steps.last().map(|step| &step.key);
        let key = key(parent, kind, input);
        self.steps.push(Step { key, title: title.into(), work });
    }
}

fn key<T: Encode<()>>(parent: Option<&ContentDigest>, kind: &str, input: T) -> ContentDigest {
    let architecture = std::env::consts::ARCH;
    recipe::hash(&KeyInput { version: BUILDER_VERSION, architecture, parent, kind, input })
}

/// The steps of a recipe with a lock that was checked.
pub(super) fn plan(recipe: &Environment, lock: &EnvironmentLock) -> Plan {
    let mut planner = Planner { steps: Vec::new() };
    let host = plan_base(&mut planner, recipe, lock);
    if !recipe.apt.is_empty() {
        let work = Work::Apt(lock.apt.clone());
        planner.add("apt", &lock.apt, "Debian packages", work);
    }
    if let Some(python) = &recipe.python {
        let version = lock.python.clone().unwrap_or_default();
        let requirements = lock.requirements.clone();
        let work = Work::Python { python: python.clone(), version: version.clone(), requirements };
        planner.add("python", (version, &lock.requirements), "python packages", work);
    }
    if let Some(source) = &recipe.source {
        let commit = lock.commit.clone().unwrap_or_default();
        let work = Work::Source { source: source.clone(), commit: commit.clone() };
        // Not the URL: a mirror of the repository has the same commit.
        planner.add("source", (&commit, &source.to), "source", work);
    }
    if !recipe.files.is_empty() {
        let trees: Vec<_> =
            recipe.files.iter().map(|it| (&it.from.tree, &it.to, it.directory)).collect();
        planner.add("files", trees, "files", Work::Files(recipe.files.clone()));
    }
    plan_commands(&mut planner, recipe);
    let last = planner.steps.last().map(|step| step.key.clone());
    let digest = recipe::hash(&("environment", last, lock));
    Plan { steps: planner.steps, host, digest }
}

fn plan_commands(planner: &mut Planner, recipe: &Environment) {
    let working_directory =
        recipe.source.as_ref().map_or_else(|| "/".to_owned(), |it| it.to.clone());
    for (index, command) in recipe.build.iter().enumerate() {
        let number = index + 1;
        let work = Work::Command {
            number,
            command: command.clone(),
            network: recipe.build_network,
            working_directory: working_directory.clone(),
        };
        let input = (command, recipe.build_network, &working_directory);
        let title = format!("build command {number} of {}", recipe.build.len());
        planner.add("command", input, title, work);
    }
}

/// Adds the steps of the base, and says whether that is the view of the host.
fn plan_base(planner: &mut Planner, recipe: &Environment, lock: &EnvironmentLock) -> bool {
    match &recipe.base {
        Base::Host => return true,
        Base::Image { reference, credentials } => {
            let digest = lock.image.clone().unwrap_or_default();
            let work = Work::Image {
                reference: reference.clone(),
                digest: digest.clone(),
                credentials: credentials.clone(),
            };
            planner.add("image", digest, format!("image {reference}"), work);
        }
        Base::ImageFile(local) => {
            let work = Work::ImageFile(local.clone());
            planner.add("image file", &local.tree, format!("image {}", local.path), work);
        }
        Base::Directory(local) => {
            let work = Work::Directory(local.clone());
            planner.add("directory", &local.tree, format!("folder {}", local.path), work);
        }
        Base::Debian { suite } => {
            let title = format!("Debian {suite}");
            let packages = lock.base.clone();
            let work = Work::DebianExtract { suite: suite.clone(), packages: packages.clone() };
            planner.add("debian", (suite, &lock.base), title.clone(), work);
            let work = Work::DebianConfigure { suite: suite.clone(), packages };
            planner.add("configure", (), format!("{title}, configured"), work);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::GitReference;

    fn recipe(commands: &[&str]) -> Environment {
        Environment {
            name: None,
            base: Base::Host,
            apt: Vec::new(),
            python: Some(Python::default()),
            source: Some(Source {
                git: "https://git.example.org/x".into(),
                reference: GitReference::Default,
                credentials: None,
                to: "/srv/source".into(),
            }),
            files: Vec::new(),
            build: commands.iter().map(|it| (*it).to_owned()).collect(),
            build_network: false,
            lock: None,
        }
    }

    fn keys(recipe: &Environment, commit: &str) -> Vec<ContentDigest> {
        let lock = EnvironmentLock { commit: Some(commit.into()), ..EnvironmentLock::default() };
        plan(recipe, &lock).steps.into_iter().map(|step| step.key).collect()
    }

    #[test]
    fn a_change_keeps_the_keys_of_the_steps_before_it_and_of_none_after() {
        let first = keys(&recipe(&["a", "b", "c"]), "1");
        assert_eq!(first.len(), 5);
        let same = |other: Vec<ContentDigest>| {
            first.iter().zip(&other).take_while(|(a, b)| a == b).count()
        };
        assert_eq!(same(keys(&recipe(&["a", "b", "c"]), "1")), 5);
        assert_eq!(same(keys(&recipe(&["a", "b", "x"]), "1")), 4);
        let changed = keys(&recipe(&["x", "b", "c"]), "1");
        assert!(changed[2..].iter().all(|key| !first.contains(key)));
        assert_eq!(same(changed), 2);
        assert_eq!(same(keys(&recipe(&["a", "b", "c"]), "2")), 1);
    }

    #[test]
    fn the_digest_of_the_whole_depends_on_the_lock() {
        let recipe = recipe(&[]);
        let lock = EnvironmentLock::default();
        let other = EnvironmentLock { recipe: "x".into(), ..lock.clone() };
        assert_eq!(plan(&recipe, &lock).digest, plan(&recipe, &lock).digest);
        assert_ne!(plan(&recipe, &lock).digest, plan(&recipe, &other).digest);
    }
}
