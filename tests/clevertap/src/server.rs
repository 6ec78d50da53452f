//! The stand-in: TLS connections in, answers or faults out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::Answer;
use crate::http::{Head, read_body, read_head, write_answer};
use crate::store::{Email, Event, Page, Received, Store};
use crate::{Config, Fault, Profile, api, outbox, tls};

/// A running stand-in. It stops when it is dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    address: SocketAddr,
    outbox: SocketAddr,
    ca: String,
    stop: watch::Sender<bool>,
}

/// What connections and the outbox share.
pub struct Shared {
    store: Mutex<Store>,
    changed: Notify,
    witness: Mutex<Option<Arc<Witness>>>,
}

/// Told of each step of each request, in the step itself: what it does is done before the next step.
pub type Witness = dyn Fn(Step) + Send + Sync;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was read, and nothing of it is stored.
    Received,
    /// It was worked on: what is to be stored is stored.
    Stored,
    /// Its answer was written.
    Answered,
}

impl Shared {
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StandIn {
    /// Starts on free loopback ports.
    ///
    /// # Errors
    /// If TLS cannot be set up or no port can be had.
    pub async fn start(config: Config) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Self::start_on(config, ([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()).await
    }

    /// Starts on given addresses, for the API and for the outbox page.
    ///
    /// # Errors
    /// If TLS cannot be set up or an address cannot be had.
    pub async fn start_on(
        config: Config,
        listen: SocketAddr,
        outbox: SocketAddr,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (ca, tls) = tls::configuration()?;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let outbox_listener = TcpListener::bind(outbox).await?;
        let outbox = outbox_listener.local_addr()?;
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new(config)),
            changed: Notify::new(),
            witness: Mutex::default(),
        });
        let stop = watch::Sender::new(false);
        tokio::spawn(accept(listener, tls, shared.clone(), stop.subscribe()));
        tokio::spawn(outbox::serve(outbox_listener, shared.clone(), stop.subscribe()));
        Ok(Self { shared, address, outbox, ca, stop })
    }

    /// Where it listens; certificates are for CleverTap's hosts, so connect by those names.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The page that shows what the live campaign would send.
    #[must_use]
    pub fn outbox_url(&self) -> String {
        format!("http://{}/", self.outbox)
    }

    /// The demo authority's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Writes the demo authority's certificate to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_ca(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, &self.ca)
    }

    /// Every request as it was received.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.store().requests.clone()
    }

    /// Every event that was stored, repeated ones repeated.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.shared.store().events.clone()
    }

    /// The events that were stored once more.
    #[must_use]
    pub fn duplicates(&self) -> Vec<Event> {
        self.shared.store().duplicates()
    }

    #[must_use]
    pub fn emails(&self) -> Vec<Email> {
        self.shared.store().emails.clone()
    }

    #[must_use]
    pub fn profiles(&self) -> Vec<Profile> {
        self.shared.store().profiles.values().cloned().collect()
    }

    /// The most uploads that were in flight at once.
    #[must_use]
    pub fn in_flight_peak(&self) -> usize {
        self.shared.store().in_flight_peak
    }

    /// The next upload meets this fault; several wait in a queue.
    pub fn inject(&self, fault: Fault) {
        self.shared.store().faults.push_back(fault);
    }

    /// Every upload meets this fault, until it is cleared.
    pub fn set_lasting_fault(&self, fault: Option<Fault>) {
        self.shared.store().lasting_fault = fault;
    }

    /// Every upload with a record of this identity meets this fault, until it is cleared.
    pub fn set_fault_for(&self, identity: &str, fault: Option<Fault>) {
        let mut store = self.shared.store();
        match fault {
            Some(fault) => store.faults_by_identity.insert(identity.to_owned(), fault),
            None => store.faults_by_identity.remove(identity),
        };
    }

    /// Who is told of each step of each request from now on.
    pub fn set_witness(&self, witness: impl Fn(Step) + Send + Sync + 'static) {
        *self.shared.witness.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(witness));
    }

    /// What goes wrong with each request that meets no other fault.
    pub fn set_chooser(&self, chooser: impl FnMut() -> Option<Fault> + Send + 'static) {
        self.shared.store().chooser = Some(Box::new(chooser));
    }

    /// How long every answer takes.
    pub fn publish(&self, target: &str, page: Page) {
        self.shared.store().pages.insert(target.to_owned(), page);
    }

    pub fn set_latency(&self, latency: Duration) {
        self.shared.store().latency = latency;
    }

    pub fn set_passcode(&self, passcode: &str) {
        passcode.clone_into(&mut self.shared.store().config.passcode);
    }

    /// The next so many reads of an export's page are answered "still in progress".
    pub fn set_not_ready(&self, times: u32) {
        self.shared.store().not_ready = times;
    }

    /// Waits until so many requests were received. False if that took too long.
    pub async fn wait_for_requests(&self, count: usize, longest: Duration) -> bool {
        self.wait_until(longest, |store| store.requests.len() >= count).await
    }

    /// Waits until so many events were stored. False if that took too long.
    pub async fn wait_for_events(&self, count: usize, longest: Duration) -> bool {
        self.wait_until(longest, |store| store.events.len() >= count).await
    }

    async fn wait_until(&self, longest: Duration, holds: impl Fn(&Store) -> bool) -> bool {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                if holds(&self.shared.store()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(longest, wait).await.is_ok()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        connections += 1;
        let connection = Connection { number: connections, shared: shared.clone() };
        let (acceptor, mut stop) = (acceptor.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection.serve(acceptor, stream) => {}
                _ = stop.changed() => {}
            }
        });
    }
}

