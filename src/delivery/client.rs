//! The HTTP client for webhooks. It is not the Kubernetes client, follows no redirect, uses no proxy,
//! repeats nothing, and dials only addresses that were checked after resolution.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder};
use tokio::time::Sleep;
use url::{Host, Url};

use super::address::is_public;
use super::endpoint::OutgoingRequest;
use super::outcome::{Answer, Body, NoAnswer, NotSent, Observation};
use super::retry::parse_retry_after;
use super::secret::Redacted;
use crate::api::webhook::Method;
use crate::clock::Clock;

/// No answer of a webhook needs more. CleverTap's longest, 1000 refused records, stays below it.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// `HOST:PORT=ADDRESS:PORT`: where connections to a host really go, for a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    host: String,
    port: u16,
    address: SocketAddr,
}

impl std::str::FromStr for ConnectTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "\"{text}\" is not of the form HOST:PORT=ADDRESS:PORT, such as eu1.api.clevertap.com:443=127.0.0.1:8443"
            )
        };
        let (from, to) = text.split_once('=').ok_or_else(form)?;
        let (host, port) = from.rsplit_once(':').ok_or_else(form)?;
        let (port, address) = (port.parse().map_err(|_| form())?, to.parse().map_err(|_| form())?);
        Ok(Self { host: host.to_ascii_lowercase(), port, address })
    }
}

/// What the client is allowed.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    pub connect_to: Vec<ConnectTo>,
    /// Dial nothing that `connect_to` does not name.
    pub only_connect_to: bool,
    /// PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<Vec<u8>>,
}

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the CA bundle is not PEM: {0}")]
    CaBundle(reqwest::Error),
    #[error("no TLS client can be made: {0}")]
    Build(reqwest::Error),
}

/// Why a GET had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    AddressRefused,
    NoAnswer,
}

/// The guarded client.
pub struct GuardedClient {
    guarded: Client,
    named: HashMap<(String, u16), (Client, SocketAddr)>,
    only_named: bool,
    clock: Clock,
}

impl GuardedClient {
    /// Makes the client.
    ///
    /// # Errors
    /// If the CA bundle cannot be read or TLS cannot be set up.
    pub fn new(options: &ClientOptions, clock: Clock) -> Result<Self, ClientError> {
        let certificates = options.ca_bundle.as_deref().map(Certificate::from_pem_bundle).transpose();
        let certificates = certificates.map_err(ClientError::CaBundle)?;
        let build = |builder: ClientBuilder| builder.build().map_err(ClientError::Build);
        let mut named = HashMap::new();
        for to in &options.connect_to {
            let client = build(base(certificates.as_deref()).resolve(&to.host, to.address))?;
            named.insert((to.host.clone(), to.port), (client, to.address));
        }
        let guarded = build(base(certificates.as_deref()).dns_resolver(Arc::new(PublicOnly)))?;
        Ok(Self { guarded, named, only_named: options.only_connect_to, clock })
    }

    /// Sends a request, once, and reports what was seen. Never takes longer than `timeout`.
    pub async fn send(&self, request: &OutgoingRequest, timeout: Duration) -> Observation {
        let Some((client, url, host)) = self.route(&request.url) else {
            return Observation::NotSent(NotSent::AddressRefused);
        };
        let progress = Arc::new(Progress::default());
        let Some(built) = build_request(client, request, url, host, &progress) else {
            return Observation::NotSent(NotSent::NotConnected);
        };
        let ends = tokio::time::sleep(timeout);
        tokio::pin!(ends);
        let answered = tokio::select! {
            answered = client.execute(built) => Ok(answered),
            () = &mut ends => Err(()),
        };
        match answered {
            Ok(Ok(response)) => Observation::Answer(answer(response, ends, &self.clock).await),
            Ok(Err(error)) => progress.failed(&error, request.body.is_some()),
            Err(()) => progress.timed_out(request.body.is_some()),
        }
    }

    /// Asks for what is at an address, and gives the answer once its head is there. How long that and the body may take
    /// is for the caller to say.
    ///
    /// # Errors
    /// If there was no answer.
    pub async fn get(
        &self,
        url: &Url,
        headers: Vec<(String, Redacted<String>)>,
    ) -> Result<reqwest::Response, Unanswered> {
        let (client, dialed, host) = self.route(url).ok_or(Unanswered::AddressRefused)?;
        let (method, url) = (Method::Get, url.clone());
        let request = OutgoingRequest { method, url, headers, body: None, count: 0, records: Vec::new() };
        let built = build_request(client, &request, dialed, host, &Arc::default()).ok_or(Unanswered::NoAnswer)?;
        client
            .execute(built)
            .await
            .map_err(|error| if was_refused(&error) { Unanswered::AddressRefused } else { Unanswered::NoAnswer })
    }

