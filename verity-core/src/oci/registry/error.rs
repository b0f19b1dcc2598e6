//! Why a registry does not give an image.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::layer::Digest;
use crate::oci::auth::AuthFileError;

/// Where the credentials came from that a registry was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// There are none: no entry of these files fits, or none was wanted.
    #[default]
    Nowhere,
    /// An entry of an auth file.
    File {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A credential helper that an auth file names.
    Helper {
        /// The file.
        path: PathBuf,
        /// The helper, without `docker-credential-`.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("no credentials"),
            Self::File { path, key } => write!(f, "the credentials of {key:?} in {path:?}"),
            Self::Helper { path, name } => {
                write!(f, "the credentials of the helper docker-credential-{name}, which {path:?} names")
            }
        }
    }
}

/// What is done with a host that was not reached yet.
pub(super) const CONNECTING: &str = "connecting";

/// Why a registry does not give an image. No message has credentials or tokens in it, nor the query of a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry's name is nobody's.
    #[error("host {host}: its address cannot be found: {source}")]
    UnknownHost {
        /// The host.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing listens there.
    #[error("host {host}: the connection was refused")]
    Refused {
        /// The host, and the port if one is given.
        host: String,
    },
    /// No connection, or one that broke.
    #[error("host {host}: {what}: {problem}")]
    Connection {
        /// The host, and the port if one is given.
        host: String,
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// No secure connection: who answers has no certificate that is trusted, or speaks something else.
    #[error("host {host}: no secure connection: {problem}")]
    Tls {
        /// The host, and the port if one is given.
        host: String,
        /// What is wrong.
        problem: String,
        /// Whether it is the certificate that is not trusted; otherwise it may be that no TLS is spoken there.
        certificate: bool,
    },
    /// Nothing came for a while.
    #[error("host {host}: {what}: nothing came for {} s", waited.as_secs_f32())]
    TimedOut {
        /// The host, and the port if one is given.
        host: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// Bytes come, and too slowly to be waited for.
    #[error("host {host}: reading: {bytes} bytes in {} s, which is too slow", waited.as_secs_f32())]
    Slow {
        /// The host, and the port if one is given.
        host: String,
        /// How many bytes came.
        bytes: u64,
        /// How long they were waited for.
        waited: Duration,
    },
    /// Who asks is not known, or must not see it: 401 or 403.
    #[error("{name}: access is denied (HTTP status {status}), with {origin}")]
    Denied {
        /// The image or blob.
        name: String,
        /// The status.
        status: u16,
        /// Which credentials were shown.
        origin: Origin,
    },
    /// A token service that gives none.
    #[error("host {host}: no token, with {origin}: {problem}")]
    Token {
        /// The token service.
        host: String,
        /// Which credentials were shown.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// There is no such thing: 404.
    #[error("{name}: the registry does not have it (HTTP status 404{})", code(found))]
    NotFound {
        /// The image or blob.
        name: String,
        /// What the registry calls it, such as `MANIFEST_UNKNOWN`.
        found: Option<String>,
    },
    /// Too many requests: 429, again and again.
    #[error("host {host}: too many requests (HTTP status 429), {attempts} times")]
    RateLimited {
        /// The host.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// How long it says that one should wait.
        retry_after: Option<Duration>,
    },
    /// Any other status that is no success.
    #[error("{name}: HTTP status {status}{}", code(found))]
    Status {
        /// The image or blob.
        name: String,
        /// The status.
        status: u16,
        /// What the registry calls it.
        found: Option<String>,
        /// How long it says that one should wait.
        retry_after: Option<Duration>,
    },
    /// What came has another digest than what was asked for, or than the registry says.
    #[error("{name}: what came has the digest {found}, and {expected} was expected")]
    Digest {
        /// The image.
        name: String,
        /// What it was to be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// The image is described in a way that is not known here.
    #[error("{name}: a manifest of the media type {media_type:?}, which is not known here")]
    MediaType {
        /// The image.
        name: String,
        /// The media type.
        media_type: String,
    },
    /// More or fewer bytes than there should be.
    #[error("{name}: {found} bytes, and {expected} were expected")]
    Length {
        /// The image or blob.
        name: String,
        /// How many were to come, or at most.
        expected: u64,
        /// How many came, or were announced.
        found: u64,
    },
    /// Other bytes than those that were asked for.
    #[error("{name}: bytes from {from} on were asked for, and the answer is {found:?}")]
    Range {
        /// The blob.
        name: String,
        /// From where it was to be read on.
        from: u64,
        /// What the answer calls itself.
        found: String,
    },
    /// The connection broke again and again.
    #[error("{name}: given up at byte {position} of {size}, after {attempts} attempts: {source}")]
    GivenUp {
        /// The blob.
        name: String,
        /// How far it got.
        position: u64,
        /// How many bytes it has.
        size: u64,
        /// How often it was tried without getting on.
        attempts: u32,
        /// What happened last.
        source: Box<Error>,
    },
    /// A way elsewhere that is not gone.
    #[error("host {host}: a redirection {problem}")]
    Redirect {
        /// The host that sends elsewhere.
        host: String,
        /// Why it is not followed.
        problem: &'static str,
    },
    /// An auth file that cannot be read.
    #[error("auth file {path:?} cannot be read: {source}")]
    AuthFileRead {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An auth file that makes no sense.
    #[error("auth file {path:?}: {source}")]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AuthFileError,
    },
    /// A credential helper that gives nothing.
    #[error("credential helper docker-credential-{name}, which {path:?} names: {problem}")]
    Helper {
        /// The auth file.
        path: PathBuf,
        /// The helper.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Certificates that cannot be used.
    #[error("certificates in {path:?}: {problem}")]
    Certificates {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A proxy that cannot be used.
    #[error("the proxy for {scheme} is no URL of a proxy")]
    Proxy {
        /// What it is for: `http` or `https`.
        scheme: &'static str,
    },
    /// What does the work could not be started, or ended early.
    #[error("the connection to {host} could not be handled: {problem}")]
    Internal {
        /// The registry.
        host: String,
        /// What happened.
        problem: String,
    },
    /// Whoever asked does not want it any more.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// How long a host asks to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it may go better when it is tried again. A host that was never reached is not there (`reached`); one that was may be restarting.
    pub(super) fn is_transient(&self, reached: bool) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Slow { .. } => true,
            Self::Connection { what, .. } => reached || *what != CONNECTING,
            Self::TimedOut { .. } | Self::Refused { .. } | Self::UnknownHost { .. } => reached,
            Self::Tls { certificate, .. } => reached && !certificate,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// This error, on its way through a `Read`.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

impl From<Error> for crate::oci::Error {
    fn from(error: Error) -> Self {
        Self::Other(Box::new(error))
    }
}

fn code(found: &Option<String>) -> String {
    found.as_ref().map_or_else(String::new, |found| format!(", {found}"))
}
