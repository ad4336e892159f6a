//! Dynamic updates of DNS (RFC 2136), signed by TSIG (RFC 8945).

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{BoxFuture, FutureExt};
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm as Hmac, TsigError};
use hickory_proto::rr::{Name, RData, Record, TSigner};
use zeroize::Zeroizing;

use super::super::exchange::{Answer, exchange};
use super::{Provider, ProviderError, Receipt, TTL, TxtRecord};
use crate::issuer::TsigAlgorithm;

/// Seconds that the clocks may differ (RFC 8945 section 10).
const FUDGE: u16 = 300;

/// A TSIG key.
pub(super) struct Key<'a> {
    pub(super) name: &'a str,
    pub(super) algorithm: TsigAlgorithm,
    pub(super) base64: Zeroizing<String>,
}

/// A primary name server that takes updates.
pub(super) struct Rfc2136 {
    server: SocketAddr,
    signer: TSigner,
}

impl Rfc2136 {
    /// # Errors
    /// What is wrong with the key.
    pub(super) fn new(server: SocketAddr, key: &Key<'_>) -> Result<Self, String> {
        let name = Name::from_ascii(key.name)
            .map_err(|error| format!("keyName '{}' is no DNS name: {error}", key.name))?;
        let bytes = STANDARD.decode(key.base64.as_bytes()).map_err(|_| {
            "the key is no base64; copy the text that keymgr or tsig-keygen calls 'secret'"
                .to_owned()
        })?;
        let signer = TSigner::new(bytes, hmac(key.algorithm), name.to_lowercase(), FUDGE)
            .map_err(|error| format!("the key cannot be used: {error}"))?;
        Ok(Self { server, signer })
    }

    async fn update(&self, mut message: Message, record: &TxtRecord) -> Result<(), ProviderError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let unsigned =
            |error| ProviderError::Refused(format!("the update cannot be signed: {error}"));
        let verifier = message.finalize(&self.signer, now).map_err(unsigned)?;
        let answer = exchange(self.server, &message).await.map_err(|error| {
            ProviderError::Unavailable(format!(
                "{}: {error}; check rfc2136.server, and that this node reaches it",
                self.server
            ))
        })?;
        self.outcome(&answer, record)?;
        // An answer that says yes has to be signed too.
        match verifier.map(|mut verifier| verifier.verify(&answer.bytes)) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(ProviderError::Unavailable(format!(
                "the answer of {} is not signed with the TSIG key '{}': {error}",
                self.server,
                self.signer.signer_name()
            ))),
        }
    }

    fn outcome(&self, answer: &Answer, record: &TxtRecord) -> Result<(), ProviderError> {
        let code = answer.message.response_code;
        let tsig = answer.message.signature.as_ref();
        let error = tsig.and_then(|signature| signature.data.error);
        let (server, key) = (self.server, self.signer.signer_name());
        let why = match (code, error) {
            (ResponseCode::NoError, None) => return Ok(()),
            (_, Some(TsigError::BadKey)) | (ResponseCode::BADKEY, _) => format!(
                "{server} does not know the TSIG key '{key}' with {}; make it there, or correct keyName and algorithm",
                self.signer.algorithm()
            ),
            (_, Some(TsigError::BadSig)) | (ResponseCode::BADSIG, _) => format!(
                "{server} has another secret for the TSIG key '{key}'; give the same one in rfc2136.key"
            ),
            (_, Some(TsigError::BadTime)) | (ResponseCode::BADTIME, _) => format!(
                "the clocks of {server} and of this node differ by more than {FUDGE} s; set them by NTP"
            ),
            (ResponseCode::Refused, _) => format!(
                "{server} refuses; let the TSIG key '{key}' update TXT records of {} there",
                record.name
            ),
            (ResponseCode::NotAuth, _) => format!(
                "{server} is not the primary server of the zone {}, or its rules keep the TSIG key '{key}' out; name the primary in rfc2136.server",
                record.zone
            ),
            (ResponseCode::NotZone, _) => format!(
                "{server} says that the record is not in its zone {}; check that it has the zone that DNS shows",
                record.zone
            ),
            (ResponseCode::ServFail, _) => {
                let trouble = format!("{server} has trouble of its own (SERVFAIL); see its log");
                return Err(ProviderError::Unavailable(trouble));
            }
            (code, _) => format!("{server} answers {code}; see its log"),
        };
        Err(ProviderError::Refused(why))
    }
}

impl Provider for Rfc2136 {
    fn name(&self) -> &'static str {
        "rfc2136"
    }

    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>> {
        async move {
            let update =
                update_message::append(text(record)?.into(), record.zone.clone(), false, false);
            self.update(update, record).await?;
            Ok(Receipt::default())
        }
        .boxed()
    }

    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>> {
        async move {
            let update =
                update_message::delete_by_rdata(text(record)?.into(), record.zone.clone(), false);
            self.update(update, record).await
        }
        .boxed()
    }
}

/// The record, which is in its zone: an update of another is never written.
fn text(record: &TxtRecord) -> Result<Record, ProviderError> {
    if !record.zone.zone_of(&record.name) {
        return Err(ProviderError::Refused(
            "the record is not in the zone".to_owned(),
        ));
    }
    let value = RData::TXT(TXT::new(vec![record.value.clone()]));
    Ok(Record::from_rdata(record.name.clone(), TTL, value))
}

fn hmac(algorithm: TsigAlgorithm) -> Hmac {
    match algorithm {
        TsigAlgorithm::HmacSha256 => Hmac::HmacSha256,
        TsigAlgorithm::HmacSha384 => Hmac::HmacSha384,
        TsigAlgorithm::HmacSha512 => Hmac::HmacSha512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(base64: &str) -> Key<'static> {
        Key {
            name: "tidegate",
            algorithm: TsigAlgorithm::HmacSha256,
            base64: Zeroizing::new(base64.to_owned()),
        }
    }

    #[test]
    fn a_key_that_is_no_base64_is_not_shown() {
        let server = "192.0.2.1:53".parse().unwrap();
        let error = Rfc2136::new(server, &key("top secret!")).err().unwrap();
        assert!(
            error.contains("base64") && !error.contains("top"),
            "{error}"
        );
        assert!(Rfc2136::new(server, &key("c2VjcmV0")).is_ok());
    }

    #[test]
    fn a_record_outside_its_zone_is_not_written() {
        let record = TxtRecord {
            name: Name::from_ascii("_acme-challenge.example.net.").unwrap(),
            zone: Name::from_ascii("example.com.").unwrap(),
            value: "v".to_owned(),
        };
        assert!(matches!(text(&record), Err(ProviderError::Refused(_))));
    }
}
