//! What each role may do, and what of others it sees.

use crate::common::{Api, TOKEN};
use crate::fake_node::FakeNode;
use serde_json::{Value, json};

/// Who may call: `a`dmin, `o`perator, `u`ser, `v`iewer.
const ROLES: [(&str, char); 4] =
    [("admin", 'a'), ("operator", 'o'), ("user", 'u'), ("viewer", 'v')];

/// Each route with the roles that may call it.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/v1/caller", "aouv"),
    ("GET", "/v1/status", "aouv"),
    ("GET", "/metrics", "aov"),
    ("PUT", "/v1/manifest", "ao"),
    ("POST", "/v1/manifest/diff", "ao"),
    ("POST", "/v1/workloads/remove", "ao"),
    ("DELETE", "/v1/workloads/remove", "ao"),
    ("DELETE", "/v1/workloads/nope", "ao"),
    ("GET", "/v1/services", "aov"),
    ("GET", "/v1/services/nope", "aov"),
    ("GET", "/v1/jobs", "aov"),
    ("GET", "/v1/jobs/nope", "aov"),
    ("POST", "/v1/jobs/nope/runs", "ao"),
    ("GET", "/v1/runs", "aov"),
    ("GET", "/v1/runs/0000", "aov"),
    ("GET", "/v1/templates", "aouv"),
    ("GET", "/v1/templates/nope", "aouv"),
    ("POST", "/v1/sessions", "aou"),
    ("GET", "/v1/sessions", "aouv"),
    ("GET", "/v1/sessions/0000", "aouv"),
    ("DELETE", "/v1/sessions/0000", "aou"),
    ("POST", "/v1/sessions/0000/exec", "aou"),
    ("POST", "/v1/sessions/0000/signal", "aou"),
    ("POST", "/v1/sessions/0000/stdin", "aou"),
    ("GET", "/v1/sessions/0000/logs", "aouv"),
    ("GET", "/v1/sessions/0000/usage", "aouv"),
    ("GET", "/v1/sessions/0000/processes", "aouv"),
    ("GET", "/v1/sessions/0000/processes/0/attach", "aou"),
    ("GET", "/v1/sessions/0000/ports", "aouv"),
    ("GET", "/v1/sessions/0000/files?path=/a", "aou"),
    ("PUT", "/v1/sessions/0000/files?path=/a", "aou"),
    ("DELETE", "/v1/sessions/0000/files?path=/a", "aou"),
    ("GET", "/v1/sessions/0000/files/info?path=/a", "aou"),
    ("POST", "/v1/sessions/0000/files/info?path=/a", "aou"),
    ("GET", "/v1/sessions/0000/files/watch?path=/a", "aou"),
    ("GET", "/v1/sessions/0000/folders?path=/a", "aou"),
    ("PUT", "/v1/sessions/0000/folders?path=/a", "aou"),
    ("GET", "/v1/sessions/0000/folders/archive?path=/a", "aou"),
    ("PUT", "/v1/sessions/0000/folders/archive?path=/a", "aou"),
    ("POST", "/v1/sessions/0000/keep-alive", "aou"),
    ("POST", "/v1/sessions/0000/extend", "aou"),
    ("GET", "/v1/sessions/0000/attach", "aou"),
    ("GET", "/v1/sessions/0000/clients", "aouv"),
    ("GET", "/v1/instances", "aouv"),
    ("GET", "/v1/instances/0000", "aouv"),
    ("DELETE", "/v1/instances/0000", "aou"),
    ("POST", "/v1/instances/0000/exec", "aou"),
    ("POST", "/v1/instances/0000/signal", "aou"),
    ("POST", "/v1/instances/0000/stdin", "aou"),
    ("GET", "/v1/instances/0000/logs", "aouv"),
    ("GET", "/v1/instances/0000/usage", "aouv"),
    ("GET", "/v1/instances/0000/processes", "aouv"),
    ("GET", "/v1/instances/0000/processes/0/attach", "aou"),
    ("GET", "/v1/instances/0000/ports", "aouv"),
    ("GET", "/v1/instances/0000/files?path=/a", "aou"),
    ("PUT", "/v1/instances/0000/files?path=/a", "aou"),
    ("DELETE", "/v1/instances/0000/files?path=/a", "aou"),
    ("GET", "/v1/instances/0000/files/info?path=/a", "aou"),
    ("POST", "/v1/instances/0000/files/info?path=/a", "aou"),
    ("GET", "/v1/instances/0000/files/watch?path=/a", "aou"),
    ("GET", "/v1/instances/0000/folders?path=/a", "aou"),
    ("PUT", "/v1/instances/0000/folders?path=/a", "aou"),
    ("GET", "/v1/instances/0000/folders/archive?path=/a", "aou"),
    ("PUT", "/v1/instances/0000/folders/archive?path=/a", "aou"),
    ("GET", "/v1/events?after=nope", "aouv"),
    ("GET", "/v1/history?limit=0", "aouv"),
    ("POST", "/v1/content/missing", "ao"),
    ("PUT", "/v1/content/0000", "ao"),
    ("POST", "/v1/environments/build", "ao"),
    ("POST", "/v1/environments/prune", "ao"),
    ("GET", "/v1/environments", "aov"),
    ("GET", "/v1/environments/nope", "aov"),
    ("GET", "/v1/environments/nope/export", "ao"),
    ("GET", "/v1/volumes", "aov"),
    ("DELETE", "/v1/volumes/nope", "ao"),
    ("GET", "/v1/secrets", "ao"),
    ("PUT", "/v1/secrets/nope", "a"),
    ("DELETE", "/v1/secrets/nope", "a"),
    ("GET", "/v1/nodes", "aov"),
    ("GET", "/v1/nodes/nope", "aov"),
    ("DELETE", "/v1/nodes/nope", "ao"),
    ("POST", "/v1/nodes/nope/drain", "ao"),
    ("POST", "/v1/join-tokens", "a"),
    ("GET", "/v1/tokens", "a"),
    ("POST", "/v1/tokens", "a"),
    ("POST", "/v1/tokens/revoke", "a"),
    ("PATCH", "/v1/status", "a"),
    ("GET", "/v1/nope", "aouv"),
];

