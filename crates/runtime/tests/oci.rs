//! The OCI runtime with `runc`.

mod conformance;
mod support;

use spawnery_model::RuntimeKind;
use spawnery_runtime::Runtimes;
use support::World;

conformance_tests!(World::new(RuntimeKind::Oci, Runtimes::default()).await);

/// A command that keeps in the foreground, as those do that have a kernel of their own.
mod in_the_foreground {
    use super::*;
    use spawnery_runtime::OciCommand;

    async fn world() -> World {
        let oci = OciCommand { shares_kernel: false, ..OciCommand::default() };
        World::new(RuntimeKind::Oci, Runtimes { oci, ..Runtimes::default() }).await
    }

    conformance_tests!(world().await;
        an_instance_ends_with_its_code_and_all_its_output,
        a_program_that_does_not_exist_is_a_failed_start,
        what_is_written_to_a_standard_input_arrives,
        a_stop_signal_is_handled_by_the_program,
        what_ignores_the_stop_signal_is_killed_after_the_grace,
        the_inside_is_its_own_and_holds_the_files,
        an_instance_ends_with_its_launcher,
    );
}
