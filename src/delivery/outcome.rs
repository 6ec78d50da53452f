//! From what was seen on the connection to what it means. One pure function, [`read`].

use std::time::Duration;

use serde_json::Value;

use super::clevertap::{self, RecordResult};
use super::success::{NoSuccess, SuccessWhen};

/// What was seen of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Nothing of the body was sent.
    NotSent(NotSent),
    /// Something was sent, and no answer came.
    NoAnswer(NoAnswer),
    Answer(Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The host resolved to an address that webhooks may not reach, or a rehearsal does not name it.
    AddressRefused,
    /// Name resolution, TCP or TLS failed, or took too long.
    NotConnected,
    /// The process was held up after it wrote its intent, and dropped it.
    TooLate,
    /// The API server's answer to the intent was lost, so that nothing was sent.
    AnswerToIntentLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    TimedOut,
    ConnectionLost,
}

/// An answer's head, and as much of its body as is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Complete(Vec<u8>),
    /// It ended early, or took too long.
    Cut,
    /// More than is read of any answer.
    TooLarge,
}

/// What a request's end means for its records and for those who come after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of the records, unless `records` says it of each.
    pub verdict: Verdict,
    /// What became of each record, in the order in which they were sent; empty if the same became of all.
    pub records: Vec<RecordOutcome>,
    pub lesson: Lesson,
    pub http_status: Option<u16>,
    /// Why, in one word. A bounded set.
    pub reason: String,
    /// Why, for people. Never a body or an address.
    pub message: String,
}

/// What became of one record of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOutcome {
    pub verdict: Verdict,
    pub reason: String,
    pub message: String,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Refused for good.
    Rejected,
    /// Surely not applied: it may be sent again, not before so long.
    NotApplied {
        retry_after: Option<Duration>,
    },
    /// Surely not applied, since the request was too large or one of its records was refused: sent again in
    /// halves, until the one at fault stands alone.
    Divide,
    /// Nobody can know.
    Unknown,
}

/// What it teaches about the account, the credential and the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Credential and endpoint work.
    Proven,
    Nothing,
    /// The endpoint could not be reached, or did not answer as it should.
    Failed,
    /// The credential is refused: nothing more is sent with it.
    CredentialRefused,
    /// The endpoint is not what it should be: nothing more is sent to it.
    EndpointRefused,
    /// The address may not be reached.
    AddressRefused,
    /// Slower, please.
    Throttled {
        retry_after: Option<Duration>,
    },
}

/// How answers are read.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerFormat {
    /// CleverTap's answer says of each record what became of it.
    CleverTap,
    /// A 2xx is success, if the expression, where there is one, says so of it.
    HttpStatus { success_when: Option<SuccessWhen> },
}

/// The records of a request.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// How many there were.
    pub count: usize,
    /// The records themselves, where the answer is read beside them.
    pub records: &'a [Value],
}

/// Reads what was seen of a request.
#[must_use]
pub fn read(format: &AnswerFormat, sent: Sent<'_>, seen: &Observation) -> Outcome {
    match seen {
        Observation::NotSent(why) => not_sent(*why),
        Observation::NoAnswer(why) => no_answer(*why),
        Observation::Answer(answer) => match answer.status {
            200..=299 => success(format, sent.records, answer),
            status => refusal(format, sent.count, status, answer.retry_after),
        },
    }
}

/// The outcome of a request of which nothing was sent.
#[must_use]
pub fn not_sent(why: NotSent) -> Outcome {
    let (lesson, reason, message) = match why {
        NotSent::AddressRefused => (
            Lesson::AddressRefused,
            "AddressRefused",
            "the url's host has no public address, or a rehearsal does not name it with --connect-to",
        ),
        NotSent::NotConnected => (Lesson::Failed, "NotConnected", "no connection could be made, so nothing was sent"),
        NotSent::AnswerToIntentLost => {
            (Lesson::Nothing, "NotSent", "the API server's answer to the intent was lost, and nothing was sent")
        }
        NotSent::TooLate => {
            (Lesson::Nothing, "NotSent", "the operator was held up after it wrote its intent, and sent nothing")
        }
    };
    Outcome::new(Verdict::NotApplied { retry_after: None }, lesson, None, reason, message)
}

