//! What happens around the program's service: responses say that they are the last, and tell when they have ended.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::Extensions;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::HttpService;
use super::activity::Activity;
/// Where a request's connection comes from: in its extensions, if the listener is a TCP one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Puts where a connection comes from into a request's extensions, in the form that its service looks for. One entry, not one for each form: an entry costs an allocation for each request.
pub(crate) type NotePeer = fn(&mut Extensions, SocketAddr);

pub(super) fn note_peer(extensions: &mut Extensions, from: SocketAddr) {
    extensions.insert(PeerAddress(from));
}

/// Wraps a service for one connection.
pub(super) fn answering<S: HttpService>(
    service: S,
    (from, note_peer): (Option<SocketAddr>, NotePeer),
    activity: Arc<Activity>,
) -> impl Service<Request<Incoming>, Response = Response<Answer<S::ResponseBody>>, Error = S::Error, Future: Send + 'static> {
    service_fn(move |mut request: Request<Incoming>| {
        let http2 = request.version() >= Version::HTTP_2;
        if http2 {
            activity.speaks_http2();
        }
        if let Some(from) = from {
            note_peer(request.extensions_mut(), from);
        }
        let tunnel = request.method() == Method::CONNECT;
        let answer = service.call(request);
        let activity = Arc::clone(&activity);
        async move {
            let mut response = answer.await?;
            let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS || (tunnel && response.status().is_success());
            // Asked now rather than when the request came, so that an order reaches requests in flight, too.
            if activity.is_ordered() && !http2 && !upgraded {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answer { body, end: End(activity) }))
        }
    })
}

pin_project_lite::pin_project! {
    /// A response's body that tells when hyper is done with it.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        end: End,
    }
}

struct End(Arc<Activity>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.response_ended();
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
