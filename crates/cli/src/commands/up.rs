//! `spawnery up`: a whole server for as long as somebody watches.

use super::server::warn_if_open;
use super::{Outcome, jobs, services};
use crate::args::ServerOptions;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::follow::{Followers, Prefixed};
use crate::manifest_file::ManifestFile;
use crate::output::note;
use crate::place::Place;
use crate::progress::Progress;
use crate::serve::{Options, Server, StopSignals, end};
use crate::{isolation, logging, words};
use spawnery_client::api::{EventView, ServiceView, SessionTemplateView};
use spawnery_client::{Client, EventItem, EventStream, InstanceQuery, LogQuery};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How long services may take to become ready before what runs is shown anyway.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often the services are looked at without news.
const LOOK: Duration = Duration::from_millis(200);

/// Start everything on this machine, apply a manifest, and follow along until Ctrl-C
///
/// Ctrl-C stops all that runs, cleanly; a second one kills it. The state stays in the data
/// folder: the next start finds it again. With --data, several can run beside each other.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// The manifest to apply; without, what was applied before is started again
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    options: ServerOptions,
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        logging::start(&context.config, "warn");
        let file = self.file.as_deref().map(ManifestFile::read).transpose()?;
        let mut options = Options::of(&context.config)?;
        if options.node.is_none() {
            let message = "`up` runs things on this machine, but the configuration wants no agent";
            return Err(CliError::usage(message).hint("use `spawnery server`, or set agent = true"));
        }
        options.accept_loss = false;
        crate::runtime::server(up(context, options, file))
    }
}

async fn up(context: &Context, options: Options, file: Option<ManifestFile>) -> Outcome {
    let mut signals = StopSignals::new()?;
    warn_if_open(options.listen);
    let mut server = Progress::during("starting", Server::start(options)).await?;
    let client = server.client()?;
    let mut watched = Box::pin(watch(context, client, file));
    let outcome = tokio::select! {
        outcome = &mut watched => outcome,
        () = signals.next() => Ok(()),
        failure = server.failed() => {
            server.stop().await;
            return Err(failure.into());
        }
    };
    note("stopping…");
    // What is printed while it ends is worth seeing.
    let mut is_watched = outcome.is_ok();
    let ended = {
        let mut ending = std::pin::pin!(end_node(&server, &mut signals));
        loop {
            tokio::select! {
                ended = &mut ending => break ended,
                _ = &mut watched, if is_watched => is_watched = false,
            }
        }
    };
    drop(watched);
    end::finish(server).await;
    outcome.and(ended)?;
    Ok(ExitCode::OK)
}

/// Applies the manifest, shows what runs and follows it, until this is dropped.
async fn watch(
    context: &Context,
    client: Client,
    file: Option<ManifestFile>,
) -> Result<(), CliError> {
    let client = &client;
    let place = Place::new(context.config.data()?);
    let isolation = tokio::task::spawn_blocking(move || isolation::checks(&place));
    let mut events = client.events(None);
    events.connect().await?;
    let mut followers = Followers::new(client.clone(), from_now());
    for instance in client.instances(&live()).await? {
        followers.add(instance.id, instance.workload.as_str());
    }
    if let Some(file) = file {
        file.send(client).await?;
        client.apply(file.json()?).await?;
    }
    let services = until_ready(client, &mut events, &mut followers).await?;
    let isolation = isolation.await.map_err(CliError::failed)??;
    let names = summary(context, client, &services).await?;
    for line in isolation::summary(&isolation) {
        context.output.line(line)?;
    }
    context.output.line("Ctrl-C stops everything.\n")?;
    let mut printer = Prefixed::new(context.output, names.iter().map(String::as_str));
    loop {
        tokio::select! {
            piece = followers.next() => printer.print(piece)?,
            event = events.next() => if let EventItem::Event(event) = event? {
                followers.add_new(&event);
                if let (Some(name), Some(text)) = (&event.workload, remark(&event)) {
                    printer.remark(name.as_str(), &text)?;
                }
            }
        }
    }
}

/// What ran before is followed from now on.
fn from_now() -> LogQuery {
    LogQuery { follow: true, since_ms: Some(words::now_ms()), ..LogQuery::default() }
}

fn live() -> InstanceQuery {
    InstanceQuery { state: Some("live".to_owned()), ..InstanceQuery::default() }
}

/// What is worth a remark between the output, in words.
fn remark(event: &EventView) -> Option<String> {
    let is_worth = ["instance.waits", "run.failed", "job.missed"].contains(&event.kind.as_str());
    is_worth.then(|| format!("({})", event.message))
}

/// Waits until all services are ready, and shows meanwhile which are not.
async fn until_ready(
    client: &Client,
    events: &mut EventStream,
    followers: &mut Followers,
) -> Result<Vec<ServiceView>, CliError> {
    let mut progress = Progress::new();
    let until = Instant::now() + READY_WITHIN;
    loop {
        let services = client.services().await?;
        let waiting: Vec<&ServiceView> =
            services.iter().filter(|service| !is_settled(service)).collect();
        if waiting.is_empty() || Instant::now() > until {
            return Ok(services);
        }
        let reasons = services::reasons(client).await?;
        let names = waiting.iter().map(|service| match reasons.get(&service.name) {
            Some(reason) => format!("{} ({reason})", service.name),
            None => service.name.to_string(),
        });
        progress.say(format!("starting {}", names.collect::<Vec<_>>().join(", ")));
        // Any news is a reason to look again.
        let news = tokio::time::timeout(LOOK, events.next()).await;
        if let Ok(item) = news
            && let EventItem::Event(event) = item?
        {
            followers.add_new(&event);
        }
    }
}

/// Whether a service is ready, or will not become so by waiting.
fn is_settled(service: &ServiceView) -> bool {
    let wanted = service.replicas.map_or(1, u64::from);
    let given_up = service.slots.iter().filter(|slot| slot.finished || slot.failures > 0).count();
    service.phases.ready + given_up as u64 >= wanted
}

/// Prints what runs. Gives back the names of all workloads.
async fn summary(
    context: &Context,
    client: &Client,
    services: &[ServiceView],
) -> Result<Vec<String>, CliError> {
    let output = &context.output;
    let jobs = client.jobs().await?;
    let templates = client.templates().await?;
    if !services.is_empty() {
        let reasons = services::reasons(client).await?;
        output.table(&services::table(services, &reasons), "")?;
        output.line("")?;
    }
    if !jobs.is_empty() {
        output.table(&jobs::table(&jobs), "")?;
        output.line("")?;
    }
    for template in &templates {
        let name = template.name.as_str();
        output.line(format!("session {name}: `spawnery session create {name}` starts one"))?;
    }
    output.line(format!("API       {}", client.url()))?;
    let services = services.iter().map(|service| service.name.to_string());
    let jobs = jobs.iter().map(|job| job.name.to_string());
    let templates =
        templates.iter().map(|template: &SessionTemplateView| template.name.to_string());
    Ok(services.chain(jobs).chain(templates).collect())
}

/// Ends all that runs. Another signal kills what is left.
async fn end_node(server: &Server, signals: &mut StopSignals) -> Result<(), CliError> {
    let Some(node) = end::begin(server).await? else {
        return Ok(());
    };
    let mut progress = Progress::new();
    let told = |left| progress.say(format!("{} left", words::count(left, "instance")));
    tokio::select! {
        ended = end::wait(&server.controller, node, told) => return ended,
        () = signals.next() => note("killing what is left"),
    }
    end::kill(server, node).await?;
    end::wait(&server.controller, node, |_| {}).await
}
