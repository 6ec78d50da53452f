//! Reads an audience from a web address into a [`Spool`], page by page.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK};
use http::{HeaderMap, HeaderValue};
use reqwest::Response;
use url::Url;

use super::spool::Spool;
use crate::api::campaign::HttpAudience;
use crate::delivery::client::{GuardedClient, Unanswered};
use crate::delivery::endpoint::SpecError;
use crate::delivery::secret::Redacted;
use crate::template::header::HeaderTemplate;

/// How much is read from one web address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as they are sent, of all pages together.
    pub bytes: u64,
    pub pages: usize,
    /// For all of it.
    pub time: Duration,
    /// Without a byte.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 2 << 30, pages: 10_000, time: Duration::from_secs(600), silence: Duration::from_secs(30) }
    }
}

/// Why not all of an audience was sent.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("the host has no public address: audiences are read from the internet, or from what --connect-to names")]
    AddressRefused,
    #[error("{0} gave no answer: see whether the address is right and the server runs")]
    NoAnswer(Place),
    #[error("{place} was answered with {status}: {}", what_to_do(*status))]
    Status { place: Place, status: u16 },
    #[error("{0} was cut off")]
    Cut(Place),
    #[error("{place} sent nothing for {} s", .silence.as_secs())]
    Silent { place: Place, silence: Duration },
    #[error("it took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("it has more than {} MiB", .0 >> 20)]
    TooLarge(u64),
    #[error("it has more than {0} pages")]
    TooManyPages(usize),
    #[error("{0} names a next page that is not on the same server, or no address")]
    Elsewhere(Place),
    #[error("{0} names a page as the next that was read already")]
    Circle(Place),
    #[error("{0} is packed in a way that is not known: only gzip is")]
    Encoding(Place),
    #[error("there is no room for it in the folder for temporary files: {0}")]
    Spool(#[from] io::Error),
}

/// One of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 1 { f.write_str("the address") } else { write!(f, "page {}", self.0) }
    }
}

fn what_to_do(status: u16) -> &'static str {
    match status {
        200..=299 | 304 => "only 200 has an audience, and 304 only where it was asked whether anything changed",
        300..=399 => "redirects are not followed: write the address that it leads to",
        401 | 403 => "compare the headers with what the server wants",
        404 | 410 => "correct the address",
        429 => "the server asks for fewer requests",
        _ => "see the server's own log",
    }
}

/// What came of reading a web address.
#[derive(Debug)]
pub enum Download {
    /// It is what it was.
    Unchanged,
    Read {
        spool: Spool,
        entity_tag: Option<String>,
        problem: Option<Problem>,
    },
}

/// What is wrong in the spec of one, each with its field.
#[must_use]
pub fn problems(audience: &HttpAudience) -> Vec<SpecError> {
    let error = |field: String, problem: String| SpecError { field, problem };
    let url =
        Url::parse(&audience.url).err().map(|e| error("spec.audience.http.url".into(), format!("is no URL: {e}")));
    let headers = audience.headers.iter().enumerate().filter_map(|(i, header)| {
        let parsed = HeaderTemplate::parse(&header.name, header.value.as_deref()?, &[]);
        Some(error(format!("spec.audience.http.headers[{i}].value"), parsed.err()?.to_string()))
    });
    url.into_iter().chain(headers).collect()
}

/// Reads a web address, unless it says that it is what `known` names.
///
/// # Errors
/// If there is no room for what is read.
pub async fn read(
    client: &GuardedClient,
    url: &Url,
    headers: &[(String, Redacted<String>)],
    known: Option<&str>,
    limits: Limits,
) -> io::Result<Download> {
    let (begun, spool) = (Instant::now(), Spool::new()?);
    let mut reader = Reader { client, headers, limits, spool, begun, entity_tag: None };
    let problem = match reader.pages(url, known).await {
        Ok(Pages::Unchanged) => return Ok(Download::Unchanged),
        Ok(Pages::Read) => None,
        Err(problem) => Some(problem),
    };
    // What was not read whole has to be sent again.
    let entity_tag = reader.entity_tag.filter(|_| problem.is_none() && reader.spool.pages() == 1);
    Ok(Download::Read { spool: reader.spool, entity_tag, problem })
}

enum Pages {
    Unchanged,
    Read,
}

struct Reader<'a> {
    client: &'a GuardedClient,
    headers: &'a [(String, Redacted<String>)],
    limits: Limits,
    spool: Spool,
    begun: Instant,
    entity_tag: Option<String>,
}

