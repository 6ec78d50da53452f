//! A demo authority, and a certificate for CleverTap's region hosts.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// CleverTap's region hosts (its documentation), and `eu1`, which its Node SDK uses.
pub const HOSTS: [&str; 8] = [
    "api.clevertap.com",
    "eu1.api.clevertap.com",
    "in1.api.clevertap.com",
    "sg1.api.clevertap.com",
    "us1.api.clevertap.com",
    "aps3.api.clevertap.com",
    "mec1.api.clevertap.com",
    "shop.example",
];

/// The authority's certificate in PEM, and a server's configuration signed by it.
pub fn configuration() -> Result<(String, Arc<ServerConfig>), Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "CleverTap stand-in demo CA");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut server = CertificateParams::new(HOSTS.map(str::to_owned))?;
    server.distinguished_name.push(DnType::CommonName, HOSTS[0]);
    let key = KeyPair::generate()?;
    let certificate: CertificateDer<'static> = server.signed_by(&key, &authority)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((authority.pem(), Arc::new(config)))
}
