//! Amazon Route 53.

use std::time::Duration;

use aws_sdk_route53::Client;
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::config::retry::RetryConfig;
use aws_sdk_route53::config::timeout::TimeoutConfig;
use aws_sdk_route53::config::{BehaviorVersion, Config, Region};
use aws_sdk_route53::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ChangeStatus, ResourceRecord, ResourceRecordSet, RrType,
};
use aws_smithy_http_client::tls;
use futures_util::future::{BoxFuture, FutureExt};
use hickory_proto::rr::Name;
use zeroize::Zeroizing;

use super::webhook::web_address;
use super::{Provider, ProviderError, Receipt, TTL, TxtRecord};

/// Attempts of one call; the SDK waits longer each time when it is throttled.
const ATTEMPTS: u32 = 6;
/// Longest wait for one call, with its attempts.
const CALL: Duration = Duration::from_secs(60);
/// How often a set of records that somebody else keeps changing is read again.
const ROUNDS: usize = 5;
/// Pause between two questions whether a change has reached every server. The API allows 5 calls a second.
const PAUSE: Duration = Duration::from_secs(2);

/// An access key.
pub(super) struct Credentials {
    pub(super) id: Zeroizing<String>,
    pub(super) secret: Zeroizing<String>,
    pub(super) session: Option<Zeroizing<String>>,
}

/// Hosted zones of an account.
pub(super) struct Route53 {
    client: Client,
    /// Identifier of the one that is meant; else it is looked for by name.
    zone: Option<String>,
}

impl Route53 {
    /// # Errors
    /// The endpoint cannot be used.
    pub(super) fn new(
        zone: Option<&str>,
        region: &str,
        endpoint: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let key = aws_credential_types::Credentials::new(
            credentials.id.as_str(),
            credentials.secret.as_str(),
            credentials.session.as_ref().map(|token| token.to_string()),
            None,
            "tidegate",
        );
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::AwsLc,
            ))
            .build_https();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(key)
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(TimeoutConfig::builder().operation_timeout(CALL).build());
        if let Some(endpoint) = endpoint {
            if web_address(endpoint).is_none() {
                return Err("route53.endpoint is no http or https URL; correct it".to_owned());
            }
            config = config.endpoint_url(endpoint);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            zone: zone.map(|id| id.trim_start_matches("/hostedzone/").to_owned()),
        })
    }

    /// Changes the values of a name, whatever others change at the same time.
    async fn change(&self, record: &TxtRecord, edit: Edit) -> Result<Receipt, ProviderError> {
        let zone = self.zone_id(&record.zone).await?;
        let value = quoted(&record.value);
        let mut last = None;
        for _ in 0..ROUNDS {
            let held = self.held(&zone, &record.name).await?;
            let Some(changes) = changes(&record.name, held, &value, edit)? else {
                return Ok(Receipt::default());
            };
            let batch = ChangeBatch::builder().set_changes(Some(changes)).build();
            let batch = batch.map_err(unwritten)?;
            let request = self.client.change_resource_record_sets();
            let request = request.hosted_zone_id(&zone).change_batch(batch);
            match request.send().await {
                Ok(answer) => {
                    let id = answer.change_info.map(|info| info.id);
                    return Ok(Receipt(id));
                }
                // The set is not any more what it was when it was read.
                Err(error) if error.code() == Some("InvalidChangeBatch") => {
                    last = Some(failure("ChangeResourceRecordSets", &error));
                }
                Err(error) => return Err(failure("ChangeResourceRecordSets", &error)),
            }
        }
        Err(last.unwrap_or_else(|| ProviderError::Unavailable("no attempt was made".to_owned())))
    }

    /// The TXT records of a name.
    async fn held(
        &self,
        zone: &str,
        name: &Name,
    ) -> Result<Option<ResourceRecordSet>, ProviderError> {
        let request = self.client.list_resource_record_sets();
        let request = request
            .hosted_zone_id(zone)
            .start_record_name(name.to_string())
            .start_record_type(RrType::Txt)
            .max_items(1);
        let answer = request.send().await;
        let answer = answer.map_err(|error| failure("ListResourceRecordSets", &error))?;
        // What is listed begins at the name, or after it when it has none.
        let is_it = |set: &ResourceRecordSet| set.r#type == RrType::Txt && is_name(&set.name, name);
        Ok(answer.resource_record_sets.into_iter().find(is_it))
    }

    /// Identifier of the public hosted zone.
    async fn zone_id(&self, name: &Name) -> Result<String, ProviderError> {
        if let Some(id) = &self.zone {
            return Ok(id.clone());
        }
        let request = self.client.list_hosted_zones_by_name();
        let answer = request.dns_name(name.to_string()).send().await;
        let answer = answer.map_err(|error| failure("ListHostedZonesByName", &error))?;
        let mut zones = answer.hosted_zones.into_iter().filter(|zone| {
            let is_private = zone
                .config
                .as_ref()
                .is_some_and(|config| config.private_zone);
            is_name(&zone.name, name) && !is_private
        });
        match (zones.next(), zones.next()) {
            (Some(zone), None) => Ok(zone.id.trim_start_matches("/hostedzone/").to_owned()),
            (None, _) => Err(ProviderError::Refused(format!(
                "the account has no public hosted zone {name}; make it, or use an access key of the account that has it"
            ))),
            (Some(_), Some(_)) => Err(ProviderError::Refused(format!(
                "the account has several public hosted zones {name}; name the one that the domain is delegated to in route53.hostedZoneId"
            ))),
        }
    }

    async fn in_sync(&self, receipt: &Receipt) -> Result<(), ProviderError> {
        let Some(id) = &receipt.0 else {
            return Ok(());
        };
        loop {
            let answer = self.client.get_change().id(id).send().await;
            let answer = answer.map_err(|error| failure("GetChange", &error))?;
            let status = answer.change_info.map(|info| info.status);
            if status == Some(ChangeStatus::Insync) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Provider for Route53 {
    fn name(&self) -> &'static str {
        "route53"
    }

    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>> {
        self.change(record, Edit::Add).boxed()
    }

    fn settled<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.in_sync(receipt).boxed()
    }

    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>> {
        async move { self.change(record, Edit::Take).await.map(drop) }.boxed()
    }
}

