//! All routes.

use crate::app::App;
use crate::config::Config;
use crate::failure::{Failure, code};
use crate::guard::guard;
use crate::{
    attach, content, environments, events, files, health, history, instances, jobs, lives, logs,
    manifest, metrics, nodes, openapi, ports, processes, secrets, services, sessions, status,
    templates, tokens, usage, volumes, workloads,
};
use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::delete;
use spawnery_controller::Controller;
use spawnery_controller::access::Verifier;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The API over `controller`, for those whom `verifier` knows.
pub fn router(controller: Controller, verifier: Verifier, config: Config) -> Router {
    router_of(App::new(controller, verifier, config))
}

/// The API over what its handlers share.
pub(crate) fn router_of(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    router.fallback(nothing).layer(from_fn_with_state(app.clone(), guard)).with_state(app)
}

async fn nothing(uri: Uri) -> Failure {
    let shown: String = uri.path().chars().take(80).collect();
    Failure::new(code::ROUTE, format!("there is nothing at {shown}"))
        .hint("GET /openapi.json describes all paths")
}

/// The routes with their description.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(inside())
        .routes(routes!(manifest::apply_manifest))
        .routes(routes!(manifest::diff_manifest))
        .routes(routes!(workloads::remove_workloads))
        .routes(routes!(workloads::remove_workload))
        // The path for several hides the workload of that name.
        .route("/v1/workloads/remove", delete(workloads::remove_workload_called_remove))
        .routes(routes!(services::list_services))
        .routes(routes!(services::get_service))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::create_run))
        .routes(routes!(jobs::list_runs))
        .routes(routes!(jobs::get_run))
        .routes(routes!(templates::list_templates))
        .routes(routes!(templates::get_template))
        .routes(routes!(sessions::create_session, sessions::list_sessions))
        .routes(routes!(sessions::get_session, sessions::end_session))
        .routes(routes!(lives::keep_session_alive))
        .routes(routes!(lives::extend_session))
        .routes(routes!(lives::attach_client))
        .routes(routes!(lives::list_clients))
        .routes(routes!(processes::exec_in_session))
        .routes(routes!(processes::signal_session))
        .routes(routes!(processes::write_session_stdin))
        .routes(routes!(logs::follow_session_logs))
        .routes(routes!(usage::get_session_usage))
        .routes(routes!(instances::list_instances))
        .routes(routes!(instances::get_instance, instances::end_instance))
        .routes(routes!(processes::exec_in_instance))
        .routes(routes!(processes::signal_instance))
        .routes(routes!(processes::write_instance_stdin))
        .routes(routes!(logs::follow_instance_logs))
        .routes(routes!(usage::get_instance_usage))
        .routes(routes!(history::list_history))
        .routes(routes!(events::follow_events))
        .routes(routes!(content::missing_content))
        .routes(routes!(content::put_content))
        .routes(routes!(environments::build_environment))
        .routes(routes!(environments::list_environments))
        .routes(routes!(environments::prune_environments))
        .routes(routes!(environments::get_environment))
        .routes(routes!(environments::export_environment))
        .routes(routes!(secrets::list_secrets))
        .routes(routes!(secrets::set_secret, secrets::remove_secret))
        .routes(routes!(volumes::list_volumes))
        .routes(routes!(volumes::remove_volume))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(nodes::get_node, nodes::remove_node))
        .routes(routes!(nodes::drain_node))
        .routes(routes!(nodes::create_join_token))
        .routes(routes!(tokens::create_token, tokens::list_tokens))
        .routes(routes!(tokens::revoke_tokens))
        .routes(routes!(tokens::get_caller))
        .routes(routes!(status::get_status))
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_readiness))
        .routes(routes!(metrics::get_metrics))
        .routes(routes!(openapi::get_description))
}

/// The routes of what is done inside sessions and other instances.
fn inside() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(processes::list_session_processes))
        .routes(routes!(attach::attach_to_session))
        .routes(routes!(ports::list_session_ports))
        .routes(routes!(
            files::sessions::read_session_file,
            files::sessions::write_session_file,
            files::sessions::remove_session_file
        ))
        .routes(routes!(
            files::sessions::get_session_file_info,
            files::sessions::change_session_file
        ))
        .routes(routes!(files::sessions::watch_session_files))
        .routes(routes!(files::sessions::list_session_folder, files::sessions::make_session_folder))
        .routes(routes!(
            files::sessions::pack_session_folder,
            files::sessions::unpack_session_folder
        ))
        .routes(routes!(processes::list_instance_processes))
        .routes(routes!(attach::attach_to_instance))
        .routes(routes!(ports::list_instance_ports))
        .routes(routes!(
            files::instances::read_instance_file,
            files::instances::write_instance_file,
            files::instances::remove_instance_file
        ))
        .routes(routes!(
            files::instances::get_instance_file_info,
            files::instances::change_instance_file
        ))
        .routes(routes!(files::instances::watch_instance_files))
        .routes(routes!(
            files::instances::list_instance_folder,
            files::instances::make_instance_folder
        ))
        .routes(routes!(
            files::instances::pack_instance_folder,
            files::instances::unpack_instance_folder
        ))
}
