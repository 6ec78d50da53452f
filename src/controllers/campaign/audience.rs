//! Reads an audience that is not written in its Campaign, when it is time to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use url::Url;

use super::fetch::Fetched;
use super::reopen;
use super::validate::Validated;
use crate::api::campaign::{Audience, AudienceFormat, ConfigMapAudience, HttpAudience, Profile};
use crate::api::conditions::reason;
use crate::audience::http::{self, Download};
use crate::audience::spool::{Bounds, Spool, Spooled};
use crate::audience::{Excluded, Reading, Source, format};
use crate::controllers::context::{Context, KnownAudience};
use crate::controllers::error::{Error, bounded};
use crate::controllers::webhook;
use crate::controllers::webhook::validate::{FoundValue, Invalid, Reference, joined};
use crate::delivery::endpoint::ResolvedHeader;
use crate::delivery::secret::Redacted;

/// What is wrong with an audience may be put right sooner than it is looked at again otherwise.
const MENDED: Duration = Duration::from_secs(30);

/// More is no audience, but a mistake.
const BOUNDS: Bounds = Bounds { bytes: 8 << 30, records: 10_000_000 };

/// Sees the audience as it is now, where it is not written in the Campaign: what was read not long ago, or what is read.
/// While nobody can be issued to, there is none.
pub async fn look(fetched: &mut Fetched, validated: &Validated, context: &Context) -> Result<(), Error> {
    let audience = &fetched.campaign.spec.audience;
    if audience.profiles.is_some() && audience.exclude_config_map_ref.is_none() {
        return Ok(());
    }
    if !is_wanted(fetched, validated) {
        // A file of a million customers is given back.
        context.campaigns.update(&fetched.namespace, &fetched.name, |memory| memory.audience = None);
        return Ok(());
    }
    let known = context.campaigns.get(&fetched.namespace, &fetched.name).audience;
    if let Some(known) = known.as_ref().filter(|known| !is_old(fetched, known)) {
        (fetched.reading, fetched.excluded) = (known.reading.clone(), known.excluded.clone());
        return Ok(());
    }
    let (since, at) = (Instant::now(), fetched.now);
    let before = known.as_ref().and_then(|known| known.reading.clone());
    let (reading, excluded) = match excluded(audience, &fetched.namespace, context).await? {
        Ok(excluded) => (read(audience, validated, before, &fetched.namespace, context).await?, Arc::new(excluded)),
        // Whoever it names may be anybody.
        Err((reason, message)) => (Some(Arc::new(nobody(reason, message))), Arc::default()),
    };
    let (found, without) = (reading.clone(), excluded.clone());
    context.campaigns.update(&fetched.namespace, &fetched.name, |memory| {
        memory.audience = Some(KnownAudience { since, at, reading: found, excluded: without });
    });
    if known.is_some_and(|known| known.reading != reading || known.excluded != excluded) {
        // A pass over what it was says nothing of what it is.
        fetched.memory.since_pass = None;
    }
    (fetched.reading, fetched.excluded) = (reading, excluded);
    Ok(())
}

/// Reads an audience; none if it is written in the Campaign.
async fn read(
    audience: &Audience,
    validated: &Validated,
    before: Option<Arc<Reading>>,
    namespace: &str,
    context: &Context,
) -> Result<Option<Arc<Reading>>, Error> {
    let place = "spec.audience.configMapRef";
    Ok(match (&audience.config_map_ref, &audience.http) {
        (Some(source), _) => Some(Arc::new(of_config_map(place, source, namespace, context).await?)),
        (None, Some(source)) => Some(of_http(source, &attributes(validated), before, namespace, context).await?),
        (None, None) => None,
    })
}

/// Who never gets anything, or why nobody knows: reason and message.
async fn excluded(
    audience: &Audience,
    namespace: &str,
    context: &Context,
) -> Result<Result<Excluded, (&'static str, String)>, Error> {
    let Some(source) = &audience.exclude_config_map_ref else { return Ok(Ok(Excluded::default())) };
    let reading = of_config_map("spec.audience.excludeConfigMapRef", source, namespace, context).await?;
    Ok(match (reading.problem, reading.profiles) {
        (Some((reason, message)), _) => {
            Err((reason, format!("{message}. While it is not known who is excluded, nobody is issued to")))
        }
        (None, Source::Held(profiles)) => Ok(profiles.into_iter().collect()),
        (None, Source::Spooled(_)) => Ok(Excluded::default()),
    })
}

