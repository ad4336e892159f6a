//! Encryption of the entries that hold private keys: AES-256-GCM, with a nonce at random for every entry written and the
//! entry's place as associated data, so that no value can pose as another's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use thiserror::Error;

use super::entry::Section;

/// Bytes of a key.
const LENGTH: usize = 32;
/// Longest file or text that a key is looked for in.
const LONGEST: u64 = 4096;

/// Where the key comes from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// A file, read each time that the cache is opened: a mounted Secret, for instance.
    File(PathBuf),
    /// The key itself.
    Bytes(DataKey),
}

/// A key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DataKey([u8; LENGTH]);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(redacted)")
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// The text is none.
    #[error(
        "a key is 32 bytes, or 64 hexadecimal digits or base64 of such (head -c 32 /dev/urandom | base64)"
    )]
    Form,
    /// The file cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("the key file {} holds no key: a key is 32 bytes, or 64 hexadecimal digits or base64 of such", path.display())]
    Content {
        /// Which.
        path: PathBuf,
    },
}

impl KeySource {
    /// The key.
    pub(super) fn read(&self) -> Result<DataKey, KeyError> {
        let path = match self {
            Self::Bytes(key) => return Ok(key.clone()),
            Self::File(path) => path,
        };
        let failed = |source| KeyError::File {
            path: path.clone(),
            source,
        };
        let mut content = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(LONGEST)
            .read_to_end(&mut content)
            .map_err(failed)?;
        DataKey::parse(&content).map_err(|_| KeyError::Content { path: path.clone() })
    }
}

impl DataKey {
    /// A key from its bytes, or from text around which there may be white space.
    ///
    /// # Errors
    /// Neither 32 bytes nor the text of such.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = content.try_into() {
            return Ok(Self(key));
        }
        let text = content.trim_ascii();
        let decoded = match text.len() {
            64 => hexadecimal(text),
            _ => base64(text),
        };
        let key = decoded.and_then(|bytes| bytes.try_into().ok());
        key.map(Self).ok_or(KeyError::Form)
    }
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// Both alphabets of RFC 4648, with padding or without.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    // What is left over of a whole number of bytes is zero.
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

/// Seals entries and opens them.
pub(super) struct Seal(RandomizedNonceKey);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

/// An entry was sealed with another key, or for another place, or is damaged; or the system has no random numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it cannot be decrypted")]
pub(super) struct Unsealable;

/// What a seal puts into a file so that the key can be told from others.
const SAMPLE: (&str, &[u8]) = ("sample", b"tidegate");

impl Seal {
    pub(super) fn new(key: &DataKey) -> Result<Self, Unsealable> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key.0).map_err(|_| Unsealable)?;
        Ok(Self(key))
    }

    /// Nonce, ciphertext and tag.
    pub(super) fn seal(
        &self,
        place: &str,
        key: &str,
        plain: Vec<u8>,
    ) -> Result<Vec<u8>, Unsealable> {
        let mut text = plain;
        let nonce = self
            .0
            .seal_in_place_append_tag(associated(place, key), &mut text)
            .map_err(|_| Unsealable)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Ok(sealed)
    }

    pub(super) fn open(
        &self,
        place: &str,
        key: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unsealable> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .0
            .open_in_place(nonce, associated(place, key), &mut text)
            .map_err(|_| Unsealable)?;
        let length = plain.len();
        text.truncate(length);
        Ok(text)
    }

    /// A sample that [`fits`](Self::fits) this key alone.
    pub(super) fn sample(&self) -> Result<Vec<u8>, Unsealable> {
        let (place, plain) = SAMPLE;
        self.seal(place, "", plain.to_vec())
    }

    pub(super) fn fits(&self, sample: &[u8]) -> bool {
        self.open(SAMPLE.0, "", sample).is_ok()
    }

    /// The seal for a section, if its entries are sealed.
    pub(super) fn of(seal: Option<&Self>, section: Section) -> Option<&Self> {
        seal.filter(|_| section.is_secret())
    }
}

fn associated(place: &str, key: &str) -> Aad<Vec<u8>> {
    Aad::from([place.as_bytes(), key.as_bytes()].join(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_every_form() {
        let key: Vec<u8> = (0..32).map(|n| n * 7 + 3).collect();
        let hex: String = key.iter().map(|byte| format!("{byte:02X}")).collect();
        let texts: [&[u8]; 5] = [
            &key,
            hex.as_bytes(),
            b"AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dw=\n",
            b" AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dw",
            b"AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dw=",
        ];
        for text in texts {
            assert_eq!(DataKey::parse(text).unwrap().0, *key, "{text:?}");
        }
        let wrong: [&[u8]; 5] = [b"", b"short", &[b'A'; 65], &[b'g'; 64], &[b'='; 44]];
        for text in wrong {
            assert!(DataKey::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(format!("{:?}", DataKey([7; 32])), "DataKey(redacted)");
    }

    #[test]
    fn a_sealed_entry_opens_in_its_place_with_its_key_only() {
        let seal = Seal::new(&DataKey([1; 32])).unwrap();
        let other = Seal::new(&DataKey([2; 32])).unwrap();
        let sealed = seal
            .seal("certificates", "a/b", b"secret".to_vec())
            .unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(
            seal.open("certificates", "a/b", &sealed).unwrap(),
            b"secret"
        );
        assert_eq!(seal.open("certificates", "a/c", &sealed), Err(Unsealable));
        assert_eq!(seal.open("hosts", "a/b", &sealed), Err(Unsealable));
        assert_eq!(other.open("certificates", "a/b", &sealed), Err(Unsealable));
        assert_eq!(
            seal.open("certificates", "a/b", &sealed[..5]),
            Err(Unsealable)
        );
        let again = seal
            .seal("certificates", "a/b", b"secret".to_vec())
            .unwrap();
        assert_ne!(sealed, again, "nonces are at random");
        assert!(seal.fits(&seal.sample().unwrap()) && !other.fits(&seal.sample().unwrap()));
    }
}
