//! Profiles in files: what an audience would be, read as a stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::api::campaign::Profile;

/// Profiles that cannot be read. Each names its line.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error(
        "line {line}: is no profile: {error}; write one JSON object a line, such as {{\"integrationId\":\"customer-1\",\"attributes\":{{\"tier\":\"gold\"}}}}"
    )]
    Json { line: u64, error: serde_json::Error },
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("line {0}: integrationId is empty")]
    NoId(u64),
    #[error("has no column integrationId: the first row of a CSV file names its columns")]
    NoIdColumn,
}

/// Profiles from a file: CSV if it is called so, with a header row and a column `integrationId`, else
/// NDJSON, a profile a line.
///
/// # Errors
/// If it cannot be opened.
pub fn read(path: &Path) -> Result<Box<dyn Iterator<Item = Result<Profile, ProfilesError>> + Send>, ProfilesError> {
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return Ok(Box::new(of_csv(file)?));
    }
    Ok(Box::new(of_ndjson(file)))
}

fn of_ndjson(file: impl BufRead) -> impl Iterator<Item = Result<Profile, ProfilesError>> {
    let lines = file.lines().zip(1_u64..).filter(|(line, _)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
    lines.map(|(text, line)| {
        let read: Line = serde_json::from_str(&text?).map_err(|error| ProfilesError::Json { line, error })?;
        with_id(Profile { integration_id: read.integration_id, attributes: read.attributes }, line)
    })
}

/// A profile as a line has it. A misspelt field would be an attribute that nobody has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    integration_id: String,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
}

fn with_id(profile: Profile, line: u64) -> Result<Profile, ProfilesError> {
    if profile.integration_id.trim().is_empty() { Err(ProfilesError::NoId(line)) } else { Ok(profile) }
}

fn of_csv<R: std::io::Read>(file: R) -> Result<impl Iterator<Item = Result<Profile, ProfilesError>>, ProfilesError> {
    let mut reader = csv::Reader::from_reader(file);
    let columns = reader.headers()?.clone();
    if !columns.iter().any(|column| column == "integrationId") {
        return Err(ProfilesError::NoIdColumn);
    }
    // The first line has the columns' names.
    Ok(reader.into_records().zip(2_u64..).map(move |(row, line)| with_id(of_row(&columns, &row?), line)))
}

/// An empty cell is an attribute that is absent.
fn of_row(columns: &csv::StringRecord, row: &csv::StringRecord) -> Profile {
    let mut profile = Profile { integration_id: String::new(), attributes: BTreeMap::new() };
    for (column, cell) in columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        if column == "integrationId" {
            cell.clone_into(&mut profile.integration_id);
        } else {
            profile.attributes.insert(column.to_owned(), Value::String(cell.to_owned()));
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_from_ndjson_and_csv_and_errors_name_their_line() {
        let blank = of_ndjson("{\"integrationId\":\" \"}".as_bytes()).next();
        assert!(matches!(blank, Some(Err(ProfilesError::NoId(1)))));
        let text =
            "{\"integrationId\":\"a\",\"attributes\":{\"tier\":\"gold\"}}\n\n{\"integrationId\":\"b\"}\n{\"id\":1}\n";
        let read: Vec<_> = of_ndjson(text.as_bytes()).collect();
        assert_eq!(read[0].as_ref().unwrap().attributes["tier"], "gold");
        assert_eq!(read[1].as_ref().unwrap().integration_id, "b");
        assert!(read[2].as_ref().unwrap_err().to_string().starts_with("line 4: is no profile: unknown field `id`"));
        let csv = "integrationId,tier,name\na,gold,\"Ada, L.\"\nb,,\n";
        let read: Vec<Profile> = of_csv(csv.as_bytes()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read[0].attributes["name"], "Ada, L.");
        assert!(read[1].attributes.is_empty());
        assert!(matches!(of_csv("id\na\n".as_bytes()).err(), Some(ProfilesError::NoIdColumn)));
    }
}
