//! An axum service over the Rust SDK: `/`, `/slow`, `/echo`, and `/leak` and `/block` to misbehave. With `--graceful hyper` it ends by hyper's own graceful shutdown, as people would write it without the SDK: the negative control.
//! With `--no-resume` it does not come back when its master has died.
//!
//! In that mode it also counts the connections that it accepts, if `HTTP_WORKER_COUNTS` names a folder.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Query;
use axum::routing::{get, post};
use dutch_master_protocol::env;
use dutch_master_worker::{Listener, Settings, Worker};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;

const THREADS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let option = |option: &str| std::env::args().any(|arg| arg == option);
    let worker = if option("--no-resume") { connect_without_resume()? } else { Worker::from_env()? };
    let name = worker.welcome().and_then(|welcome| welcome.names.first().cloned()).ok_or("no listener is configured")?;
    let listener = worker.listen_blocking(format!("name:{name}").as_str())?;
    let hyper_graceful = option("--graceful");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(async {
        match hyper_graceful {
            true => serve_and_end_by_hyper(&worker, listener).await,
            false => Ok(dutch_master_worker::axum::serve(&worker, listener, router()).await?),
        }
    })
}

fn connect_without_resume() -> Result<Worker, Box<dyn Error>> {
    let settings = Settings::new(std::env::var(env::SOCKET)?, std::env::var(env::TOKEN)?);
    Ok(Worker::connect(Settings { features: Vec::new(), ..settings })?)
}

fn router() -> Router {
    let home = format!("Hello from process {}\n", std::process::id());
    Router::new()
        .route("/", get(async || home))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: Bytes| body))
        .route("/leak", get(leak))
        .route("/block", get(block))
}

async fn slow(Query(query): Query<HashMap<String, u64>>) -> &'static str {
    let ms = query.get("ms").copied().unwrap_or(200).min(60_000);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "This took a while\n"
}

/// Takes memory and keeps it.
async fn leak(Query(query): Query<HashMap<String, usize>>) -> &'static str {
    let bytes = query.get("mib").copied().unwrap_or(1).min(256) << 20;
    std::mem::forget(vec![1_u8; bytes]);
    "Gone\n"
}

/// Holds up every thread of the runtime.
async fn block() -> &'static str {
    for _ in 0..THREADS {
        tokio::spawn(async { std::thread::sleep(Duration::from_secs(60)) });
    }
    "Soon\n"
}

/// What hyper's documentation shows.
async fn serve_and_end_by_hyper(worker: &Worker, listener: Listener) -> Result<(), Box<dyn Error>> {
    let listener = listener.into_tokio_tcp()?;
    let graceful = GracefulShutdown::new();
    let counts = Arc::new(Counts::from_env()?);
    worker.listening(None);
    let mut ordered = std::pin::pin!(worker.ordered());
    loop {
        counts.accepting();
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = &mut ordered => break,
        };
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router()));
        let connection = graceful.watch(connection);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let _client_is_gone = connection.await;
            counts.ended();
        });
    }
    drop(listener);
    graceful.shutdown().await;
    worker.drained();
    Ok(())
}

/// Connections accepted and ended, in a file that outlives a worker that is killed.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    ended: AtomicU64,
    file: Option<File>,
}

impl Counts {
    fn from_env() -> std::io::Result<Counts> {
        let folder = std::env::var_os("HTTP_WORKER_COUNTS");
        let file = folder.map(|folder| File::create(Path::new(&folder).join(std::process::id().to_string()))).transpose()?;
        Ok(Counts { file, ..Counts::default() })
    }

    /// Counted before it happens, so that there is never one more than counted.
    fn accepting(&self) {
        self.count(&self.accepted, 0);
    }

    fn ended(&self) {
        self.count(&self.ended, 8);
    }

    fn count(&self, what: &AtomicU64, offset: u64) {
        let now = what.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(file) = &self.file {
            let _full_disk = file.write_all_at(&now.to_le_bytes(), offset);
        }
    }
}
