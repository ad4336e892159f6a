//! Tidegate's own annotations: their names, their values, and what to say about others.

use std::collections::BTreeMap;

use tidegate_model::{Excerpt, Reason, TlsRedirect};

use super::report::Report;
use super::wishes::{Hosts, Issue};
use crate::source::name;

/// Prefix of every annotation of ours.
const PREFIX: &str = "tidegate.dev/";
/// `"true"` or `"false"`: whether plain-text requests are redirected to HTTPS. On an Ingress.
const SSL_REDIRECT: &str = "tidegate.dev/ssl-redirect";
/// `"true"` or `"false"`: whether requests go to the Service's cluster IP instead of its endpoints. On an Ingress or a
/// Service; the Ingress has the last word.
pub(super) const SERVICE_UPSTREAM: &str = "tidegate.dev/service-upstream";

/// `acme` or `none`: whether certificates are ordered. On an Ingress or an IngressClass; the Ingress has the last word.
pub(super) const CERTIFICATE: &str = "tidegate.dev/certificate";
/// The issuer that they are ordered from, as the settings name it. On an Ingress or an IngressClass.
pub(super) const ISSUER: &str = "tidegate.dev/issuer";
/// `tls` or `rules`: for which hosts they are ordered. On an Ingress or an IngressClass.
const CERTIFICATE_HOSTS: &str = "tidegate.dev/certificate-hosts";
/// `"true"` on an Ingress counts as [`CERTIFICATE`] `acme`: the sign that several controllers have agreed on.
const TLS_ACME: &str = "kubernetes.io/tls-acme";

/// Where requests for a Service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Addressing {
    /// To its endpoints.
    #[default]
    Endpoints,
    /// To its cluster IP.
    ClusterIp,
}

/// What the annotations of an Ingress ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IngressAnnotations {
    pub(super) tls_redirect: TlsRedirect,
    pub(super) addressing: Option<Addressing>,
    pub(super) certificates: CertificateAnnotations,
}

/// What annotations say about certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CertificateAnnotations {
    pub(super) issue: Option<Issue>,
    pub(super) hosts: Option<Hosts>,
    pub(super) issuer: Option<String>,
    /// Whether an issuer is named that can be none.
    pub(super) is_issuer_wrong: bool,
    /// Whether it has [`TLS_ACME`].
    pub(super) tls_acme: bool,
}

type Annotations = BTreeMap<String, String>;

/// Reads the annotations of an Ingress.
pub(super) fn of_ingress(
    annotations: Option<&Annotations>,
    report: &mut Report,
) -> IngressAnnotations {
    let known = [
        SSL_REDIRECT,
        SERVICE_UPSTREAM,
        CERTIFICATE,
        ISSUER,
        CERTIFICATE_HOSTS,
    ];
    report_unknown(annotations, &known, report);
    let tls_redirect = match flag(annotations, SSL_REDIRECT, report) {
        Some(true) => TlsRedirect::Always,
        Some(false) => TlsRedirect::Never,
        None => TlsRedirect::Inherit,
    };
    let tls_acme = annotations.and_then(|all| all.get(TLS_ACME));
    IngressAnnotations {
        tls_redirect,
        addressing: addressing(annotations, report),
        certificates: CertificateAnnotations {
            tls_acme: tls_acme.is_some_and(|value| value == "true"),
            ..certificates(annotations, report)
        },
    }
}

/// Reads the annotations of an IngressClass.
pub(super) fn of_class(
    annotations: Option<&Annotations>,
    report: &mut Report,
) -> CertificateAnnotations {
    report_unknown(
        annotations,
        &[CERTIFICATE, ISSUER, CERTIFICATE_HOSTS],
        report,
    );
    certificates(annotations, report)
}

fn certificates(annotations: Option<&Annotations>, report: &mut Report) -> CertificateAnnotations {
    let issues = [("acme", Issue::Acme), ("none", Issue::None)];
    let hosts = [("tls", Hosts::Tls), ("rules", Hosts::Rules)];
    let issuer = annotations.and_then(|all| all.get(ISSUER));
    let usable = issuer.filter(|name| name::is_label(name));
    if let (Some(written), None) = (issuer, usable) {
        report.error(
            Reason::InvalidAnnotation,
            field(ISSUER),
            format!(
                "'{}' is no name that an issuer can have, so no certificate is ordered; write one that the settings have",
                Excerpt(written)
            ),
        );
    }
    CertificateAnnotations {
        issue: word(annotations, CERTIFICATE, issues, report),
        hosts: word(annotations, CERTIFICATE_HOSTS, hosts, report),
        issuer: usable.cloned(),
        is_issuer_wrong: issuer.is_some() && usable.is_none(),
        tls_acme: false,
    }
}

/// One of two words.
fn word<T>(
    annotations: Option<&Annotations>,
    name: &str,
    words: [(&str, T); 2],
    report: &mut Report,
) -> Option<T> {
    let value = annotations?.get(name)?;
    let choice = words.each_ref().map(|(word, _)| *word).join(" nor ");
    let found = words.into_iter().find(|(word, _)| word == value);
    if found.is_none() {
        report.error(
            Reason::InvalidAnnotation,
            field(name),
            format!(
                "the value '{}' is neither {choice} and is ignored; write one of the two",
                Excerpt(value)
            ),
        );
    }
    found.map(|(_, meaning)| meaning)
}

/// Reads the annotations of a Service.
pub(super) fn of_service(
    annotations: Option<&Annotations>,
    report: &mut Report,
) -> Option<Addressing> {
    report_unknown(annotations, &[SERVICE_UPSTREAM], report);
    addressing(annotations, report)
}

fn addressing(annotations: Option<&Annotations>, report: &mut Report) -> Option<Addressing> {
    flag(annotations, SERVICE_UPSTREAM, report).map(|on| match on {
        true => Addressing::ClusterIp,
        false => Addressing::Endpoints,
    })
}

fn flag(annotations: Option<&Annotations>, name: &str, report: &mut Report) -> Option<bool> {
    let value = annotations?.get(name)?;
    match value.as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            report.error(
                Reason::InvalidAnnotation,
                field(name),
                format!(
                    "the value '{}' is neither \"true\" nor \"false\" and is ignored; write one of the two",
                    Excerpt(value)
                ),
            );
            None
        }
    }
}

/// The path of an annotation within its object.
pub(super) fn field(name: &str) -> String {
    format!("metadata.annotations[{}]", Excerpt(name))
}

fn report_unknown(annotations: Option<&Annotations>, known: &[&str], report: &mut Report) {
    for name in annotations.into_iter().flat_map(BTreeMap::keys) {
        if !name.starts_with(PREFIX) || known.contains(&name.as_str()) {
            continue;
        }
        // What is much longer than any that is known is none of them mistyped.
        let near = known.iter().filter(|known| name.len() <= 2 * known.len());
        let nearest = near.min_by_key(|known| distance(name, known));
        let hint = nearest.map_or_else(String::new, |known| format!("; did you mean '{known}'?"));
        report.warning(
            Reason::InvalidAnnotation,
            field(name),
            format!(
                "Tidegate has no annotation '{}' for this kind and ignores it{hint}",
                Excerpt(name)
            ),
        );
    }
}

/// Edit distance of two texts (Levenshtein), by bytes.
fn distance(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_edits() {
        for (left, right, wanted) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("ssl-redirct", "ssl-redirect", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), wanted, "{left} {right}");
        }
    }
}
