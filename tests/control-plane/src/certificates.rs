//! Certificates and keys for one API server.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::Error;

/// All in PEM.
pub struct Certificates {
    pub ca: String,
    pub server: String,
    pub server_key: String,
    pub service_account_key: String,
    pub service_account_public_key: String,
}

impl Certificates {
    pub fn new() -> Result<Self, Error> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "control-plane test CA");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"].map(str::to_owned);
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server_key = KeyPair::generate()?;
        let server = server.signed_by(&server_key, &ca)?;
        let service_account_key = KeyPair::generate()?;
        Ok(Self {
            ca: ca.pem(),
            server: server.pem(),
            server_key: server_key.serialize_pem(),
            service_account_key: service_account_key.serialize_pem(),
            service_account_public_key: service_account_key.public_key_pem(),
        })
    }
}