/// What is to be done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Add,
    Take,
}

/// What turns the values that a name has into those that it should have; `None` when it has them.
///
/// The set is deleted as it was read and made anew, in one batch: when it has changed since, the whole batch is refused,
/// and nobody's value is lost. `UPSERT` would overwrite.
fn changes(
    name: &Name,
    held: Option<ResourceRecordSet>,
    value: &str,
    edit: Edit,
) -> Result<Option<Vec<Change>>, ProviderError> {
    if held
        .as_ref()
        .is_some_and(|set| set.set_identifier.is_some())
    {
        return Err(ProviderError::Refused(format!(
            "{name} has TXT records with a routing policy, beside which no other can be; remove them"
        )));
    }
    let records = held.as_ref().and_then(|set| set.resource_records.clone());
    let mut records = records.unwrap_or_default();
    let has_value = records.iter().any(|record| record.value == value);
    match edit {
        Edit::Add if !has_value => {
            records.push(
                ResourceRecord::builder()
                    .value(value)
                    .build()
                    .map_err(unwritten)?,
            );
        }
        Edit::Take if has_value => records.retain(|record| record.value != value),
        Edit::Add | Edit::Take => return Ok(None),
    }
    // The others' set keeps its TTL.
    let ttl = held.as_ref().and_then(|set| set.ttl);
    let mut changes = Vec::new();
    if let Some(held) = held {
        changes.push(change(ChangeAction::Delete, held)?);
    }
    if !records.is_empty() {
        let set = ResourceRecordSet::builder()
            .name(name.to_string())
            .r#type(RrType::Txt)
            .ttl(ttl.unwrap_or(TTL.into()))
            .set_resource_records(Some(records))
            .build()
            .map_err(unwritten)?;
        changes.push(change(ChangeAction::Create, set)?);
    }
    Ok(Some(changes))
}

