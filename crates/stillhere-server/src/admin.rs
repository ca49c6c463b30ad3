//! The operators' HTTP API, on its own thread and runtime. It reaches shards only through [`Control`].
//!
//! `people` answers what concerns users, bans and rooms.
//!
//! Tasks: one that accepts, one per connection; dropped with the runtime.

mod people;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, patch, post};
use futures_util::stream::{self, Stream};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, error};

use crate::api::{ClosedQuery, Draining, KickTarget, Kicked, SessionsQuery};
use crate::control::{Control, ControlError};
use crate::metrics::{self, METRICS};
use crate::notes::Watcher;
use crate::office::OfficeError;
use crate::openapi;
use crate::token::Token;

/// Connections at once; operators and scrapers are few.
const CONNECTIONS_MAX: usize = 128;
/// How long a client may take for its request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may leave an answer unread.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// The largest body of a request, in bytes: a hundred users to import, or a notice.
const BODY_MAX: usize = 64 * 1024;
/// How often an idle stream of events shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct App {
    control: Control,
    token: Token,
}

/// Serves until the runtime is dropped.
pub(crate) async fn serve(listener: TcpListener, control: Control, token: Token) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "can't watch the admin port; operators can't connect"),
    };
    let router = router(App { control, token });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                error!(%error, "can't accept on the admin port; waiting");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        // A client that doesn't read what it asked for must not keep its place for ever.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME));
        let stream = Box::pin(stream);
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "an admin connection failed");
            }
            drop(place);
        });
    }
}

fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/closed", get(closed))
        .route("/api/v1/kick", post(kick))
        .route("/api/v1/stats", get(stats))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/drain", post(drain))
        .route("/api/v1/events", get(events))
        .route("/api/v1/users", get(people::users).post(people::add_user))
        .route("/api/v1/users/{name}", patch(people::change_user).delete(people::delete_user))
        .route("/api/v1/import", post(people::import))
        .route("/api/v1/bans", get(people::bans).post(people::ban).delete(people::unban))
        .route("/api/v1/rooms", get(people::rooms).post(people::add_room))
        .route("/api/v1/rooms/{name}", axum::routing::delete(people::delete_room))
        .route("/api/v1/notice", post(people::notice))
        .route("/api/v1/who", get(people::who))
        .route("/api/v1/audit", get(people::audit))
        .layer(middleware::from_fn_with_state(app.clone(), check_token));
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/api/v1/openapi.json", get(openapi_json))
        .merge(guarded)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "no such page; see / for what there is") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see /api/v1/openapi.json for the methods")
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(check_host))
        .with_state(app)
}

/// A page elsewhere must not reach this port through a name that it points here (DNS rebinding).
async fn check_host(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback(host) {
        return next.run(request).await;
    }
    problem(StatusCode::FORBIDDEN, "wrong_host", "the Host header must be localhost, 127.0.0.1 or [::1]")
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn check_token(State(app): State<App>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    if shown.is_some_and(|shown| app.token.matches(shown)) {
        return next.run(request).await;
    }
    let message = "send the token of admin.token in the data dir as `Authorization: Bearer …`";
    let mut response = problem(StatusCode::UNAUTHORIZED, "unauthorized", message);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

async fn sessions(
    State(app): State<App>,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    Ok(Json(app.control.sessions(query).await?).into_response())
}

async fn closed(
    State(app): State<App>,
    query: Result<Query<ClosedQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    Ok(Json(app.control.closed(query).await?).into_response())
}

async fn kick(State(app): State<App>, target: Result<Json<KickTarget>, JsonRejection>) -> Result<Response, Problem> {
    let Json(target) = target?;
    let (KickTarget::Id(subject) | KickTarget::User(subject) | KickTarget::Peer(subject)) = target.clone();
    let kicked = app.control.kick(target).await?;
    app.control.note("kick", subject, format!("{kicked} sessions")).await;
    Ok(Json(Kicked { kicked }).into_response())
}

async fn stats(State(app): State<App>) -> Result<Response, Problem> {
    Ok(Json(metrics::as_json(&app.control.snapshot().await?)).into_response())
}

async fn reload(State(app): State<App>) -> Result<Response, Problem> {
    let reloaded = app.control.reload().await?;
    app.control.note("reload", String::new(), reloaded.applied.join(", ")).await;
    let status = if reloaded.errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(reloaded)).into_response())
}

async fn drain(State(app): State<App>) -> Result<Response, Problem> {
    app.control.note("drain", String::new(), String::new()).await;
    Ok(Json(Draining { draining: true, links: app.control.drain().await? }).into_response())
}

async fn events(State(app): State<App>) -> Result<Response, Problem> {
    let stream = stream_of(app.control.watch()?);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// A watcher's events; one that fell behind is told how many it missed.
fn stream_of(watcher: Watcher) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    stream::unfold(watcher, |mut watcher| async move {
        let event = match watcher.receiver.recv().await {
            Ok(event) => SseEvent::default().event(event.name()).json_data(&event).unwrap_or_default(),
            Err(RecvError::Lagged(missed)) => {
                SseEvent::default().event("lagged").data(json!({"missed": missed}).to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), watcher))
    })
}

async fn metrics_text(State(app): State<App>) -> Result<Response, Problem> {
    let text = metrics::render(&app.control.snapshot().await?);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Whether all shards answer.
async fn healthz(State(app): State<App>) -> Result<Response, Problem> {
    app.control.stats().await?;
    Ok("ok\n".into_response())
}

/// Whether new clients are welcome.
async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    app.control.stats().await?;
    if app.control.is_draining() {
        return Err(ControlError::Busy("draining").into());
    }
    Ok("ready\n".into_response())
}

async fn openapi_json() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::JSON).into_response()
}

async fn index() -> Response {
    let mut text = format!("stillhere {}\n\n", env!("CARGO_PKG_VERSION"));
    text += "/healthz            all shards answer\n";
    text += "/readyz             new clients are welcome\n";
    text += &format!("/metrics            {} metrics for Prometheus\n", METRICS.len());
    text += "/api/v1/…           for operators, with a token: see /api/v1/openapi.json, or use `stillhere ctl`\n";
    Response::new(Body::from(text))
}

/// An error as the API writes it.
struct Problem(Response);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.0
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let (status, code) = match error {
            ControlError::Bad(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            ControlError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            ControlError::Stuck => (StatusCode::SERVICE_UNAVAILABLE, "stuck"),
            ControlError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            ControlError::Office(OfficeError::Bad(_)) => (StatusCode::BAD_REQUEST, "bad_request"),
            ControlError::Office(OfficeError::NotFound(_)) => (StatusCode::NOT_FOUND, "not_found"),
            ControlError::Office(OfficeError::Taken(_)) => (StatusCode::CONFLICT, "taken"),
            ControlError::Office(OfficeError::Storage(_)) => (StatusCode::SERVICE_UNAVAILABLE, "storage"),
        };
        Problem(problem(status, code, &error.to_string()))
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem(problem(StatusCode::BAD_REQUEST, "bad_request", &rejection.body_text()))
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        Problem(problem(rejection.status(), "bad_request", &rejection.body_text()))
    }
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_pass() {
        for host in
            ["localhost", "LOCALHOST:14080", "127.0.0.1", "127.0.0.1:14080", "[::1]", "[::1]:14080", "127.8.9.1:1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:14080",
            "localhost.evil.example",
            "10.0.0.1:14080",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
