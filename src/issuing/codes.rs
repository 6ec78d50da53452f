//! Codes: how they are drawn, and whether there are enough of them.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};

use rand::TryRng;
use rand::rngs::{SysError, SysRng};

use crate::api::campaign::CreateCoupon;

/// What the codes of a rule look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFormat {
    pattern: String,
    alphabet: Vec<char>,
}

/// Whether a code must be compared with those that exist before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// So many codes are possible that two alike are not to be expected.
    NotNeeded,
    /// All codes of the namespace are to be read first.
    Needed,
}

/// Codes that cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error(
        "pattern {pattern} with {characters} different characters (letter case aside) makes {possible} codes, too few for {wanted} in this namespace: at least {needed} are needed, so add # to the pattern"
    )]
    TooFew { pattern: String, characters: usize, possible: u128, wanted: u128, needed: u128 },
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
    #[error("no unused code was found in {0} draws: add # to the pattern")]
    Exhausted(u32),
}

impl CodeFormat {
    /// The format that a rule's createCoupon asks for.
    #[must_use]
    pub fn of(create: &CreateCoupon) -> Self {
        let alphabet: BTreeSet<char> = create.characters.chars().collect();
        Self { pattern: create.pattern.clone(), alphabet: alphabet.into_iter().collect() }
    }

    /// How many codes differ by more than letter case.
    #[must_use]
    pub fn keyspace(&self) -> u128 {
        let placeholders = u32::try_from(self.pattern.matches('#').count()).unwrap_or(u32::MAX);
        (self.folded_characters() as u128).saturating_pow(placeholders)
    }

    fn folded_characters(&self) -> usize {
        self.alphabet.iter().map(char::to_ascii_lowercase).collect::<BTreeSet<_>>().len()
    }

    /// Whether a namespace with so many codes, existing and wanted together, needs a look-up.
    ///
    /// # Errors
    /// If there are fewer than 1000 possible codes for each.
    pub fn lookup_for(&self, existing_and_wanted: u64) -> Result<Lookup, CodeError> {
        let (possible, n) = (self.keyspace(), u128::from(existing_and_wanted));
        let needed = n.saturating_mul(1000);
        if possible < needed {
            return Err(CodeError::TooFew {
                pattern: self.pattern.clone(),
                characters: self.folded_characters(),
                possible,
                wanted: n,
                needed,
            });
        }
        let plenty = n.saturating_mul(n).saturating_mul(100_000);
        Ok(if possible >= plenty { Lookup::NotNeeded } else { Lookup::Needed })
    }

    /// Draws a code from the operating system's generator.
    ///
    /// # Errors
    /// If the operating system gives no random numbers.
    pub fn draw(&self) -> Result<String, CodeError> {
        let mut code = String::with_capacity(self.pattern.len());
        let mut random = RandomBytes::default();
        for c in self.pattern.chars() {
            code.push(if c == '#' { self.random_character(&mut random)? } else { c });
        }
        Ok(code)
    }

    /// Bytes past the last whole multiple of the alphabet's size are drawn again: without that, the
    /// first characters would come more often.
    fn random_character(&self, random: &mut RandomBytes) -> Result<char, CodeError> {
        let size = self.alphabet.len().clamp(1, 256);
        let usable = 256_usize.saturating_sub(256_usize.checked_rem(size).unwrap_or(0));
        loop {
            let drawn = usize::from(random.next()?);
            if drawn < usable
                && let Some(c) = drawn.checked_rem(size).and_then(|i| self.alphabet.get(i))
            {
                return Ok(*c);
            }
        }
    }
}

/// Bytes of the operating system's generator, asked for as many as a code mostly takes.
#[derive(Default)]
struct RandomBytes {
    drawn: [u8; 32],
    left: usize,
}

impl RandomBytes {
    fn next(&mut self) -> Result<u8, CodeError> {
        if self.left == 0 {
            SysRng.try_fill_bytes(&mut self.drawn).map_err(|e: SysError| CodeError::Random(e.to_string()))?;
            self.left = self.drawn.len();
        }
        self.left = self.left.saturating_sub(1);
        Ok(self.drawn.get(self.left).copied().unwrap_or_default())
    }
}