#[tokio::test]
async fn each_role_may_call_its_routes_and_no_other() {
    let api = Api::start().await;
    for (role, letter) in ROLES {
        let (token, _) = api.token("ann", &[role]).await;
        for (method, path, may) in ROUTES {
            let answer = api.send_as(&token, method, path, "").await;
            let is_refused = answer.status == 403;
            let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            assert_eq!(is_refused, !may.contains(letter), "{role} {method} {path}: {problem}");
            assert_ne!(answer.status, 401, "{role} {method} {path}: {problem}");
            if is_refused {
                assert_eq!(problem["type"], "urn:spawnery:problem:forbidden");
                assert!(problem["detail"].as_str().unwrap().contains("role"), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn every_described_route_is_in_the_table_of_this_test() {
    let description = serde_json::to_value(spawnery_api::description()).unwrap();
    for (path, item) in description["paths"].as_object().unwrap() {
        let is_open = ["/healthz", "/readyz", "/openapi.json"].contains(&path.as_str());
        for method in item.as_object().unwrap().keys().filter(|_| !is_open) {
            let found = ROUTES.iter().any(|(known, route, _)| {
                let route = route.split('?').next().unwrap();
                let (route, path) = (route.split('/'), path.split('/'));
                let same =
                    |(part, declared): (&str, &str)| declared.starts_with('{') || part == declared;
                known.eq_ignore_ascii_case(method)
                    && route.clone().count() == path.clone().count()
                    && route.zip(path).all(same)
            });
            assert!(found, "add {method} {path} to ROUTES");
        }
    }
}

/// The ids of a list.
fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

async fn session_of(api: &Api, token: &str) -> String {
    let created = api.send_as(token, "POST", "/v1/sessions", r#"{"template": "shell"}"#).await;
    created.expect(201)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_sees_its_own_sessions_and_those_of_others_do_not_exist() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let (ann, _) = api.token("ann", &["user"]).await;
    let (bob, _) = api.token("bob", &["user"]).await;
    let (eve, _) = api.token("eve", &["viewer"]).await;
    let (oda, _) = api.token("oda", &["operator"]).await;
    let session = session_of(&api, &ann).await;
    let others = session_of(&api, &bob).await;
    api.wait_for_phase(&session, "ready").await;
    let get = async |token: &str, path: &str| api.send_as(token, "GET", path, "").await;
    for list in ["/v1/sessions", "/v1/instances?kind=session", "/v1/instances"] {
        assert_eq!(ids(&get(&ann, list).await.expect(200)), [session.as_str()], "{list}");
        for all in [&eve, &oda, TOKEN] {
            let listed = get(all, list).await.expect(200);
            assert!(ids(&listed).contains(&session.as_str()), "{list}");
            assert!(ids(&listed).contains(&others.as_str()), "{list}");
        }
    }
    assert_eq!(get(&ann, "/v1/sessions?owner=bob").await.expect(200)["items"], json!([]));
    for place in ["sessions", "instances"] {
        let path = format!("/v1/{place}/{session}");
        assert_eq!(get(&ann, &path).await.expect(200)["id"], session.as_str());
        for below in ["", "/logs", "/usage"] {
            let hidden = get(&bob, &format!("{path}{below}")).await;
            hidden.problem(404, "instance-unknown");
        }
        get(&eve, &path).await.expect(200);
        get(&oda, &path).await.expect(200);
        for (method, below) in
            [("DELETE", ""), ("POST", "/exec"), ("POST", "/signal"), ("POST", "/stdin")]
        {
            let body = r#"{"run": ["true"], "signal": 1}"#;
            let path = format!("{path}{below}");
            let answer = api.send_as(&bob, method, &path, body).await;
            answer.problem(404, "instance-unknown");
            api.send_as(&eve, method, &path, body).await.problem(403, "forbidden");
        }
    }
    // Its beginning is not told either, nor services.
    get(&bob, &format!("/v1/sessions/{}", &session[..8])).await.problem(404, "instance-unknown");
    get(&ann, "/v1/templates/web").await.problem(404, "workload-unknown");
    get(&ann, "/v1/instances?node=one").await.problem(403, "forbidden");
    api.send_as(&ann, "DELETE", &format!("/v1/sessions/{session}"), "").await.expect(202);
    api.send_as(&oda, "DELETE", &format!("/v1/sessions/{others}"), "").await.expect(202);
}

#[tokio::test]
async fn a_viewer_who_is_a_user_too_touches_only_what_is_its_own() {
    let api = Api::with_manifest().await;
    let (ann, _) = api.token("ann", &["user"]).await;
    let (eve, _) = api.token("eve", &["user", "viewer"]).await;
    let path = format!("/v1/sessions/{}", session_of(&api, &ann).await);
    api.send_as(&eve, "GET", &path, "").await.expect(200);
    let refused = api.send_as(&eve, "DELETE", &path, "").await.problem(403, "forbidden");
    assert!(refused["detail"].as_str().unwrap().contains("not yours"), "{refused}");
    let own = format!("/v1/sessions/{}", session_of(&api, &eve).await);
    api.send_as(&eve, "DELETE", &own, "").await.expect(202);
}

#[tokio::test]
async fn a_token_is_for_its_templates_and_inline_is_for_operators() {
    let api = Api::with_manifest().await;
    let create = async |roles: &[&str], templates: Option<&[&str]>| {
        let request = json!({"subject": "ann", "roles": roles, "templates": templates});
        let made = api.post("/v1/tokens", &request.to_string()).await.expect(201);
        made["token"].as_str().unwrap().to_owned()
    };
    let check = async |roles: &[&str], templates: Option<&[&str]>, template: bool, inline: bool| {
        let token = create(roles, templates).await;
        let status = |may: bool| if may { 201 } else { 403 };
        let from_template = r#"{"template": "shell"}"#;
        let answer = api.send_as(&token, "POST", "/v1/sessions", from_template).await;
        assert_eq!(answer.status, status(template), "{roles:?} {templates:?}");
        let of_its_own = r#"{"session": {"run": ["true"]}}"#;
        let answer = api.send_as(&token, "POST", "/v1/sessions", of_its_own).await;
        assert_eq!(answer.status, status(inline), "{roles:?} {templates:?}");
        let listed = api.send_as(&token, "GET", "/v1/templates", "").await.expect(200);
        let shown = if template { 1 } else { 0 };
        assert_eq!(listed["items"].as_array().unwrap().len(), shown, "{roles:?} {templates:?}");
    };
    check(&["user"], None, true, false).await;
    check(&["user"], Some(&["shell"]), true, false).await;
    check(&["user"], Some(&["other"]), false, false).await;
    check(&["user"], Some(&[]), false, false).await;
    check(&["operator"], None, true, true).await;
    check(&["operator"], Some(&["shell"]), true, false).await;
    check(&["admin"], None, true, true).await;
}

#[tokio::test]
async fn a_user_hears_only_of_its_own_sessions() {
    let api = Api::with_manifest().await;
    let (ann, _) = api.token("ann", &["user"]).await;
    let (bob, _) = api.token("bob", &["user"]).await;
    let mut heard = api.stream_as(&ann, "/v1/events?after=oldest", &[]).await;
    let mut all = api.stream("/v1/events?after=oldest", &[]).await;
    session_of(&api, &bob).await;
    let own = session_of(&api, &ann).await;
    // The first event that ann hears is of her own session, though others came before it.
    let first = heard.expect("event").await;
    assert_eq!(first.data["instance"], own.as_str(), "{first:?}");
    let before = all.expect("event").await;
    assert_ne!(before.data["instance"], own.as_str(), "{before:?}");
}
