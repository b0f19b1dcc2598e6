//! The files in which container tools keep credentials: containers-auth.json(5), and Docker's `config.json`, which is the same but for more fields.
//!
//! ```
//! use verity_core::oci::auth::{AuthFile, Credentials, Found};
//! let file = AuthFile::parse(br#"{"auths": {"registry.example/team": {"auth": "dXNlcjpwYXNzd29yZA=="}}}"#)?;
//! let found = file.find("registry.example", "team/app")?;
//! let Some(Found::Credentials { key, credentials: Credentials::Password { user, .. } }) = found else { panic!() };
//! assert_eq!((key.as_str(), user.as_str()), ("registry.example/team", "user"));
//! assert_eq!(file.find("registry.example", "other/app")?, None);
//! # Ok::<(), verity_core::oci::auth::AuthFileError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// Tools write padding; people who make such a file by hand forget it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Text that no message and no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for a request.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// What a registry is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for others (OAuth 2's refresh token).
    Identity(Secret),
    /// A token that the registry takes as it is.
    Bearer(Secret),
}

/// What a file says of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// Credentials, under this key.
    Credentials {
        /// The entry's name in the file.
        key: String,
        /// What it holds.
        credentials: Credentials,
    },
    /// Credentials are with the program `docker-credential-NAME`.
    Helper {
        /// The program's name, without `docker-credential-`.
        name: String,
        /// What it is asked for.
        server: String,
        /// Whether the file names the helper for this registry, and not just for all: it then has to have them.
        required: bool,
    },
}

/// An auth file that makes no sense. No content is in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFileError {
    /// It is larger than [`AuthFile::MAX_BYTES`].
    #[error("larger than {} bytes", AuthFile::MAX_BYTES)]
    TooLarge,
    /// It is no JSON of this form.
    #[error("no auth file: line {line}, column {column}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An entry's `auth` is not base64 of `USER:PASSWORD`.
    #[error("the entry {key:?}: \"auth\" is not base64 of USER:PASSWORD")]
    Auth {
        /// The entry's name.
        key: String,
    },
    /// The name of a helper that could name any program.
    #[error("the credential helper {name:?}: a name has letters, digits, '.', '_' and '-'")]
    HelperName {
        /// The name.
        name: String,
    },
}

/// A parsed auth file.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuthFile {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(...)")
    }
}

impl AuthFile {
    /// The most bytes that an auth file may have.
    pub const MAX_BYTES: u64 = 1 << 20;

    /// Parses a file's content.
    ///
    /// # Errors
    /// [`AuthFileError`] for what is too large or no JSON of this form. Entries are looked at when they are asked for: a broken one does not
    /// hide the others.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthFileError> {
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(AuthFileError::TooLarge);
        }
        // serde's own message may quote what is in the file.
        serde_json::from_slice(bytes)
            .map_err(|error| AuthFileError::Syntax { line: error.line(), column: error.column() })
    }

    /// What the file has for `repository` (such as `library/debian`) of `registry` (such as `docker.io` or `localhost:5000`), by the most specific entry:
    /// a helper of the registry's own, `registry/library/debian`, `registry/library`, `registry`, the same as URLs of old (`https://registry/v1/`), and the
    /// helper for all.
    ///
    /// # Errors
    /// [`AuthFileError`] if the entry that counts is malformed.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Found>, AuthFileError> {
        let plain = canonical(registry);
        if let Some((key, name)) =
            self.helpers.iter().flatten().find(|(key, name)| host(key) == plain && !name.is_empty())
        {
            return Ok(Some(Found::Helper { name: helper(name)?, server: key.clone(), required: true }));
        }
        let auths = self.auths.iter().flatten().filter_map(|(key, entry)| Some((key, entry.as_ref()?)));
        let mut name = format!("{registry}/{repository}");
        loop {
            for (key, entry) in auths.clone().filter(|(key, _)| **key == name) {
                if let Some(credentials) = entry.credentials(key)? {
                    return Ok(Some(Found::Credentials { key: key.clone(), credentials }));
                }
            }
            if name.len() <= registry.len() {
                break;
            }
            name.truncate(name.rfind('/').unwrap_or(registry.len()).max(registry.len()));
        }
        for (key, entry) in auths.filter(|(key, _)| host(key) == plain) {
            if let Some(credentials) = entry.credentials(key)? {
                return Ok(Some(Found::Credentials { key: key.clone(), credentials }));
            }
        }
        match &self.store {
            Some(name) if !name.is_empty() => {
                // Under this name Docker keeps those of its own registry.
                let server = if plain == DOCKER { "https://index.docker.io/v1/" } else { registry };
                Ok(Some(Found::Helper { name: helper(name)?, server: server.to_owned(), required: false }))
            }
            _ => Ok(None),
        }
    }
}

