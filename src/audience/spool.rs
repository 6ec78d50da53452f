//! What was read from a web address, in a file without a name: a million customers take no memory, and each rule of a
//! campaign sees the same ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::format::{self, FormatError};
use crate::api::campaign::{AudienceFormat, Profile};
use crate::issuing::recipient::{RecipientDigest, digest};
use crate::schedule::MonthDay;

/// Pages as they were sent, one after the other. The file is gone with the last who reads it.
#[derive(Debug)]
pub struct Spool {
    file: File,
    pages: Vec<Page>,
    length: u64,
    content: Sha256,
}

/// One answer's body.
#[derive(Clone, Copy, Debug)]
struct Page {
    start: u64,
    end: u64,
    gzip: bool,
    /// False if the connection ended before the body did.
    whole: bool,
}

impl Spool {
    /// An empty one, in the operating system's folder for temporary files.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, pages: Vec::new(), length: 0, content: Sha256::new() })
    }

    /// Begins the next page.
    pub fn begin(&mut self, gzip: bool) {
        self.pages.push(Page { start: self.length, end: self.length, gzip, whole: false });
    }

    /// Adds to the page that was begun last.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        (&self.file).write_all(chunk)?;
        self.content.update(chunk);
        self.length = self.length.saturating_add(chunk.len() as u64);
        if let Some(page) = self.pages.last_mut() {
            page.end = self.length;
        }
        Ok(())
    }

    /// The page that was begun last is all there.
    pub fn end(&mut self) {
        self.content.update([0]);
        if let Some(page) = self.pages.last_mut() {
            page.whole = true;
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many pages were begun.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}

/// How much of an audience is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, once they are unpacked.
    pub bytes: u64,
    pub records: u64,
}

/// Profiles in a spool that were looked at once.
#[derive(Clone, Debug)]
pub struct Spooled {
    spool: Arc<Spool>,
    format: AudienceFormat,
    bounds: Bounds,
    content: [u8; 32],
    count: u64,
    repeated: usize,
    of_dates: Vec<Profile>,
}

/// Two that hold the same.
impl PartialEq for Spooled {
    fn eq(&self, other: &Self) -> bool {
        (self.content, self.count, self.format) == (other.content, other.count, other.format)
    }
}

/// Why not all pages could be read.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    #[error("page {page}: {error}")]
    Format { page: usize, error: FormatError },
    #[error("has more than {0} customers")]
    TooMany(u64),
}

impl Flaw {
    /// What status may say of it.
    #[must_use]
    pub fn without_data(&self, pages: usize) -> String {
        match self {
            Self::Format { error, .. } if pages <= 1 => error.without_data(),
            Self::Format { page, error } => format!("page {page}: {}", error.without_data()),
            Self::TooMany(_) => format!("{self}: make several campaigns of it"),
        }
    }
}

impl Spooled {
    /// Looks at everybody once. `attributes` are those whose dates rules go by.
    #[must_use]
    pub fn of(
        spool: Spool,
        format: AudienceFormat,
        bounds: Bounds,
        attributes: &BTreeSet<String>,
    ) -> (Self, Option<Flaw>) {
        let content = spool.content.clone().finalize().into();
        let (spool, of_dates) = (Arc::new(spool), Vec::new());
        let mut spooled = Self { spool, format, bounds, content, count: 0, repeated: 0, of_dates };
        let flaw = spooled.look(attributes);
        (spooled, flaw)
    }

    fn look(&mut self, attributes: &BTreeSet<String>) -> Option<Flaw> {
        let mut seen: HashSet<RecipientDigest> = HashSet::new();
        let mut dates: BTreeSet<(&String, MonthDay)> = BTreeSet::new();
        for profile in self.profiles() {
            let profile = match profile {
                Ok(_) if self.count >= self.bounds.records => return Some(Flaw::TooMany(self.bounds.records)),
                Ok(profile) => profile,
                Err(flaw) => return Some(flaw),
            };
            self.count = self.count.saturating_add(1);
            self.repeated = self.repeated.saturating_add(usize::from(!seen.insert(digest(&profile.integration_id))));
            for name in attributes {
                let text = profile.attributes.get(name).and_then(serde_json::Value::as_str);
                let Some((text, date)) = text.and_then(|text| Some((text, MonthDay::parse(text)?))) else { continue };
                if dates.insert((name, date)) {
                    let attributes = BTreeMap::from([(name.clone(), text.into())]);
                    // Several of these may stand for one person: each is somebody else here.
                    let integration_id = format!("{name}:{text}");
                    self.of_dates.push(Profile { integration_id, attributes });
                }
            }
        }
        None
    }

