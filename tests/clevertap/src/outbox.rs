//! The outbox page: what the live campaign would send, and how it came about.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Fault;
use crate::server::Shared;
use crate::store::{Email, Event, Received, Store};

const STYLE: &str = "
:root{color-scheme:light dark;font-family:system-ui,sans-serif;line-height:1.5}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
article{border:1px solid #8886;border-radius:.5rem;padding:1rem;margin:1rem 0}
article h3{margin:0 0 .5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8882;border-radius:.3rem;padding:.75rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;border-bottom:1px solid #8884;padding:.3rem .6rem}
.wrong{font-weight:bold}";

pub async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/", get(page))
        .route("/api/requests", get(|State(s): State<Arc<Shared>>| async move { Json(redacted(&s.store())) }))
        .route("/api/events", get(|State(s): State<Arc<Shared>>| async move { Json(s.store().events.clone()) }))
        .route("/api/emails", get(|State(s): State<Arc<Shared>>| async move { Json(s.store().emails.clone()) }))
        .route("/api/duplicates", get(|State(s): State<Arc<Shared>>| async move { Json(s.store().duplicates()) }))
        .route("/api/faults", post(inject))
        .with_state(shared);
    let stopped = async move {
        let _ = stop.changed().await;
    };
    let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
}

async fn inject(State(shared): State<Arc<Shared>>, Json(fault): Json<Fault>) {
    shared.store().faults.push_back(fault);
}

/// The requests with the passcode left out.
fn redacted(store: &Store) -> Vec<Received> {
    let mut requests = store.requests.clone();
    for (name, value) in requests.iter_mut().flat_map(|r| &mut r.headers) {
        if name.eq_ignore_ascii_case("x-clevertap-passcode") {
            "<redacted>".clone_into(value);
        }
    }
    requests
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let store = shared.store();
    let mut html = String::new();
    let _ = write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Outbox</title><style>{STYLE}</style><h1>Outbox</h1><p>The emails that the live-behaviour campaign for “{}” would send.",
        escaped(&store.config.live_campaign.event)
    );
    if store.emails.is_empty() {
        html.push_str("<p>Nothing yet.");
    }
    store.emails.iter().for_each(|email| html.push_str(&email_html(email)));
    html.push_str(&events_html(&store.events, &store.duplicates()));
    html.push_str("<h2>Requests</h2>");
    html.extend(redacted(&store).iter().map(request_html));
    Html(html)
}

fn email_html(email: &Email) -> String {
    format!(
        "<article><h3>{}</h3><dl><dt>To<dd>{} &lt;{}&gt;<dt>Sent<dd>{}</dl><pre>{}</pre></article>",
        escaped(&email.subject),
        escaped(&email.name),
        escaped(&email.to),
        email.time.format("%Y-%m-%d %H:%M:%S UTC"),
        escaped(&email.body)
    )
}

fn events_html(events: &[Event], duplicates: &[Event]) -> String {
    let mut html = format!("<h2>Events</h2><p>{} stored, ", events.len());
    let class = if duplicates.is_empty() { "" } else { " class=wrong" };
    let _ = write!(html, "<span{class}>{} of them duplicates</span>.", duplicates.len());
    html.push_str("<table><tr><th>Identity<th>Event<th>Data<th>Request");
    for event in events {
        let (identity, name, data) = (escaped(&event.identity), escaped(&event.name), escaped(&event.data.to_string()));
        let _ = write!(html, "<tr><td>{identity}<td>{name}<td>{data}<td>{}", event.request);
    }
    html + "</table>"
}

fn request_html(request: &Received) -> String {
    let mut text = format!("{} {}\n", request.method, request.target);
    for (name, value) in &request.headers {
        let _ = writeln!(text, "{name}: {value}");
    }
    let answered = request.answered.map_or_else(|| "no answer".to_owned(), |status| format!("HTTP {status}"));
    format!(
        "<article><h3>Request {}: {answered}</h3><pre>{}\n{}</pre></article>",
        request.number,
        escaped(&text),
        escaped(&request.body)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
