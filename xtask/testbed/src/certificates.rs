//! The certificates of a control plane: one authority, and what it signs.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The folder with keys and certificates, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Members of this group may do everything.
const MASTERS: &str = "system:masters";

impl Certificates {
    /// Makes all of them, for servers at this address.
    pub(crate) fn make(folder: PathBuf, address: Ipv4Addr) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let certificates = Self { folder };
        let authority = authority()?;
        let pem = authority.certificate;
        certificates.write("authority.pem", &pem)?;
        let names = [
            address.to_string(),
            "127.0.0.1".into(),
            "kubernetes.default.svc".into(),
        ];
        for server in ["etcd", "apiserver"] {
            certificates.sign(
                server,
                &authority.issuer,
                CertificateParams::new(names.clone())?,
            )?;
        }
        for (name, user) in [
            ("admin", "admin"),
            ("kubelet", "testbed:kubelet"),
            ("controller-manager", "system:kube-controller-manager"),
        ] {
            let mut params = CertificateParams::new([])?;
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, user);
            params
                .distinguished_name
                .push(DnType::OrganizationName, MASTERS);
            certificates.sign(name, &authority.issuer, params)?;
        }
        let tokens = KeyPair::generate()?;
        certificates.write("tokens.key", &tokens.serialize_pem())?;
        certificates.write("tokens.pub", &tokens.public_key_pem())?;
        Ok(certificates)
    }

    /// The certificate that vouches for all others.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// A certificate by its name: etcd, apiserver, admin, kubelet, controller-manager.
    pub(crate) fn pair(&self, name: &str) -> Pair {
        Pair {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    /// The key that signs tokens of service accounts.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.folder.join("tokens.key")
    }

    /// Its public half.
    pub(crate) fn token_public_key(&self) -> PathBuf {
        self.folder.join("tokens.pub")
    }

    fn sign(
        &self,
        name: &str,
        issuer: &Issuer<'_, KeyPair>,
        mut params: CertificateParams,
    ) -> Result<()> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(&format!("{name}.pem"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        write_private(&path, text)
    }
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Tidegate testbed");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Authority {
        certificate,
        issuer: Issuer::new(params, key),
    })
}

/// Writes a file that only root reads.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