    /// The client for a url, the url to dial, and the host to name when that differs.
    fn route(&self, url: &Url) -> Option<(&Client, Url, Option<String>)> {
        let (host, port) = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        if let Some((client, address)) = self.named.get(&(host.clone(), port)) {
            let mut dialed = url.clone();
            dialed.set_port(Some(address.port())).ok()?;
            let named = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            return Some((client, dialed, Some(named)));
        }
        if self.only_named || !literal_is_public(url) {
            return None;
        }
        Some((&self.guarded, url.clone(), None))
    }
}

fn base(certificates: Option<&[Certificate]>) -> ClientBuilder {
    let builder = Client::builder()
        .https_only(true)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(20))
        .user_agent(concat!("coupon-operator/", env!("CARGO_PKG_VERSION")));
    match certificates {
        Some(certificates) => builder.tls_certs_only(certificates.iter().cloned()),
        None => builder,
    }
}

/// An address written in the url itself is not resolved, so it is checked here.
fn literal_is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
        Some(Host::Domain(_)) => true,
        None => false,
    }
}

/// Resolves a host once and gives only its public addresses to the dialer.
struct PublicOnly;

/// A host that has no public address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
struct Refused;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.iter().copied().filter(|a| is_public(a.ip())).collect();
            if public.is_empty() && !found.is_empty() {
                return Err(Box::new(Refused) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

fn build_request(
    client: &Client,
    request: &OutgoingRequest,
    url: Url,
    host: Option<String>,
    progress: &Arc<Progress>,
) -> Option<reqwest::Request> {
    let mut builder = client.request(method(request.method), url);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(value.reveal()).ok()?;
        value.set_sensitive(true);
        builder = builder.header(name, value);
    }
    if let Some(host) = host {
        builder = builder.header(HOST, host);
    }
    if let Some(body) = &request.body {
        let watched = WatchedBody { bytes: Some(Bytes::from(body.clone())), progress: progress.clone() };
        builder = builder.body(reqwest::Body::wrap(watched));
    }
    builder.build().ok()
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Get => http::Method::GET,
        Method::Delete => http::Method::DELETE,
    }
}

/// Reads an answer until `ends`. Its head stands, whatever becomes of its body.
async fn answer(mut response: reqwest::Response, ends: Pin<&mut Sleep>, clock: &Clock) -> Answer {
    let status = response.status().as_u16();
    // Where a redirect points is not even logged.
    response.headers_mut().remove(LOCATION);
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    let retry_after = retry_after.and_then(|text| parse_retry_after(text, clock.now()));
    let body = tokio::select! {
        body = read_body(&mut response) => body,
        () = ends => Body::Cut,
    };
    Answer { status, retry_after, body }
}

async fn read_body(response: &mut reqwest::Response) -> Body {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > LARGEST_BODY => return Body::TooLarge,
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Body::Complete(body),
            Err(_) => return Body::Cut,
        }
    }
}

/// How far a request got.
#[derive(Default)]
struct Progress {
    body_taken: AtomicBool,
}

impl Progress {
    /// What a failed request means. Without a body, only the client's word says whether it connected.
    fn failed(&self, error: &reqwest::Error, has_body: bool) -> Observation {
        if was_refused(error) {
            return Observation::NotSent(NotSent::AddressRefused);
        }
        let untouched = has_body && !self.body_taken.load(Ordering::SeqCst);
        if untouched || error.is_connect() {
            return Observation::NotSent(NotSent::NotConnected);
        }
        Observation::NoAnswer(NoAnswer::ConnectionLost)
    }

    /// A request without a body may have been sent as soon as there is a connection.
    fn timed_out(&self, has_body: bool) -> Observation {
        if has_body && !self.body_taken.load(Ordering::SeqCst) {
            return Observation::NotSent(NotSent::NotConnected);
        }
        Observation::NoAnswer(NoAnswer::TimedOut)
    }
}

fn was_refused(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<Refused>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A body that notes when the connection takes it: before that, nothing of it can have been sent.
struct WatchedBody {
    bytes: Option<Bytes>,
    progress: Arc<Progress>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.progress.body_taken.store(true, Ordering::SeqCst);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests;
