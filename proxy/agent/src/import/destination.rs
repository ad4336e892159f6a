//! Where an import is kept: Secrets of a cluster, or the file of this machine.

use anyhow::anyhow;
use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{NameSet, Record, Store, StoreError};
use tidegate_controller::access::lease_name;
use tidegate_controller::certificates::{Imported, Importer, Owner};
use tidegate_controller::source::cluster::Access;
use tidegate_model::NamespacedName;
use tokio::sync::mpsc;

use crate::cache::KeptError;
use crate::certificates::{self, Local, LocalSettings, LocalTerm, Manifests};
use crate::cli::ImportFlags;
use crate::settings::{DataSettings, Environment};

/// Where an import goes to.
pub(super) struct Destination {
    owner: Owner,
    kind: Kind,
}

enum Kind {
    Cluster(Importer, Run),
    Local(Local, Option<LocalTerm>),
}

/// Whether anything is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Real,
    Dry,
}

impl Destination {
    /// What the flags name.
    ///
    /// # Errors
    /// It cannot be reached or opened.
    pub(super) async fn open(flags: &ImportFlags) -> anyhow::Result<Self> {
        let environment = Environment::of_process();
        let instance = flags.instance.clone().unwrap_or_default().to_string();
        let namespace = flags.namespace.clone();
        let owner = Owner {
            namespace: namespace.unwrap_or_else(|| environment.namespace().to_owned()),
            lease_name: lease_name(&instance),
            instance,
        };
        let run = match flags.dry_run {
            true => Run::Dry,
            false => Run::Real,
        };
        let kind = match &flags.data_dir {
            Some(_) => local(flags, &environment, &owner, run).await?,
            None => {
                let access = Access {
                    kubeconfig: flags.kubeconfig.clone(),
                    context: flags.context.clone(),
                };
                let importer = Importer::connect(&access, owner.clone()).await;
                let importer = importer.map_err(|error| {
                    anyhow!(
                        "{error}; to import into the file of a Tidegate without a cluster, name its folder with --data-dir"
                    )
                })?;
                Kind::Cluster(importer, run)
            }
        };
        Ok(Self { owner, kind })
    }

    /// The Secret that a record is kept in.
    pub(super) fn record_name(&self, record: &Record) -> NamespacedName {
        self.owner.object(record.kind, &record.name)
    }

    /// The Secret that a certificate for these names is put into.
    pub(super) fn certificate_name(&self, names: &NameSet) -> NamespacedName {
        let name = names.id().secret_name(&self.owner.lease_name);
        NamespacedName::new(&self.owner.namespace, name)
    }

    pub(super) async fn record(&self, record: &Record) -> Result<Imported, StoreError> {
        match &self.kind {
            Kind::Cluster(importer, Run::Dry) => importer.has(&self.record_name(record)).await,
            Kind::Cluster(importer, Run::Real) => importer.record(record).await,
            Kind::Local(local, _) if local.has_record(record.kind, &record.name) => {
                Ok(Imported::There)
            }
            Kind::Local(_, None) => Ok(Imported::Made),
            Kind::Local(_, Some(term)) => term.save(record).await.map(|_| Imported::Made),
        }
    }

    pub(super) async fn certificate(
        &self,
        secret: &NamespacedName,
        issued: &IssuedCertificate,
    ) -> Result<Imported, StoreError> {
        match &self.kind {
            Kind::Cluster(importer, Run::Dry) => importer.has(secret).await,
            Kind::Cluster(importer, Run::Real) => importer.certificate(secret, issued).await,
            Kind::Local(local, _) if local.has_certificate(secret) => Ok(Imported::There),
            Kind::Local(_, None) => Ok(Imported::Made),
            Kind::Local(_, Some(term)) => match term.put_certificate(secret, issued).await? {
                Put::Done => Ok(Imported::Made),
                Put::NotOurs | Put::Gone => Ok(Imported::There),
            },
        }
    }

    /// Lets go of a file.
    pub(super) async fn close(self) {
        if let Kind::Local(local, Some(_)) = self.kind {
            local.release().await;
        }
    }
}

async fn local(
    flags: &ImportFlags,
    environment: &Environment,
    owner: &Owner,
    run: Run,
) -> anyhow::Result<Kind> {
    let data = DataSettings {
        folder: flags.data_dir.clone(),
        key: environment.sealing(flags.data_key_file.as_deref())?,
    };
    let key = data.sealing()?;
    let file = data.folder.as_deref();
    let file = file.map(|folder| certificates::file(folder, &owner.instance, key));
    let settings = LocalSettings {
        file: file.clone(),
        owner: owner.clone(),
    };
    // Nobody serves here.
    let (changes, _) = mpsc::unbounded_channel();
    let local = Local::open(settings, Manifests::default(), changes).await;
    if run == Run::Dry {
        return Ok(Kind::Local(local, None));
    }
    let place = file.map(|settings| settings.file.display().to_string());
    let place = place.unwrap_or_default();
    match local.lead_now().await {
        Ok(term) => Ok(Kind::Local(local, Some(term))),
        Err(KeptError::Locked) => Err(anyhow!(
            "{place}: a running Tidegate has it: stop that process, import, and start it again"
        )),
        Err(error) => Err(anyhow!("{place}: {error}")),
    }
}