    /// Everybody, page by page.
    fn profiles(&self) -> impl Iterator<Item = Result<Profile, Flaw>> + Send + use<> {
        let (spool, format, bytes) = (self.spool.clone(), self.format, self.bounds.bytes);
        let pages = spool.pages.clone().into_iter().enumerate();
        pages.flat_map(move |(i, page)| {
            let flaw = move |error| Flaw::Format { page: i.saturating_add(1), error };
            of_page(&spool, page, format, bytes).map(move |profile| profile.map_err(flaw))
        })
    }

    /// Those who could be read, so many at a time.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Result<Vec<Profile>, FormatError>> + Send + use<> {
        let mut left = self.profiles().take(usize::try_from(self.count).unwrap_or(usize::MAX));
        std::iter::from_fn(move || {
            let batch: Result<Vec<Profile>, Flaw> = left.by_ref().take(size.max(1)).collect();
            match batch {
                Ok(batch) => (!batch.is_empty()).then_some(Ok(batch)),
                Err(Flaw::Format { error, .. }) => Some(Err(error)),
                Err(Flaw::TooMany(_)) => None,
            }
        })
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn repeated(&self) -> usize {
        self.repeated
    }

    /// Somebody of each date that a rule goes by.
    #[must_use]
    pub fn of_dates(&self) -> &[Profile] {
        &self.of_dates
    }

    /// How many pages there are.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.spool.pages()
    }
}

type Profiles = Box<dyn Iterator<Item = Result<Profile, FormatError>> + Send>;

