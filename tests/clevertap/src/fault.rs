//! Faults on demand, for upload requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What goes wrong with an upload request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// No answer, ever; nothing is stored.
    HangBefore,
    /// No answer, ever, though all is stored.
    HangAfter,
    /// The connection is reset before the body is read.
    ResetBeforeBody,
    /// The connection is reset after the body is read; nothing is stored.
    ResetBefore,
    /// The connection is reset after all is stored.
    ResetAfter,
    /// A status, without or after storing.
    Status { status: u16, stored: bool, retry_after: Option<String>, location: Option<String> },
    /// Success is answered, and nothing is stored.
    SilentDrop,
    /// All is stored, and the answer ends before its content-length.
    ShortBody,
    /// All is stored, and the answer is no JSON.
    NotJson,
    /// All is stored, and the answer has another content type.
    WrongContentType,
    /// All is stored, and the answer is 8 MiB long.
    OversizedBody,
    /// These records, from 1, fail with 555, "server error".
    ServerError { records: Vec<usize> },
    /// 413 without storing, if there are more records than this; else nothing goes wrong.
    RefusedAbove { records: usize },
    /// The answer comes after so long.
    Slow { delay: Duration },
    /// All is stored, and this is answered, to the letter; then nothing more comes, or the connection ends.
    Raw { answer: String, hangs: bool },
}

impl Fault {
    /// A plain status without storing.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, stored: false, retry_after: None, location: None }
    }

    /// What goes wrong with a request of so many records, if anything does.
    pub(crate) fn with(self, sent: usize) -> Option<Self> {
        match self {
            Self::RefusedAbove { records } => (sent > records).then(|| Self::status(413)),
            other => Some(other),
        }
    }

    /// True if the records are stored although something goes wrong.
    pub(crate) fn stores(&self) -> bool {
        match self {
            Self::HangBefore | Self::ResetBeforeBody | Self::ResetBefore | Self::SilentDrop => false,
            Self::Status { stored, .. } => *stored,
            _ => true,
        }
    }
}
