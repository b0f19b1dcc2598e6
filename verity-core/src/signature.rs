//! Signatures over root hashes, as the kernel takes them.
//!
//! What is signed is the root hash as lower-case hexadecimal text, without a newline. The form is a detached PKCS#7
//! `SignedData` (RFC 2315) in DER, which this makes:
//!
//! ```text
//! openssl smime -sign -nocerts -noattr -binary -outform der -in root-hash -inkey key.pem -signer cert.pem
//! ```
//!
//! Whose signature it is and whether it holds, the kernel decides with its own keys. What is checked here is the
//! form, so that a wrong file is told from a wrong key.

use std::fmt;

/// A detached PKCS#7 signature in DER, of a form that the kernel reads.
///
/// ```
/// use verity_core::signature::{Signature, SignatureError};
/// let text = b"-----BEGIN PKCS7-----\n".to_vec();
/// assert_eq!(Signature::from_der(text), Err(SignatureError::Pem));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// The largest payload of a kernel key of type `user`, in bytes (`user_preparse` in `security/keys/user_defined.c`).
    pub const MAX_SIZE: usize = 32_767;

    /// Checks the form.
    ///
    /// # Errors
    /// A [`SignatureError`] that says what is wrong with it.
    pub fn from_der(bytes: Vec<u8>) -> Result<Self, SignatureError> {
        if bytes.is_empty() {
            return Err(SignatureError::Empty);
        }
        if bytes.len() > Self::MAX_SIZE {
            return Err(SignatureError::TooLarge { found: bytes.len() });
        }
        if bytes.starts_with(b"-----BEGIN") {
            return Err(SignatureError::Pem);
        }
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The DER.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

/// What is no signature that the kernel could check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// No byte.
    #[error("the signature is empty")]
    Empty,
    /// More than a kernel key holds.
    #[error("the signature has {found} bytes, at most {} are possible", Signature::MAX_SIZE)]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// The text form.
    #[error("the signature is PEM text, not DER")]
    Pem,
    /// No DER, or other values than a signature has.
    #[error("the signature is no PKCS#7 signature in DER: {part} at byte {offset} is missing or malformed")]
    Malformed {
        /// What should be there.
        part: &'static str,
        /// Where, in bytes from the beginning.
        offset: usize,
    },
    /// It carries what it signs; the kernel takes only detached signatures.
    #[error("the signature has its content attached; the kernel takes detached ones")]
    Attached,
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] EXPLICIT` content and `[0] IMPLICIT` certificates, `[1] IMPLICIT` revocation lists.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

/// 1.2.840.113549.1.7.1 and .2, of PKCS#7.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// Walks down to the signers' entries. What is in those is the kernel's to judge.
fn check(bytes: &[u8]) -> Result<(), SignatureError> {
    let mut file = Der { rest: bytes, offset: 0 };
    let mut content_info = file.element(SEQUENCE, "ContentInfo")?;
    file.end("the end of the signature")?;
    content_info.value(OID, "content type signedData", SIGNED_DATA)?;
    let mut content = content_info.element(CONTEXT_0, "content")?;
    content_info.end("the end of ContentInfo")?;
    let mut signed = content.element(SEQUENCE, "SignedData")?;
    content.end("the end of the content")?;

    signed.element(INTEGER, "version")?;
    signed.element(SET, "digestAlgorithms")?;
    let mut inner = signed.element(SEQUENCE, "contentInfo")?;
    inner.value(OID, "inner content type data", DATA)?;
    if !inner.rest.is_empty() {
        return Err(SignatureError::Attached);
    }
    for optional in [CONTEXT_0, CONTEXT_1] {
        if signed.rest.first() == Some(&optional) {
            signed.element(optional, "certificates")?;
        }
    }
    let mut signers = signed.element(SET, "signerInfos")?;
    signed.end("the end of SignedData")?;
    signers.element(SEQUENCE, "SignerInfo")?;
    while !signers.rest.is_empty() {
        signers.element(SEQUENCE, "SignerInfo")?;
    }
    Ok(())
}

/// What is left of the contents of an element.
struct Der<'a> {
    rest: &'a [u8],
    /// Where `rest` begins in the file.
    offset: usize,
}

impl<'a> Der<'a> {
    /// The next element, which has this tag; its contents.
    fn element(&mut self, tag: u8, part: &'static str) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Malformed { part, offset: self.offset };
        let (&found, after_tag) = self.rest.split_first().ok_or_else(|| malformed.clone())?;
        let (length, contents) = length(after_tag).ok_or_else(|| malformed.clone())?;
        let (contents, rest) = contents.split_at_checked(length).ok_or_else(|| malformed.clone())?;
        if found != tag {
            return Err(malformed);
        }
        let end = self.offset + (self.rest.len() - rest.len());
        let element = Der { rest: contents, offset: end - contents.len() };
        *self = Der { rest, offset: end };
        Ok(element)
    }

    /// The next element, which has this tag and these contents.
    fn value(&mut self, tag: u8, part: &'static str, expected: &[u8]) -> Result<(), SignatureError> {
        let offset = self.offset;
        let element = self.element(tag, part)?;
        if element.rest == expected { Ok(()) } else { Err(SignatureError::Malformed { part, offset }) }
    }

    /// Nothing is left.
    fn end(&self, part: &'static str) -> Result<(), SignatureError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(SignatureError::Malformed { part, offset: self.offset })
        }
    }
}

/// A definite length in its shortest form, as DER has it, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    // Two bytes of length are more than a signature can have.
    let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| d.len() <= 2)?;
    let value = digits.iter().fold(0, |value, &digit| value << 8 | usize::from(digit));
    let shortest = match digits.len() {
        1 => value >= 0x80,
        2 => value >= 0x100,
        _ => false,
    };
    shortest.then_some((value, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use proptest::prelude::*;

    /// What openssl made of "0123" with an elliptic key.
    const SIGNED: &str = concat!(
        "3081b106092a864886f70d010702a081a33081a0020101310f300d06096086480165030402010500300b06092a864886",
        "f70d010701317d307b0201013011300c310a300806035504030c0174020101300d06096086480165030402010500300a",
        "06082a8648ce3d04030204483046022100c431e6ab03c8e5bc3bbedad81389739c6f6d1afb5f993acc403701882aade3",
        "5b022100a1c12708cc0518e20da24c1a17fb464d601a96acb8bc1d0819c032f931c89d85",
    );

    fn signed() -> Vec<u8> {
        hex::decode(SIGNED).unwrap()
    }

    /// A signature, of whatever.
    #[cfg(feature = "device")]
    pub(crate) fn example() -> Signature {
        Signature(signed())
    }

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let contents = parts.concat();
        let length = match u8::try_from(contents.len()).unwrap() {
            short @ 0..0x80 => vec![short],
            long => vec![0x81, long],
        };
        [vec![tag], length, contents].concat()
    }

    /// A signature with this inner content, what follows it, and these signers.
    fn made(inner: &[u8], more: &[u8], signers: &[u8]) -> Vec<u8> {
        let inner = der(SEQUENCE, &[&der(OID, &[DATA]), inner]);
        let signers = der(SET, &[signers]);
        let data = der(SEQUENCE, &[&[INTEGER, 1, 1], &[SET, 0], &inner, more, &signers]);
        der(SEQUENCE, &[&der(OID, &[SIGNED_DATA]), &der(CONTEXT_0, &[&data])])
    }

    #[test]
    fn what_openssl_makes_is_taken_as_it_is() {
        assert_eq!(Signature::from_der(signed()).unwrap().as_bytes(), signed());
    }

    #[test]
    fn certificates_and_several_signers_may_be_in_it() {
        let signer = [SEQUENCE, 1, 0];
        for more in [&[][..], &[CONTEXT_0, 0], &[CONTEXT_1, 1, 0], &[CONTEXT_0, 0, CONTEXT_1, 0]] {
            for signers in [&signer[..], &[signer, signer].concat()] {
                assert!(Signature::from_der(made(&[], more, signers)).is_ok(), "{more:?} {signers:?}");
            }
        }
    }

    #[test]
    fn each_wrong_form_has_its_own_error() {
        assert_eq!(Signature::from_der(Vec::new()), Err(SignatureError::Empty));
        let large = vec![0x30; Signature::MAX_SIZE + 1];
        assert_eq!(Signature::from_der(large), Err(SignatureError::TooLarge { found: 32_768 }));
        let attached = made(&[CONTEXT_0, 2, 4, 0], &[], &[SEQUENCE, 0]);
        assert_eq!(Signature::from_der(attached), Err(SignatureError::Attached));
        let part = |bytes: &[u8]| match Signature::from_der(bytes.to_vec()) {
            Err(SignatureError::Malformed { part, offset }) => (part, offset),
            other => panic!("{other:?}"),
        };
        assert_eq!(part(b"not a signature"), ("ContentInfo", 0));
        assert_eq!(part(&[SEQUENCE, 0]), ("content type signedData", 2));
        assert_eq!(part(&[signed(), vec![0]].concat()), ("the end of the signature", signed().len()));
        assert_eq!(part(&made(&[], &[], &[])).0, "SignerInfo");
        assert_eq!(part(&made(&[], &[], &[SET, 0])).0, "SignerInfo");
        assert_eq!(part(&made(&[], &[CONTEXT_1, 0, CONTEXT_0, 0], &[SEQUENCE, 0])).0, "signerInfos");
    }

    #[test]
    fn no_prefix_of_a_signature_is_one() {
        let bytes = signed();
        for length in 0..bytes.len() {
            assert!(Signature::from_der(bytes[..length].to_vec()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn lengths_are_definite_and_short() {
        assert_eq!(length(&[0x7f]), Some((127, &[][..])));
        assert_eq!(length(&[0x81, 0x80, 7]), Some((128, &[7][..])));
        assert_eq!(length(&[0x82, 0x01, 0x00]), Some((256, &[][..])));
        let indefinite = [0x80, 0, 0];
        for bytes in
            [&[][..], &indefinite, &[0x81], &[0x81, 0x7f], &[0x82, 0, 0x80], &[0x83, 1, 0, 0], &[0xff]]
        {
            assert_eq!(length(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_a_signature_but_never_a_panic(at in 0..SIGNED.len() / 2, to: u8) {
            let mut bytes = signed();
            bytes[at] = to;
            let _ = Signature::from_der(bytes);
        }
    }
}
