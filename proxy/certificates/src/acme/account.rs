//! Accounts: their key is kept before the CA hears of it, so that the same account is found again and none is made twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::acme::failure::AcmeError;
use crate::acme::jws::{self, AccountKey, KeyError, Sender};
use crate::acme::server::{Server, text_of};
use crate::acme::transport::{MayAsk, Transport};
use crate::http::HttpClient;
use crate::issuer::{ExternalAccount, Issuer};
use crate::ledger::{Failure, FailureKind};
use crate::store::{Record, RecordKind, Store, StoreError};

/// Entry of a record with what is known of the account.
const ACCOUNT: &str = "account.json";
/// Entry of a record with the account's key.
const KEY: &str = "tls.key";
/// Entry of a record with the key that takes the place of that one.
const NEXT_KEY: &str = "next.key";
/// How often a record that others write too is read again.
const CONFLICTS: usize = 3;

/// The name of an account's record: a short hash of the directory's URL and of the external account's key identifier.
pub fn record_name(directory: &str, external_key_id: Option<&str>) -> String {
    match external_key_id {
        None => jws::short_hash(directory),
        Some(key_id) => jws::short_hash(&format!("{directory}\n{key_id}")),
    }
}

/// What is kept of an account beside its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kept {
    /// Its URL; `None` until the CA has told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// URL of the directory.
    directory: String,
    /// The contact that the CA has; `None` when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<Vec<String>>,
}

/// An account, ready for orders.
pub(crate) struct Session {
    /// Its view by `instant-acme`.
    pub(crate) account: instant_acme::Account,
    /// URL of the directory.
    pub(crate) directory: String,
    server: Server,
    key: AccountKey,
    uri: String,
}

impl Session {
    /// Reads something of the CA by a POST-as-GET of the account.
    pub(crate) async fn read(&self, url: &str) -> Result<http::Response<bytes::Bytes>, AcmeError> {
        let sender = Sender::Account(&self.uri);
        self.server.post(&self.key, sender, url, None).await
    }

    /// An error of `instant-acme` as ours.
    pub(crate) fn error(&self, error: instant_acme::Error) -> AcmeError {
        AcmeError::from_client(error, &self.directory)
    }
}

/// The accounts that this process has opened, by the name of their record.
pub(crate) struct Accounts<S> {
    store: Arc<S>,
    open: Mutex<HashMap<String, Slot>>,
}

/// One at a time opens an account; the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Opened>>>;

struct Opened {
    session: Arc<Session>,
    basis: Basis,
}

/// What of an issuer an account goes by: it is opened anew when that changes.
#[derive(PartialEq)]
struct Basis {
    contact: Vec<String>,
    external: Option<ExternalAccount>,
    bundle: Option<Vec<u8>>,
}

impl Basis {
    fn of(issuer: &Issuer) -> Self {
        Self {
            contact: issuer.contact.clone(),
            external: issuer.external_account.clone(),
            bundle: issuer.ca_bundle.clone(),
        }
    }
}

impl<S: Store> Accounts<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self {
            store,
            open: Mutex::default(),
        }
    }

    /// The account of an issuer at one of its directories: opened before, found again, or made.
    pub(crate) async fn session(
        &self,
        issuer: &Issuer,
        directory: &str,
    ) -> Result<Arc<Session>, Failure> {
        let basis = Basis::of(issuer);
        let slot = self.slot(&name_for(issuer, directory));
        let mut slot = slot.lock().await;
        if let Some(opened) = slot.as_ref().filter(|opened| opened.basis == basis) {
            return Ok(opened.session.clone());
        }
        let opening = Opening {
            store: &*self.store,
            issuer,
            directory,
        };
        let session = Arc::new(opening.run(self.may_ask()).await?);
        *slot = Some(Opened {
            session: session.clone(),
            basis,
        });
        Ok(session)
    }

    /// Opens it anew the next time, such as after the CA could not be reached: its directory may have changed.
    pub(crate) async fn close(&self, issuer: &Issuer, directory: &str) {
        let slot = self.slot(&name_for(issuer, directory));
        *slot.lock().await = None;
    }

    /// Forgets that the CA knows the account, after it said that it does not. Its key stays the same.
    pub(crate) async fn forget(&self, issuer: &Issuer, directory: &str) -> Result<(), Failure> {
        let name = name_for(issuer, directory);
        let slot = self.slot(&name);
        let mut slot = slot.lock().await;
        *slot = None;
        let Some(mut record) = find(&*self.store, &name).await? else {
            return Ok(());
        };
        let mut kept = kept(&record)?;
        kept.uri = None;
        write(&mut record, &kept);
        self.store.save(&record).await?;
        tracing::warn!(
            issuer = issuer.name,
            directory,
            "the CA does not know our account any more; it is made again with the same key"
        );
        Ok(())
    }

    fn may_ask(&self) -> MayAsk {
        let store = self.store.clone();
        Arc::new(move || store.check())
    }

    fn slot(&self, name: &str) -> Slot {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(name.to_owned()).or_default().clone()
    }
}

