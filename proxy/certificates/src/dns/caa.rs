//! What CAA records mean for a CA (RFC 8659), with the parameters of RFC 8657.

/// Tags that say something about issuing, or nothing that hinders it.
const KNOWN: [&str; 7] = [
    "issue",
    "issuewild",
    "iodef",
    "issuemail",
    "issuevmc",
    "contactemail",
    "contactphone",
];

/// A CAA record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CaaRecord {
    pub(super) is_critical: bool,
    /// In lower case.
    pub(super) tag: String,
    pub(super) value: String,
}

/// The CAA records that count for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaSet {
    owner: Option<String>,
    records: Vec<CaaRecord>,
}

/// Whether a CA may issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaaVerdict {
    /// No record restricts it.
    Unrestricted,
    /// A record allows it: where it is, and what it says.
    Allowed {
        /// Owner of the records.
        owner: String,
        /// The record, as in a zone file.
        record: String,
    },
    /// The records do not allow it.
    Refused {
        /// Owner of the records.
        owner: String,
        /// The records that count, as in a zone file.
        records: Vec<String>,
        /// What to add or change.
        remedy: String,
    },
}

impl CaaSet {
    pub(super) fn new(owner: String, records: Vec<CaaRecord>) -> Self {
        Self {
            owner: Some(owner),
            records,
        }
    }

    /// No record at the name or above.
    pub(super) fn none() -> Self {
        Self {
            owner: None,
            records: Vec::new(),
        }
    }

    /// Where the records are; `None` when there are none at the name or above.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Whether a CA that goes by one of these names (`caaIdentities` of its directory) may issue.
    ///
    /// `method` is the challenge, as `validationmethods` names it (RFC 8657 section 4): `http-01`, `tls-alpn-01`, `dns-01`.
    pub fn verdict(&self, names: Names, identities: &[String], method: &str) -> CaaVerdict {
        let Some(owner) = self.owner.clone() else {
            return CaaVerdict::Unrestricted;
        };
        let unknown =
            |record: &&CaaRecord| record.is_critical && !KNOWN.contains(&record.tag.as_str());
        if let Some(record) = self.records.iter().find(unknown) {
            return CaaVerdict::Refused {
                owner,
                records: vec![record.to_string()],
                remedy: format!(
                    "the critical tag '{}' forbids every CA that does not know it; remove it or its critical flag",
                    record.tag
                ),
            };
        }
        let records = self.that_count(names);
        if records.is_empty() {
            return CaaVerdict::Unrestricted;
        }
        let allows = |record: &&&CaaRecord| record.allows(identities, method);
        match records.iter().find(allows) {
            Some(record) => CaaVerdict::Allowed {
                owner,
                record: record.to_string(),
            },
            None => CaaVerdict::Refused {
                remedy: remedy(&owner, names, identities, method),
                owner,
                records: records.iter().map(ToString::to_string).collect(),
            },
        }
    }

    /// `issuewild` goes before `issue` for wildcards, and counts for nothing else (RFC 8659 section 4.3).
    fn that_count(&self, names: Names) -> Vec<&CaaRecord> {
        let tagged = |tag: &str| -> Vec<&CaaRecord> {
            let records = self.records.iter();
            records.filter(|record| record.tag == tag).collect()
        };
        match (names, tagged("issuewild")) {
            (Names::Wildcard, wild) if !wild.is_empty() => wild,
            _ => tagged("issue"),
        }
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// One name.
    Exact,
    /// Every name one label below.
    Wildcard,
}

impl CaaRecord {
    fn allows(&self, identities: &[String], method: &str) -> bool {
        let mut parts = self.value.split(';').map(str::trim);
        let issuer = parts.next().unwrap_or_default();
        let is_named = identities
            .iter()
            .any(|identity| !issuer.is_empty() && identity.eq_ignore_ascii_case(issuer));
        let allows_method = |parameter: &str| match parameter.split_once('=') {
            Some((key, methods)) if key.trim().eq_ignore_ascii_case("validationmethods") => methods
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(method)),
            _ => true,
        };
        is_named && parts.all(allows_method)
    }
}

impl std::fmt::Display for CaaRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = if self.is_critical { 128 } else { 0 };
        write!(f, "{flags} {} \"{}\"", self.tag, self.value)
    }
}

fn remedy(owner: &str, names: Names, identities: &[String], method: &str) -> String {
    let Some(identity) = identities.first() else {
        return "the CA's directory does not say which name of CAA records is its own; ask the CA"
            .to_owned();
    };
    let tag = match names {
        Names::Exact => "issue",
        Names::Wildcard => "issuewild",
    };
    format!(
        "add a CAA record to {owner}: 0 {tag} \"{identity}\"; one that has validationmethods has to name {method}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(records: &[(bool, &str, &str)]) -> CaaSet {
        let records = records.iter().map(|(is_critical, tag, value)| CaaRecord {
            is_critical: *is_critical,
            tag: (*tag).to_owned(),
            value: (*value).to_owned(),
        });
        CaaSet::new("example.com.".to_owned(), records.collect())
    }

    fn is_refused(set: &CaaSet, names: Names) -> bool {
        let identities = ["letsencrypt.org".to_owned()];
        matches!(
            set.verdict(names, &identities, "dns-01"),
            CaaVerdict::Refused { .. }
        )
    }

    #[test]
    fn without_records_everybody_may() {
        let verdict = CaaSet::none().verdict(Names::Exact, &[], "http-01");
        assert_eq!(verdict, CaaVerdict::Unrestricted);
        assert!(!is_refused(
            &set(&[(false, "iodef", "mailto:a@example.com")]),
            Names::Exact
        ));
    }

    #[test]
    fn issuewild_goes_before_issue_for_wildcards_only() {
        let both = set(&[
            (false, "issue", "letsencrypt.org"),
            (false, "issuewild", ";"),
        ]);
        assert!(!is_refused(&both, Names::Exact));
        assert!(is_refused(&both, Names::Wildcard));
        let one = set(&[(false, "issue", "LetsEncrypt.org")]);
        assert!(!is_refused(&one, Names::Wildcard));
        let wild = set(&[(false, "issuewild", "other.example")]);
        assert!(!is_refused(&wild, Names::Exact));
    }

    #[test]
    fn an_empty_issuer_forbids_everybody() {
        for value in [";", "", " ; policy=ev"] {
            assert!(is_refused(&set(&[(false, "issue", value)]), Names::Exact));
        }
    }

    #[test]
    fn one_of_several_is_enough() {
        let two = set(&[
            (false, "issue", "other.example"),
            (false, "issue", "letsencrypt.org; accounturi=https://x/1"),
        ]);
        assert!(!is_refused(&two, Names::Exact));
    }

    #[test]
    fn methods_count() {
        let value = "letsencrypt.org; validationmethods=http-01,dns-01";
        assert!(!is_refused(&set(&[(false, "issue", value)]), Names::Exact));
        let value = "letsencrypt.org; ValidationMethods=http-01";
        assert!(is_refused(&set(&[(false, "issue", value)]), Names::Exact));
    }

    #[test]
    fn an_unknown_critical_tag_forbids() {
        let critical = set(&[
            (false, "issue", "letsencrypt.org"),
            (true, "tbs", "Unknown"),
        ]);
        assert!(is_refused(&critical, Names::Exact));
        let plain = set(&[
            (false, "issue", "letsencrypt.org"),
            (false, "tbs", "Unknown"),
        ]);
        assert!(!is_refused(&plain, Names::Exact));
    }
}
