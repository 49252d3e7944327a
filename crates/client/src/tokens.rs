//! Tokens: made, listed and revoked, and what one's own allows.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use hyper::Method;
use spawnery_wire::api::{
    CallerView, RevokeTokensReply, RevokeTokensRequest, TokenCreated, TokenRequest, TokenView,
};

impl Client {
    /// Makes a token. It is shown this once.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, ClientError> {
        self.create(&Target::new("/v1/tokens"), request).await
    }

    /// The tokens that were made by the server and have not expired, without the tokens themselves.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.list(&Target::new("/v1/tokens")).await
    }

    /// Revokes a token, or all tokens of a subject.
    pub async fn revoke_tokens(
        &self,
        request: &RevokeTokensRequest,
    ) -> Result<RevokeTokensReply, ClientError> {
        self.send(Method::POST, &Target::new("/v1/tokens/revoke"), request).await
    }

    /// Whom the client's own token speaks for, and what it allows.
    pub async fn caller(&self) -> Result<CallerView, ClientError> {
        self.get(&Target::new("/v1/caller")).await
    }
}
