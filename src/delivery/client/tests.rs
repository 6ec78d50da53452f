//! What the client reports of each way in which a request can end, against the stand-in over TLS, and
//! where it does not go.

use clevertap_stand_in::{Config, Fault, StandIn};
use serde_json::json;

use super::*;
use crate::api::webhook::WebhookSpec;
use crate::delivery::endpoint::{Endpoint, ResolvedHeader, Templates};
use crate::records::{Records, RowSet};

const SHORT: Duration = Duration::from_millis(400);

fn request_to(url: &str, payload: bool) -> OutgoingRequest {
    let body = json!({ "d": [{ "type": "event", "evtName": "E", "identity": "c1", "evtData": {} }] }).to_string();
    let mut spec = json!({ "url": url, "method": if payload { "POST" } else { "GET" } });
    if payload {
        spec["payload"] = body.into();
    }
    let spec: WebhookSpec = serde_json::from_value(spec).unwrap();
    let defaults = Config::default();
    let headers = [("X-CleverTap-Account-Id", &defaults.account_id), ("X-CleverTap-Passcode", &defaults.passcode)];
    let resolved = headers.map(|(name, value)| ResolvedHeader::new(name, value).unwrap()).to_vec();
    let templates = Templates::parse(&spec).unwrap();
    let coupon = serde_json::from_value(json!({ "recipient": "x", "code": "X", "deliveries": [] })).unwrap();
    let endpoint = Endpoint::new(("ns", "u".into(), 1), spec, templates, resolved, &[0; 32]);
    endpoint.request(Records::of(&coupon), "tell", &RowSet::up_to(1), Clock::real().now()).request.unwrap()
}

fn upload() -> OutgoingRequest {
    request_to("https://eu1.api.clevertap.com/1/upload", true)
}

fn client(options: &ClientOptions) -> GuardedClient {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    GuardedClient::new(options, Clock::real()).unwrap()
}

fn client_of(stand_in: &StandIn) -> GuardedClient {
    client(&ClientOptions {
        connect_to: vec![format!("eu1.api.clevertap.com:443={}", stand_in.address()).parse().unwrap()],
        only_connect_to: true,
        ca_bundle: Some(stand_in.ca_pem().as_bytes().to_vec()),
    })
}

async fn seen(fault: Option<Fault>) -> (Observation, usize) {
    let stand_in = StandIn::start(Config::default()).await.unwrap();
    if let Some(fault) = fault {
        stand_in.inject(fault);
    }
    let observation = client_of(&stand_in).send(&upload(), SHORT).await;
    (observation, stand_in.requests().len())
}

