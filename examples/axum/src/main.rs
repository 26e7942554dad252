//! An axum app as a worker of dutch-master. Started by hand, it runs on its own.

use axum::routing::{get, post};
use axum::{Router, body::Bytes, extract::Query, middleware::map_response, response::Response};
use dutch_master_worker::Worker;
use std::{collections::HashMap, error::Error, time::Duration};

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let worker = Worker::from_env()?; // before the runtime starts threads
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let id = worker.id();
    let app = Router::new()
        .route("/", get(move || async move { format!("hello from worker {id}\n") }))
        .route("/slow", get(slow))
        .route("/echo", post(|body: Bytes| async { body }))
        .layer(map_response(move |mut response: Response| async move {
            response.headers_mut().insert("x-worker", id.into());
            response
        }));
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = worker.listen(address).await?;
        Ok(dutch_master_worker::axum::serve(&worker, listener, app).await?)
    })
}

async fn slow(Query(query): Query<HashMap<String, u64>>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(query.get("ms").copied().unwrap_or(200).min(10_000))).await;
    "slow, but here\n"
}
