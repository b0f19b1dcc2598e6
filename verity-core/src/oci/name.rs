//! Names of images, as skopeo has them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::{NameError, clip};
use crate::layer::Digest;

/// Where an image is.
///
/// | text | what it names |
/// |---|---|
/// | `oci:DIR[:REFERENCE]` | an OCI image layout in a directory |
/// | `oci-archive:FILE[:REFERENCE]` | a tar of a layout |
/// | `docker-archive:FILE[:NAME:TAG]` | what `docker save` writes |
/// | `docker://[HOST/]NAME[:TAG]`, `docker://[HOST/]NAME@DIGEST` | an image in a registry |
///
/// As in skopeo, the first colon ends the path, and a name without host is one of Docker Hub's. In place of a reference `@DIGEST` selects what an index
/// lists by digest, and `@NUMBER` by position.
///
/// ```
/// use verity_core::oci::{ImageName, Reference};
/// let name: ImageName = "oci:images:debian:12".parse()?;
/// let ImageName::OciLayout { dir, reference } = &name else { panic!() };
/// assert_eq!(dir.to_str(), Some("images"));
/// assert_eq!(reference, &Some(Reference::Name("debian:12".to_owned())));
/// assert_eq!(name.to_string(), "oci:images:debian:12");
/// let hub: ImageName = "docker://busybox".parse()?;
/// assert_eq!(hub.to_string(), "docker://docker.io/library/busybox:latest");
/// # Ok::<(), verity_core::oci::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageName {
    /// An OCI image layout in a directory.
    OciLayout {
        /// The directory.
        dir: PathBuf,
        /// Which image of it; without, the only one, or all.
        reference: Option<Reference>,
    },
    /// A tar of a layout.
    OciArchive {
        /// The tar.
        path: PathBuf,
        /// Which image of it; without, the only one, or all.
        reference: Option<Reference>,
    },
    /// A tar as `docker save` writes it.
    DockerArchive {
        /// The tar.
        path: PathBuf,
        /// Which image of it; without, the only one, or all. Names are in full: `docker.io/library/busybox:latest`.
        reference: Option<Reference>,
    },
    /// An image in a registry.
    Registry(RegistryName),
}

/// Which image of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By the name that it was given: `latest`.
    Name(String),
    /// By the digest of its manifest or index: `@sha256:...`.
    Digest(Digest),
    /// By its place in the list, from 0 on: `@0`.
    Index(usize),
}

/// An image in a registry.
///
/// ```
/// use verity_core::oci::RegistryName;
/// let name: RegistryName = "localhost:5000/team/app:1".parse()?;
/// assert_eq!((name.host.as_str(), name.repository.as_str()), ("localhost:5000", "team/app"));
/// assert_eq!(name.to_string(), "localhost:5000/team/app:1");
/// # Ok::<(), verity_core::oci::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    /// The registry, with a port where one is given: `docker.io`.
    pub host: String,
    /// The repository: `library/busybox`.
    pub repository: String,
    /// Which image of it.
    pub reference: RegistryReference,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryReference {
    /// By the name that it has now: `latest`.
    Tag(String),
    /// By what it is.
    Digest(Digest),
}

fn refused(text: &str, problem: &'static str) -> NameError {
    NameError { text: clip(text), problem }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "oci:DIR[:REFERENCE], oci-archive:FILE[:REFERENCE], docker-archive:FILE[:NAME:TAG] or docker://[HOST/]NAME[:TAG]";
        let Some((transport, rest)) = text.split_once(':') else { return Err(refused(text, FORMS)) };
        match transport {
            "oci" => {
                let (dir, reference) = local(text, rest)?;
                Ok(Self::OciLayout { dir, reference })
            }
            "oci-archive" => {
                let (path, reference) = local(text, rest)?;
                Ok(Self::OciArchive { path, reference })
            }
            "docker-archive" => {
                let (path, reference) = local(text, rest)?;
                let reference = match reference {
                    Some(Reference::Name(name)) => match name.parse::<RegistryName>()? {
                        RegistryName { reference: RegistryReference::Digest(_), .. } => {
                            return Err(refused(text, "archives name images by tag, not by digest"));
                        }
                        name => Some(Reference::Name(name.to_string())),
                    },
                    other => other,
                };
                Ok(Self::DockerArchive { path, reference })
            }
            "docker" => {
                let Some(name) = rest.strip_prefix("//") else {
                    return Err(refused(text, "a registry's images are docker://[HOST/]NAME[:TAG]"));
                };
                name.parse().map(Self::Registry)
            }
            _ => Err(refused(text, FORMS)),
        }
    }
}

