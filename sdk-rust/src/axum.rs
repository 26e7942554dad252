//! Serving an axum router (feature `axum`).

use std::convert::Infallible;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::http::{self, Serve};
use crate::listener::Listener;
use crate::worker::Worker;

/// Serves `router` on `listener` until there is an order to go and everything is drained; see [`http::serve`].
///
/// Handlers of TCP listeners can extract [`ConnectInfo<SocketAddr>`](ConnectInfo).
///
/// ```no_run
/// # async fn example(worker: dutch_master_worker::Worker) -> Result<(), Box<dyn std::error::Error>> {
/// let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
/// let listener = worker.listen("127.0.0.1:8000").await?;
/// dutch_master_worker::axum::serve(&worker, listener, app).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When awaited: the listener is of no use.
pub fn serve(worker: &Worker, listener: Listener, router: Router) -> Serve<App> {
    http::serve(worker, listener, App(TowerToHyperService::new(router))).note_peer(|extensions, from| {
        extensions.insert(ConnectInfo(from));
    })
}

/// A router as a hyper service.
#[derive(Debug, Clone)]
pub struct App(TowerToHyperService<Router>);

impl Service<Request<Incoming>> for App {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.call(request)
    }
}
