//! Records and certificates as Secrets, and back.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidegate_certificates::store::IssuedCertificate;
use tidegate_certificates::{Record, RecordKind};
use tidegate_model::NamespacedName;

use crate::translate::labels;
use crate::translate::{
    CERTIFICATE_LABEL, CHALLENGE_ANSWERS_LABEL, INSTANCE_LABEL, ISSUER_ANNOTATION,
    NAMES_ANNOTATION, REQUESTS_LABEL, TICKET_KEYS_LABEL,
};

/// Who makes and removes an object (Kubernetes' recommended labels).
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "tidegate");
/// `type` of a Secret with a certificate.
pub(super) const TLS: &str = "kubernetes.io/tls";
/// `type` of a Secret with anything.
pub(super) const OPAQUE: &str = "Opaque";
const LEDGER_LABEL: &str = "tidegate.dev/ledger";
const ACCOUNT_LABEL: &str = "tidegate.dev/account";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Whose Secrets are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Tidegate's own namespace, where records are.
    pub namespace: String,
    /// Name of the instance, the value of the labels of what is its own.
    pub instance: String,
    /// Name of the instance's Lease, which names of records begin with.
    pub lease_name: String,
}

impl Owner {
    /// The labels by which records of a kind are known.
    pub(super) fn labels(&self, kind: RecordKind) -> BTreeMap<String, String> {
        let instance = self.instance.as_str();
        let own = match kind {
            RecordKind::Ledger => vec![(LEDGER_LABEL, instance)],
            RecordKind::Account => vec![(ACCOUNT_LABEL, instance)],
            RecordKind::ChallengeAnswers => {
                vec![
                    (CHALLENGE_ANSWERS_LABEL, "true"),
                    (INSTANCE_LABEL, instance),
                ]
            }
            RecordKind::TicketKeys => vec![(TICKET_KEYS_LABEL, instance)],
            RecordKind::Requests => vec![(REQUESTS_LABEL, instance)],
        };
        owned(own)
    }

    /// Those labels as a selector.
    pub(super) fn selector(&self, kind: RecordKind) -> String {
        let labels = self.labels(kind);
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        labels.join(",")
    }

    /// The Secret that a record is in.
    pub fn object(&self, kind: RecordKind, name: &str) -> NamespacedName {
        let prefix = format!("{}-{}", self.lease_name, kind.as_str());
        let object = match name {
            "" => prefix,
            name => format!("{prefix}-{name}"),
        };
        NamespacedName::new(&self.namespace, object)
    }

    /// A record as a Secret, in the version that it has.
    pub fn secret(&self, record: &Record) -> Secret {
        let name = self.object(record.kind, &record.name);
        let mut labels = self.labels(record.kind);
        labels.extend(owned([MANAGED_BY]));
        let entries = record.entries.iter();
        Secret {
            metadata: ObjectMeta {
                name: Some(name.name),
                namespace: Some(name.namespace),
                labels: Some(labels),
                resource_version: record.version.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(OPAQUE.to_owned()),
            data: Some(
                entries
                    .map(|(key, value)| (key.clone(), ByteString(value.clone())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    /// A Secret as a record; `None` for one that is labelled as such and has another name.
    pub(super) fn record(&self, kind: RecordKind, secret: Secret) -> Option<Record> {
        let object = secret.metadata.name?;
        let prefix = self.object(kind, "").name;
        let name = match object.strip_prefix(&prefix)? {
            "" => "",
            rest => rest.strip_prefix('-')?,
        };
        let entries = secret.data.unwrap_or_default().into_iter();
        Some(Record {
            kind,
            name: name.to_owned(),
            entries: entries.map(|(key, value)| (key, value.0)).collect(),
            version: secret.metadata.resource_version,
        })
    }

    /// Whether this instance has put a certificate there.
    pub(super) fn owns(&self, secret: &Secret) -> bool {
        labels::has(&secret.metadata, CERTIFICATE_LABEL, &self.instance)
    }

    /// A Secret of this name with nothing in it.
    pub fn new_certificate(name: &NamespacedName) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name.name.clone()),
                namespace: Some(name.namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(TLS.to_owned()),
            ..Secret::default()
        }
    }

    /// A Secret with a certificate put into it. What else it has stays.
    pub fn with_certificate(&self, mut secret: Secret, issued: &IssuedCertificate) -> Secret {
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.extend(owned([MANAGED_BY, (CERTIFICATE_LABEL, &self.instance)]));
        let names: Vec<_> = issued.names.iter().map(ToString::to_string).collect();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.extend(owned([
            (ISSUER_ANNOTATION, issued.issuer.as_str()),
            (NAMES_ANNOTATION, &names.join(",")),
        ]));
        let data = secret.data.get_or_insert_default();
        for (key, text) in [(CHAIN, &issued.chain), (KEY, &issued.key)] {
            data.insert(key.to_owned(), ByteString(text.clone().into_bytes()));
        }
        secret.metadata.managed_fields = None;
        secret
    }
}

fn owned<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