fn no_answer(why: NoAnswer) -> Outcome {
    let (reason, message) = match why {
        NoAnswer::TimedOut => ("TimedOut", "no answer came within timeoutSeconds after the request was sent"),
        NoAnswer::ConnectionLost => ("ConnectionLost", "the connection broke after the request was sent"),
    };
    Outcome::new(Verdict::Unknown, Lesson::Failed, None, reason, message)
}

fn success(format: &AnswerFormat, sent: &[Value], answer: &Answer) -> Outcome {
    match format {
        AnswerFormat::HttpStatus { success_when } => judged(success_when.as_ref(), answer),
        AnswerFormat::CleverTap => by_record(sent, answer),
    }
}

fn not_understood(status: u16, message: &str) -> Outcome {
    Outcome::new(Verdict::Unknown, Lesson::Failed, Some(status), "AnswerNotUnderstood", message)
}

fn judged(success_when: Option<&SuccessWhen>, answer: &Answer) -> Outcome {
    match success_when.map_or(Ok(()), |success_when| success_when.check(answer)) {
        Ok(()) => Outcome::new(Verdict::Accepted, Lesson::Proven, Some(answer.status), "Accepted", ""),
        // Of several records nobody can tell whether some were applied, so they are not sent again in halves.
        Err(refused @ NoSuccess::False(_)) => {
            Outcome::new(Verdict::Rejected, Lesson::Proven, Some(answer.status), "NotSuccessful", &refused.to_string())
        }
        Err(open) => not_understood(answer.status, &open.to_string()),
    }
}

fn by_record(sent: &[Value], answer: &Answer) -> Outcome {
    let unknown = |message: &str| not_understood(answer.status, message);
    let body = match &answer.body {
        Body::Complete(body) => body,
        Body::Cut => return unknown("the answer was cut short, or its end took too long"),
        Body::TooLarge => return unknown("the answer is larger than any that CleverTap gives"),
    };
    match clevertap::read_answer(body, sent) {
        Ok(results) => of_each(results, answer.status).unwrap_or_else(|| unknown("no record was sent")),
        Err(error) => unknown(&error.to_string()),
    }
}

/// One outcome of what became of each record; none if there is no record.
fn of_each(results: Vec<RecordResult>, status: u16) -> Option<Outcome> {
    let mut records: Vec<RecordOutcome> = results.into_iter().map(record).collect();
    let all = records.len();
    let refused = records.iter().filter(|r| r.verdict != Verdict::Accepted).count();
    let first = if all == 1 || refused == 0 { records.pop()? } else { return Some(partly(records, refused, status)) };
    Some(Outcome::new(first.verdict, Lesson::Proven, Some(status), &first.reason, &first.message))
}

fn partly(records: Vec<RecordOutcome>, refused: usize, status: u16) -> Outcome {
    let message = format!("{refused} of {} records were not accepted", records.len());
    let verdict = if refused < records.len() { Verdict::Accepted } else { Verdict::Rejected };
    let outcome = Outcome::new(verdict, Lesson::Proven, Some(status), "PartlyAccepted", &message);
    Outcome { records, ..outcome }
}

fn record(result: RecordResult) -> RecordOutcome {
    let (verdict, code, error) = match result {
        RecordResult::Accepted => {
            return RecordOutcome { verdict: Verdict::Accepted, reason: "Accepted".to_owned(), message: String::new() };
        }
        RecordResult::Rejected { code, error } => (Verdict::Rejected, code, error),
        RecordResult::NotApplied { code, error } => (Verdict::NotApplied { retry_after: None }, code, error),
    };
    // CleverTap's own words, cut to a bounded length. They do not echo headers.
    let said: String = error.chars().filter(|c| !c.is_control()).take(256).collect();
    let message = format!("CleverTap refused the record with code {code}: {said}");
    RecordOutcome { verdict, reason: format!("CleverTap{code}"), message }
}

