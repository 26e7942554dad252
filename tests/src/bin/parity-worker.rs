//! The Rust worker of the parity suite (`sdk-node/parity`): the same service as its `apps/app.js`, over the Rust SDK and axum.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Query;
use axum::routing::{get, post};
use dutch_master_worker::Worker;

/// How often it is looked whether a slow response may go on.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::from_env()?;
    // Of all workers that start at the same time one makes the file.
    if variable("FAIL_ONCE").is_some_and(|path| File::create_new(path).is_ok()) {
        exit(1);
    }
    let start_ms = variable("START_MS").and_then(|text| text.parse().ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(start_ms));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let port = variable("PORT").ok_or("PORT is not set")?;
        let listener = worker.listen(format!("127.0.0.1:{port}")).await?;
        Ok(dutch_master_worker::axum::serve(&worker, listener, router(&worker)).await?)
    })
}

fn router(worker: &Worker) -> Router {
    let (who, asker) = (format!("worker {}, pid {}", worker.id(), std::process::id()), worker.clone());
    Router::new()
        .route("/", get(async move || who))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: Bytes| body))
        .route("/restart", post(async move |query| ask(&asker, query)))
        .route("/crash", post(crash))
}

/// Takes as long as the request says, or until the file `RELEASE` exists.
async fn slow(Query(query): Query<HashMap<String, u64>>) -> &'static str {
    match (query.get("ms"), variable("RELEASE").map(PathBuf::from)) {
        (Some(ms), _) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        (None, Some(release)) => {
            while !release.exists() {
                tokio::time::sleep(LOOK).await;
            }
        }
        (None, None) => {}
    }
    "slow"
}

fn ask(worker: &Worker, Query(query): Query<HashMap<String, u32>>) {
    for _ in 0..query.get("times").copied().unwrap_or(1) {
        worker.request_restart(Some("asked for"));
    }
}

/// Ends without a word.
async fn crash() -> &'static str {
    exit(7)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
