//! Instances: listing, showing and ending them.

use crate::app::App;
use crate::asker::{Asker, forbidden};
use crate::body::Change;
use crate::failure::{Answer, Failure};
use crate::limits::SCAN_ITEMS_MAX;
use crate::parameters::{Parameters, invalid};
use crate::{find, list, views};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use spawnery_cluster::Command;
use spawnery_model::{Id, Instance, InstanceId, Name, NodeId, Origin, Phase, RunId};
use spawnery_wire::api::{InstanceView, Page};
use std::sync::Arc;
use utoipa::IntoParams;

/// Which instances are listed: those that meet all conditions.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstanceParameters {
    /// Of this workload.
    workload: Option<String>,
    /// `service`, `job` or `session`.
    kind: Option<String>,
    /// In this phase, such as `ready`; `live` means every phase but `ended`.
    state: Option<String>,
    /// On this node: its name or its id.
    node: Option<String>,
    /// Attempts at this run: its id or the beginning of it.
    run: Option<String>,
    /// Sessions of this owner.
    owner: Option<String>,
    /// At most so many items; 100 when it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Lists instances, by id. Those that ended are listed for a while.
#[utoipa::path(
    get, path = "/v1/instances", tag = "instances",
    params(InstanceParameters),
    responses((status = 200, description = "A page of instances", body = Page<InstanceView>)),
)]
pub(crate) async fn list_instances(
    State(app): State<App>,
    asker: Asker,
    Parameters(parameters): Parameters<InstanceParameters>,
) -> Answer<Json<Page<InstanceView>>> {
    list(&app, asker, parameters).await
}

/// Lists the instances that meet `parameters`, of those that `asker` may see.
pub(crate) async fn list(
    app: &App,
    asker: Asker,
    parameters: InstanceParameters,
) -> Answer<Json<Page<InstanceView>>> {
    let limit = list::limit(parameters.limit)?;
    let mut from = start(parameters.after.as_deref())?;
    let filter = Arc::new(Filter::new(app, asker, parameters).await?);
    let mut items: Vec<InstanceView> = Vec::new();
    while let Some(start) = from {
        let (filter, config) = (filter.clone(), app.config.clone());
        let wanted = limit - items.len();
        let scanned = app.query(move |state| {
            let mut found = Vec::new();
            let mut ahead = state.instances_from(start);
            for instance in ahead.by_ref().take(SCAN_ITEMS_MAX) {
                if filter.takes(instance) {
                    if found.len() == wanted {
                        return (found, Some(instance.id), true);
                    }
                    found.push(views::instance(state, instance, &config));
                }
            }
            (found, ahead.next().map(|instance| instance.id), false)
        });
        let (found, next, is_full) = scanned.await?;
        items.extend(found);
        if is_full {
            let next = items.last().map(|instance| instance.id.to_string());
            return Ok(Json(Page { items, next }));
        }
        from = next;
    }
    Ok(Json(Page { items, next: None }))
}

/// The lowest id after `after`; none if there can be none.
fn start(after: Option<&str>) -> Answer<Option<InstanceId>> {
    let Some(after) = after else {
        return Ok(Some(InstanceId(Id::from_bits(0))));
    };
    let after: Id = after.parse().map_err(|error| invalid(format!("`after`: {error}")))?;
    let next = Id::from_bits(after.bits() + 1);
    Ok((next > after).then_some(InstanceId(next)))
}

/// The conditions of a list, resolved.
struct Filter {
    asker: Asker,
    workload: Option<Name>,
    kind: Option<String>,
    state: Option<StateFilter>,
    node: Option<NodeId>,
    run: Option<RunId>,
    owner: Option<String>,
}

async fn resolved(
    app: &App,
    node: Option<String>,
    run: Option<String>,
) -> Answer<(Option<NodeId>, Option<RunId>)> {
    let resolved = app.query(move |state| {
        let node = node.map(|node| find::node(state, &node).map(|entry| entry.node.id));
        let run = run.map(|run| find::run(state, &run).map(|run| run.id));
        Ok((node.transpose()?, run.transpose()?))
    });
    resolved.await?
}

enum StateFilter {
    Live,
    Phase(Phase),
}

