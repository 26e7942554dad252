//! An axum service for benchmarks, on a runtime of one thread (`single`) or two (`multi`): over the Rust SDK where there is a master, else by `axum::serve` on the listener that it inherited as standard input.
//!
//! With `session` after that, what it inherited comes to a session and a second thread, as each worker of a master has them.

use std::error::Error;
use std::future::Future;
use std::net::TcpListener;
use std::os::fd::AsFd;

use axum::Router;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use dutch_master_tests::bench::reports::{Stage, now, report};
use dutch_master_worker::Worker;

fn main() -> Result<(), Box<dyn Error>> {
    report(Stage::First, now(), 0);
    let worker = Worker::from_env()?;
    if std::env::args().nth(2).is_some_and(|mode| mode == "session") {
        nix::unistd::setsid()?;
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    let single = std::env::args().nth(1).is_none_or(|mode| mode == "single");
    let runtime = if single { tokio::runtime::Builder::new_current_thread() } else { tokio::runtime::Builder::new_multi_thread() };
    let mut runtime = { runtime };
    runtime.worker_threads(if single { 1 } else { 2 }).enable_all().build()?.block_on(serve(worker))
}

async fn serve(worker: Worker) -> Result<(), Box<dyn Error>> {
    if worker.is_standalone() {
        let listener: TcpListener = std::io::stdin().as_fd().try_clone_to_owned()?.into();
        let port = listener.local_addr()?.port();
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| drop(stream.set_nodelay(true)));
        report(Stage::Ready, now(), port);
        return Ok(axum::serve(listener, app()).await?);
    }
    let listener = worker.listen("name:web").await?;
    let port = listener.address().and_then(|address| address.port).unwrap_or_default();
    report(Stage::Ready, now(), port);
    Ok(dutch_master_worker::axum::serve(&worker, listener, app()).await?)
}

fn app() -> Router {
    let name = HeaderValue::from(std::process::id());
    Router::new().route("/", get(move || hello(name.clone())))
}

fn hello(name: HeaderValue) -> impl Future<Output = Response> {
    std::future::ready(([("x-worker", name)], "hello\n").into_response())
}
