//! What documents say of blobs: descriptors, and the platforms that images are for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use oci_spec::image as spec;

use super::error::{Error, clip};
use crate::layer::Digest;

/// What a document says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// The digest that it has to have.
    pub digest: Digest,
    /// How many bytes it has to have; below 2^63.
    pub size: u64,
    /// Remarks.
    pub annotations: BTreeMap<String, String>,
    /// Of a manifest: what kind of thing it describes, where that is no image to be run.
    pub artifact_type: Option<String>,
    /// Of a manifest: what the image runs on.
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with nothing but what each one has.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
        }
    }
}

impl TryFrom<&spec::Descriptor> for Descriptor {
    type Error = Error;

    /// Digests have to be of sha256 or sha512, and sizes below 2^63.
    fn try_from(descriptor: &spec::Descriptor) -> Result<Self, Error> {
        let digest: Digest = descriptor.digest().as_ref().parse()?;
        let size = descriptor.size();
        if i64::try_from(size).is_err() {
            return Err(Error::Field { field: "size", value: size.to_string(), problem: "not below 2^63" });
        }
        let annotations = descriptor.annotations().iter().flatten();
        Ok(Self {
            media_type: descriptor.media_type().as_ref().to_owned(),
            digest,
            size,
            annotations: annotations.map(|(name, value)| (name.clone(), value.clone())).collect(),
            artifact_type: descriptor.artifact_type().as_ref().map(|kind| kind.as_ref().to_owned()),
            platform: descriptor.platform().as_ref().map(Platform::from),
        })
    }
}

/// What an image runs on, in Go's names.
///
/// ```
/// use verity_core::oci::Platform;
/// let platform: Platform = "linux/arm64/v8".parse()?;
/// assert_eq!((platform.os.as_str(), platform.variant.as_deref()), ("linux", Some("v8")));
/// assert_eq!(platform.to_string(), "linux/arm64/v8");
/// # Ok::<(), verity_core::oci::PlatformError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// The operating system: `linux`.
    pub os: String,
    /// The processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Which kind of that processor: `v8`.
    pub variant: Option<String>,
}

/// Text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no platform: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, in lower case, like linux/amd64 or linux/arm/v7"
)]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// The machine that this runs on, without a variant.
    #[must_use]
    pub fn host() -> Self {
        // Go has names of its own.
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "mips" if cfg!(target_endian = "little") => "mipsle",
            other => other,
        };
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `self` is one of those that `wanted` asks for: without a variant, any.
    ///
    /// arm64 without a variant is v8, as there was no other.
    #[must_use]
    pub fn is_one_of(&self, wanted: &Self) -> bool {
        let variant = |platform: &Self| match (&*platform.architecture, platform.variant.as_deref()) {
            ("arm64", None) => Some("v8".to_owned()),
            (_, variant) => variant.map(str::to_owned),
        };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || variant(self) == variant(wanted))
    }

    /// `unknown/unknown`, which BuildKit gives what is no image: attestations.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl From<&spec::Platform> for Platform {
    fn from(platform: &spec::Platform) -> Self {
        Self {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone().filter(|variant| !variant.is_empty()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |word: &&str| {
            let known = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
            };
            !word.is_empty() && word.bytes().all(known)
        };
        let words: Vec<_> = text.split('/').collect();
        let platform = match &words[..] {
            [os, architecture] => Some((os, architecture, None)),
            [os, architecture, variant] => Some((os, architecture, Some(variant))),
            _ => None,
        };
        match platform.filter(|_| words.iter().all(is_word)) {
            Some((os, architecture, variant)) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.map(|variant| (*variant).to_owned()),
            }),
            None => Err(PlatformError { text: clip(text) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_variant_matters_where_it_is_asked_for() {
        for (image, wanted, fits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v6", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64/v9", "linux/arm64/v8", false),
        ] {
            assert_eq!(platform(image).is_one_of(&platform(wanted)), fits, "{image} for {wanted}");
        }
    }

    #[test]
    fn platforms_have_two_or_three_words() {
        for text in
            ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/AMD64", "linux/amd64 ", "linux//v8"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
        assert_eq!(platform("linux/386").variant, None);
    }

    #[test]
    fn descriptors_are_checked() {
        let read = |digest: &str, size: u64| {
            let text = format!(
                r#"{{"mediaType":"a/b","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}"#
            );
            let descriptor: spec::Descriptor = serde_json::from_str(&text).unwrap();
            Descriptor::try_from(&descriptor)
        };
        let sha256 = format!("sha256:{}", "0a".repeat(32));
        let found = read(&sha256, 5).unwrap();
        assert_eq!(
            (found.digest.to_string(), found.size, found.platform),
            (sha256.clone(), 5, Some(platform("linux/arm/v7")))
        );
        assert!(matches!(read(&sha256, 1 << 63), Err(Error::Field { field: "size", .. })));
        assert!(matches!(read(&format!("sha384:{}", "0".repeat(96)), 5), Err(Error::Digest(_))));
        assert!(matches!(read("md5:00", 5), Err(Error::Digest(_))));
    }
}
