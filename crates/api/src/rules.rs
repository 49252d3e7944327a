//! Which role may call which route.
//!
//! What is not in the table is for admins only, so that a forgotten route is no hole; a test sees
//! that none is forgotten. What a route shows of others is for its handler: it asks the
//! [`Asker`](crate::asker::Asker) about each instance, by [`find`](crate::find).

use crate::asker::{Asker, forbidden};
use crate::failure::Answer;
use axum::http::Method;
use spawnery_controller::access::Role;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Everybody, without a token: it tells nothing about what runs.
    Open,
    /// Everybody with a token.
    Anybody,
    /// Whoever sees everything.
    Read,
    /// Whoever has sessions or sees everything: it shows what the caller may see, and no more.
    ReadOwn,
    /// Whoever may have sessions: it uses what is the caller's, and nothing else.
    Own,
    /// Whoever runs the cluster.
    Operate,
    /// Whoever decides who may do what.
    Admin,
}

impl Class {
    /// The roles that may.
    pub(crate) fn roles(self) -> &'static [Role] {
        use Role::{Admin, Operator, User, Viewer};
        match self {
            Class::Open | Class::Anybody => &Role::ALL,
            Class::Read => &[Admin, Operator, Viewer],
            Class::ReadOwn => &[Admin, Operator, User, Viewer],
            Class::Own => &[Admin, Operator, User],
            Class::Operate => &[Admin, Operator],
            Class::Admin => &[Admin],
        }
    }
}

/// The table.
#[rustfmt::skip]
pub(crate) const RULES: &[(Class, &str, &str)] = &[
    (Class::Open,     "GET",    "/healthz"),
    (Class::Open,     "GET",    "/readyz"),
    (Class::Open,     "GET",    "/openapi.json"),
    (Class::Anybody,  "GET",    "/v1/caller"),
    (Class::Anybody,  "GET",    "/v1/status"),
    (Class::Read,     "GET",    "/metrics"),

    (Class::Operate,  "PUT",    "/v1/manifest"),
    (Class::Operate,  "POST",   "/v1/manifest/diff"),
    (Class::Operate,  "POST",   "/v1/workloads/remove"),
    (Class::Operate,  "DELETE", "/v1/workloads/remove"),
    (Class::Operate,  "DELETE", "/v1/workloads/{name}"),
    (Class::Read,     "GET",    "/v1/services"),
    (Class::Read,     "GET",    "/v1/services/{name}"),
    (Class::Read,     "GET",    "/v1/jobs"),
    (Class::Read,     "GET",    "/v1/jobs/{name}"),
    (Class::Operate,  "POST",   "/v1/jobs/{name}/runs"),
    (Class::Read,     "GET",    "/v1/runs"),
    (Class::Read,     "GET",    "/v1/runs/{id}"),

    (Class::ReadOwn,  "GET",    "/v1/templates"),
    (Class::ReadOwn,  "GET",    "/v1/templates/{name}"),
    (Class::Own,      "POST",   "/v1/sessions"),
    (Class::ReadOwn,  "GET",    "/v1/sessions"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}"),
    (Class::Own,      "DELETE", "/v1/sessions/{id}"),
    (Class::Own,      "POST",   "/v1/sessions/{id}/exec"),
    (Class::Own,      "POST",   "/v1/sessions/{id}/signal"),
    (Class::Own,      "POST",   "/v1/sessions/{id}/stdin"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}/logs"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}/usage"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}/processes"),
    (Class::Own,      "GET",    "/v1/sessions/{id}/processes/{process}/attach"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}/ports"),
    (Class::Own,      "GET",   "/v1/sessions/{id}/files"),
    (Class::Own,      "PUT",   "/v1/sessions/{id}/files"),
    (Class::Own,      "DELETE","/v1/sessions/{id}/files"),
    (Class::Own,      "GET",   "/v1/sessions/{id}/files/info"),
    (Class::Own,      "POST",  "/v1/sessions/{id}/files/info"),
    (Class::Own,      "GET",   "/v1/sessions/{id}/files/watch"),
    (Class::Own,      "GET",   "/v1/sessions/{id}/folders"),
    (Class::Own,      "PUT",   "/v1/sessions/{id}/folders"),
    (Class::Own,      "GET",   "/v1/sessions/{id}/folders/archive"),
    (Class::Own,      "PUT",   "/v1/sessions/{id}/folders/archive"),
    (Class::Own,      "POST",   "/v1/sessions/{id}/keep-alive"),
    (Class::Own,      "POST",   "/v1/sessions/{id}/extend"),
    (Class::Own,      "GET",    "/v1/sessions/{id}/attach"),
    (Class::ReadOwn,  "GET",    "/v1/sessions/{id}/clients"),
    (Class::ReadOwn,  "GET",    "/v1/instances"),
    (Class::ReadOwn,  "GET",    "/v1/instances/{id}"),
    (Class::Own,      "DELETE", "/v1/instances/{id}"),
    (Class::Own,      "POST",   "/v1/instances/{id}/exec"),
    (Class::Own,      "POST",   "/v1/instances/{id}/signal"),
    (Class::Own,      "POST",   "/v1/instances/{id}/stdin"),
    (Class::ReadOwn,  "GET",    "/v1/instances/{id}/logs"),
    (Class::ReadOwn,  "GET",    "/v1/instances/{id}/usage"),
    (Class::ReadOwn,  "GET",    "/v1/instances/{id}/processes"),
    (Class::Own,      "GET",    "/v1/instances/{id}/processes/{process}/attach"),
    (Class::ReadOwn,  "GET",    "/v1/instances/{id}/ports"),
    (Class::Own,      "GET",   "/v1/instances/{id}/files"),
    (Class::Own,      "PUT",   "/v1/instances/{id}/files"),
    (Class::Own,      "DELETE","/v1/instances/{id}/files"),
    (Class::Own,      "GET",   "/v1/instances/{id}/files/info"),
    (Class::Own,      "POST",  "/v1/instances/{id}/files/info"),
    (Class::Own,      "GET",   "/v1/instances/{id}/files/watch"),
    (Class::Own,      "GET",   "/v1/instances/{id}/folders"),
    (Class::Own,      "PUT",   "/v1/instances/{id}/folders"),
    (Class::Own,      "GET",   "/v1/instances/{id}/folders/archive"),
    (Class::Own,      "PUT",   "/v1/instances/{id}/folders/archive"),
    (Class::ReadOwn,  "GET",    "/v1/history"),
    (Class::ReadOwn,  "GET",    "/v1/events"),

    (Class::Operate,  "POST",   "/v1/content/missing"),
    (Class::Operate,  "PUT",    "/v1/content/{sha256}"),
    (Class::Operate,  "POST",   "/v1/environments/build"),
    (Class::Operate,  "POST",   "/v1/environments/prune"),
    (Class::Read,     "GET",    "/v1/environments"),
    (Class::Read,     "GET",    "/v1/environments/{environment}"),
    (Class::Operate,  "GET",    "/v1/environments/{environment}/export"),
    (Class::Read,     "GET",    "/v1/volumes"),
    (Class::Operate,  "DELETE", "/v1/volumes/{name}"),
    (Class::Operate,  "GET",    "/v1/secrets"),
    (Class::Admin,    "PUT",    "/v1/secrets/{name}"),
    (Class::Admin,    "DELETE", "/v1/secrets/{name}"),

    (Class::Read,     "GET",    "/v1/nodes"),
    (Class::Read,     "GET",    "/v1/nodes/{node}"),
    (Class::Operate,  "DELETE", "/v1/nodes/{node}"),
    (Class::Operate,  "POST",   "/v1/nodes/{node}/drain"),
    (Class::Admin,    "POST",   "/v1/join-tokens"),
    (Class::Admin,    "GET",    "/v1/tokens"),
    (Class::Admin,    "POST",   "/v1/tokens"),
    (Class::Admin,    "POST",   "/v1/tokens/revoke"),
];

