//! Secrets: set by people, given to the nodes that need them.

use crate::handle::{Controller, SubmitError};
use crate::vault::VaultError;
use spawnery_cluster::{Command, State};
use spawnery_model::limits::SECRET_BYTES_MAX;
use spawnery_model::{InstanceId, Name, NodeId, Phase, Timestamp, Workload};
use spawnery_wire::link::SecretValue;

/// What may be shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: Name,
    /// Grows with each value.
    pub version: u64,
    /// When it got its value.
    pub changed_at: Timestamp,
    /// Who set it.
    pub by: String,
    /// The workloads that use it.
    pub used_by: Vec<Name>,
}

/// A secret could not be set or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The value is not one.
    #[error("the value of secret {name} has {bytes} bytes; expected 1 to {SECRET_BYTES_MAX}")]
    Size {
        /// The secret.
        name: Name,
        /// Bytes of the value.
        bytes: usize,
    },
    /// Its key or its cipher text cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The controller refused it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Controller {
    /// Gives a secret a value. Instances that run keep the old one.
    pub async fn set_secret(
        &self,
        name: Name,
        value: Vec<u8>,
        by: String,
    ) -> Result<(), SecretError> {
        let bytes = value.len();
        if bytes == 0 || bytes > SECRET_BYTES_MAX {
            return Err(SecretError::Size { name, bytes });
        }
        let first = self.query(|state| state.secrets().next().is_none()).await?;
        let sealed = self.vault().seal(&name, &value, first)?;
        self.submit(Command::SetSecret { name, sealed, by }, None).await?;
        Ok(())
    }

    /// Forgets a secret that no workload uses.
    pub async fn remove_secret(&self, name: Name, by: String) -> Result<(), SubmitError> {
        self.submit(Command::RemoveSecret { name, by }, None).await.map(|_| ())
    }

    /// All secrets, by name, without their values.
    pub async fn secrets(&self) -> Result<Vec<SecretInfo>, SubmitError> {
        self.query(|state| {
            let info = |name: &Name| {
                let secret = state.secret(name)?;
                Some(SecretInfo {
                    name: name.clone(),
                    version: secret.version,
                    changed_at: secret.changed_at,
                    by: secret.by.clone(),
                    used_by: state.users_of_secret(name).cloned().collect(),
                })
            };
            state.secrets().filter_map(|(name, _)| info(name)).collect()
        })
        .await
    }

    /// The values of the secrets of a workload that is not applied, such as a recipe to be built.
    pub(crate) async fn secrets_named(
        &self,
        names: Vec<Name>,
    ) -> Result<Vec<SecretValue>, SecretError> {
        let missing = |name: Name| {
            let unknown = spawnery_cluster::Rejection::SecretUnknown { name, workload: None };
            SecretError::Submit(SubmitError::Rejected(unknown))
        };
        let sealed =
            self.query(move |state| sealed(state, names.iter())).await?.map_err(missing)?;
        self.unsealed(sealed)
    }

    /// The secrets of an instance, for the node that it is placed on; `None` for any other.
    pub(crate) async fn secrets_of_instance(
        &self,
        node: NodeId,
        instance: InstanceId,
    ) -> Result<Option<Vec<SecretValue>>, SecretError> {
        let sealed = self.query(move |state| {
            let found = state.instance(instance)?;
            let here = found.node == Some(node) && found.phase != Phase::Ended;
            here.then(|| sealed_of(state, state.definition_of(found)))
        });
        self.unsealed_if_any(sealed.await?)
    }

    /// The secrets of a workload, for a node that keeps sandboxes ready for it.
    pub(crate) async fn secrets_of_workload(
        &self,
        node: NodeId,
        workload: Name,
    ) -> Result<Option<Vec<SecretValue>>, SecretError> {
        let sealed = self.query(move |state| {
            let found = &state.workload(&workload)?.workload;
            let warm = found.surroundings.as_ref().is_some_and(|it| it.warm > 0);
            let here = warm && state.may_run_on(found, node);
            here.then(|| sealed_of(state, found))
        });
        self.unsealed_if_any(sealed.await?)
    }

    fn unsealed_if_any(
        &self,
        sealed: Option<Vec<(Name, Vec<u8>)>>,
    ) -> Result<Option<Vec<SecretValue>>, SecretError> {
        sealed.map(|sealed| self.unsealed(sealed)).transpose()
    }

    fn unsealed(&self, sealed: Vec<(Name, Vec<u8>)>) -> Result<Vec<SecretValue>, SecretError> {
        let open = |(name, sealed): (Name, Vec<u8>)| {
            let value = self.vault().open(&name, &sealed)?;
            Ok(SecretValue { name, value })
        };
        sealed.into_iter().map(open).collect()
    }
}

/// The secrets of a workload that are there. One that is missing now is missed where it is used.
fn sealed_of(state: &State, workload: &Workload) -> Vec<(Name, Vec<u8>)> {
    let names = spawnery_cluster::secrets_of(workload);
    names.filter_map(|name| Some((name.clone(), state.secret(name)?.sealed.clone()))).collect()
}

/// The secrets with these names, or the name of one that is missing.
fn sealed<'a>(
    state: &State,
    names: impl Iterator<Item = &'a Name>,
) -> Result<Vec<(Name, Vec<u8>)>, Name> {
    let one = |name: &Name| {
        let secret = state.secret(name).ok_or_else(|| name.clone())?;
        Ok((name.clone(), secret.sealed.clone()))
    };
    names.map(one).collect()
}