fn change(action: ChangeAction, set: ResourceRecordSet) -> Result<Change, ProviderError> {
    let change = Change::builder().action(action).resource_record_set(set);
    change.build().map_err(unwritten)
}

fn unwritten(error: impl std::error::Error) -> ProviderError {
    ProviderError::Refused(format!("the request cannot be written: {error}"))
}

/// What an error of the SDK means. It shows neither keys nor signatures.
fn failure<E>(action: &str, error: &SdkError<E, HttpResponse>) -> ProviderError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let (Some(code), Some(answer)) = (error.code(), error.raw_response()) else {
        let error = DisplayErrorContext(error);
        return ProviderError::Unavailable(format!("Route 53 cannot be asked ({action}): {error}"));
    };
    let message = match error.message() {
        Some(message) => message.to_owned(),
        // Some errors have a list of them.
        None => DisplayErrorContext(error).to_string(),
    };
    let remedy = match code {
        "AccessDenied" | "AccessDeniedException" => {
            format!("; allow route53:{action} to the access key")
        }
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "ExpiredToken"
        | "MissingAuthenticationToken" => "; check the access key and its secret".to_owned(),
        "NoSuchHostedZone" => "; correct route53.hostedZoneId".to_owned(),
        _ => String::new(),
    };
    let message = format!("Route 53 refuses {action}: {message} ({code}){remedy}");
    let may_pass = answer.status().is_server_error()
        || code.contains("Throttl")
        || code == "PriorRequestNotComplete";
    match may_pass {
        true => ProviderError::Unavailable(message),
        false => ProviderError::Refused(message),
    }
}

/// Whether a name of the API is this one.
fn is_name(theirs: &str, ours: &Name) -> bool {
    let theirs = theirs.trim_end_matches('.');
    theirs.eq_ignore_ascii_case(ours.to_string().trim_end_matches('.'))
}

/// A value in quotes, as in a zone file; that of a challenge has none inside.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> ResourceRecordSet {
        let record = |value: &&str| ResourceRecord::builder().value(*value).build().unwrap();
        ResourceRecordSet::builder()
            .name("_acme-challenge.example.com.")
            .r#type(RrType::Txt)
            .ttl(300)
            .set_resource_records(Some(values.iter().map(record).collect()))
            .build()
            .unwrap()
    }

    fn planned(held: Option<ResourceRecordSet>, edit: Edit) -> Option<Vec<String>> {
        let name = Name::from_ascii("_acme-challenge.example.com.").unwrap();
        let changes = changes(&name, held, "\"ours\"", edit).unwrap()?;
        let shown = changes.into_iter().map(|change| {
            let set = change.resource_record_set.unwrap();
            let values: Vec<_> = set
                .resource_records()
                .iter()
                .map(|one| one.value())
                .collect();
            let ttl = set.ttl.unwrap();
            format!("{} {ttl} {}", change.action.as_str(), values.join(" "))
        });
        Some(shown.collect())
    }

    #[test]
    fn a_value_is_added_and_taken_beside_others() {
        let create = vec!["CREATE 60 \"ours\"".to_owned()];
        assert_eq!(planned(None, Edit::Add), Some(create));
        let beside = vec![
            "DELETE 300 \"theirs\"".to_owned(),
            "CREATE 300 \"theirs\" \"ours\"".to_owned(),
        ];
        assert_eq!(planned(Some(set(&["\"theirs\""])), Edit::Add), Some(beside));
        let both = set(&["\"ours\"", "\"theirs\""]);
        let taken = vec![
            "DELETE 300 \"ours\" \"theirs\"".to_owned(),
            "CREATE 300 \"theirs\"".to_owned(),
        ];
        assert_eq!(planned(Some(both), Edit::Take), Some(taken));
        let last = vec!["DELETE 300 \"ours\"".to_owned()];
        assert_eq!(planned(Some(set(&["\"ours\""])), Edit::Take), Some(last));
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        assert_eq!(planned(Some(set(&["\"ours\""])), Edit::Add), None);
        assert_eq!(planned(Some(set(&["\"theirs\""])), Edit::Take), None);
        assert_eq!(planned(None, Edit::Take), None);
    }
}