/// How long to sleep at most, so that the audience is looked at again in time.
pub fn sleep(fetched: &Fetched, longest: Duration) -> Duration {
    let audience = &fetched.campaign.spec.audience;
    let is_read = fetched.reading.is_some() || audience.exclude_config_map_ref.is_some();
    if is_read { longest.min(interval(fetched, fetched.reading.as_deref())) } else { longest }
}

fn interval(fetched: &Fetched, reading: Option<&Reading>) -> Duration {
    let poll = fetched.memory.audience_poll;
    if reading.is_some_and(|reading| reading.problem.is_some()) { poll.min(MENDED) } else { poll }
}

/// True if somebody may be issued to. When anniversaries are, only the audience says.
fn is_wanted(fetched: &Fetched, validated: &Validated) -> bool {
    let open = |now| validated.timings.iter().any(|(_, timing)| timing.open_at(now).is_some());
    let by_date = validated.timings.iter().any(|(_, timing)| timing.anniversary().is_some());
    let reopened = reopen::annotation(&fetched.campaign).is_some();
    by_date || (!fetched.campaign.spec.suspend && (open(fetched.now) || reopened))
}

/// It is looked at again after a while, and when a window may have opened since.
fn is_old(fetched: &Fetched, known: &KnownAudience) -> bool {
    let passed = |boundary| known.at < boundary && boundary <= fetched.now;
    fetched.memory.boundary.is_some_and(passed) || known.since.elapsed() >= interval(fetched, known.reading.as_deref())
}

async fn of_config_map(
    field: &str,
    source: &ConfigMapAudience,
    namespace: &str,
    context: &Context,
) -> Result<Reading, Error> {
    let ConfigMapAudience { name, key, format } = source;
    let nobody = |reason, what: String| nobody(reason, format!("{field}: {what}"));
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let Some(map) = bounded(api.get_opt(name)).await? else {
        let what = format!("ConfigMap {name} does not exist in this namespace: create it with the key {key}");
        return Ok(nobody(reason::CONFIG_MAP_NOT_FOUND, what));
    };
    let text = map.data.unwrap_or_default().remove(key).map(String::into_bytes);
    let Some(bytes) = text.or_else(|| map.binary_data.unwrap_or_default().remove(key).map(|bytes| bytes.0)) else {
        let what = format!("ConfigMap {name} has no key {key}: add it, or correct the key's name here");
        return Ok(nobody(reason::CONFIG_MAP_KEY_NOT_FOUND, what));
    };
    let place = format!("{field}: key {key} of ConfigMap {name}");
    Ok(tokio::task::block_in_place(|| of_bytes(bytes, *format, &place)))
}

fn nobody(reason: &'static str, message: String) -> Reading {
    Reading { problem: Some((reason, message)), ..Reading::default() }
}

/// The attributes whose dates rules go by.
fn attributes(validated: &Validated) -> BTreeSet<String> {
    let calendars = validated.timings.iter().filter_map(|(_, timing)| timing.anniversary());
    calendars.map(|calendar| calendar.attribute().to_owned()).collect()
}

