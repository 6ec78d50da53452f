//! Just enough HTTP/1.1 to answer wrongly on purpose: an ordinary server would not let us.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::answer::Answer;

/// A request's head.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A query parameter, percent-decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        url::form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

/// Reads a head; none at the end of the connection. What follows it stays in `buffer`.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Head> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(length) = request.parse(buffer).ok()? {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let head = Head {
                method: request.method?.to_owned(),
                target: request.path?.to_owned(),
                headers: request.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
            };
            buffer.drain(..length);
            return Some(head);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads the body that a head announces; none if it is cut short.
pub async fn read_body(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, head: &Head) -> Option<Vec<u8>> {
    let length: usize = head.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(buffer.drain(..length).collect())
}

/// Writes an answer. `short` leaves out its second half.
pub async fn write_answer(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer, short: bool) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    let end = if short { answer.body.len() / 2 } else { answer.body.len() };
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer.body.as_bytes()[..end]).await?;
    stream.flush().await
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
