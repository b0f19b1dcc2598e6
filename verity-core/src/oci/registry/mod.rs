//! Images in registries: the [`Source`] of `docker://HOST/NAME`.
//!
//! [`Registry`] speaks the registries' protocol (OCI's distribution specification, which Docker's registries speak, too) over HTTP/1.1 and TLS. It runs on threads
//! of its own and may be used from anywhere; whoever calls waits.
//!
//! - Blobs are streams: a connection that breaks or falls silent is made anew, and read on from the byte that was reached. A registry that cannot do
//!   that starts over, and what is known already is passed over. How often this is tried is bounded, see [`Retries`].
//! - Every length is bounded before it is read: blobs by their descriptors, documents by [`DOCUMENT_MAX`].
//! - Credentials come from the files that container tools share, see [`auth`](super::auth). They go to the registry and to its token service, never to where a
//!   redirection leads, never in the clear unless that is allowed ([`Tls`]), and into no message.
//! - Nothing of the environment is looked at but where the system's certificates are: files, proxies and helpers are given in [`Options`].

mod blob;
mod challenge;
mod credentials;
mod error;
mod helper;
mod pace;
mod retry;
mod runtime;
mod session;
mod tls;
mod token;
mod transport;

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use error::{Error, Origin};

use self::runtime::Runtime;
use self::session::{Session, Target};
use super::{DOCUMENT_MAX, Descriptor, RegistryName, Source};

/// How often it is seen, while one waits, whether it is still wanted.
const WAIT: Duration = Duration::from_millis(100);

/// The media types of manifests and indexes, which registries keep apart from blobs.
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Which auth files are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthFiles {
    /// None: nobody says who asks.
    #[default]
    Nothing,
    /// This one, which has to be there.
    Given(PathBuf),
    /// Those of these that are there; the first one that has something for the image counts.
    Usual(Vec<PathBuf>),
}

/// Whether the programs that auth files name are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Helpers {
    /// No: where a file names one, opening fails and says so.
    #[default]
    Refused,
    /// `docker-credential-NAME` is run, as `PATH` has it.
    Run,
}

/// How much a connection has to be secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// TLS, with a certificate that is trusted. On loopback addresses (`localhost`, `127.0.0.0/8`) a registry that speaks no TLS is spoken to in the clear,
    /// as Docker does.
    #[default]
    Usual,
    /// TLS, with a certificate that is trusted, on loopback addresses, too.
    Required,
    /// Any certificate; without TLS where the registry speaks none.
    Any,
}

/// The way to other networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The URL of the proxy for `http`.
    pub http: Option<String>,
    /// The URL of the proxy for `https`.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas: names, which stand for their subdomains, too, addresses and networks. Loopback addresses
    /// always are.
    pub direct: String,
}

/// How long is waited, and how often it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often something is tried again that did not get on, at least 1 MiB, the time before; 5 by default.
    pub times: u32,
    /// How long is waited before it is tried again, the first time; twice as long each time after that, up to [`Self::longest`]. A quarter of a second
    /// by default.
    pub pause: Duration,
    /// The longest wait that a registry may ask for (`Retry-After`); who asks for more is given up. A minute by default.
    pub longest: Duration,
    /// How long a connection may take; 20 seconds by default.
    pub connect: Duration,
    /// How long nothing may come on a connection; a minute by default.
    pub silence: Duration,
    /// How many bytes a second have to come, so that the waits for them add up to no more than [`Self::silence`] above that; 1024 by default, 0 for any.
    /// What the reader does not take yet is not waited for.
    pub slowest: u64,
    /// How long the waits for a document's bytes may be in all, and for those of any other blob that is no larger than [`DOCUMENT_MAX`]; five minutes by
    /// default.
    pub document: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            times: 5,
            pause: Duration::from_millis(250),
            longest: Duration::from_secs(60),
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            slowest: 1024,
            document: Duration::from_secs(300),
        }
    }
}

/// Asked from time to time, from any thread: whether what is done is not wanted any more.
pub type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

