//! What has been read of one workload so far, and how it becomes a workload of the model.

use crate::error::{Problem, quoted};
use crate::lifecycle::{RestartDraft, StopDraft};
use crate::place::Span;
use crate::placed::is_below;
use crate::reader::Reader;
use crate::readiness;
use crate::session::SessionDraft;
use crate::surroundings::SurroundingsDraft;
use spawnery_model::limits::{
    CPU_RESERVED_DEFAULT, FILES_BYTES_MAX, JOB_START_DEADLINE_DEFAULT, MEMORY_DEFAULT,
    PIDS_DEFAULT, RUN_AND_ENV_BYTES_MAX, RUN_ATTEMPTS_DEFAULT,
};
use spawnery_model::{
    Base, Bytes, Constraint, CpuMillis, DurationMs, Environment, File, JobSettings, Kind, Missed,
    Name, Network, Overlap, Port, Process, Readiness, Replicas, RestartPolicy, Schedule,
    ServiceSettings, Surroundings, Workload,
};
use std::collections::BTreeMap;

/// The fields of one workload, as far as they were given.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) run: Option<Vec<String>>,
    /// Whether `run` was given, right or wrong.
    pub(crate) run_given: bool,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) memory: Option<Bytes>,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) cpu_shares: Option<(CpuMillis, Span)>,
    pub(crate) disk: Option<Bytes>,
    pub(crate) pids: Option<u32>,
    pub(crate) ports: Vec<Port>,
    pub(crate) network: Network,
    pub(crate) working_directory: Option<String>,
    pub(crate) stdin: bool,
    pub(crate) files: Vec<File>,
    pub(crate) sources: Vec<SourceDraft>,
    pub(crate) restart: RestartDraft,
    pub(crate) stop: StopDraft,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) overlap: Option<Overlap>,
    pub(crate) missed: Option<Missed>,
    pub(crate) start_deadline: Option<DurationMs>,
    pub(crate) attempts: Option<(u32, Span)>,
    pub(crate) timeout: Option<DurationMs>,
    pub(crate) session: SessionDraft,
    pub(crate) ready: Option<(Readiness, Span)>,
    pub(crate) around: SurroundingsDraft,
}

/// Processor share: what is reserved and what is the most.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) reserved: CpuMillis,
    pub(crate) max: Option<CpuMillis>,
}

/// A file whose content lies beside the manifest.
pub(crate) struct SourceDraft {
    pub(crate) path: String,
    pub(crate) source: String,
    pub(crate) mode: Option<u32>,
    pub(crate) field: String,
    pub(crate) span: Span,
}

/// The three kinds, before their settings are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KindWord {
    Service,
    Job,
    Session,
}

impl KindWord {
    /// As in a sentence.
    pub(crate) fn word(self) -> &'static str {
        match self {
            KindWord::Service => "service",
            KindWord::Job => "job",
            KindWord::Session => "session",
        }
    }
}

impl Draft {
    /// Checks what concerns several fields, fills in the defaults and makes the workload. `span`
    /// is the workload's name, `environment` what it said about its environment, looked up.
    /// Nothing without a program to run, which is then reported.
    pub(crate) fn finish(
        mut self,
        kind: KindWord,
        name: Name,
        span: Span,
        environment: Option<Box<Environment>>,
        reader: &mut Reader,
    ) -> Option<(Workload, Vec<SourceDraft>)> {
        self.check_sizes(span, reader);
        self.check_targets(reader);
        let (policy_default, attempts_max) = match kind {
            KindWord::Service => (RestartPolicy::Always, 1),
            KindWord::Job => self.check_job(reader),
            KindWord::Session => (RestartPolicy::Never, 1),
        };
        let may_run_nothing = has_command(environment.as_deref()) || self.around.is_wrong();
        let surroundings = self.surroundings(environment, reader);
        let cpu = self.cpu();
        let restart = self.restart.finish(policy_default, reader);
        if !self.run_given && !may_run_nothing {
            let found = format!("the {} `{name}` does not say what to run", kind.word());
            let problem = Problem::new(span, found, "the field `run`");
            reader.report(problem.hint("add for example `run: echo hello`"));
        }
        let run = match self.run.take() {
            None if !self.run_given && may_run_nothing => Vec::new(),
            run => run?,
        };
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        let ready = readiness::finish(self.ready.take(), &self.ports, reader);
        let workload = Workload {
            name,
            kind: match kind {
                KindWord::Service => Kind::Service(ServiceSettings {
                    replicas: self.replicas.unwrap_or(Replicas::Count(1)),
                }),
                KindWord::Job => Kind::Job(JobSettings {
                    schedule: self.schedule,
                    overlap: self.overlap.unwrap_or(Overlap::Skip),
                    missed: self.missed.unwrap_or(Missed::Skip),
                    start_deadline: self.start_deadline.unwrap_or(JOB_START_DEADLINE_DEFAULT),
                    attempts_max,
                    timeout: self.timeout,
                }),
                KindWord::Session => Kind::Session(self.session.finish(&self.ports, reader)),
            },
            process: Process {
                run,
                env: self.env,
                memory: self.memory.unwrap_or(MEMORY_DEFAULT),
                cpu_reserved: cpu.reserved,
                cpu_max: cpu.max,
                disk_max: self.disk,
                pids_max: self.pids.unwrap_or(PIDS_DEFAULT),
                ports: self.ports,
                working_directory: self.working_directory,
                network: self.network,
                files: self.files,
                stdin: self.stdin.then_some(true),
                ready,
            },
            restart,
            stop: self.stop.finish(),
            constraints: self.constraints,
            labels: self.labels,
            surroundings,
        };
        Some((workload, self.sources))
    }

