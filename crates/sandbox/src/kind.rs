//! What of a sandbox is decided before it is made. Two instances of the same kind can use the
//! same prepared sandbox; everything else is given to it afterwards.

use crate::launcher::disk::image_bytes;
use crate::limits::{LAYERS_MAX, USER_ID};
use crate::spec::{MountSpec, Network, RootSpec, SandboxSpec, UserSpec};

/// What is set up ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) network: Network,
    pub(crate) root: Option<RootSpec>,
    pub(crate) user: UserSpec,
    pub(crate) devices: Vec<String>,
    /// What is mounted, if only the init can do that: without root the launcher has no right
    /// to mounts of its own, and the init only as long as it still sees the host.
    pub(crate) early_mounts: Vec<MountSpec>,
    /// Bytes of the image that holds the private layer, if it is in one.
    pub(crate) image_bytes: Option<u64>,
}

/// What a launcher can do, on which it depends what is set up ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) rootful: bool,
    /// Whether private layers can be in images.
    pub(crate) images: bool,
}

impl Kind {
    /// The kind that is asked for most: nothing special.
    pub(crate) fn plain() -> Self {
        Self {
            network: Network::None,
            root: None,
            user: default_user(None),
            devices: Vec::new(),
            early_mounts: Vec::new(),
            image_bytes: None,
        }
    }

    /// The kind of sandbox that a start needs.
    pub(crate) fn of(spec: &SandboxSpec, means: Means) -> Self {
        let mounts = spec.mounts.clone().unwrap_or_default();
        Self {
            network: prepared_network(spec.network),
            root: spec.root.clone(),
            user: spec.user.clone().unwrap_or_else(|| default_user(spec.root.as_ref())),
            devices: spec.devices.clone().unwrap_or_default(),
            early_mounts: if means.rootful { Vec::new() } else { mounts },
            // What is kept must stay where it can be renamed away.
            image_bytes: spec
                .disk_bytes_max
                .filter(|_| means.images && spec.keeps_layer != Some(true))
                .map(image_bytes),
        }
    }

    /// Whether there is a network namespace of its own.
    pub(crate) fn own_network(&self) -> bool {
        self.network != Network::Host
    }

    /// Whether the view of the host is what everything else lies over.
    pub(crate) fn over_host(&self) -> bool {
        self.root.as_ref().is_none_or(|root| root.host)
    }
}

/// The interface of a private network is made when the instance is known, which costs less than
/// to throw one away in a sandbox without: both begin alike.
fn prepared_network(network: Network) -> Network {
    if network == Network::Private { Network::None } else { network }
}

/// As whom processes run if nobody says.
fn default_user(root: Option<&RootSpec>) -> UserSpec {
    let id = if root.is_none_or(|root| root.host) { USER_ID } else { 0 };
    UserSpec { uid: id, gid: id, groups: Vec::new() }
}

/// Checks a root; the error names the field.
pub(crate) fn check_root(root: &RootSpec) -> Result<(), String> {
    if root.layers.len() > LAYERS_MAX {
        let count = root.layers.len();
        return Err(format!("root: {count} layers are more than {LAYERS_MAX}"));
    }
    if root.layers.is_empty() && !root.host {
        return Err("root: has no layers, and the host is not below it".to_owned());
    }
    match root.layers.iter().find(|layer| !crate::spec::is_normalized(layer)) {
        Some(layer) => Err(format!("root: `{layer}` must be an absolute, normalized path")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTFUL: Means = Means { rootful: true, images: true };
    const ROOTLESS: Means = Means { rootful: false, images: false };

    #[test]
    fn the_default_user_depends_on_what_is_below() {
        let root = |host| Some(RootSpec { layers: vec!["/a".into()], host });
        for (root, uid) in [(None, USER_ID), (root(true), USER_ID), (root(false), 0)] {
            let spec = SandboxSpec { root, ..SandboxSpec::new(["true"]) };
            assert_eq!(Kind::of(&spec, ROOTFUL).user.uid, uid);
        }
        assert_eq!(Kind::of(&SandboxSpec::new(["true"]), ROOTFUL), Kind::plain());
    }

    #[test]
    fn mounts_make_a_kind_only_where_they_must() {
        let mount = MountSpec { source: "/a".into(), target: "/b".into(), read_only: true };
        let spec = SandboxSpec { mounts: Some(vec![mount]), ..SandboxSpec::new(["true"]) };
        assert_eq!(Kind::of(&spec, ROOTFUL), Kind::plain());
        assert_eq!(Kind::of(&spec, ROOTLESS).early_mounts.len(), 1);
    }

    #[test]
    fn roots_that_cannot_be_are_refused() {
        let table = [
            (vec![], false, false),
            (vec![], true, true),
            (vec!["/a/b"], false, true),
            (vec!["a"], true, false),
            (vec!["/a/../b"], false, false),
            (vec!["/x"; LAYERS_MAX + 1], false, false),
        ];
        for (layers, host, good) in table {
            let layers = layers.into_iter().map(str::to_owned).collect();
            let root = RootSpec { layers, host };
            assert_eq!(check_root(&root).is_ok(), good, "{root:?}");
        }
    }
}