/// The codes that exist, letter case aside, as 64-bit hashes. Two codes with the same hash only cause
/// another draw.
#[derive(Default)]
pub struct TakenCodes {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl TakenCodes {
    /// Notes a code. False if it, or one with the same hash, was there already.
    pub fn take(&mut self, code: &str) -> bool {
        let hash = self.hasher.hash_one(code.to_ascii_lowercase());
        self.hashes.insert(hash)
    }

    /// Draws a code that is not among them, and notes it.
    ///
    /// # Errors
    /// If the operating system gives no random numbers, or no unused code is found.
    pub fn draw(&mut self, format: &CodeFormat) -> Result<String, CodeError> {
        const MOST: u32 = 1000;
        for _ in 0..MOST {
            let code = format.draw()?;
            if self.take(&code) {
                return Ok(code);
            }
        }
        Err(CodeError::Exhausted(MOST))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn format(pattern: &str, characters: &str) -> CodeFormat {
        CodeFormat::of(&serde_json::from_value(json!({ "pattern": pattern, "characters": characters })).unwrap())
    }

    #[test]
    fn a_code_follows_its_pattern() {
        let code = format("SUMMER-##.#", "AB").draw().unwrap();
        let (head, tail) = code.split_at(7);
        assert_eq!(head, "SUMMER-");
        assert!(tail.chars().enumerate().all(|(i, c)| if i == 2 { c == '.' } else { "AB".contains(c) }), "{code}");
    }

    #[test]
    fn the_keyspace_counts_distinct_characters_without_regard_to_case() {
        assert_eq!(format("###", "aAbBbb").keyspace(), 8);
        assert_eq!(format("####-####-####", "ABCDEFGHJKLMNPQRSTUVWXYZ23456789").keyspace(), 32_u128.pow(12));
        assert_eq!(format(&"#".repeat(100), "abcdefghij").keyspace(), u128::MAX, "saturates instead of overflowing");
    }

    #[test]
    fn too_few_codes_are_refused_and_few_are_looked_up() {
        let thousand = format("###", "0123456789");
        assert_eq!(thousand.lookup_for(1), Ok(Lookup::Needed));
        assert!(matches!(thousand.lookup_for(2), Err(CodeError::TooFew { possible: 1000, needed: 2000, .. })));
        let plenty = format("#######", "0123456789");
        assert_eq!(plenty.lookup_for(10), Ok(Lookup::NotNeeded));
        assert_eq!(plenty.lookup_for(11), Ok(Lookup::Needed));
    }

    #[test]
    fn no_two_codes_are_alike_letter_case_aside() {
        let mut taken = TakenCodes::default();
        assert!(taken.take("abC-1"));
        assert!(!taken.take("ABc-1"));
        let format = format("##", "abAB");
        let drawn: BTreeSet<String> =
            (0..4).map(|_| TakenCodes::draw(&mut taken, &format).unwrap().to_lowercase()).collect();
        assert_eq!(drawn.len(), 4);
        assert!(matches!(taken.draw(&format), Err(CodeError::Exhausted(_))));
    }

    /// Chi-square over 48 characters, which does not divide 256: without the second draw the statistic
    /// would be near 3,400. The bound is passed by chance once in about 10^9 runs.
    #[test]
    fn every_character_is_equally_likely() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv";
        let code_format = format(&"#".repeat(100), alphabet);
        let mut counts: BTreeMap<char, f64> = BTreeMap::new();
        for _ in 0..2000 {
            for c in code_format.draw().unwrap().chars() {
                *counts.entry(c).or_default() += 1.0;
            }
        }
        let expected = 200_000.0 / 48.0;
        let statistic: f64 = counts.values().map(|seen| (seen - expected).powi(2) / expected).sum();
        assert_eq!(counts.len(), 48);
        assert!(statistic < 125.0, "chi-square {statistic} with 47 degrees of freedom");
    }
}
