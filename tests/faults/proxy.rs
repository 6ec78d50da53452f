//! A proxy between an operator and the API server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::{Stream, StreamExt};
use kube::Client;
use serde_json::{Value, json};

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Not yet forwarded.
    Before,
    /// Forwarded, and done by the API server; its answer is not yet.
    Forwarded,
    /// Its answer is on its way to the operator.
    Answered,
}

pub const POSITIONS: [Position; 3] = [Position::Before, Position::Forwarded, Position::Answered];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The operator is killed.
    Kill,
    /// This status is answered in the API server's place.
    Status(u16),
    /// No answer, ever.
    Silence,
}

/// What goes wrong with which call, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub call: usize,
    pub position: Position,
    pub wrong: Wrong,
}

/// A change of a Coupon's status that the API server has made.
#[derive(Clone, Debug)]
pub struct Applied {
    pub coupon: String,
    pub status: Value,
}

/// What happens to watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// Cut after each few events.
    Cut,
    /// After some events nothing more comes, and the connection stays.
    Stall,
    /// Each event comes once more, after the next.
    Replay,
    /// Each event comes later than the answer to the write that made it.
    Late,
    /// Each third event is left out. The watch ends later, and cannot be gone on with.
    Skip,
}

pub struct Proxy {
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
    stop: tokio::task::JoinHandle<()>,
}

struct Shared {
    client: Client,
    calls: AtomicUsize,
    writes: AtomicUsize,
    planned: Mutex<Option<Planned>>,
    applied: Mutex<Vec<Applied>>,
    refused: AtomicUsize,
    kill: Mutex<Option<Box<dyn FnMut() + Send>>>,
    bend: Mutex<Option<Bend>>,
    slow: Mutex<Option<&'static str>>,
    silent: AtomicBool,
}

