//! The OCI runtime with `runc`.

mod conformance;
mod support;

use spawnery_model::RuntimeKind;
use spawnery_runtime::Runtimes;
use support::World;

conformance_tests!(World::new(RuntimeKind::Oci, Runtimes::default()).await);