fn shown(observation: Observation) -> String {
    match observation {
        Observation::Answer(Answer { status, retry_after, body }) => {
            let body = match body {
                Body::Complete(_) => "complete",
                Body::Cut => "cut",
                Body::TooLarge => "too large",
            };
            format!("{status} {body} {:?}", retry_after.map(|d| d.as_secs()))
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn i4_each_way_a_request_can_end_is_reported_as_what_it_was_and_sent_once() {
    let redirect = Fault::Status { status: 307, stored: false, retry_after: None, location: Some("/1/upload".into()) };
    let later = Fault::Status { status: 429, stored: false, retry_after: Some("7".into()), location: None };
    for (fault, expected) in [
        (None, "200 complete None"),
        (Some(Fault::HangBefore), "NoAnswer(TimedOut)"),
        (Some(Fault::HangAfter), "NoAnswer(TimedOut)"),
        (Some(Fault::ResetBefore), "NoAnswer(ConnectionLost)"),
        (Some(Fault::ResetAfter), "NoAnswer(ConnectionLost)"),
        (Some(Fault::ResetBeforeBody), "NoAnswer(ConnectionLost)"),
        (Some(Fault::WrongContentType), "200 complete None"),
        (Some(Fault::NotJson), "200 complete None"),
        (Some(Fault::ShortBody), "200 cut None"),
        (Some(Fault::OversizedBody), "200 too large None"),
        (Some(Fault::status(500)), "500 complete None"),
        (Some(redirect), "307 complete None"),
        (Some(later), "429 complete Some(7)"),
    ] {
        let (observation, requests) = seen(fault.clone()).await;
        assert_eq!((shown(observation).as_str(), requests), (expected, 1), "{fault:?}: no hidden resend, no redirect");
    }
}

fn raw(answer: &str, hangs: bool) -> Fault {
    Fault::Raw { answer: answer.to_owned(), hangs }
}

#[tokio::test]
async fn i4_an_answer_is_what_its_head_says_however_its_body_ends() {
    for (fault, expected) in [
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", true), "200 cut None"),
        (raw("HTTP/1.1 400 Bad\r\ncontent-length: 9\r\n\r\n", true), "400 cut None"),
        (raw("HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 9\r\n\r\n", true), "429 cut Some(3)"),
        (raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", false), "200 cut None"),
        (raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", false), "200 complete None"),
        (
            raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", false),
            "200 complete None",
        ),
        (
            raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", true),
            "101 complete None",
        ),
        (raw("HTTP/1.1 100 Continue\r\n\r\n", true), "NoAnswer(TimedOut)"),
        (raw("HTTP/1.1 100 Continue\r\n\r\n", false), "NoAnswer(ConnectionLost)"),
        (raw("HTTP/1.1 2", true), "NoAnswer(TimedOut)"),
        (raw("HTTP/1.1 2", false), "NoAnswer(ConnectionLost)"),
        (raw("SSH-2.0-OpenSSH\r\n", false), "NoAnswer(ConnectionLost)"),
        (raw("", false), "NoAnswer(ConnectionLost)"),
    ] {
        let (observation, requests) = seen(Some(fault.clone())).await;
        assert_eq!((shown(observation).as_str(), requests), (expected, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn four_mebibytes_of_an_answer_are_read_and_no_more() {
    for (length, expected) in [(4 * 1024 * 1024, "complete"), (4 * 1024 * 1024 + 1, "too large")] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", " ".repeat(length));
        let stand_in = StandIn::start(Config::default()).await.unwrap();
        stand_in.inject(Fault::Raw { answer, hangs: false });
        let observation = client_of(&stand_in).send(&upload(), Duration::from_secs(20)).await;
        assert_eq!(shown(observation), format!("200 {expected} None"), "{length}");
    }
}

#[tokio::test]
async fn addresses_in_a_url_and_those_that_a_host_resolves_to_are_both_checked() {
    for (url, public) in [
        ("https://1.1.1.1/", true),
        ("https://[2606:4700::1111]/", true),
        ("https://example.com/", true),
        ("https://10.0.0.1/", false),
        ("https://[::1]/", false),
    ] {
        assert_eq!(literal_is_public(&url.parse().unwrap()), public, "{url}");
    }
    let resolved = |host: &str| PublicOnly.resolve(host.parse().unwrap());
    let found: Vec<SocketAddr> = resolved("1.1.1.1").await.unwrap().collect();
    assert_eq!(found, ["1.1.1.1:0".parse().unwrap()]);
    assert!(resolved("localhost").await.err().unwrap().is::<Refused>());
}

#[tokio::test]
async fn i5_without_a_connection_nothing_was_sent() {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stand_in = StandIn::start(Config::default()).await.unwrap();
    for (address, what) in [(refusing, "connection refused"), (silent.local_addr().unwrap(), "TLS never answers")] {
        let client = client(&ClientOptions {
            connect_to: vec![format!("eu1.api.clevertap.com:443={address}").parse().unwrap()],
            only_connect_to: true,
            ca_bundle: Some(stand_in.ca_pem().as_bytes().to_vec()),
        });
        let observation = client.send(&upload(), SHORT).await;
        assert_eq!(observation, Observation::NotSent(NotSent::NotConnected), "{what}");
        let without_body = client.send(&request_to("https://eu1.api.clevertap.com/", false), SHORT).await;
        let expected = match what {
            "connection refused" => Observation::NotSent(NotSent::NotConnected),
            // Nothing tells how far a request without a body has come.
            _ => Observation::NoAnswer(NoAnswer::TimedOut),
        };
        assert_eq!(without_body, expected, "{what}");
    }
    // What answers is no TLS, or ends in the middle of it.
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[22, 3, 3, 0, 90][..], &[]] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("eu1.api.clevertap.com:443={}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.unwrap();
        });
        let client = client(&ClientOptions { connect_to: vec![to.parse().unwrap()], ..ClientOptions::default() });
        let observation = client.send(&upload(), SHORT).await;
        assert_eq!(observation, Observation::NotSent(NotSent::NotConnected), "{said:?}");
        server.await.unwrap();
    }
    let nameless = client(&ClientOptions::default()).send(&request_to("https://name.invalid/", true), SHORT).await;
    assert_eq!(nameless, Observation::NotSent(NotSent::NotConnected), "a host without an address");
    let distrusting = client(&ClientOptions {
        connect_to: vec![format!("eu1.api.clevertap.com:443={}", stand_in.address()).parse().unwrap()],
        ..ClientOptions::default()
    });
    let observation = distrusting.send(&upload(), SHORT).await;
    assert_eq!(observation, Observation::NotSent(NotSent::NotConnected), "a certificate that nobody vouches for");
    assert!(stand_in.requests().is_empty());
}

#[tokio::test]
async fn addresses_that_are_not_public_are_never_dialled_in_whatever_notation() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(&ClientOptions::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "0.0.0.0",
        "0",
    ] {
        for payload in [true, false] {
            let request = request_to(&format!("https://{host}:{port}/"), payload);
            let observation = client.send(&request, SHORT).await;
            assert_eq!(observation, Observation::NotSent(NotSent::AddressRefused), "{host}");
        }
    }
    let dialled = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn a_rehearsal_dials_only_what_it_names() {
    let stand_in = StandIn::start(Config::default()).await.unwrap();
    let client = client_of(&stand_in);
    for url in ["https://api.clevertap.com/", "https://eu1.api.clevertap.com:8443/", "https://1.1.1.1/"] {
        let observation = client.send(&request_to(url, true), SHORT).await;
        assert_eq!(observation, Observation::NotSent(NotSent::AddressRefused), "{url}");
    }
}

#[test]
fn connect_to_says_what_it_wants() {
    for wrong in ["a", "a:1", "a=b", "a:x=127.0.0.1:1", "a:1=localhost:1", "a:1=127.0.0.1"] {
        assert!(wrong.parse::<ConnectTo>().unwrap_err().contains("HOST:PORT=ADDRESS:PORT"), "{wrong}");
    }
    assert!("A.example:443=127.0.0.1:8443".parse::<ConnectTo>().is_ok());
}
