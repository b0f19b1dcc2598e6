//! Whom a secure connection may end at.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Error;

/// The most bytes of a file with certificates or a key.
const PEM_MAX: u64 = 4 << 20;

/// The configuration of connections: the system's authorities are trusted and those in `directory`, where a client's own certificate may be, too; or, without
/// `verify`, everybody.
pub(super) fn config(verify: bool, directory: Option<&Path>) -> Result<ClientConfig, Error> {
    // Named here: the process's default is the embedder's.
    let provider = Arc::new(crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Certificates {
        path: directory.unwrap_or(Path::new("")).to_owned(),
        problem: error.to_string(),
    })?;
    let own = directory.map(Own::read).transpose()?.unwrap_or_default();
    let builder = if verify {
        let mut roots = RootCertStore::empty();
        // Without any, each connection fails and says why; what can be had in the clear does not need them.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(own.authorities);
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Everybody(algorithms)))
    };
    match own.client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| Error::Certificates {
                path: directory.unwrap_or(Path::new("")).to_owned(),
                problem: error.to_string(),
            })
        }
    }
}

/// What is in a directory of certificates, as containers-certs.d(5) names the files.
#[derive(Default)]
struct Own {
    /// `*.crt`: authorities.
    authorities: Vec<CertificateDer<'static>>,
    /// `*.cert` and `*.key`: what the client is known by.
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Own {
    fn read(directory: &Path) -> Result<Self, Error> {
        let broken = |path: &Path, problem: String| Error::Certificates { path: path.to_owned(), problem };
        let entries = std::fs::read_dir(directory).map_err(|error| broken(directory, error.to_string()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths = paths.map_err(|error| broken(directory, error.to_string()))?;
        paths.sort();
        let mut own = Self::default();
        for path in paths {
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            if !matches!(kind, "crt" | "cert") {
                continue;
            }
            let certificates = certificates(&path).map_err(|problem| broken(&path, problem))?;
            if kind == "crt" {
                own.authorities.extend(certificates);
                continue;
            }
            if own.client.is_some() {
                return Err(broken(&path, "a second certificate of the client's".to_owned()));
            }
            let key = path.with_extension("key");
            let pem = read(&key).map_err(|problem| broken(&key, problem))?;
            let found = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| broken(&key, "there is no key in it".to_owned()))?;
            own.client = Some((certificates, found));
        }
        Ok(own)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("there is no certificate in it".to_owned()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    super::read_bounded(path, PEM_MAX)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("it is larger than {PEM_MAX} bytes"))
}

/// Trusts any certificate. That the other side has its key is checked all the same.
#[derive(Debug)]
struct Everybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