fn of_page(spool: &Arc<Spool>, page: Page, format: AudienceFormat, bytes: u64) -> Profiles {
    let section = Section { spool: spool.clone(), at: page.start, end: page.end };
    let source: Box<dyn Read + Send> =
        if page.gzip { Box::new(MultiGzDecoder::new(section)) } else { Box::new(section) };
    match format::profiles(format, Bounded { source, left: bytes }) {
        Ok(profiles) if page.whole => profiles,
        Ok(profiles) => Box::new(but_the_last(profiles)),
        // What came of it is too little to be read: that it was cut off is said anyway.
        Err(_) if !page.whole => Box::new(std::iter::empty()),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

/// Of a page that was cut off, what stands before the cut is not known to be whole: half an id is another one's. What
/// cannot be read there is no error of the page.
fn but_the_last(profiles: format::Profiles) -> impl Iterator<Item = Result<Profile, FormatError>> + Send {
    let mut profiles = profiles.map_while(Result::ok);
    let mut held = profiles.next();
    std::iter::from_fn(move || {
        let next = profiles.next()?;
        held.replace(next).map(Ok)
    })
}

/// A part of a file, read independently of others who read it.
struct Section {
    spool: Arc<Spool>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.spool.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

/// A few packed bytes may unpack to many.
struct Bounded {
    source: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("it unpacks to more bytes than an audience may have")),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, records: 1000 };

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Pages, each whether it is packed, its bytes, and whether it came to its end.
    fn spooled(pages: &[(bool, &[u8], bool)], format: AudienceFormat, bounds: Bounds) -> (Spooled, Option<Flaw>) {
        let mut spool = Spool::new().unwrap();
        for (gzip, bytes, whole) in pages {
            spool.begin(*gzip);
            bytes.chunks(7).for_each(|chunk| spool.write(chunk).unwrap());
            if *whole {
                spool.end();
            }
        }
        Spooled::of(spool, format, bounds, &BTreeSet::from(["birthday".to_owned()]))
    }

    fn ids(spooled: &Spooled, size: usize) -> Vec<String> {
        spooled.batches(size).flat_map(|batch| batch.unwrap()).map(|p| p.integration_id).collect()
    }

    #[test]
    fn pages_packed_or_not_are_one_audience_and_can_be_read_again_and_side_by_side() {
        let [one, two] = ["a\nb\n", "c\na\n"].map(|rows| format!("integrationId\n{rows}"));
        let pages: [(bool, &[u8], bool); 2] = [(true, &packed(&one), true), (false, two.as_bytes(), true)];
        let (audience, flaw) = spooled(&pages, AudienceFormat::Csv, BOUNDS);
        assert!(flaw.is_none());
        assert_eq!((audience.count(), audience.repeated(), audience.pages()), (4, 1, 2));
        for size in [1, 3, 4, 100] {
            assert_eq!(ids(&audience, size), ["a", "b", "c", "a"]);
        }
        let (mut left, mut right) = (audience.batches(1), audience.batches(1));
        for _ in 0..4 {
            assert_eq!(left.next().unwrap().unwrap(), right.next().unwrap().unwrap());
        }
        assert!(left.next().is_none());
    }

    #[test]
    fn half_an_id_is_nobodys() {
        let json = r#"[{"integrationId": "a"}, {"integrationId": "b"}, {"integ"#;
        let lines = "{\"integrationId\":\"a\"}\n{\"integrationId\":\"b\"}\n{\"integr";
        for (format, text, expected) in [
            (AudienceFormat::Csv, "integrationId\na\nb\ncustomer-1", vec!["a", "b"]),
            (AudienceFormat::Csv, "integrationId\na\nb\n", vec!["a"]),
            (AudienceFormat::Csv, "integrationId", vec![]),
            (AudienceFormat::Csv, "", vec![]),
            (AudienceFormat::Ndjson, lines, vec!["a"]),
            (AudienceFormat::Json, json, vec!["a"]),
        ] {
            let (audience, flaw) = spooled(&[(false, text.as_bytes(), false)], format, BOUNDS);
            assert_eq!(ids(&audience, 2), expected, "{text}");
            assert!(flaw.is_none(), "that it was cut off is said by whoever read it: {flaw:?}");
        }
        let cut = packed("integrationId\na\nb\nc\n");
        let (audience, _) = spooled(&[(true, &cut[..cut.len() - 9], false)], AudienceFormat::Csv, BOUNDS);
        assert!(audience.count() < 3);
    }

    #[test]
    fn what_cannot_be_read_names_its_page_and_those_before_it_stay() {
        let good = b"{\"integrationId\":\"a\"}\n".as_slice();
        let bad = b"{\"integrationId\":\"b\"}\nsecret\n".as_slice();
        let pages = [(false, good, true), (false, bad, true), (false, good, true)];
        let (audience, flaw) = spooled(&pages, AudienceFormat::Ndjson, BOUNDS);
        assert_eq!(ids(&audience, 10), ["a", "b"]);
        let said = flaw.unwrap().without_data(3);
        assert!(said.starts_with("page 2: line 2, column") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn an_audience_has_bounds() {
        let text = "integrationId\n".to_owned() + &"a\n".repeat(20);
        let of = |bounds| spooled(&[(true, &packed(&text), true)], AudienceFormat::Csv, bounds);
        let (few, flaw) = of(Bounds { records: 19, ..BOUNDS });
        assert_eq!(
            (few.count(), flaw.unwrap().without_data(1)),
            (19, "has more than 19 customers: make several campaigns of it".into())
        );
        assert!(of(Bounds { records: 20, ..BOUNDS }).1.is_none());
        assert!(matches!(of(Bounds { bytes: 53, ..BOUNDS }).1, Some(Flaw::Format { .. })));
        assert!(of(Bounds { bytes: 54, ..BOUNDS }).1.is_none());
    }

    #[test]
    fn somebody_of_each_date_stands_for_all() {
        let of = |id: &str, birthday: &str| {
            format!("{{\"integrationId\":\"{id}\",\"attributes\":{{\"birthday\":\"{birthday}\"}}}}\n")
        };
        let text = [of("a", "1990-06-01"), of("b", "1980-06-01"), of("c", "06-02"), of("d", "never")].concat();
        let (audience, _) = spooled(&[(false, text.as_bytes(), true)], AudienceFormat::Ndjson, BOUNDS);
        let dates: Vec<_> = audience.of_dates().iter().map(|p| p.attributes["birthday"].as_str().unwrap()).collect();
        assert_eq!(dates, ["1990-06-01", "06-02"]);
    }

    #[test]
    fn the_same_content_is_the_same_audience() {
        let of = |text: &str| spooled(&[(false, text.as_bytes(), true)], AudienceFormat::Csv, BOUNDS).0;
        assert_eq!(of("integrationId\na\n"), of("integrationId\na\n"));
        assert_ne!(of("integrationId\na\n"), of("integrationId\nb\n"));
    }
}
