//! Stand-ins for instances that something else isolates. The launcher starts one for each process
//! of such an instance, as it starts a sandbox; it starts the process by the OCI runtime or the
//! engine, passes signals on, and ends as the process ends.

mod follow;
pub(crate) mod inside;
mod process;

use crate::runtimes::{DockerEngine, OciCommand};
use minicbor::{Decode, Encode};
use spawnery_sandbox::spec::SandboxSpec;
use spawnery_sandbox::tool::{self, Job, Reporter, Signals};
use std::ffi::OsString;

#[cfg(feature = "docker")]
pub(crate) use follow::meant;
pub(crate) use follow::{End, end_of_code, follow, let_go_of_streams};
pub(crate) use process::{Process, main_account, user};

/// What a stand-in is told.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ShimSpec {
    /// The sandbox as the process runtime would make it.
    #[n(0)]
    pub(crate) sandbox: SandboxSpec,
    /// Who makes it instead.
    #[n(1)]
    pub(crate) kind: Kind,
}

/// Who isolates.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Kind {
    #[n(0)]
    Oci(#[n(0)] OciCommand),
    #[n(1)]
    Docker(#[n(0)] DockerEngine),
}

impl Kind {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Kind::Oci(_) => "oci",
            Kind::Docker(_) => "docker",
        }
    }
}

/// What could not be done, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) reason: String,
}

impl Failure {
    pub(crate) fn new(step: impl Into<String>, reason: impl ToString) -> Self {
        Self { step: step.into(), reason: reason.to_string() }
    }
}

/// Names the step of a call that may fail.
pub(crate) trait AtStep<T> {
    fn at(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: ToString> AtStep<T> for Result<T, E> {
    fn at(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}

/// A job that can be carried out.
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) spec: SandboxSpec,
    pub(crate) signals: Signals,
}

/// This program was not started by a launcher.
#[derive(Debug, thiserror::Error)]
#[error("a launcher runs this, with a job; there is no need to run it by hand: {0}")]
pub struct NoJob(#[source] std::io::Error);

/// Runs as a stand-in if the arguments, without the program's name, say so: `shim oci` and `shim
/// docker`. Then it returns only if there is nothing to stand in for. To be called first of all,
/// while the process has one thread.
pub fn run_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<NoJob> {
    if arguments.next()? != "shim" {
        return None;
    }
    let started = Signals::block().and_then(|signals| Ok((signals, tool::take_job()?)));
    let (signals, (job, reporter)) = match started {
        Ok(started) => started,
        Err(error) => return Some(NoJob(error)),
    };
    let end = match minicbor::decode::<ShimSpec>(&job.spec) {
        Ok(ShimSpec { sandbox, kind }) => {
            if let Err(reason) = sandbox.check() {
                reporter.failed("read the job", &reason);
                tool::end_with(1);
            }
            let work = Work { job, spec: sandbox, signals };
            stand_in(work, kind, reporter)
        }
        Err(error) => {
            reporter.failed("read the job", &error.to_string());
            End::Code(1)
        }
    };
    match end {
        End::Code(code) => tool::end_with(code),
        End::Signal(signal) => tool::end_by(signal),
    }
}

fn stand_in(work: Work, kind: Kind, reporter: Reporter) -> End {
    match kind {
        Kind::Oci(command) => crate::oci::stand_in(work, command, reporter),
        #[cfg(feature = "docker")]
        Kind::Docker(engine) => crate::docker::stand_in(work, engine, reporter),
        #[cfg(not(feature = "docker"))]
        Kind::Docker(_) => {
            reporter.failed("start the container", "this program was built without the engine");
            End::Code(1)
        }
    }
}
