//! When to renew, by the CA's word (RFC 9773).

use std::time::Duration;

use instant_acme::CertificateIdentifier;
use tidegate_model::{Certificate, UnixTime};

use crate::acme::account::Session;
use crate::acme::failure::AcmeError;
use crate::ledger::{Renewal, Seconds, seconds, share};
use crate::names::SetId;

/// Least wait until the CA is asked again (RFC 9773 section 4.3.2 has clients limit what `Retry-After` says).
const SOONEST: Duration = Duration::from_secs(60);
/// Longest wait until the CA is asked again.
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);
/// When a CA is asked again that could not be asked.
const AFTER_FAILURE: Seconds = 60 * 60;
/// When a CA is asked again that offers nothing of the kind.
const UNSUPPORTED: Seconds = 24 * 60 * 60;

/// The identifier of a certificate (RFC 9773 section 4.1); `None` for one that cannot have any.
pub(crate) fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    let leaf = certificate.chain.first()?;
    let identifier = CertificateIdentifier::try_from(leaf).ok()?;
    Some(identifier.into_owned())
}

/// Asks the CA.
pub(crate) async fn ask(
    session: &Session,
    id: &SetId,
    certificate: &Certificate,
    now: UnixTime,
) -> Result<Renewal, AcmeError> {
    let unsupported = |text: String| Renewal::unsupported(text, later(now, UNSUPPORTED));
    let Some(identifier) = identifier(certificate) else {
        return Ok(unsupported(String::new()));
    };
    let (answer, wait) = match session.account.renewal_info(&identifier).await {
        Ok(answer) => answer,
        Err(error) => match session.error(error) {
            AcmeError::Unsupported(_) => return Ok(unsupported(identifier.to_string())),
            AcmeError::Refused(refusal) if refusal.is_unknown() => {
                return Ok(unsupported(identifier.to_string()));
            }
            error => return Err(error),
        },
    };
    let window = answer.suggested_window;
    let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
    let wait = seconds(wait.clamp(SOONEST, LATEST));
    if end <= start {
        // No window; section 4.2 has clients treat that as no answer at all.
        let ask_at = later(now, wait);
        return Ok(Renewal::unsupported(identifier.to_string(), ask_at));
    }
    Ok(Renewal {
        certificate: identifier.to_string(),
        start,
        end,
        at: start.saturating_add(share(id, 0, end.saturating_sub(start))),
        ask_at: now.0.saturating_add(wait),
        explanation: answer.explanation_url,
    })
}

/// What is remembered when the CA could not be asked.
pub(crate) fn not_asked(
    certificate: &Certificate,
    before: Option<&Renewal>,
    now: UnixTime,
) -> Renewal {
    let name = identifier(certificate).map_or_else(String::new, |name| name.to_string());
    let ask_at = later(now, AFTER_FAILURE);
    match before.filter(|before| before.certificate == name) {
        Some(before) => Renewal {
            ask_at: ask_at.0,
            ..before.clone()
        },
        None => Renewal::unsupported(name, ask_at),
    }
}

fn later(now: UnixTime, wait: Seconds) -> UnixTime {
    UnixTime(now.0.saturating_add(wait))
}
