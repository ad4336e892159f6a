//! The name by which the Tidegates of a machine are told apart.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Longest name, as for every DNS label (RFC 1035 section 2.3.4).
const LONGEST: usize = 63;

/// Names a running Tidegate of a machine: a `serve` that is started beside one of the same name takes over from it.
///
/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName(String);

impl InstanceName {
    /// A name that no other running Tidegate has: `prefix-<process>-<counter>`. What a DNS label does not allow in the
    /// prefix is left out.
    pub fn unique(prefix: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let number = format!("{}-{counter}", std::process::id());
        let prefix: String = prefix
            .bytes()
            .filter(|byte| is_label_byte(*byte))
            .map(char::from)
            .take(LONGEST.saturating_sub(number.len() + 1))
            .collect();
        match prefix.trim_matches('-') {
            "" => Self(number),
            prefix => Self(format!("{prefix}-{number}")),
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self("tidegate".to_owned())
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_label_byte);
        match fits && !text.starts_with('-') && !text.ends_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "write 1 to {LONGEST} of a-z, 0-9 and -, with a letter or digit at both ends, such as edge-1"
            )),
        }
    }
}

fn is_label_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for right in ["a", "0", "tidegate", "edge-1", &"a".repeat(63)] {
            let name = right.parse::<InstanceName>();
            assert_eq!(name.map(|name| name.to_string()), Ok(right.to_owned()));
        }
        let long = "a".repeat(64);
        for wrong in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "../a", "ä", &long] {
            let error = wrong.parse::<InstanceName>().unwrap_err();
            assert!(error.contains("such as edge-1"), "{wrong}: {error}");
        }
    }

    #[test]
    fn unique_names_are_names_and_differ() {
        for prefix in ["demo", "", "Ä/-", &"x".repeat(100)] {
            let (one, other) = (InstanceName::unique(prefix), InstanceName::unique(prefix));
            assert_ne!(one, other);
            assert_eq!(one.as_str().parse(), Ok(one));
        }
        let process = std::process::id().to_string();
        let name = InstanceName::unique("demo");
        assert!(name.as_str().starts_with(&format!("demo-{process}-")));
    }
}