    /// The processor share, from `cpu` or `cpuShares` or neither.
    fn cpu(&self) -> Cpu {
        let shares = self.cpu_shares.map(|(share, _)| Cpu { reserved: share, max: Some(share) });
        let default = Cpu { reserved: CPU_RESERVED_DEFAULT, max: None };
        self.cpu.or(shares).unwrap_or(default)
    }

    fn check_sizes(&self, span: Span, reader: &mut Reader) {
        if let (Some(_), Some((_, shares))) = (self.cpu, self.cpu_shares) {
            let found = "`cpu` and `cpuShares` are both given";
            let problem = Problem::new(shares, found, "one of the two");
            reader.report(problem.hint("1024 shares are one core; keep `cpu`"));
        }
        let run = self.run.iter().flatten().map(|word| word.len() + 1);
        let env = self.env.iter();
        let env = env.map(|(name, value)| name.len() + value.len() + 2);
        let bytes = run.sum::<usize>() + env.sum::<usize>();
        if bytes > RUN_AND_ENV_BYTES_MAX {
            let found = format!("`run` and `env` have {bytes} bytes together");
            let expected = format!("at most {RUN_AND_ENV_BYTES_MAX} bytes");
            reader.report(Problem::new(span, found, expected).hint("put long text into `files`"));
        }
        if let Some((found, expected)) = files_too_large(&self.files) {
            reader.report(Problem::new(span, found, expected));
        }
    }

    /// Checks that no two of files, volumes and mounts are at the same place.
    fn check_targets(&self, reader: &mut Reader) {
        let sources = self.sources.iter().map(|source| &source.path);
        let files: Vec<&String> = self.files.iter().map(|file| &file.path).chain(sources).collect();
        for (index, target) in self.around.targets.iter().enumerate() {
            let path = &target.path;
            let mut others = self.around.targets[..index].iter();
            let found = if others.any(|other| other.path == *path) || files.contains(&path) {
                format!("two things are put at {}", quoted(path))
            } else if let Some(file) = files.iter().find(|file| is_below(file, path)) {
                format!("the file {} would be put into {}", quoted(file), quoted(path))
            } else if let Some(file) = files.iter().find(|file| is_below(path, file)) {
                format!("{} is a file and a folder", quoted(file))
            } else {
                continue;
            };
            let problem = Problem::new(target.span, found, "paths that can stand together");
            reader.report_in(&target.field, problem);
        }
    }

    /// What is not a default in the surroundings, if anything.
    fn surroundings(
        &mut self,
        environment: Option<Box<Environment>>,
        reader: &mut Reader,
    ) -> Option<Box<Surroundings>> {
        let around = std::mem::take(&mut self.around);
        if let Some((_, span)) = around.egress
            && self.network != Network::Private
        {
            reader.within("egress", |reader| {
                let found = "`egress` without a private network";
                let problem = Problem::new(span, found, "`network: private` beside it");
                reader.report(problem);
            });
        }
        for (secret, span) in &around.secrets {
            let variable = secret.variable.as_ref();
            if let Some(variable) = variable.filter(|variable| self.env.contains_key(*variable)) {
                reader.within("secrets", |reader| {
                    let found = format!("the variable `{variable}` is in `env` too");
                    reader.report(Problem::new(*span, found, "each variable once"));
                });
            }
        }
        let surroundings = Surroundings {
            environment,
            runtime: around.runtime,
            user: around.user,
            volumes: around.volumes,
            secrets: around.secrets.into_iter().map(|(secret, _)| secret).collect(),
            devices: around.devices,
            mounts: around.mounts,
            egress: around.egress.map(|(egress, _)| egress).unwrap_or_default(),
            warm: around.warm,
        };
        (surroundings != Surroundings::default()).then(|| Box::new(surroundings))
    }

    /// Checks how attempts and restarts of a job fit together; answers with the restart policy
    /// when none is given, and the attempts.
    fn check_job(&self, reader: &mut Reader) -> (RestartPolicy, u32) {
        let policy = self.restart.policy;
        match (policy, self.attempts) {
            (Some((RestartPolicy::Always, span)), _) => {
                reader.within("restart", |reader| {
                    let found = "a job that is always restarted";
                    let problem = Problem::new(span, found, "`never` or `on-failure`");
                    reader.report(problem.hint("what never ends is a service"));
                });
                (RestartPolicy::Never, 1)
            }
            (Some((RestartPolicy::Never, _)), Some((attempts, span))) if attempts > 1 => {
                reader.within("attempts", |reader| {
                    let found = format!("{attempts} attempts, but `restart` is `never`");
                    let problem = Problem::new(span, found, "`restart: on-failure`");
                    reader.report(problem.hint("remove one of the two"));
                });
                (RestartPolicy::Never, 1)
            }
            (Some((RestartPolicy::OnFailure, _)), None) => {
                (RestartPolicy::OnFailure, RUN_ATTEMPTS_DEFAULT)
            }
            (_, None | Some((1, _))) => (RestartPolicy::Never, 1),
            (_, Some((attempts, _))) => (RestartPolicy::OnFailure, attempts),
        }
    }
}

/// Whether an environment has a command of its own, as images do.
fn has_command(environment: Option<&Environment>) -> bool {
    environment.is_some_and(|environment| {
        matches!(environment.base, Base::Image { .. } | Base::ImageFile(_))
    })
}

/// What to say when the files of a workload are too large together. Their paths count: files
/// without content take room too.
pub(crate) fn files_too_large(files: &[File]) -> Option<(String, String)> {
    let bytes = files.iter().map(|file| file.path.len() + file.content.len());
    let bytes: usize = bytes.sum();
    (bytes > FILES_BYTES_MAX).then(|| {
        (
            format!("the files of this workload and their paths have {bytes} bytes"),
            format!("at most {FILES_BYTES_MAX} bytes"),
        )
    })
}
