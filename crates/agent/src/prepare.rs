//! Makes ready what an instance finds around its process, before it is started.

use crate::environments::{Environments, News, Ready, SecretsFrom};
use crate::upstream::Upstream;
use crate::volumes::Volumes;
use spawnery_environment::ImageConfig;
use spawnery_model::{
    Allowances, ContentDigest, InstanceId, Name, Network, StartOrder, Surroundings, VolumeMount,
};
use spawnery_runtime::{MountSpec, Prepared, SecretFile, UserSpec};
use spawnery_wire::link::SecretValue;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Makes instances ready. Clones share what is in use.
#[derive(Clone)]
pub(crate) struct Preparer {
    pub(crate) environments: Environments,
    pub(crate) volumes: Volumes,
    pub(crate) upstream: Upstream,
    pub(crate) allowances: Arc<Allowances>,
    pub(crate) in_use: InUse,
}

/// What the instances of this node use of what is kept between them.
#[derive(Clone, Default)]
pub(crate) struct InUse {
    held: Arc<Mutex<BTreeMap<InstanceId, Use>>>,
    /// Told whenever an instance gives something back.
    freed: Arc<Notify>,
}

#[derive(Default)]
struct Use {
    environment: Option<Ready>,
    volumes: Vec<VolumeMount>,
}

/// For whom something is made ready.
#[derive(Debug, Clone)]
pub(crate) enum For {
    /// An instance that starts.
    Instance(InstanceId),
    /// Sandboxes that are kept ready, for instances to come.
    Pool(Name),
}

impl Preparer {
    /// Makes ready what `order` asks for. `order` gets what its environment says of variables,
    /// program and working directory. `progress` is told what takes long.
    ///
    /// The error says what could not be had and why.
    pub(crate) async fn prepare(
        &self,
        whom: &For,
        order: &mut StartOrder,
        progress: impl Fn(String),
    ) -> Result<Prepared, String> {
        self.check_allowed(order)?;
        let Some(surroundings) = order.surroundings.clone() else {
            return Ok(Prepared::default());
        };
        let mut prepared = Prepared::default();
        if let For::Instance(instance) = whom {
            prepared.mounts = self.mounts(*instance, &surroundings, &progress).await?;
            self.add_secrets(&mut prepared, *instance, &surroundings).await?;
        }
        if let Some(environment) = &surroundings.environment {
            let secrets = match whom {
                For::Instance(instance) => SecretsFrom::Instance(*instance),
                For::Pool(workload) => SecretsFrom::Workload(workload.clone()),
            };
            let news = |news: News| {
                if let News::Progress(text) = news {
                    progress(text);
                }
            };
            let ready = self.environments.ready(environment, secrets, false, news).await?;
            prepared.root = Some(ready.root.clone());
            prepared.user = user(&ready.record.config);
            merge(&ready.record.config, order)?;
            if let For::Instance(instance) = whom {
                self.in_use.held().entry(*instance).or_default().environment = Some(ready);
            }
        }
        if let Some(user) = surroundings.user {
            prepared.user = Some(UserSpec { uid: user.uid, gid: user.gid, groups: Vec::new() });
        }
        Ok(prepared)
    }

    /// Placement has looked at what the node allows; the node does not rely on that.
    fn check_allowed(&self, order: &StartOrder) -> Result<(), String> {
        let allowances = &self.allowances;
        let refused = |what: String| Err(format!("this node does not allow {what}"));
        if order.process.network == Network::Host && !allowances.host_network {
            return refused("`network: host`".to_owned());
        }
        let Some(surroundings) = &order.surroundings else {
            return Ok(());
        };
        if let Some(path) = surroundings.devices.iter().find(|it| !allowances.devices.contains(it))
        {
            return refused(format!("the device {path}"));
        }
        let unlisted =
            |mount: &&spawnery_model::HostMount| !allowances.mounts.contains(&mount.from);
        match surroundings.mounts.iter().find(unlisted) {
            Some(mount) => refused(format!("its folder {} to be mounted", mount.from)),
            None => Ok(()),
        }
    }

    async fn mounts(
        &self,
        instance: InstanceId,
        surroundings: &Surroundings,
        progress: &impl Fn(String),
    ) -> Result<Vec<MountSpec>, String> {
        self.in_use.take(instance, &surroundings.volumes, progress).await;
        let mut mounts = Vec::new();
        for volume in &surroundings.volumes {
            let folder = self.volumes.ensure(&volume.name);
            let folder = folder.map_err(|error| format!("cannot make {}: {error}", volume.name))?;
            mounts.push(MountSpec {
                source: folder.to_string_lossy().into_owned(),
                target: volume.path.clone(),
                read_only: volume.read_only,
            });
        }
        for mount in &surroundings.mounts {
            if !Path::new(&mount.from).exists() {
                return Err(format!("this node has no {}, which is to be mounted", mount.from));
            }
            mounts.push(MountSpec {
                source: mount.from.clone(),
                target: mount.to.clone(),
                read_only: mount.read_only,
            });
        }
        Ok(mounts)
    }

    async fn add_secrets(
        &self,
        prepared: &mut Prepared,
        instance: InstanceId,
        surroundings: &Surroundings,
    ) -> Result<(), String> {
        if surroundings.secrets.is_empty() {
            return Ok(());
        }
        let secrets = self.upstream.instance_secrets(instance).await;
        let secrets = secrets.map_err(|error| format!("cannot get its secrets: {error}"))?;
        let values: BTreeMap<&Name, &SecretValue> =
            secrets.iter().map(|secret| (&secret.name, secret)).collect();
        for used in &surroundings.secrets {
            let name = &used.name;
            let value = values.get(name).ok_or_else(|| format!("there is no secret {name}"))?;
            match &used.variable {
                None => prepared
                    .secret_files
                    .push(SecretFile { name: name.to_string(), bytes: value.value.clone() }),
                Some(variable) => {
                    let text = String::from_utf8(value.value.clone()).ok();
                    let text = text.filter(|text| !text.contains('\0')).ok_or_else(|| {
                        format!("secret {name} is not text, so it cannot be the variable {variable}: use it as a file")
                    })?;
                    prepared.secret_env.push((variable.clone(), text));
                }
            }
        }
        Ok(())
    }
}