/// The class of a route: its method and its path as it is declared.
pub(crate) fn class(method: &Method, path: &str) -> Class {
    static TABLE: LazyLock<BTreeMap<(&str, &str), Class>> = LazyLock::new(|| {
        RULES.iter().map(|(class, method, path)| ((*path, *method), *class)).collect()
    });
    // What is asked without the body is what would be in it.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.get(&(path, method)).copied().unwrap_or(Class::Admin)
}

/// Whether `asker` may call a route of this class.
pub(crate) fn check(class: Class, asker: &Asker) -> Answer<()> {
    let roles = class.roles();
    if asker.has_any(roles) {
        return Ok(());
    }
    let words: Vec<&str> = roles.iter().map(|role| role.word()).collect();
    let words = words.join(" or ");
    Err(forbidden(format!("this takes a token with the role {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Routes that the description leaves out on purpose.
    const UNDESCRIBED: [(&str, &str); 1] = [("DELETE", "/v1/workloads/remove")];

    #[test]
    fn every_route_is_in_the_table_and_nothing_else() {
        let description = serde_json::to_value(crate::description()).unwrap();
        let mut described: BTreeSet<(String, String)> = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let owned = |(method, path): (&str, &str)| (method.to_owned(), path.to_owned());
        described.extend(UNDESCRIBED.map(owned));
        let listed: BTreeSet<(String, String)> =
            RULES.iter().map(|(_, method, path)| owned((method, path))).collect();
        assert_eq!(listed.len(), RULES.len(), "a route is twice in the table");
        let missing: Vec<_> = described.difference(&listed).collect();
        assert!(missing.is_empty(), "add to RULES who may call {missing:?}");
        let unknown: Vec<_> = listed.difference(&described).collect();
        assert!(unknown.is_empty(), "RULES has routes that do not exist: {unknown:?}");
    }

    #[test]
    fn what_is_not_in_the_table_is_for_admins() {
        assert_eq!(class(&Method::GET, "/v1/new"), Class::Admin);
        assert_eq!(class(&Method::PATCH, "/v1/status"), Class::Admin);
        assert_eq!(class(&Method::HEAD, "/v1/status"), Class::Anybody);
    }

    #[test]
    fn only_what_tells_nothing_is_open() {
        let open: Vec<&str> = RULES
            .iter()
            .filter(|(class, _, _)| *class == Class::Open)
            .map(|(_, _, path)| *path)
            .collect();
        assert_eq!(open, ["/healthz", "/readyz", "/openapi.json"]);
    }
}