/// A path, and behind the first colon or an `@` which image of it is meant.
fn local(text: &str, rest: &str) -> Result<(PathBuf, Option<Reference>), NameError> {
    // A digest has a colon of its own.
    let digest = rest.rsplit_once('@').and_then(|(path, digest)| Some((path, digest.parse().ok()?)));
    let (path, reference) = match digest {
        Some((path, digest)) => {
            let path = path.strip_suffix(':').unwrap_or(path);
            if path.contains(':') {
                return Err(refused(text, "a reference and a digest; one of them is enough"));
            }
            (path, Some(Reference::Digest(digest)))
        }
        None => match rest.split_once(':') {
            None => (rest, None),
            Some((_, "")) => return Err(refused(text, "there is nothing behind the colon")),
            Some((path, name)) => (path, Some(local_reference(text, name)?)),
        },
    };
    match path {
        "" => Err(refused(text, "the path is missing")),
        path if path.contains('\0') => Err(refused(text, "there is a NUL in it")),
        path => Ok((PathBuf::from(path), reference)),
    }
}

fn local_reference(text: &str, name: &str) -> Result<Reference, NameError> {
    match name.strip_prefix('@') {
        Some(number) => {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|_| digits);
            number
                .map(Reference::Index)
                .ok_or_else(|| refused(text, "behind '@' comes a digest (sha256:...) or a number"))
        }
        None if name.chars().any(char::is_control) => {
            Err(refused(text, "there is a control character in it"))
        }
        None => Ok(Reference::Name(name.to_owned())),
    }
}

impl FromStr for RegistryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|_| refused(text, "what is behind '@' is no digest"))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        // A colon in front of a slash is a port's.
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[last..].split_once(':') {
            Some((short, tag)) => (&name[..last + short.len()], Some(tag)),
            None => (name, None),
        };
        let reference = match (tag, digest) {
            (Some(_), Some(_)) => return Err(refused(text, "a tag and a digest; one of them is enough")),
            (None, Some(digest)) => RegistryReference::Digest(digest),
            (Some(tag), None) if !is_tag(tag) => {
                return Err(refused(
                    text,
                    "a tag has letters, digits, '_', '.' and '-', at most 128 of them",
                ));
            }
            (tag, None) => RegistryReference::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let (host, path) = match name.split_once('/') {
            // As everywhere: what cannot be a part of a repository's name is a host.
            Some((host, path))
                if host.contains(['.', ':'])
                    || host == "localhost"
                    || host.chars().any(char::is_uppercase) =>
            {
                (host, path)
            }
            _ => ("docker.io", name),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let repository = match host {
            "docker.io" if !path.contains('/') => format!("library/{path}"),
            _ => path.to_owned(),
        };
        if !is_host(host) {
            return Err(refused(text, "the registry is no host name, with or without a port"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(refused(
                text,
                "a repository is of lower-case letters and digits, with single '.', '_', '__' or '-' and '/' between them",
            ));
        }
        Ok(Self { host: host.to_owned(), repository, reference })
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_host(text: &str) -> bool {
    // An IPv6 address is in brackets.
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => match (address.parse::<std::net::Ipv6Addr>(), port) {
                (Ok(_), "") => return true,
                (Ok(_), port) => match port.strip_prefix(':') {
                    Some(port) => ("localhost", Some(port)),
                    None => return false,
                },
                _ => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let digits = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    host.len() <= 253 && host.split('.').all(label) && port.is_none_or(digits)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, which the specification of registries has.
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    text.bytes().next().is_some_and(word)
        && text.bytes().next_back().is_some_and(word)
        && separators.into_iter().all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, reference) = match self {
            Self::OciLayout { dir, reference } => ("oci", dir, reference),
            Self::OciArchive { path, reference } => ("oci-archive", path, reference),
            Self::DockerArchive { path, reference } => ("docker-archive", path, reference),
            Self::Registry(name) => return write!(f, "docker://{name}"),
        };
        write!(f, "{transport}:{}", path.display())?;
        match reference {
            None => Ok(()),
            Some(reference) => write!(f, ":{reference}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Digest(digest) => write!(f, "@{digest}"),
            Self::Index(number) => write!(f, "@{number}"),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, reference } = self;
        match reference {
            RegistryReference::Tag(tag) => write!(f, "{host}/{repository}:{tag}"),
            RegistryReference::Digest(digest) => write!(f, "{host}/{repository}@{digest}"),
        }
    }
}