impl Reader<'_> {
    async fn pages(&mut self, first: &Url, known: Option<&str>) -> Result<Pages, Problem> {
        let (mut url, mut seen) = (first.clone(), HashSet::new());
        for number in 1..=self.limits.pages {
            let place = Place(number);
            if !seen.insert(url.clone()) {
                return Err(Problem::Circle(place));
            }
            let known = known.filter(|_| number == 1);
            let response = self.answer(&url, known, place).await?;
            match response.status().as_u16() {
                200 => {}
                304 if known.is_some() => return Ok(Pages::Unchanged),
                status => return Err(Problem::Status { place, status }),
            }
            let next = next_page(response.headers(), &url, place)?;
            let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            self.entity_tag = tag.filter(|_| number == 1);
            self.page(response, place).await?;
            match next {
                Some(next) => url = next,
                None => return Ok(Pages::Read),
            }
        }
        Err(Problem::TooManyPages(self.limits.pages))
    }

    async fn answer(&self, url: &Url, known: Option<&str>, place: Place) -> Result<Response, Problem> {
        let mut headers = self.headers.to_vec();
        headers.push((ACCEPT_ENCODING.as_str().to_owned(), Redacted::new("gzip".to_owned())));
        headers.extend(known.map(|tag| (IF_NONE_MATCH.as_str().to_owned(), Redacted::new(tag.to_owned()))));
        let asked = self.client.get(url, headers);
        self.within(asked, place).await?.map_err(|unanswered| match unanswered {
            Unanswered::AddressRefused => Problem::AddressRefused,
            Unanswered::NoAnswer => Problem::NoAnswer(place),
        })
    }

    /// Reads a body to its end.
    async fn page(&mut self, mut response: Response, place: Place) -> Result<(), Problem> {
        let gzip = is_gzip(response.headers()).ok_or(Problem::Encoding(place))?;
        self.spool.begin(gzip);
        loop {
            match self.within(response.chunk(), place).await? {
                Ok(Some(chunk)) if self.spool.length().saturating_add(chunk.len() as u64) > self.limits.bytes => {
                    return Err(Problem::TooLarge(self.limits.bytes));
                }
                Ok(Some(chunk)) => tokio::task::block_in_place(|| self.spool.write(&chunk))?,
                Ok(None) => break,
                Err(_) => return Err(Problem::Cut(place)),
            }
        }
        self.spool.end();
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = T>, place: Place) -> Result<T, Problem> {
        let Limits { time, silence, .. } = self.limits;
        let left = time.saturating_sub(self.begun.elapsed());
        // An answer that is always ready would never see the timer, which is looked at after it.
        if left.is_zero() {
            return Err(Problem::TooSlow(time));
        }
        let late = |_| if left <= silence { Problem::TooSlow(time) } else { Problem::Silent { place, silence } };
        tokio::time::timeout(left.min(silence), work).await.map_err(late)
    }
}

/// Whether a body is packed; none if it is in a way that is not known. A file that is gzipped itself says so by its type.
fn is_gzip(headers: &HeaderMap) -> Option<bool> {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let type_ = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match encoding.map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"gzip" | b"x-gzip") => Some(true),
        None | Some(b"identity" | b"") => Some(matches!(type_, b"application/gzip" | b"application/x-gzip")),
        Some(_) => None,
    }
}

/// The page that a `Link` header with `rel="next"` names (RFC 8288), on the same server: it gets the same headers.
fn next_page(headers: &HeaderMap, url: &Url, place: Place) -> Result<Option<Url>, Problem> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.flat_map(links_of).find_map(|(target, next)| next.then_some(target)) else {
        return Ok(None);
    };
    let next = url.join(target).ok().filter(|next| next.origin() == url.origin());
    next.map(Some).ok_or(Problem::Elsewhere(place))
}

/// The targets of a header, each with whether it is the next page.
fn links_of(header: &str) -> impl Iterator<Item = (&str, bool)> {
    // Commas and semicolons may stand within a target, which ends at its bracket.
    header.split('<').skip(1).filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value.split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        Some((target, is_next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(link: &str) -> Result<Option<String>, String> {
        let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_str(link).unwrap())]);
        let url = Url::parse("https://shop.example/customers?page=1").unwrap();
        next_page(&headers, &url, Place(1)).map(|url| url.map(String::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_next_page_is_the_one_that_the_server_names_on_itself() {
        let second = || Ok(Some("https://shop.example/customers?page=2".to_owned()));
        for link in [
            "<https://shop.example/customers?page=2>; rel=\"next\"",
            "</customers?page=2>;rel=next",
            "<?page=2>; title=\"a\"; REL=\"prefetch NEXT\"",
            "</customers?page=9>; rel=last, <?page=2>; rel=next, </>; rel=first",
            "</customers?page=9>; rel=last , </customers?page=2>; rel=\"next\" , </>; rel=first",
        ] {
            assert_eq!(next(link), second(), "{link}");
        }
        assert_eq!(next("</a,b;c>; rel=next"), Ok(Some("https://shop.example/a,b;c".to_owned())));
        for link in ["</>; rel=last", "</>; title=next", "rel=next", "", "</>; rel=nextish"] {
            assert_eq!(next(link), Ok(None), "{link}");
        }
        for link in [
            "<https://other.example/>; rel=next",
            "<http://shop.example/>; rel=next",
            "<https://shop.example:444/>; rel=next",
        ] {
            assert!(
                next(link)
                    .is_err_and(|said| said.contains("the address names a next page that is not on the same server")),
                "{link}"
            );
        }
    }

    #[test]
    fn only_gzip_is_unpacked() {
        let of = |encoding: &'static str, type_: &'static str| {
            let headers = [(CONTENT_ENCODING, encoding), (CONTENT_TYPE, type_)];
            is_gzip(
                &headers
                    .into_iter()
                    .filter(|(_, v)| !v.is_empty())
                    .map(|(n, v)| (n, HeaderValue::from_static(v)))
                    .collect(),
            )
        };
        assert_eq!((of("GZIP", "text/csv"), of("", "application/gzip")), (Some(true), Some(true)));
        assert_eq!((of("", "text/csv"), of("identity", ""), of("br", "")), (Some(false), Some(false), None));
    }

    #[test]
    fn what_is_wrong_in_a_spec_names_its_field() {
        let of = |url: &str, value: &str| {
            let header = serde_json::json!({ "name": "X-Key", "value": value });
            let spec = serde_json::json!({ "url": url, "headers": [header] });
            problems(&serde_json::from_value(spec).unwrap()).iter().map(|e| e.field.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("https://shop.example/a", "plain"), Vec::<String>::new());
        assert_eq!(of("https://", "${$Name}"), ["spec.audience.http.url", "spec.audience.http.headers[0].value"]);
    }
}