impl Entry {
    /// What there is in it; tools leave empty entries behind where a helper has the credentials.
    fn credentials(&self, key: &str) -> Result<Option<Credentials>, AuthFileError> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::Identity(Secret(token))));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Bearer(Secret(token))));
        }
        if let Some(auth) = given(&self.auth) {
            let refused = || AuthFileError::Auth { key: key.to_owned() };
            let bytes = BASE64.decode(auth).map_err(|_| refused())?;
            let text = String::from_utf8(bytes).map_err(|_| refused())?;
            let (user, password) = text.split_once(':').ok_or_else(refused)?;
            // Docker pads with zeros, and strips them.
            let password = Secret(password.trim_matches('\0').to_owned());
            return Ok(Some(Credentials::Password { user: user.to_owned(), password }));
        }
        let user = given(&self.username);
        Ok(user.zip(given(&self.password)).map(|(user, password)| {
            let password = Secret(password);
            Credentials::Password { user, password }
        }))
    }
}

/// Docker's registry, which has more than one name.
pub(in crate::oci) const DOCKER: &str = "docker.io";

/// The registry that a key names, whether it is a host or, as of old, a URL. A namespace names none.
fn host(key: &str) -> &str {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = stripped.map_or(key, |rest| rest.split_once('/').map_or(rest, |(host, _)| host));
    canonical(host)
}

fn canonical(host: &str) -> &str {
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { DOCKER } else { host }
}