/// How long what is slow takes longer.
const SLOW: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts one in front of a client's API server; `folder` gets the kubeconfig that leads to it.
    pub async fn start(client: Client, folder: &std::path::Path, namespace: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let kubeconfig = folder.join("kubeconfig-through-proxy");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": namespace } }],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let shared = Arc::new(Shared {
            client,
            calls: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            planned: Mutex::default(),
            applied: Mutex::default(),
            refused: AtomicUsize::new(0),
            kill: Mutex::default(),
            bend: Mutex::default(),
            slow: Mutex::default(),
            silent: AtomicBool::new(false),
        });
        let app = axum::Router::new().fallback(handle).with_state(shared.clone());
        let stop = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { kubeconfig, shared, stop }
    }

    /// What is to go wrong, and how the operator is killed.
    pub fn plan(&self, planned: Planned, kill: impl FnMut() + Send + 'static) {
        *lock(&self.shared.kill) = Some(Box::new(kill));
        *lock(&self.shared.planned) = Some(planned);
    }

    pub fn bend(&self, bend: Option<Bend>) {
        *lock(&self.shared.bend) = bend;
    }

    /// Lists of this kind, by its plural, take long.
    pub fn slow_lists_of(&self, kind: &'static str) {
        *lock(&self.shared.slow) = Some(kind);
    }

    /// From now on no call is answered any more.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    #[allow(dead_code)] // the benchmarks use it
    /// How many calls asked for a change of something.
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// How many changes of Coupons the API server has refused.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// The changes of statuses that the API server has made, in order.
    pub fn applied(&self) -> Vec<Applied> {
        lock(&self.shared.applied).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

impl Shared {
    /// What goes wrong with a call here, if anything does: once.
    fn wrong(&self, call: usize, position: Position) -> Option<Wrong> {
        let mut planned = lock(&self.planned);
        let due = planned.filter(|p| p.call == call && p.position == position)?;
        *planned = None;
        drop(planned);
        if due.wrong == Wrong::Kill {
            self.kill();
        }
        Some(due.wrong)
    }

    fn kill(&self) {
        if let Some(kill) = lock(&self.kill).as_mut() {
            kill();
        }
    }

    /// A status that the API server took. It answers with no more than its metadata.
    fn note(&self, path: &str, sent: &[u8]) {
        let Some(coupon) = path.strip_suffix("/status").and_then(|p| p.rsplit_once("/coupons/")) else { return };
        let object: Value = serde_json::from_slice(sent).unwrap();
        lock(&self.applied).push(Applied { coupon: coupon.1.to_owned(), status: object["status"].clone() });
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let call = shared.calls.fetch_add(1, Ordering::SeqCst) + 1;
    if shared.silent.load(Ordering::SeqCst) {
        return instead(Wrong::Silence).await;
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let watches = parts.uri.query().is_some_and(|query| query.contains("watch=true") || query.contains("watch=1"));
    let changes = parts.method == http::Method::PUT || parts.method == http::Method::PATCH;
    if parts.method != http::Method::GET {
        shared.writes.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(wrong) = shared.wrong(call, Position::Before) {
        return instead(wrong).await;
    }
    let slow = lock(&shared.slow).is_some_and(|kind| path.ends_with(kind) && parts.method == http::Method::GET);
    if slow && !watches {
        tokio::time::sleep(SLOW).await;
    }
    let mut forwarded = http::Request::builder().method(parts.method).uri(parts.uri.path_and_query().unwrap().as_str());
    for name in [http::header::CONTENT_TYPE, http::header::ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let sent = body.clone();
    let forwarded = forwarded.body(kube::client::Body::from(body.to_vec())).unwrap();
    // In a task of its own: what was forwarded is done, whatever becomes of who asked for it.
    let (client, answered) = (shared.client.clone(), shared.clone());
    let done = tokio::spawn(async move {
        let response = client.send(forwarded).await.unwrap();
        let (head, body) = response.into_parts();
        if watches && head.status.is_success() {
            return Err(http::Response::from_parts(head, body));
        }
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        match changes {
            true if head.status.is_success() => answered.note(&path, &sent),
            true if path.contains("/coupons/") => _ = answered.refused.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }
        Ok((head, body))
    });
    let (head, body) = match done.await.unwrap() {
        Err(events) => {
            let (head, body) = events.into_parts();
            shared.wrong(call, Position::Forwarded);
            let events = bent(Body::new(body), *lock(&shared.bend));
            shared.wrong(call, Position::Answered);
            return response(&head, Body::from_stream(events));
        }
        Ok(answer) => answer,
    };
    if let Some(wrong) = shared.wrong(call, Position::Forwarded) {
        return instead(wrong).await;
    }
    let end = shared.clone();
    // The chunk after the whole body is asked for when the body was written.
    let chunks = futures::stream::iter([Some(body), None]).filter_map(move |chunk| {
        if chunk.is_none() {
            end.wrong(call, Position::Answered);
        }
        std::future::ready(chunk.map(Ok::<Bytes, std::io::Error>))
    });
    response(&head, Body::from_stream(chunks))
}

fn response(head: &http::response::Parts, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(http::header::CONTENT_TYPE) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// What is answered in the API server's place.
async fn instead(wrong: Wrong) -> Response {
    let status = match wrong {
        Wrong::Kill => 503,
        Wrong::Silence => std::future::pending().await,
        Wrong::Status(status) => status,
    };
    let reason = match status {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": "injected" });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

const TOO_OLD: &[u8] = b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"code\":410,\"reason\":\"Expired\",\"message\":\"injected\"}}\n";

type Chunk = Result<Bytes, std::io::Error>;

/// A watch's events, one line each, bent.
fn bent(body: Body, bend: Option<Bend>) -> impl Stream<Item = Chunk> + Send {
    let mut buffer = Vec::new();
    let lines = body.into_data_stream().flat_map(move |chunk| {
        buffer.extend_from_slice(&chunk.unwrap_or_default());
        let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1);
        let whole: Vec<u8> = buffer.drain(..end).collect();
        let lines: Vec<Bytes> = whole.split_inclusive(|b| *b == b'\n').map(Bytes::copy_from_slice).collect();
        futures::stream::iter(lines)
    });
    let (mut seen, mut last) = (0_usize, None::<Bytes>);
    let events = lines.flat_map(move |line| {
        seen += 1;
        let skipped = bend == Some(Bend::Skip) && seen % 3 == 0 && !contains(&line, b"BOOKMARK");
        let again = last.replace(line.clone()).filter(|_| bend == Some(Bend::Replay));
        futures::stream::iter([(!skipped).then_some(line), again].into_iter().flatten())
    });
    let most = match bend {
        Some(Bend::Cut) => 7,
        Some(Bend::Stall) => 10,
        _ => usize::MAX,
    };
    let looks_for = if bend == Some(Bend::Skip) { Duration::from_secs(2) } else { Duration::from_secs(3600) };
    let events = events.take(most).then(move |event| async move {
        if bend == Some(Bend::Late) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(event)
    });
    let events = events.take_until(tokio::time::sleep(looks_for));
    // A stalled watch says nothing more for as long as the operator would wait; a cut one ends.
    let after = futures::stream::once(async move {
        match bend {
            Some(Bend::Stall) => tokio::time::sleep(Duration::from_secs(3)).await,
            // What was left out is seen only by listing again.
            Some(Bend::Skip) => return Ok(Bytes::from_static(TOO_OLD)),
            _ => {}
        }
        Ok(Bytes::new())
    });
    events.chain(after)
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}
