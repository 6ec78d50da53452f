//! Recipients, as far as what is remembered of a million of them goes.

use sha2::{Digest, Sha256};

/// The first 128 bits of the SHA-256 of a recipient's id, as in the names of Coupons.
pub type RecipientDigest = [u8; 16];

/// The digest of an id. Space around an id is no part of it.
#[must_use]
pub fn digest(recipient: &str) -> RecipientDigest {
    let mut digest = RecipientDigest::default();
    digest.iter_mut().zip(Sha256::digest(recipient.trim())).for_each(|(to, from)| *to = from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_first_half_of_sha_256_of_the_trimmed_id() {
        // The example of FIPS 180-2, appendix B.1.
        let expected = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23];
        assert_eq!([digest("abc"), digest(" abc\n")], [expected; 2]);
    }
}