fn name_for(issuer: &Issuer, directory: &str) -> String {
    let external = issuer.external_account.as_ref();
    record_name(directory, external.map(|external| &*external.key_id))
}

async fn find<S: Store>(store: &S, name: &str) -> Result<Option<Record>, StoreError> {
    let records = store.load(RecordKind::Account).await?;
    Ok(records.into_iter().find(|record| record.name == name))
}

fn kept(record: &Record) -> Result<Kept, Failure> {
    let bytes = record
        .entries
        .get(ACCOUNT)
        .map_or(&b"{}"[..], Vec::as_slice);
    serde_json::from_slice(bytes).map_err(|error| damaged(record, ACCOUNT, &error.to_string()))
}

fn write(record: &mut Record, kept: &Kept) {
    let text = serde_json::to_vec(kept).unwrap_or_default();
    record.entries.insert(ACCOUNT.to_owned(), text);
}

fn damaged(record: &Record, entry: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Settings,
        format!(
            "entry '{entry}' of the record of ACME account '{}' cannot be read: {why}; restore it, or remove the record \
             to have a new account made",
            record.name
        ),
    )
}

/// An account on its way to being usable.
struct Opening<'a, S> {
    store: &'a S,
    issuer: &'a Issuer,
    directory: &'a str,
}