struct Connection {
    number: u64,
    shared: Arc<Shared>,
}

/// Counts a request as in flight until it is dropped.
struct InFlight<'a> {
    shared: &'a Shared,
    upload: bool,
}

impl<'a> InFlight<'a> {
    fn new(shared: &'a Shared, upload: bool) -> Self {
        let mut store = shared.store();
        if upload {
            store.uploads_in_flight += 1;
            store.in_flight_peak = store.in_flight_peak.max(store.uploads_in_flight);
        } else {
            store.others_in_flight += 1;
        }
        drop(store);
        Self { shared, upload }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut store = self.shared.store();
        let count = if self.upload { &mut store.uploads_in_flight } else { &mut store.others_in_flight };
        *count -= 1;
    }
}

enum Next {
    KeepAlive,
    Close,
}

impl Connection {
    async fn serve(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut buffer = Vec::new();
        while let Some(head) = read_head(&mut stream, &mut buffer).await {
            match self.answer(&mut stream, &mut buffer, &head).await {
                Some(Next::KeepAlive) => {}
                Some(Next::Close) | None => return,
            }
        }
    }

    async fn answer(&self, stream: &mut TlsStream<TcpStream>, buffer: &mut Vec<u8>, head: &Head) -> Option<Next> {
        let upload = head.path() == "/1/upload";
        let in_flight = InFlight::new(&self.shared, upload);
        if self.shared.store().faults.front() == Some(&Fault::ResetBeforeBody) {
            let fault = self.shared.store().faults.pop_front();
            self.receive(head, &[], fault.as_ref());
            reset(stream);
            return Some(Next::Close);
        }
        let body = read_body(stream, buffer, head).await?;
        self.tell(Step::Received);
        let page = self.shared.store().pages.get(&head.target).cloned();
        if let Some(page) = page {
            self.receive(head, &body, None);
            return self.show(stream, &page, head).await;
        }
        let (number, answer, fault) = self.work(head, &body);
        self.tell(Step::Stored);
        let latency = self.shared.store().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        // Counted until the answer is on its way: the client may send the next at once then.
        let next = match fault {
            Some(fault) => self.play(stream, fault, answer, number, in_flight).await,
            None => self.send(stream, &answer, number, false, in_flight).await,
        };
        self.tell(Step::Answered);
        self.shared.changed.notify_waiters();
        next
    }

    async fn show(&self, stream: &mut TlsStream<TcpStream>, page: &Page, head: &Head) -> Option<Next> {
        let known = page.header("ETag").is_some() && page.header("ETag") == head.header("If-None-Match");
        let (status, body) = if known { (304, &[][..]) } else { (page.status, &page.body[..]) };
        let mut answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
        page.headers.iter().for_each(|(name, value)| answer.extend([name, ": ", value, "\r\n"]));
        let sent = page.cut_after.map_or(body, |bytes| &body[..bytes.min(body.len())]);
        stream.write_all((answer + "\r\n").as_bytes()).await.ok()?;
        stream.write_all(sent).await.ok()?;
        stream.flush().await.ok()?;
        if sent.len() == body.len() {
            return Some(Next::KeepAlive);
        }
        stream.shutdown().await.ok()?;
        Some(Next::Close)
    }

