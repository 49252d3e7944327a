//! Who asks: the caller that a request's token stands for.

use crate::app::App;
use crate::failure::{Answer, Failure, code};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use spawnery_controller::access::{Caller, Denied};
use std::ops::Deref;
use std::sync::Arc;

/// Who asks. `guard` puts it into each request that shows a valid token. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Asker(Arc<Caller>);

impl Asker {
    pub(crate) fn new(caller: Caller) -> Asker {
        Asker(Arc::new(caller))
    }
}

impl Deref for Asker {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Asker> {
        let asker = parts.extensions.get::<Asker>().cloned();
        asker.ok_or_else(|| denied(&Denied::Missing))
    }
}

/// The failure of a request whose token is refused.
pub(crate) fn denied(denied: &Denied) -> Failure {
    let hint = match denied {
        Denied::Revoked | Denied::Expired => "ask for a new token",
        Denied::NotYet => "see that the clocks are right",
        Denied::Audience => "the server is started with what it has to name: --jwt-audience",
        Denied::Issuer => "the server is started with whose tokens it takes: --jwt-issuer",
        Denied::UnknownKey(_) => "the server is started with the key sets that it takes: --jwks",
        _ => {
            "send `Authorization: Bearer TOKEN`; the admin token is in the server's data folder, \
             in admin.token, and `spawnery token create` makes others"
        }
    };
    Failure::new(code::TOKEN, denied.to_string()).hint(hint)
}

/// The failure of a request that its token does not allow.
pub(crate) fn forbidden(detail: impl Into<String>) -> Failure {
    Failure::new(code::FORBIDDEN, detail).hint("GET /v1/caller shows what your token allows")
}
