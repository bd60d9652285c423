//! The admin server: `/livez`, `/readyz`, `/metrics`.
//!
//! In: the state of the process. Out: HTTP answers for the kubelet and Prometheus. It changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::census::Census;
use crate::github::GitHub;
use crate::liveness::Liveness;
use crate::metrics::Metrics;

/// What the server answers from.
#[derive(Clone)]
pub struct Admin {
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// For the requests that GitHub still grants.
    pub github: GitHub,
    /// For how many Modules and Versions are in which state.
    pub census: Census,
    /// The loops that the operator lives by.
    pub liveness: Liveness,
    /// Set when the watches have seen every object once.
    pub ready: Arc<AtomicBool>,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    let silent = admin.liveness.silent(Instant::now());
    if silent.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", silent.join(", ")))
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not seen every object yet\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.metrics.github_remaining(&admin.github.remaining());
    admin.metrics.census(&admin.census.count());
    match admin.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