fn refusal(format: &AnswerFormat, count: usize, status: u16, retry_after: Option<Duration>) -> Outcome {
    let not_applied = Verdict::NotApplied { retry_after };
    let (verdict, lesson, reason, message) = match status {
        401 | 403 => (
            Verdict::NotApplied { retry_after: None },
            Lesson::CredentialRefused,
            "CredentialsRejected",
            credentials_message(format, status),
        ),
        429 => (
            not_applied,
            Lesson::Throttled { retry_after },
            "Throttled",
            "too many requests: the pace is lowered".to_owned(),
        ),
        408 | 425 => (not_applied, Lesson::Nothing, "RetryAsked", format!("HTTP {status} asks to send it again")),
        300..=399 | 404 | 405 | 407 | 410 | 415 => (
            Verdict::NotApplied { retry_after: None },
            Lesson::EndpointRefused,
            "EndpointRejected",
            format!("HTTP {status}: correct the Webhook's url, method or headers (redirects are never followed)"),
        ),
        400..=499 if count > 1 => (
            Verdict::Divide,
            Lesson::Proven,
            if status == 413 { "TooLarge" } else { "Rejected" },
            format!("HTTP {status} for {count} records: they are sent again in halves"),
        ),
        400..=499 => (
            Verdict::Rejected,
            Lesson::Proven,
            "Rejected",
            format!("HTTP {status}: the endpoint refuses this record for good"),
        ),
        _ => (
            Verdict::Unknown,
            Lesson::Failed,
            "ServerError",
            format!("HTTP {status}: nobody can know whether the record was applied"),
        ),
    };
    Outcome::new(verdict, lesson, Some(status), reason, &message)
}

fn credentials_message(format: &AnswerFormat, status: u16) -> String {
    match format {
        AnswerFormat::CleverTap => format!(
            "HTTP {status}: CleverTap refuses the credentials or region. Compare account id, passcode and the url's region with CleverTap's dashboard (Settings > Project), and correct the Secret or the url"
        ),
        AnswerFormat::HttpStatus { .. } => {
            format!(
                "HTTP {status}: the endpoint refuses the credentials. Correct the Secret that the Webhook's headers come from"
            )
        }
    }
}

