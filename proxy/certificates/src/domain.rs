//! Domains as they are registered, which is what CAs count by, and names that no public CA issues for.

use std::collections::BTreeSet;

use psl::Type;
use tidegate_model::HostPattern;

use crate::names::NameSet;

/// Hosts of the directories of public CAs, and what the names of such hosts end with. Others may be anybody's own CA, which
/// may issue for whatever it likes.
const PUBLIC_CAS: [&str; 10] = [
    "letsencrypt.org",
    "zerossl.com",
    "pki.goog",
    "buypass.com",
    "ssl.com",
    "sectigo.com",
    "digicert.com",
    "globalsign.com",
    "entrust.net",
    "actalis.com",
];

/// The registered domains of names, by the Public Suffix List: `example.co.uk` for `*.a.example.co.uk`. A name that is itself
/// a public suffix stands for itself.
pub fn registered_domains(names: &NameSet) -> BTreeSet<String> {
    names.iter().map(registered_domain).collect()
}

/// The registered domain of one name.
pub(crate) fn registered_domain(name: &HostPattern) -> String {
    let host = host(name);
    psl::domain_str(host).unwrap_or(host).to_owned()
}

/// Why no public CA can issue for a name (CA/Browser Forum Baseline Requirements, section 4.2.2 and 7.1.2.7.12); `None` when
/// nothing speaks against it.
pub fn never_public(name: &HostPattern) -> Option<&'static str> {
    let host = host(name);
    let suffix = psl::suffix(host.as_bytes())?;
    if !host.contains('.') && !suffix.is_known() {
        return Some("it is a single label, not a name of the public DNS");
    }
    if suffix.typ() != Some(Type::Icann) && !is_private_suffix(&suffix) {
        return Some("its top-level domain is none of the public DNS");
    }
    let is_suffix_itself =
        suffix.typ() == Some(Type::Icann) && suffix.as_bytes() == host.as_bytes();
    is_suffix_itself.then_some("it is a public suffix, under which anybody registers domains")
}

/// Whether the directory is one of a public CA.
pub fn is_public_ca(directory: &str) -> bool {
    let host = directory
        .split_once("://")
        .map_or(directory, |(_, rest)| rest)
        .split(['/', ':', '?'])
        .next()
        .unwrap_or_default();
    PUBLIC_CAS.iter().any(|ca| {
        host.strip_suffix(ca)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn is_private_suffix(suffix: &psl::Suffix<'_>) -> bool {
    suffix.typ() == Some(Type::Private)
}

fn host(name: &HostPattern) -> &str {
    match name {
        HostPattern::Exact(host) | HostPattern::Wildcard(host) => host.as_str(),
        HostPattern::Any => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap_or(HostPattern::Any)
    }

    #[test]
    fn domains_are_those_that_people_register() {
        let cases = [
            ("example.com", "example.com"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("*.example.com", "example.com"),
            ("someone.github.io", "someone.github.io"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("a.b.internal", "b.internal"),
        ];
        for (host, domain) in cases {
            assert_eq!(registered_domain(&name(host)), domain, "{host}");
        }
    }

    #[test]
    fn names_outside_the_public_dns_are_told() {
        for host in [
            "example.com",
            "*.example.co.uk",
            "a.github.io",
            "*.github.io",
        ] {
            assert_eq!(never_public(&name(host)), None, "{host}");
        }
        for host in [
            "localhost",
            "db.local",
            "a.svc.cluster.local",
            "a.test",
            "co.uk",
            "*.co.uk",
            "com",
        ] {
            assert!(never_public(&name(host)).is_some(), "{host}");
        }
    }

    #[test]
    fn public_cas_are_known_by_their_hosts() {
        assert!(is_public_ca(
            "https://acme-v02.api.letsencrypt.org/directory"
        ));
        assert!(is_public_ca("https://dv.acme-v02.api.pki.goog/directory"));
        assert!(!is_public_ca("https://localhost:14000/dir"));
        assert!(!is_public_ca("https://notletsencrypt.org/dir"));
        assert!(!is_public_ca("https://letsencrypt.org.example.net/dir"));
        assert!(!is_public_ca(""));
    }
}