impl InUse {
    /// Waits until no other instance is in the way, and takes the volumes.
    async fn take(
        &self,
        instance: InstanceId,
        volumes: &[VolumeMount],
        progress: &impl Fn(String),
    ) {
        if volumes.is_empty() {
            return;
        }
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            match self.try_take(instance, volumes) {
                Ok(()) => return,
                Err(reason) => progress(reason),
            }
            freed.await;
        }
    }

    fn try_take(&self, instance: InstanceId, volumes: &[VolumeMount]) -> Result<(), String> {
        let mut held = self.held();
        for mine in volumes {
            let clashes = |theirs: &VolumeMount| {
                theirs.name == mine.name && (theirs.exclusive || mine.exclusive)
            };
            let mut others = held.iter().filter(|(id, _)| **id != instance);
            if let Some((other, _)) = others.find(|(_, used)| used.volumes.iter().any(clashes)) {
                return Err(format!("volume {} is in use by instance {other}", mine.name));
            }
        }
        held.entry(instance).or_default().volumes = volumes.to_vec();
        Ok(())
    }

    /// Notes what an instance uses that was started before this agent.
    pub(crate) fn found(&self, instance: InstanceId, order: &StartOrder, ready: Option<Ready>) {
        let volumes = order.surroundings.as_ref().map(|it| it.volumes.clone());
        let used = Use { environment: ready, volumes: volumes.unwrap_or_default() };
        self.held().insert(instance, used);
    }

    /// An instance has ended.
    pub(crate) fn give_back(&self, instance: InstanceId) {
        if self.held().remove(&instance).is_some() {
            self.freed.notify_waiters();
        }
    }

    /// How many instances use each environment.
    pub(crate) fn environments(&self) -> BTreeMap<ContentDigest, u32> {
        let mut users = BTreeMap::new();
        for ready in self.held().values().filter_map(|used| used.environment.as_ref()) {
            *users.entry(ready.record.digest.clone()).or_default() += 1;
        }
        users
    }

    /// The environments in use and all that they are made of.
    pub(crate) fn digests(&self) -> BTreeSet<ContentDigest> {
        let held = self.held();
        let ready = held.values().filter_map(|used| used.environment.as_ref());
        ready.flat_map(|ready| ready.lease.digests().iter().cloned()).collect()
    }

    /// An instance that uses a volume.
    pub(crate) fn user_of(&self, volume: &Name) -> Option<InstanceId> {
        let held = self.held();
        let uses = |used: &Use| used.volumes.iter().any(|mount| mount.name == *volume);
        held.iter().find(|(_, used)| uses(used)).map(|(instance, _)| *instance)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Use>> {
        self.held.lock().expect("no holder panics")
    }
}

fn user(config: &ImageConfig) -> Option<UserSpec> {
    let user = config.user.as_ref()?;
    Some(UserSpec { uid: user.uid, gid: user.gid, groups: user.groups.clone() })
}

/// What the manifest does not say, the environment does.
fn merge(config: &ImageConfig, order: &mut StartOrder) -> Result<(), String> {
    let process = &mut order.process;
    for (name, value) in &config.env {
        process.env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if process.run.is_empty() {
        process.run = config.entrypoint.iter().chain(&config.cmd).cloned().collect();
    }
    if process.run.is_empty() {
        return Err("its image does not say what to run: add `run` to the manifest".to_owned());
    }
    if process.working_directory.is_none() {
        process.working_directory = config.working_directory.clone().filter(|it| !it.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;

    fn instance(number: u128) -> InstanceId {
        InstanceId(Id::from_bits(number))
    }

    fn mount(exclusive: bool) -> VolumeMount {
        VolumeMount {
            name: Name::new("data").unwrap(),
            path: "/srv/data".to_owned(),
            exclusive,
            read_only: false,
        }
    }

    #[test]
    fn a_volume_is_shared_unless_one_wants_it_alone() {
        let check = |first: bool, second: bool, both: bool| {
            let in_use = InUse::default();
            in_use.try_take(instance(1), &[mount(first)]).unwrap();
            let taken = in_use.try_take(instance(2), &[mount(second)]);
            assert_eq!(taken.is_ok(), both, "{first} {second}");
            in_use.give_back(instance(1));
            in_use.try_take(instance(2), &[mount(second)]).unwrap();
        };
        check(false, false, true);
        check(true, false, false);
        check(false, true, false);
        check(true, true, false);
    }

    #[tokio::test]
    async fn who_waits_for_a_volume_gets_it_when_it_is_given_back() {
        let in_use = InUse::default();
        in_use.try_take(instance(1), &[mount(true)]).unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let waiting = in_use.clone();
        let task = tokio::spawn(async move {
            let progress = move |text| told.send(text).unwrap();
            waiting.take(instance(2), &[mount(true)], &progress).await;
        });
        let text = tokio::task::spawn_blocking(move || heard.recv().unwrap()).await.unwrap();
        assert!(text.contains("volume data is in use by instance"), "{text}");
        in_use.give_back(instance(1));
        task.await.unwrap();
        assert_eq!(in_use.user_of(&Name::new("data").unwrap()), Some(instance(2)));
    }
}