impl Outcome {
    fn new(verdict: Verdict, lesson: Lesson, http_status: Option<u16>, reason: &str, message: &str) -> Self {
        Self {
            verdict,
            records: Vec::new(),
            lesson,
            http_status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RETRY: Verdict = Verdict::NotApplied { retry_after: None };

    fn answer(status: u16, body: Body) -> Observation {
        Observation::Answer(Answer { status, retry_after: None, body })
    }

    const PLAIN: AnswerFormat = AnswerFormat::HttpStatus { success_when: None };

    fn read_with(format: &AnswerFormat, seen: &Observation) -> (Verdict, Lesson) {
        let outcome = read(format, Sent { count: 1, records: &[json!({ "identity": "c1" })] }, seen);
        (outcome.verdict, outcome.lesson)
    }

    #[test]
    fn i5_only_what_was_surely_not_applied_is_certain_to_be_sent_again() {
        use Lesson::{AddressRefused, CredentialRefused, EndpointRefused, Failed, Nothing, Proven, Throttled};
        let empty = || Body::Complete(Vec::new());
        let slow = Throttled { retry_after: None };
        for (seen, expected) in [
            (Observation::NotSent(NotSent::NotConnected), (RETRY, Failed)),
            (Observation::NotSent(NotSent::TooLate), (RETRY, Nothing)),
            (Observation::NotSent(NotSent::AddressRefused), (RETRY, AddressRefused)),
            (Observation::NoAnswer(NoAnswer::TimedOut), (Verdict::Unknown, Failed)),
            (Observation::NoAnswer(NoAnswer::ConnectionLost), (Verdict::Unknown, Failed)),
            (answer(302, empty()), (RETRY, EndpointRefused)),
            (answer(400, empty()), (Verdict::Rejected, Proven)),
            (answer(401, empty()), (RETRY, CredentialRefused)),
            (answer(403, empty()), (RETRY, CredentialRefused)),
            (answer(404, empty()), (RETRY, EndpointRefused)),
            (answer(405, empty()), (RETRY, EndpointRefused)),
            (answer(408, empty()), (RETRY, Nothing)),
            (answer(409, empty()), (Verdict::Rejected, Proven)),
            (answer(410, empty()), (RETRY, EndpointRefused)),
            (answer(413, empty()), (Verdict::Rejected, Proven)),
            (answer(415, empty()), (RETRY, EndpointRefused)),
            (answer(425, empty()), (RETRY, Nothing)),
            (answer(429, empty()), (RETRY, slow)),
            (answer(500, empty()), (Verdict::Unknown, Failed)),
            (answer(503, empty()), (Verdict::Unknown, Failed)),
            (answer(101, empty()), (Verdict::Unknown, Failed)),
        ] {
            for format in [AnswerFormat::CleverTap, PLAIN] {
                assert_eq!(read_with(&format, &seen), expected, "{seen:?}");
            }
        }
    }

    /// The table of docs/delivery.md, for every status that there can be.
    #[test]
    fn i5_every_status_has_its_class() {
        let pauses = [404, 405, 407, 410, 415];
        for status in 100..=999 {
            let expected = match status {
                200..=299 => (Verdict::Accepted, Lesson::Proven),
                300..=399 => (RETRY, Lesson::EndpointRefused),
                _ if pauses.contains(&status) => (RETRY, Lesson::EndpointRefused),
                401 | 403 => (RETRY, Lesson::CredentialRefused),
                408 | 425 => (RETRY, Lesson::Nothing),
                429 => (RETRY, Lesson::Throttled { retry_after: None }),
                400..=499 => (Verdict::Rejected, Lesson::Proven),
                _ => (Verdict::Unknown, Lesson::Failed),
            };
            assert_eq!(read_with(&PLAIN, &answer(status, Body::Cut)), expected, "{status}");
        }
        let slow = Some(Duration::from_secs(7));
        for status in [408, 425, 429] {
            let seen = Observation::Answer(Answer { status, retry_after: slow, body: Body::Cut });
            let outcome = read(&PLAIN, Sent { count: 1, records: &[] }, &seen);
            assert_eq!(outcome.verdict, Verdict::NotApplied { retry_after: slow }, "{status} honours Retry-After");
        }
    }

    #[test]
    fn a_2xx_means_what_the_response_format_says() {
        let body = |text: &str| answer(200, Body::Complete(text.as_bytes().to_vec()));
        let accepted = (Verdict::Accepted, Lesson::Proven);
        let unknown = (Verdict::Unknown, Lesson::Failed);
        for (seen, clevertap) in [
            (body(r#"{"status":"success","processed":1,"unprocessed":[]}"#), accepted),
            (
                body(r#"{"status":"fail","processed":0,"unprocessed":[{"code":512,"error":""}]}"#),
                (Verdict::Rejected, Lesson::Proven),
            ),
            (
                body(r#"{"status":"fail","processed":0,"unprocessed":[{"code":555,"error":""}]}"#),
                (RETRY, Lesson::Proven),
            ),
            (body("<html>"), unknown),
            (answer(200, Body::Cut), unknown),
            (answer(200, Body::TooLarge), unknown),
        ] {
            assert_eq!(read_with(&AnswerFormat::CleverTap, &seen), clevertap, "{seen:?}");
            assert_eq!(read_with(&PLAIN, &seen), accepted, "{seen:?}");
        }
    }

    #[test]
    fn with_success_when_a_2xx_may_be_a_refusal_or_leave_it_open() {
        let success_when = SuccessWhen::compile("response.body.ok").ok();
        assert!(success_when.is_some());
        let format = AnswerFormat::HttpStatus { success_when };
        let of = |body| {
            let outcome = read(&format, Sent { count: 2, records: &[] }, &answer(200, body));
            (outcome.verdict, outcome.lesson, outcome.reason)
        };
        let body = |text: &str| Body::Complete(text.as_bytes().to_vec());
        assert_eq!(of(body(r#"{"ok":true}"#)), (Verdict::Accepted, Lesson::Proven, "Accepted".into()));
        assert_eq!(of(body(r#"{"ok":false}"#)), (Verdict::Rejected, Lesson::Proven, "NotSuccessful".into()));
        let open = || (Verdict::Unknown, Lesson::Failed, "AnswerNotUnderstood".into());
        for left_open in [body("{}"), body("<html>"), Body::Cut, Body::TooLarge] {
            assert_eq!(of(left_open), open());
        }
    }

    #[test]
    fn a_wrong_passcode_is_called_credentials_or_region() {
        let outcome = read(&AnswerFormat::CleverTap, Sent { count: 1, records: &[] }, &answer(401, Body::Cut));
        assert!(outcome.message.contains("credentials or region"), "{}", outcome.message);
    }

    /// What CleverTap says of five records, of which those with these numbers failed.
    fn of_five(failed: &[(usize, i64)]) -> Outcome {
        let sent: Vec<Value> = (1..=5).map(|i| json!({ "identity": format!("c{i}") })).collect();
        let unprocessed = failed.iter().map(|(number, code)| {
            json!({ "code": code, "error": format!("no\u{1b}[31m\n good. Skipped record number : {number}") })
        });
        let body = json!({ "status": "partial", "processed": 5 - failed.len(),
            "unprocessed": unprocessed.collect::<Vec<_>>() });
        let seen = answer(200, Body::Complete(body.to_string().into_bytes()));
        read(&AnswerFormat::CleverTap, Sent { count: 5, records: &sent }, &seen)
    }

    #[test]
    fn one_bad_record_fails_itself_only() {
        let outcome = of_five(&[(2, 512), (4, 555)]);
        let verdicts: Vec<Verdict> = outcome.records.iter().map(|r| r.verdict).collect();
        assert_eq!(verdicts, [Verdict::Accepted, Verdict::Rejected, Verdict::Accepted, RETRY, Verdict::Accepted]);
        assert_eq!(outcome.records[1].reason, "CleverTap512");
        let said = "CleverTap refused the record with code 512: no[31m good. Skipped record number : 2";
        assert_eq!(outcome.records[1].message, said, "without what would move a terminal's cursor");
        assert_eq!((outcome.lesson, outcome.message.as_str()), (Lesson::Proven, "2 of 5 records were not accepted"));
        assert_eq!(outcome.verdict, Verdict::Accepted);
        let all = of_five(&[(1, 512), (2, 512), (3, 512), (4, 512), (5, 512)]);
        assert_eq!((all.verdict, all.records.len()), (Verdict::Rejected, 5));
        let none = of_five(&[]);
        assert_eq!((none.verdict, none.records.len(), none.reason.as_str()), (Verdict::Accepted, 0, "Accepted"));
    }

    #[test]
    fn a_refused_request_of_several_records_is_sent_again_in_halves() {
        let sent = Sent { count: 2, records: &[] };
        for status in [400, 409, 413, 422, 451] {
            let outcome = read(&PLAIN, sent, &answer(status, Body::Complete(Vec::new())));
            assert_eq!((outcome.verdict, outcome.lesson), (Verdict::Divide, Lesson::Proven), "{status}");
            let reason = if status == 413 { "TooLarge" } else { "Rejected" };
            assert_eq!(outcome.reason, reason, "{status}");
        }
        for status in [302, 401, 404, 408, 415, 429, 500] {
            let outcome = read(&PLAIN, sent, &answer(status, Body::Complete(Vec::new())));
            assert_ne!(outcome.verdict, Verdict::Divide, "{status}");
        }
    }
}
