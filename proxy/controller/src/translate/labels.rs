//! Labels and annotations by which an instance knows the Secrets that it keeps for itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Label of the Secrets in [`Settings::own_namespace`](super::Settings::own_namespace) that hold challenge answers, with
/// the value `"true"`. Each entry of such a Secret has a token as its key and the key authorization as its value
/// (RFC 8555 section 8.1), or `tls-alpn-01.HOST` as its key (RFC 8737).
pub const CHALLENGE_ANSWERS_LABEL: &str = "tidegate.dev/challenge-answers";
/// Label of a Secret with a certificate that an instance has put there and may replace and remove; the value is the name of
/// the instance.
pub const CERTIFICATE_LABEL: &str = "tidegate.dev/certificate";
/// Label of the Secret with an instance's keys for session tickets; the value is the name of the instance.
pub const TICKET_KEYS_LABEL: &str = "tidegate.dev/ticket-keys";
/// Label of the Secret with what people and handshakes have asked an instance for; the value is its name.
pub const REQUESTS_LABEL: &str = "tidegate.dev/certificate-requests";
/// Label of a record of an instance, where the label that says what it is has no room for the name of the instance.
pub const INSTANCE_LABEL: &str = "tidegate.dev/instance";
/// Annotation of a Secret with a certificate: the issuer that it was ordered from, as the settings name it.
pub const ISSUER_ANNOTATION: &str = "tidegate.dev/issuer";
/// Annotation of a Secret with a certificate: the names that it was ordered for, with commas between them.
pub const NAMES_ANNOTATION: &str = "tidegate.dev/names";

/// Labels of Secrets of which every entry is read, not only a certificate and its key.
pub(crate) const OF_RECORDS: [&str; 3] =
    [CHALLENGE_ANSWERS_LABEL, TICKET_KEYS_LABEL, REQUESTS_LABEL];

/// Whether an object has a label with this value.
pub(crate) fn has(metadata: &ObjectMeta, label: &str, value: &str) -> bool {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(label))
        .is_some_and(|found| found == value)
}