/// How registries are spoken to.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where credentials are.
    pub auth_files: AuthFiles,
    /// Whether credential helpers are run.
    pub helpers: Helpers,
    /// How much a connection has to be secured.
    pub tls: Tls,
    /// A directory with authorities to be trusted beside the system's (`*.crt`), and with the client's own certificate (`*.cert` and `*.key`).
    pub certificates: Option<PathBuf>,
    /// The way to other networks.
    pub proxies: Proxies,
    /// How long is waited, and how often it is tried again.
    pub retries: Retries,
    /// Who is asked whether it is still wanted.
    pub cancelled: Option<Cancelled>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { auth_files, helpers, tls, certificates, retries, .. } = self;
        // A proxy's URL may have a password in it.
        let mut text = f.debug_struct("Options");
        text.field("auth_files", auth_files).field("helpers", helpers).field("tls", tls);
        text.field("certificates", certificates).field("retries", retries).finish_non_exhaustive()
    }
}

impl Options {
    fn cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled())
    }
}

/// An image in a registry.
///
/// ```no_run
/// use verity_core::oci::registry::{AuthFiles, Options, Registry};
/// use verity_core::oci::{Platforms, images};
/// let mut options = Options::default();
/// options.auth_files = AuthFiles::Usual(vec!["/run/user/1000/containers/auth.json".into()]);
/// let registry = Registry::open(&"docker.io/library/debian:12".parse()?, options)?;
/// for image in images(&registry, &Platforms::Host)?.images {
///     println!("{} layers", image.layers.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry {
    session: Arc<Session>,
    options: Options,
    root: Mutex<Option<Root>>,
    runtime: Runtime,
}

/// What the name names. It is asked for once: a tag may be given to another image at any time.
#[derive(Clone)]
struct Root {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Registry {
    /// Gets ready to read the image `name`: reads auth files and certificates. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::AuthFile`] and [`Error::AuthFileRead`], [`Error::Helper`], [`Error::Certificates`], [`Error::Proxy`], [`Error::Cancelled`].
    pub fn open(name: &RegistryName, options: Options) -> Result<Self, Error> {
        let known = credentials::find(name, &options)?;
        let runtime = Runtime::new(&name.host)?;
        let session = Arc::new(Session::new(name.clone(), known, &options)?);
        Ok(Self { session, options, root: Mutex::new(None), runtime })
    }

    /// Which credentials the registry is shown if it asks for some.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.session.origin()
    }

    fn fetch_root(&self) -> Result<Root, Error> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = &*root {
            return Ok(root.clone());
        }
        let session = Arc::clone(&self.session);
        let fetched = self.runtime.wait(&self.options, async move { session.root().await })?;
        Ok(root.insert(Root { descriptor: fetched.0, bytes: fetched.1 }).clone())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("name", self.session.name()).finish_non_exhaustive()
    }
}

impl Source for Registry {
    fn root(&self) -> Result<Descriptor, super::Error> {
        Ok(self.fetch_root()?.descriptor)
    }

    /// Where nothing comes for a tenth of a second a read answers [`io::ErrorKind::Interrupted`], which std's functions take for *once more*, and
    /// [`layer::build`](crate::layer::build) for an occasion to see whether it goes on. Once it is not wanted any more, reads fail.
    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, super::Error> {
        let Descriptor { digest, size, media_type, .. } = descriptor;
        if from > *size {
            return Err(super::Error::Position { digest: digest.clone(), size: *size, from });
        }
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(root) = root.filter(|root| root.descriptor.digest == *digest) {
            let found = root.bytes.len() as u64;
            if found != *size {
                return Err(super::Error::Size { digest: digest.clone(), expected: *size, found });
            }
            let mut bytes = Cursor::new(root.bytes);
            bytes.set_position(from);
            return Ok(Box::new(bytes));
        }
        let target = if MANIFEST_TYPES.contains(&media_type.as_str()) {
            Target::Manifest { digest: digest.clone(), media_type: media_type.clone() }
        } else {
            Target::Blob(digest.clone())
        };
        let session = Arc::clone(&self.session);
        Ok(Box::new(blob::Blob::start(session, &self.runtime, &self.options, target, from..*size)?))
    }
}

/// Reads a file of at most `most` bytes; `None` if it has more.
fn read_bounded(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}
