//! Profiles in files: what an audience would be, read as a stream.

use std::fs::File;
use std::path::Path;

use crate::api::campaign::AudienceFormat;
use crate::audience::format::{self, FormatError, Profiles};

/// Profiles from a file: CSV or a JSON array if it is called so, else NDJSON.
///
/// # Errors
/// If it cannot be opened, or is CSV without a column `integrationId`.
pub fn read(path: &Path) -> Result<Profiles, FormatError> {
    let called = |wanted: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    let format = match () {
        () if called("csv") => AudienceFormat::Csv,
        () if called("json") => AudienceFormat::Json,
        () => AudienceFormat::Ndjson,
    };
    format::profiles(format, File::open(path)?)
}
