//! The connection to a server: requests, answers and their errors.

use crate::error::ClientError;
use crate::query::Target;
use crate::token::Token;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, RANGE, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spawnery_wire::api::{Page, Problem, StatusView};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How long a connection may take: a server that is there answers at once, also from far away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer may take. Nothing that is asked for outside the streams takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of one answer: a full page of instances is far smaller. A longer one is refused.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How often a creating call is sent: its idempotency key makes repeating it harmless.
const CREATE_ATTEMPTS_MAX: u32 = 3;

/// Items of one page: the most that the server gives at once.
const PAGE_ITEMS: u32 = 1000;

/// A WebSocket of the server's.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: HttpClient<HttpConnector, RequestBody>,
    /// Without a slash at its end.
    url: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of the server at `url` (`http://HOST:PORT`), which shows `token`. Connects at the
    /// first request.
    pub fn new(url: &str, token: Option<Token>) -> Result<Client, ClientError> {
        let wrong =
            |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("only plain http is spoken so far")),
            _ => return Err(wrong("it does not begin with http://")),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("it has no host"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let authorization = token.as_ref().map(bearer).transpose();
        let authorization = authorization
            .map_err(|_| wrong("the token for it has characters that none can have"))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_nodelay(true);
        Ok(Client {
            inner: Arc::new(Inner {
                http: HttpClient::builder(TokioExecutor::new()).build(connector),
                url: url.trim_end_matches('/').to_owned(),
                authorization,
            }),
        })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// How the server is.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get(&Target::new("/v1/status")).await
    }

    /// Whether the server can do its work.
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        let request = self.request(Method::GET, &Target::new("/readyz"), None, empty())?;
        let response = self.answer(request).await?;
        Ok(response.status().is_success())
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &Target) -> Result<T, ClientError> {
        let request = self.request(Method::GET, target, None, empty())?;
        self.read(self.answer(request).await?).await
    }

    /// All items of a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        target: &Target,
    ) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let target = target.clone().query("limit", Some(PAGE_ITEMS));
            let page: Page<T> = self.get(&target.query("after", after.as_deref())).await?;
            items.extend(page.items);
            match page.next {
                // A server that repeats itself must not keep us for ever.
                Some(next) if Some(&next) != after.as_ref() => after = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// Sends `body` as JSON and reads the answer.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let response = self.send_json(method, target, body, None).await?;
        self.read(response).await
    }

    /// Sends `body` as JSON, for a request that is answered by its status alone.
    pub(crate) async fn tell(
        &self,
        method: Method,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        self.send_json(method, target, body, None).await.map(drop)
    }

    /// Sends a request without a body, for one that is answered by its status alone.
    pub(crate) async fn call(&self, method: Method, target: &Target) -> Result<(), ClientError> {
        let request = self.request(method, target, None, empty())?;
        self.answer(request).await.map(drop)
    }

    /// Creates something, once, however often the connection breaks.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let key = self.fresh_key()?;
        let mut attempt = 1;
        loop {
            let result = self.send_json(Method::POST, target, body, Some(&key)).await;
            match result {
                Err(ClientError::Broken { .. }) if attempt < CREATE_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
                Ok(response) => return self.read(response).await,
            }
        }
    }

    /// Sends a text as it is, such as a manifest.
    pub(crate) async fn send_text<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &Target,
        content_type: &'static str,
        text: String,
    ) -> Result<T, ClientError> {
        let request = self.request(method, target, Some(content_type), full(text.into_bytes()))?;
        self.read(self.answer(request).await?).await
    }

    /// Sends a body that comes piece by piece, for as long as it takes.
    pub(crate) async fn upload(
        &self,
        method: Method,
        target: &Target,
        body: RequestBody,
    ) -> Result<(), ClientError> {
        let content_type = Some("application/octet-stream");
        let request = self.request(method, target, content_type, body)?;
        self.checked(self.exchange(request).await?).await.map(drop)
    }

    /// The same, and reads the answer.
    pub(crate) async fn send_stream<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &Target,
        body: RequestBody,
    ) -> Result<T, ClientError> {
        let content_type = Some("application/octet-stream");
        let request = self.request(method, target, content_type, body)?;
        let response = self.checked(self.exchange(request).await?).await?;
        self.read(response).await
    }

    /// Opens an answer that flows as bytes, from an offset on.
    pub(crate) async fn open_part(
        &self,
        target: &Target,
        offset: Option<u64>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = self.request(Method::GET, target, None, empty())?;
        if let Some(offset) = offset {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            let range = range.map_err(|error| self.protocol(error))?;
            request.headers_mut().insert(RANGE, range);
        }
        self.answer(request).await
    }

    /// Sends bytes as they are, and reads the answer.
    pub(crate) async fn send_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &Target,
        bytes: Vec<u8>,
    ) -> Result<T, ClientError> {
        let content_type = Some("application/octet-stream");
        let request = self.request(method, target, content_type, full(bytes))?;
        self.read(self.answer(request).await?).await
    }

    /// Sends a request with JSON whose answer flows.
    pub(crate) async fn open_with(
        &self,
        method: Method,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<Incoming, ClientError> {
        Ok(self.send_json(method, target, body, None).await?.into_body())
    }

    /// Opens an answer that flows as bytes.
    pub(crate) async fn open_bytes(&self, target: &Target) -> Result<Incoming, ClientError> {
        let request = self.request(Method::GET, target, None, empty())?;
        Ok(self.answer(request).await?.into_body())
    }

    /// Opens a stream of Server-Sent Events, after the one with the id `last_id`.
    pub(crate) async fn open(
        &self,
        target: &Target,
        last_id: Option<&str>,
    ) -> Result<Incoming, ClientError> {
        let mut request = self.request(Method::GET, target, None, empty())?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_id {
            let id = HeaderValue::from_str(id).map_err(|error| self.protocol(error))?;
            headers.insert("last-event-id", id);
        }
        Ok(self.answer(request).await?.into_body())
    }

    /// Opens a WebSocket (RFC 6455).
    pub(crate) async fn open_socket(&self, target: &Target) -> Result<Socket, ClientError> {
        let key = generate_key();
        let mut request = self.request(Method::GET, target, None, empty())?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::from_str(&key).map_err(|error| self.protocol(error))?;
        headers.insert(SEC_WEBSOCKET_KEY, value);
        let mut response = self.in_time(self.exchange(request)).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = self.checked(response).await?.status();
            return Err(self.protocol(format!("status {status} instead of a WebSocket")));
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(self.protocol("the answer is not that of a WebSocket"));
        }
        let upgraded = hyper::upgrade::on(&mut response).await;
        let io = TokioIo::new(upgraded.map_err(|error| self.broken(&error))?);
        Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
    }

    async fn send_json(
        &self,
        method: Method,
        target: &Target,
        body: &impl Serialize,
        idempotency_key: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.protocol(error))?;
        let mut request = self.request(method, target, Some("application/json"), full(body))?;
        if let Some(key) = idempotency_key {
            request.headers_mut().insert("idempotency-key", key.clone());
        }
        self.answer(request).await
    }

    fn request(
        &self,
        method: Method,
        target: &Target,
        content_type: Option<&'static str>,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, ClientError> {
        let uri = format!("{}{}", self.inner.url, target.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(body)
            .map_err(|error| self.protocol(error))?;
        if let Some(content_type) = content_type {
            let content_type = HeaderValue::from_static(content_type);
            request.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        if let Some(authorization) = &self.inner.authorization {
            let authorization = authorization.clone();
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    /// The head of a good answer, within the time that it has.
    async fn answer(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.in_time(self.exchange(request)).await?;
        self.checked(response).await
    }

    async fn exchange(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.inner.http.request(request).await;
        response.map_err(|error| match error.is_connect() {
            true => ClientError::Connect { url: self.inner.url.clone(), reason: innermost(&error) },
            false => self.broken(&error),
        })
    }

    /// Makes a problem of an answer that is none of success.
    async fn checked(
        &self,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.protocol(format!("status {status} without a reason"))),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.protocol(error))
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let collected =
            self.in_time(async { body.await.map_err(|error| self.broken(error.as_ref())) }).await?;
        Ok(collected.to_bytes())
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(ANSWER_WITHIN, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(ClientError::TimedOut { url: self.inner.url.clone(), after: ANSWER_WITHIN })
            }
        }
    }

    pub(crate) fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Broken { url: self.inner.url.clone(), reason: innermost(error) }
    }

    pub(crate) fn protocol(&self, reason: impl ToString) -> ClientError {
        ClientError::Protocol { url: self.inner.url.clone(), reason: reason.to_string() }
    }

    /// An idempotency key that nobody has used.
    fn fresh_key(&self) -> Result<HeaderValue, ClientError> {
        let random = || getrandom::u64().map_err(|error| self.protocol(error));
        let key = format!("{:016x}{:016x}", random()?, random()?);
        HeaderValue::from_str(&key).map_err(|error| self.protocol(error))
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, hyper::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.secret()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The cause at the end of the chain: what the system said.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn empty() -> RequestBody {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> RequestBody {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_work_is_refused_with_the_reason() {
        let check = |url: &str, reason: &str| {
            let error = Client::new(url, None).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        };
        check("localhost", "does not begin with http://");
        check("https://localhost", "plain http");
        check("http://localhost/v1", "has a path");
        check("ftp://localhost", "does not begin with http://");
        check("", "not a URL");
        assert!(Client::new("http://127.0.0.1:9000/", None).is_ok());
    }

    #[test]
    fn the_token_is_in_no_shape_that_a_log_shows() {
        let token = Token::new("s3cret");
        let client = Client::new("http://127.0.0.1:9", Some(token)).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