impl<S: Store> Opening<'_, S> {
    async fn run(&self, may_ask: MayAsk) -> Result<Session, Failure> {
        let http = HttpClient::new(self.issuer.ca_bundle.as_deref()).map_err(AcmeError::from)?;
        let transport = Transport::new(http, may_ask);
        let mut record = self.record().await?;
        let server = Server::open(transport.clone(), self.directory).await?;
        let mut kept = kept(&record)?;
        let mut key = self.key(&record, KEY)?;
        let uri = match &kept.uri {
            Some(uri) => uri.clone(),
            None => {
                let uri = self.register(&server, &key).await?;
                kept.uri = Some(uri.clone());
                kept.contact = Some(self.issuer.contact.clone());
                self.save(&mut record, &kept).await?;
                uri
            }
        };
        if key.pkcs8().map_err(AcmeError::from)?.is_none() {
            key = self
                .roll_over(&server, &mut record, &kept, key, &uri)
                .await?;
        }
        // One that was imported keeps the contact that it has, unless the settings name another.
        let is_told = match &kept.contact {
            Some(contact) => *contact == self.issuer.contact,
            None => self.issuer.contact.is_empty(),
        };
        if !is_told {
            let payload = json!({ "contact": self.issuer.contact });
            let sender = Sender::Account(&uri);
            server.post(&key, sender, &uri, Some(&payload)).await?;
            kept.contact = Some(self.issuer.contact.clone());
            self.save(&mut record, &kept).await?;
        }
        self.session(transport, server, key, uri).await
    }

    async fn session(
        &self,
        transport: Transport,
        server: Server,
        key: AccountKey,
        uri: String,
    ) -> Result<Session, Failure> {
        let unfit = || AcmeError::Key(KeyError::Unfit);
        let pkcs8 = key.pkcs8().map_err(AcmeError::from)?.ok_or_else(unfit)?;
        let account = instant_acme::Account::builder_with_http(Box::new(transport))
            .from_parts(uri.clone(), pkcs8, self.directory.to_owned())
            .await
            .map_err(|error| AcmeError::from_client(error, self.directory))?;
        Ok(Session {
            account,
            directory: self.directory.to_owned(),
            server,
            key,
            uri,
        })
    }

    /// The account's record; a new one with a new key is written before it is returned.
    async fn record(&self) -> Result<Record, Failure> {
        let name = name_for(self.issuer, self.directory);
        for _ in 0..CONFLICTS {
            if let Some(record) = find(self.store, &name).await? {
                return Ok(record);
            }
            let (_, pem) = AccountKey::generate().map_err(AcmeError::from)?;
            let mut record = Record::new(RecordKind::Account, &name);
            record.entries.insert(KEY.to_owned(), pem.into_bytes());
            write(
                &mut record,
                &Kept {
                    directory: self.directory.to_owned(),
                    ..Kept::default()
                },
            );
            match self.store.save(&record).await {
                Ok(version) => {
                    record.version = Some(version);
                    return Ok(record);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn key(&self, record: &Record, entry: &str) -> Result<AccountKey, Failure> {
        let pem = record.entries.get(entry).map_or(&b""[..], Vec::as_slice);
        AccountKey::from_pem(pem).map_err(|error| damaged(record, entry, &error.to_string()))
    }

    async fn save(&self, record: &mut Record, kept: &Kept) -> Result<(), Failure> {
        write(record, kept);
        record.version = Some(self.store.save(record).await?);
        Ok(())
    }

    /// Makes the account, or finds it by its key (RFC 8555 section 7.3.1): the CA does either by one request.
    async fn register(&self, server: &Server, key: &AccountKey) -> Result<String, Failure> {
        let mut payload = json!({ "termsOfServiceAgreed": true });
        if !self.issuer.contact.is_empty() {
            payload["contact"] = self.issuer.contact.clone().into();
        }
        if let Some(external) = &self.issuer.external_account {
            payload["externalAccountBinding"] = self.binding(server, key, external).await?;
        }
        let url = server.new_account();
        let answer = server.post(key, Sender::Key, url, Some(&payload)).await?;
        let uri = text_of(answer.headers(), "location").ok_or_else(|| {
            AcmeError::not_acme(url, "it does not tell the account's URL", answer.body())
        })?;
        tracing::info!(
            issuer = self.issuer.name,
            directory = self.directory,
            account = uri,
            "ACME account {}",
            if answer.status() == http::StatusCode::CREATED {
                "made"
            } else {
                "found again"
            }
        );
        Ok(uri)
    }

    async fn binding(
        &self,
        server: &Server,
        key: &AccountKey,
        external: &ExternalAccount,
    ) -> Result<Value, Failure> {
        let settings = |text: String| Failure::new(FailureKind::Settings, text);
        let text = external.key.read(self.store).await.map_err(|error| {
            settings(format!(
                "externalAccount of issuer '{}': {error}",
                self.issuer.name
            ))
        })?;
        let mac = mac_key(&text).ok_or_else(|| {
            settings(format!(
                "externalAccount of issuer '{}': {} holds no base64url; write the MAC key as the CA prints it",
                self.issuer.name, external.key
            ))
        })?;
        let binding = jws::binding(key, &external.key_id, &mac, server.new_account());
        Ok(binding.map_err(AcmeError::from)?)
    }

    /// Puts a key of ours in the place of one that `instant-acme` does not take (RFC 8555 section 7.3.5). The new key is
    /// kept first, so that it is not lost when this process ends in between.
    async fn roll_over(
        &self,
        server: &Server,
        record: &mut Record,
        kept: &Kept,
        old: AccountKey,
        uri: &str,
    ) -> Result<AccountKey, Failure> {
        let begun = record.entries.contains_key(NEXT_KEY);
        if !begun {
            let (_, pem) = AccountKey::generate().map_err(AcmeError::from)?;
            record.entries.insert(NEXT_KEY.to_owned(), pem.into_bytes());
            self.save(record, kept).await?;
        }
        let new = self.key(record, NEXT_KEY)?;
        if !(begun && is_key_of(server, &new, uri).await?) {
            change_key(server, &old, &new, uri).await?;
        }
        if let Some(pem) = record.entries.remove(NEXT_KEY) {
            record.entries.insert(KEY.to_owned(), pem);
        }
        self.save(record, kept).await?;
        tracing::info!(
            issuer = self.issuer.name,
            account = uri,
            "the key of the ACME account was changed to an ECDSA key"
        );
        Ok(new)
    }
}

async fn change_key(
    server: &Server,
    old: &AccountKey,
    new: &AccountKey,
    uri: &str,
) -> Result<(), AcmeError> {
    let url = server.key_change()?;
    let change = json!({ "account": uri, "oldKey": old.jwk()? });
    let inner = jws::signed(new, Sender::Key, url, None, Some(&change))?;
    let sender = Sender::Account(uri);
    server.post(old, sender, url, Some(&inner)).await?;
    Ok(())
}

/// Whether the CA knows this key as that of the account already.
async fn is_key_of(server: &Server, key: &AccountKey, uri: &str) -> Result<bool, AcmeError> {
    let payload = json!({ "onlyReturnExisting": true });
    let url = server.new_account();
    match server.post(key, Sender::Key, url, Some(&payload)).await {
        Ok(answer) => Ok(text_of(answer.headers(), "location").as_deref() == Some(uri)),
        Err(error) => match error.refusal() {
            Some(refusal) if refusal.is("accountDoesNotExist") => Ok(false),
            _ => Err(error),
        },
    }
}

/// A MAC key as CAs print it: base64url, some with padding, some in the other alphabet.
fn mac_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let text = Zeroizing::new(text.replace('+', "-").replace('/', "_"));
    engine.decode(text.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_tell_directories_and_external_accounts_apart() {
        let plain = record_name("https://a.test/dir", None);
        assert_eq!(plain.len(), 16);
        assert_ne!(plain, record_name("https://b.test/dir", None));
        assert_ne!(plain, record_name("https://a.test/dir", Some("k")));
        assert_eq!(plain, record_name("https://a.test/dir", None));
    }

    #[test]
    fn mac_keys_are_read_as_cas_print_them() {
        let wanted = Some(Zeroizing::new(vec![0xfb, 0xff, 0xfe, 1]));
        for text in ["-__-AQ", "-__-AQ==", "+//+AQ=="] {
            assert_eq!(mac_key(text), wanted, "{text}");
        }
        assert_eq!(mac_key("no key"), None);
    }
}