    fn tell(&self, step: Step) {
        let witness = self.shared.witness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(witness) = witness {
            witness(step);
        }
    }

    /// Notes a request.
    fn receive(&self, head: &Head, body: &[u8], fault: Option<&Fault>) -> u64 {
        let mut store = self.shared.store();
        let number = store.requests.len() as u64 + 1;
        let time = store.now();
        store.requests.push(Received {
            number,
            connection: self.number,
            time,
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body: String::from_utf8_lossy(body).into_owned(),
            answered: None,
            fault: fault.map(|f| format!("{f:?}")),
        });
        drop(store);
        self.shared.changed.notify_waiters();
        number
    }

    /// The answer that CleverTap would give, and the fault to play instead.
    fn work(&self, head: &Head, body: &[u8]) -> (u64, Answer, Option<Fault>) {
        let number = self.receive(head, body, None);
        let mut store = self.shared.store();
        let plain = head.path().starts_with("/plain");
        if let Some(refusal) = api::refused(&store, head).filter(|_| !plain) {
            return (number, refusal, None);
        }
        let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
        let identities = store.requests[index].identities();
        let faulty = plain || head.path() == "/1/upload";
        let fault = if faulty { store.next_fault(&identities) } else { None };
        let fault = fault.and_then(|fault| fault.with(identities.len()));
        store.requests[index].fault = fault.as_ref().map(|f| format!("{f:?}"));
        let answer = match (head.method.as_str(), head.path()) {
            ("POST", "/1/upload") => api::upload(&mut store, head, body, number, fault.as_ref()),
            ("POST" | "GET", "/1/profiles.json") => api::profiles(&mut store, head, body),
            ("GET", "/1/profile.json") => api::profile(&store, head),
            (_, path) if path.starts_with("/plain") => Answer::new(200, "{}"),
            (_, "/1/upload" | "/1/profile.json") => Answer::error(405, "Method not allowed"),
            _ => Answer::error(404, "Not found"),
        };
        (number, answer, fault)
    }

    async fn play(
        &self,
        stream: &mut TlsStream<TcpStream>,
        fault: Fault,
        mut answer: Answer,
        number: u64,
        in_flight: InFlight<'_>,
    ) -> Option<Next> {
        match fault {
            Fault::HangBefore | Fault::HangAfter => return hang(stream).await,
            Fault::Raw { answer, hangs } => {
                stream.write_all(answer.as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
                if hangs {
                    return hang(stream).await;
                }
                stream.shutdown().await.ok()?;
                return Some(Next::Close);
            }
            Fault::ResetBeforeBody | Fault::ResetBefore | Fault::ResetAfter => {
                reset(stream);
                return Some(Next::Close);
            }
            Fault::Status { status, retry_after, location, .. } => {
                answer = Answer::error(status, "Injected");
                answer.headers.extend(retry_after.map(|value| ("Retry-After", value)));
                answer.headers.extend(location.map(|value| ("Location", value)));
            }
            Fault::ShortBody => {
                self.send(stream, &answer, number, true, in_flight).await;
                return Some(Next::Close);
            }
            Fault::NotJson => answer.body = "<html><body>It works!</body></html>".into(),
            Fault::WrongContentType => answer.content_type = "text/html",
            Fault::OversizedBody => answer.body = " ".repeat(8 * 1024 * 1024),
            Fault::Slow { delay } => tokio::time::sleep(delay).await,
            Fault::SilentDrop | Fault::ServerError { .. } | Fault::RefusedAbove { .. } => {}
        }
        self.send(stream, &answer, number, false, in_flight).await
    }

    async fn send(
        &self,
        stream: &mut TlsStream<TcpStream>,
        answer: &Answer,
        number: u64,
        short: bool,
        in_flight: InFlight<'_>,
    ) -> Option<Next> {
        drop(in_flight);
        let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
        self.shared.store().requests[index].answered = Some(answer.status);
        write_answer(stream, answer, short).await.ok()?;
        Some(Next::KeepAlive)
    }
}

/// Says nothing until the client gives up.
async fn hang(stream: &mut TlsStream<TcpStream>) -> Option<Next> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    Some(Next::Close)
}

/// Closes with a reset instead of an end, as a crashed peer or a middlebox does.
fn reset(stream: &mut TlsStream<TcpStream>) {
    let _ = stream.get_ref().0.set_zero_linger();
}