async fn of_http(
    source: &HttpAudience,
    attributes: &BTreeSet<String>,
    before: Option<Arc<Reading>>,
    namespace: &str,
    context: &Context,
) -> Result<Arc<Reading>, Error> {
    let problems = http::problems(source);
    let Some(url) = Url::parse(&source.url).ok().filter(|_| problems.is_empty()) else {
        return Ok(Arc::new(nobody(reason::INVALID, joined(&problems))));
    };
    let values = webhook::fetch::values(&source.headers, namespace, &context.client).await?;
    let headers = match headers(source, &values) {
        Ok(headers) => headers,
        Err((reason, message)) => return Ok(Arc::new(nobody(reason, message))),
    };
    let known = before.as_ref().and_then(|before| before.entity_tag.as_deref());
    let limits = http::Limits::default();
    let download = http::read(&context.http, &url, &headers, known, limits).await;
    match (download.map_err(|error| Error::Audience(error.to_string()))?, before) {
        (Download::Unchanged, Some(before)) => Ok(before),
        // It is asked for only with what it is compared to.
        (Download::Unchanged, None) => Err(Error::Audience("there is nothing that it could be unchanged from".into())),
        (Download::Read { spool, entity_tag, problem }, _) => {
            let (format, attributes) = (source.format, attributes.clone());
            let look = move || of_spool(spool, format, &attributes, entity_tag, problem);
            let looked = tokio::task::spawn_blocking(look).await;
            looked.map(Arc::new).map_err(|error| Error::Audience(error.to_string()))
        }
    }
}

type Headers = Vec<(String, Redacted<String>)>;

fn headers(source: &HttpAudience, values: &BTreeMap<Reference, FoundValue>) -> Result<Headers, (&'static str, String)> {
    let written = source.headers.iter().filter_map(|h| Some((h.name.clone(), Redacted::new(h.value.clone()?))));
    match webhook::validate::resolved("spec.audience.http", &source.headers, values) {
        Ok(resolved) => Ok(written.chain(resolved.into_iter().map(ResolvedHeader::into_pair)).collect()),
        Err(Invalid::Reference { reason, message }) => Err((reason, message)),
        Err(Invalid::Spec(errors)) => Err((reason::INVALID, joined(&errors))),
    }
}

fn of_spool(
    spool: Spool,
    format: AudienceFormat,
    attributes: &BTreeSet<String>,
    entity_tag: Option<String>,
    problem: Option<http::Problem>,
) -> Reading {
    let (spooled, flaw) = Spooled::of(spool, format, BOUNDS, attributes);
    let said = flaw.map(|flaw| flaw.without_data(spooled.pages())).or_else(|| problem.map(|p| p.to_string()));
    let (count, entity_tag) = (spooled.count(), entity_tag.filter(|_| said.is_none()));
    let message =
        |said| format!("spec.audience.http: {said}. The {count} before it are issued to; the rest are not known");
    let problem = said.map(|said| (reason::AUDIENCE_INCOMPLETE, message(said)));
    Reading { profiles: Source::Spooled(spooled), problem, entity_tag }
}

/// Those before an error are read; it says how many.
fn of_bytes(bytes: Vec<u8>, format: AudienceFormat, place: &str) -> Reading {
    let mut read: Vec<Profile> = Vec::new();
    let result = format::profiles(format, std::io::Cursor::new(bytes))
        .and_then(|profiles| profiles.into_iter().try_for_each(|profile| profile.map(|profile| read.push(profile))));
    let problem = result.err().map(|error| {
        let (said, count) = (error.without_data(), read.len());
        let message = format!("{place}: {said}. The {count} before it are issued to; the rest are not known");
        (reason::AUDIENCE_INCOMPLETE, message)
    });
    Reading { profiles: Source::Held(read), problem, entity_tag: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(reading: &Reading) -> &[Profile] {
        reading.profiles.of_dates()
    }

    #[test]
    fn what_was_read_before_an_error_counts_and_the_rest_is_said_to_be_missing() {
        let text = b"integrationId,tier\nada,gold\ngrace\n".to_vec();
        let reading = of_bytes(text, AudienceFormat::Csv, "spec.audience.configMapRef: key k of ConfigMap m");
        assert_eq!(held(&reading).len(), 1);
        let (reason, message) = reading.problem.unwrap();
        assert_eq!(reason, reason::AUDIENCE_INCOMPLETE);
        assert!(
            message.starts_with("spec.audience.configMapRef: key k of ConfigMap m: line 3: is no row of CSV"),
            "{message}"
        );
        assert!(message.ends_with("The 1 before it are issued to; the rest are not known"), "{message}");
        let whole = of_bytes(b"[{\"integrationId\":\"a\"}]".to_vec(), AudienceFormat::Json, "");
        assert_eq!((held(&whole).len(), whole.problem), (1, None));
    }
}
