//! Audiences: who a campaign's customers are, wherever that is written.

pub mod format;
pub mod http;
pub mod spool;

use std::borrow::Cow;
use std::collections::HashSet;

use self::format::FormatError;
use self::spool::Spooled;
use crate::api::campaign::Profile;

/// What was read of an audience that is not written in its Campaign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub profiles: Source,
    /// What is wrong, if not all of it was read: reason and message.
    pub problem: Option<(&'static str, String)>,
    /// What names this state of a web address, so that it need not be sent again.
    pub entity_tag: Option<String>,
}

/// Ids of customers who never get anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded(HashSet<String>);

impl FromIterator<Profile> for Excluded {
    fn from_iter<I: IntoIterator<Item = Profile>>(profiles: I) -> Self {
        Self(profiles.into_iter().map(|profile| profile.integration_id.trim().to_owned()).collect())
    }
}

impl Excluded {
    #[must_use]
    pub fn contains(&self, profile: &Profile) -> bool {
        self.0.contains(profile.integration_id.trim())
    }
}

/// Where profiles that were read are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In memory.
    Held(Vec<Profile>),
    /// In a file: they may be a million.
    Spooled(Spooled),
}

impl Default for Source {
    fn default() -> Self {
        Self::Held(Vec::new())
    }
}

/// An audience, a part at a time.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Cow<'a, [Profile]>, FormatError>> + Send + 'a>;

/// Profiles in memory, in batches.
#[must_use]
pub fn batches_of(profiles: &[Profile], size: usize) -> Batches<'_> {
    Box::new(profiles.chunks(size.max(1)).map(|batch| Ok(Cow::Borrowed(batch))))
}

impl Source {
    /// All of them, so many at a time. Reading a file takes the thread.
    #[must_use]
    pub fn batches(&self, size: usize) -> Batches<'_> {
        match self {
            Self::Held(profiles) => batches_of(profiles, size),
            Self::Spooled(spooled) => Box::new(spooled.batches(size).map(|batch| batch.map(Cow::Owned))),
        }
    }

    /// How many there are, also of those that name an id that was named before.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Held(profiles) => profiles.len() as u64,
            Self::Spooled(spooled) => spooled.count(),
        }
    }

    /// Enough of them to know on which dates there is somebody.
    #[must_use]
    pub fn of_dates(&self) -> &[Profile] {
        match self {
            Self::Held(profiles) => profiles,
            Self::Spooled(spooled) => spooled.of_dates(),
        }
    }

    /// How many name an id that was named before.
    #[must_use]
    pub fn repeated(&self) -> usize {
        match self {
            Self::Held(profiles) => repeated(profiles),
            Self::Spooled(spooled) => spooled.repeated(),
        }
    }
}

/// How many of them name an id that was named before.
#[must_use]
pub fn repeated(profiles: &[Profile]) -> usize {
    let distinct: HashSet<&str> = profiles.iter().map(|p| p.integration_id.trim()).collect();
    profiles.len().saturating_sub(distinct.len())
}