/// A helper is a program's name: it must not become a path.
fn helper(name: &str) -> Result<String, AuthFileError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.bytes().all(known) {
        Ok(name.to_owned())
    } else {
        Err(AuthFileError::HelperName { name: name.chars().take(100).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Credentials {
        Credentials::Password { user: text.to_owned(), password: Secret(format!("{text}-secret")) }
    }

    fn encoded(text: &str) -> String {
        BASE64.encode(format!("{text}:{text}-secret"))
    }

    fn find(file: &str, registry: &str, repository: &str) -> Result<Option<Found>, AuthFileError> {
        AuthFile::parse(file.as_bytes()).unwrap().find(registry, repository)
    }

    #[test]
    fn the_most_specific_entry_counts() {
        let entries: Vec<_> =
            ["reg:5000", "reg:5000/a", "reg:5000/a/b", "https://old.example/v1/", "docker.io/library"]
                .iter()
                .map(|key| format!("{key:?}: {{\"auth\": {:?}}}", encoded(key.replace(':', "-").as_str())))
                .chain(["\"https://index.docker.io/v1/\": {\"auth\": \"aHViOmh1Yi1zZWNyZXQ=\"}".to_owned()])
                .collect();
        let file = format!("{{\"auths\": {{{}}}, \"psFormat\": \"x\"}}", entries.join(","));
        for (registry, repository, expected) in [
            ("reg:5000", "a/b", Some("reg:5000/a/b")),
            ("reg:5000", "a/b/c", Some("reg:5000/a/b")),
            ("reg:5000", "a/bc", Some("reg:5000/a")),
            ("reg:5000", "ab", Some("reg:5000")),
            ("reg", "a/b", None),
            ("old.example", "x", Some("https://old.example/v1/")),
            ("docker.io", "library/debian", Some("docker.io/library")),
            ("docker.io", "other/debian", Some("https://index.docker.io/v1/")),
        ] {
            let key = match find(&file, registry, repository).unwrap() {
                Some(Found::Credentials { key, credentials: Credentials::Password { user, password } }) => {
                    assert_eq!(password.reveal(), format!("{user}-secret"));
                    Some(key)
                }
                None => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(key.as_deref(), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn every_form_of_credentials_is_read() {
        let one = |entry: &str| find(&format!("{{\"auths\": {{\"r\": {entry}}}}}"), "r", "x").unwrap();
        let credentials = |credentials| Some(Found::Credentials { key: "r".to_owned(), credentials });
        assert_eq!(one(&format!("{{\"auth\": {:?}}}", encoded("u"))), credentials(password("u")));
        assert_eq!(
            one(&format!("{{\"auth\": {:?}}}", encoded("u").trim_end_matches('='))),
            credentials(password("u"))
        );
        let colons = Credentials::Password { user: "u".to_owned(), password: Secret("p:q".to_owned()) };
        assert_eq!(one(&format!("{{\"auth\": {:?}}}", BASE64.encode("u:p:q\0\0"))), credentials(colons));
        assert_eq!(one("{\"username\": \"u\", \"password\": \"u-secret\"}"), credentials(password("u")));
        assert_eq!(
            one(&format!("{{\"auth\": {:?}, \"identitytoken\": \"t\"}}", encoded("u"))),
            credentials(Credentials::Identity(Secret("t".to_owned())))
        );
        assert_eq!(
            one("{\"registrytoken\": \"t\"}"),
            credentials(Credentials::Bearer(Secret("t".to_owned())))
        );
        for empty in ["{}", "null", "{\"auth\": \"\"}", "{\"auth\": null, \"username\": \"u\"}"] {
            assert_eq!(one(empty), None, "{empty}");
        }
    }

    #[test]
    fn helpers_are_found_where_tools_put_them() {
        let file = r#"{"auths": {"r": {}, "https://index.docker.io/v1/": {}, "s": {"auth": "dTpw"}},
            "credHelpers": {"h.example": "one"}, "credsStore": "all"}"#;
        let helper = |name: &str, server: &str, required| {
            Some(Found::Helper { name: name.to_owned(), server: server.to_owned(), required })
        };
        assert_eq!(find(file, "h.example", "x").unwrap(), helper("one", "h.example", true));
        assert_eq!(find(file, "r", "x").unwrap(), helper("all", "r", false));
        assert_eq!(
            find(file, "docker.io", "library/x").unwrap(),
            helper("all", "https://index.docker.io/v1/", false)
        );
        assert!(matches!(find(file, "s", "x").unwrap(), Some(Found::Credentials { .. })));
        let error = find(r#"{"credsStore": "../bin/sh"}"#, "r", "x").unwrap_err();
        assert!(error.to_string().contains("\"../bin/sh\""), "{error}");
    }

    #[test]
    fn what_is_broken_is_told_without_its_content() {
        let syntax = AuthFile::parse(b"{\n \"auths\": {\"r\": {\"auth\": 17}}}").unwrap_err();
        assert!(matches!(syntax, AuthFileError::Syntax { line: 2, .. }), "{syntax}");
        assert!(AuthFile::parse(b"").is_err() && AuthFile::parse(b"[]").is_err());
        let large = vec![b' '; (1 << 20) + 1];
        assert_eq!(AuthFile::parse(&large).unwrap_err(), AuthFileError::TooLarge);
        for auth in ["c2VjcmV0", "se cret", "/w=="] {
            let file = format!(r#"{{"auths": {{"r": {{"auth": {auth:?}}}, "q": {{"auth": "dTpw"}}}}}}"#);
            let error = find(&file, "r", "x").unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("ecret") && error.to_string().contains("\"r\""),
                "{error}"
            );
            // The others are as good as ever.
            assert!(find(&file, "q", "x").unwrap().is_some());
        }
        let parsed = AuthFile::parse(br#"{"auths": {"r": {"auth": "c2VjcmV0OnNlY3JldA=="}}}"#).unwrap();
        let shown = format!("{parsed:?} {:?}", parsed.find("r", "x").unwrap());
        assert!(
            !shown.contains("c2Vj") && !shown.contains(":secret") && !shown.contains("Secret(\"s"),
            "{shown}"
        );
    }
}
