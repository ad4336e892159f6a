//! Making Secrets of what was ordered elsewhere, with the rights of the person who asks for it.

use std::future::Future;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use tidegate_certificates::store::IssuedCertificate;
use tidegate_certificates::{Record, StoreError};
use tidegate_model::NamespacedName;

use super::object::Owner;
use crate::source::cluster::{Access, connect};
use crate::write::LIMIT;

/// What became of something that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is kept now, or would be.
    Made,
    /// There is an object of this name already; it is as it was.
    There,
}

/// Makes Secrets of an instance, and changes none.
#[derive(Clone)]
pub struct Importer {
    client: kube::Client,
    owner: Owner,
}

impl Importer {
    /// For the instance's Secrets on this cluster.
    ///
    /// # Errors
    /// Nothing says how to reach it.
    pub async fn connect(access: &Access, owner: Owner) -> Result<Self, StoreError> {
        let client = connect(access).await;
        let client = client.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self::new(client.client, owner))
    }

    pub(super) fn new(client: kube::Client, owner: Owner) -> Self {
        Self { client, owner }
    }

    /// Whether there is a Secret of this name.
    ///
    /// # Errors
    /// The API server refuses to tell, or does not answer in time.
    pub async fn has(&self, name: &NamespacedName) -> Result<Imported, StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let found = within_limit(name, "get", secrets.get_opt(&name.name)).await?;
        Ok(match found {
            Some(_) => Imported::There,
            None => Imported::Made,
        })
    }

    /// The Secret that a record is kept in.
    pub fn record_name(&self, record: &Record) -> NamespacedName {
        self.owner.object(record.kind, &record.name)
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// The API server refuses it, or does not answer in time.
    pub async fn record(&self, record: &Record) -> Result<Imported, StoreError> {
        let name = self.record_name(record);
        self.make(&name, &self.owner.secret(record)).await
    }

    /// Puts a certificate into a new Secret, which is the instance's from then on.
    ///
    /// # Errors
    /// The API server refuses it, or does not answer in time.
    pub async fn certificate(
        &self,
        name: &NamespacedName,
        issued: &IssuedCertificate,
    ) -> Result<Imported, StoreError> {
        let secret = Owner::new_certificate(name);
        let secret = self.owner.with_certificate(secret, issued);
        self.make(name, &secret).await
    }

    async fn make(&self, name: &NamespacedName, secret: &Secret) -> Result<Imported, StoreError> {
        if self.has(name).await? == Imported::There {
            return Ok(Imported::There);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let parameters = PostParams::default();
        let made = within_limit(name, "create", secrets.create(&parameters, secret)).await;
        match made {
            Ok(_) => Ok(Imported::Made),
            Err(StoreError::Conflict) => Ok(Imported::There),
            Err(error) => Err(error),
        }
    }
}

async fn within_limit<T>(
    name: &NamespacedName,
    verb: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(LIMIT, request).await {
        Err(_) => Err(StoreError::Failed(format!(
            "Secret '{name}': the API server does not answer"
        ))),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            409 => StoreError::Conflict,
            403 => StoreError::Refused(format!(
                "{}; you need the right to {verb} secrets in namespace '{}'",
                status.message, name.namespace
            )),
            400 | 404 | 422 => StoreError::Refused(format!("Secret '{name}': {}", status.message)),
            _ => StoreError::Failed(format!("Secret '{name}': {}", status.message)),
        }),
        Ok(Err(error)) => Err(StoreError::Failed(format!("Secret '{name}': {error}"))),
    }
}
