//! Reads what settings name as secret, at the moment when it is needed.

use thiserror::Error;
use zeroize::Zeroizing;

use crate::issuer::SecretSource;
use crate::store::{Store, StoreError};

/// Why a secret could not be read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Nothing is there.
    #[error("{0} is not there; put the secret there, or name another place in the settings")]
    Missing(SecretSource),
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(SecretSource, std::io::Error),
    /// The Secret cannot be read.
    #[error("cannot read {0}: {1}")]
    Store(SecretSource, StoreError),
    /// It is no text.
    #[error("{0} is no UTF-8")]
    NoText(SecretSource),
}

impl SecretSource {
    /// The secret, without blanks around it.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub async fn read(&self, store: &impl Store) -> Result<Zeroizing<String>, SecretError> {
        let missing = || SecretError::Missing(self.clone());
        let bytes = match self {
            Self::Environment(name) => std::env::var_os(name)
                .ok_or_else(missing)?
                .into_encoded_bytes(),
            Self::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| SecretError::Unreadable(self.clone(), error))?,
            Self::Secret { name, key } => store
                .secret_entry(name, key)
                .await
                .map_err(|error| SecretError::Store(self.clone(), error))?
                .ok_or_else(missing)?,
        };
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NoText(self.clone()))?;
        match text.trim() {
            "" => Err(missing()),
            text => Ok(Zeroizing::new(text.to_owned())),
        }
    }
}
