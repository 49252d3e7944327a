//! Ends answers that flow when the token behind them is revoked or expires.

use crate::asker::denied;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::Response;
use hyper::body::Frame;
use spawnery_controller::access::Denied;
use spawnery_wire::api::stream_event;
use std::pin::Pin;
use std::task::{Context, Poll};

type Watch = Pin<Box<dyn Future<Output = Denied> + Send>>;

/// The same response, which ends when `watch` does, if it flows. Events say why; of anything else
/// the connection breaks, so that nobody takes what came for all of it.
pub(crate) fn until(
    watch: impl Future<Output = Denied> + Send + 'static,
    response: Response,
    path: &str,
) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has_events = media_type.starts_with("text/event-stream");
    let path = path.to_owned();
    response.map(|body| {
        let watch: Option<Watch> = Some(Box::pin(watch));
        Body::new(Watched { body, watch, has_events, path })
    })
}

struct Watched {
    body: Body,
    /// None once it has ended.
    watch: Option<Watch>,
    has_events: bool,
    path: String,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(watch) = &mut self.watch else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(reason) = watch.as_mut().poll(context) {
            self.watch = None;
            // Whatever the stream holds is given back now.
            self.body = Body::empty();
            return Poll::Ready(Some(match self.has_events {
                true => Ok(Frame::data(last_event(&reason, &self.path))),
                false => Err(axum::Error::new(reason)),
            }));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

fn last_event(reason: &Denied, path: &str) -> Bytes {
    let problem = denied(reason).into_problem(path);
    let json = serde_json::to_string(&problem).expect("a problem has text and numbers only");
    format!("event: {}\ndata: {json}\n\n", stream_event::PROBLEM).into()
}