impl Filter {
    async fn new(app: &App, asker: Asker, parameters: InstanceParameters) -> Answer<Filter> {
        let (node, run) = match (parameters.node, parameters.run) {
            (None, None) => (None, None),
            _ if !asker.sees_all() => {
                return Err(forbidden("your token does not show nodes and runs"));
            }
            (node, run) => resolved(app, node, run).await?,
        };
        let kind = parameters.kind;
        if let Some(kind) = &kind
            && !["service", "job", "session"].contains(&kind.as_str())
        {
            return Err(invalid("`kind` is service, job or session"));
        }
        Ok(Filter {
            asker,
            workload: parameters.workload.as_deref().map(find::name).transpose()?,
            kind,
            state: parameters.state.as_deref().map(StateFilter::parse).transpose()?,
            node,
            run,
            owner: parameters.owner,
        })
    }

    fn takes(&self, instance: &Instance) -> bool {
        let workload = self.workload.as_ref();
        self.asker.may_see(instance)
            && workload.is_none_or(|name| instance.workload == *name)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| views::kind_of(instance) == kind)
            && self
                .state
                .as_ref()
                .is_none_or(|state| state.takes(instance.phase))
            && self.node.is_none_or(|node| instance.node == Some(node))
            && self.run.is_none_or(
                |wanted| matches!(instance.origin, Origin::Attempt { run, .. } if run == wanted),
            )
            && self.owner.as_ref().is_none_or(
                |wanted| matches!(&instance.origin, Origin::Session { owner, .. } if owner == wanted),
            )
    }
}

impl StateFilter {
    const PHASES: [Phase; 7] = [
        Phase::Pending,
        Phase::Assigned,
        Phase::Starting,
        Phase::Running,
        Phase::Ready,
        Phase::Stopping,
        Phase::Ended,
    ];

    fn parse(word: &str) -> Answer<StateFilter> {
        if word == "live" {
            return Ok(StateFilter::Live);
        }
        let phase = StateFilter::PHASES.into_iter().find(|phase| phase.word() == word);
        phase.map(StateFilter::Phase).ok_or_else(|| {
            let words = StateFilter::PHASES.map(Phase::word).join(", ");
            invalid(format!("`state` is live or one of {words}"))
        })
    }

    fn takes(&self, phase: Phase) -> bool {
        match self {
            StateFilter::Live => phase != Phase::Ended,
            StateFilter::Phase(wanted) => phase == *wanted,
        }
    }
}

impl InstanceParameters {
    /// The same, of sessions only.
    pub(crate) fn of_sessions(self) -> InstanceParameters {
        InstanceParameters { kind: Some("session".to_owned()), ..self }
    }
}

/// Shows an instance.
#[utoipa::path(
    get, path = "/v1/instances/{id}", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    responses((status = 200, description = "The instance", body = InstanceView)),
)]
pub(crate) async fn get_instance(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<InstanceView>> {
    let config = app.config.clone();
    let found = app.query(move |state| {
        let found = find::instance(state, &id, &asker)?;
        Ok::<_, Failure>(views::instance_in_full(state, found, &config))
    });
    Ok(Json(found.await??))
}

/// Ends an instance: its stop signal, its grace, then a kill. A service starts another one.
#[utoipa::path(
    delete, path = "/v1/instances/{id}", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    responses((status = 202, description = "It is being ended", body = InstanceView)),
)]
pub(crate) async fn end_instance(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<(StatusCode, Json<InstanceView>)> {
    let asker = change.asker.clone();
    let instance =
        app.query(move |state| find::instance_to_use(state, &id, &asker).map(|found| found.id));
    end(&app, change, instance.await??).await
}

/// Ends `instance` and shows it.
pub(crate) async fn end(
    app: &App,
    change: Change,
    instance: InstanceId,
) -> Answer<(StatusCode, Json<InstanceView>)> {
    let by = change.by();
    let command = Command::EndInstance { instance, by };
    // It may be over and forgotten by the time that it is looked at again.
    let before = view(app, &change.asker, instance).await;
    let asker = change.asker;
    app.controller.submit(command, change.key).await?;
    let view = view(app, &asker, instance).await.or(before)?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

async fn view(app: &App, asker: &Asker, instance: InstanceId) -> Answer<InstanceView> {
    let (config, asker) = (app.config.clone(), asker.clone());
    let found = app.query(move |state| {
        let found = find::instance(state, &instance.to_string(), &asker)?;
        Ok::<_, Failure>(views::instance_in_full(state, found, &config))
    });
    found.await?
}
