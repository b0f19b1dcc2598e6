//! What is asked of a registry: manifests and blobs, by whoever may see them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::sleep;

use super::challenge::{Challenge, strongest};
use super::credentials::Known;
use super::error::{Error, Origin};
use super::retry::Attempts;
use super::token::Clear;
use super::transport::{Answer, Transport, is_good, is_loopback, retry_after};
use super::{DOCUMENT_MAX, MANIFEST_TYPES, Options, Tls, token};
use crate::layer::Digest;
use crate::oci::auth::{Credentials, DOCKER};
use crate::oci::{Descriptor, RegistryName, RegistryReference};

/// The most bytes of an error's description that are looked at.
const REFUSAL_MAX: u64 = 64 << 10;

/// What is got.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// What the name names.
    Root,
    /// A manifest or an index by its digest.
    Manifest { digest: Digest, media_type: String },
    /// Any other blob.
    Blob(Digest),
}

pub(super) struct Session {
    name: RegistryName,
    transport: Transport,
    options: Options,
    known: Known,
    /// `http` or `https`, once something has answered.
    scheme: OnceLock<&'static str>,
    /// What the registry is shown.
    authorization: Mutex<Option<HeaderValue>>,
    /// Who gets a token; the others wait for it.
    renewal: tokio::sync::Mutex<()>,
    /// The registry has answered before.
    reached: AtomicBool,
}

impl Session {
    pub(super) fn new(name: RegistryName, known: Known, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            name,
            transport: Transport::new(options)?,
            options: options.clone(),
            known,
            scheme: OnceLock::new(),
            authorization: Mutex::new(None),
            renewal: tokio::sync::Mutex::new(()),
            reached: AtomicBool::new(false),
        })
    }

    pub(super) const fn name(&self) -> &RegistryName {
        &self.name
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.known.origin
    }

    pub(super) const fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn attempts(&self, position: u64) -> Attempts {
        Attempts::new(self.options.retries, position)
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// What a target is called in messages.
    pub(super) fn describe(&self, target: &Target) -> String {
        let RegistryName { host, repository, .. } = &self.name;
        match target {
            Target::Root => format!("image docker://{}", self.name),
            Target::Manifest { digest, .. } => format!("manifest {digest} of {host}/{repository}"),
            Target::Blob(digest) => format!("blob {digest} of {host}/{repository}"),
        }
    }

    /// The descriptor of what the name names, and its bytes.
    pub(super) async fn root(&self) -> Result<(Descriptor, Vec<u8>), Error> {
        let mut attempts = self.attempts(0);
        loop {
            match self.root_once().await {
                Ok(root) => return Ok(root),
                Err(error) => sleep(attempts.failed(error, 0, self.was_reached())?).await,
            }
        }
    }

    async fn root_once(&self) -> Result<(Descriptor, Vec<u8>), Error> {
        let name = || self.describe(&Target::Root);
        let response = self.get(&Target::Root, 0).await?;
        if response.status() != StatusCode::OK {
            // A part that nobody asked for.
            return Err(self.refusal(&Target::Root, response, true).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse::<Digest>().ok());
        let announced = response.content_length();
        let too_long = |found| Error::Length { name: name(), expected: DOCUMENT_MAX, found };
        if let Some(found) = announced.filter(|&length| length > DOCUMENT_MAX) {
            return Err(too_long(found));
        }
        let body = self.transport.body(response, DOCUMENT_MAX).await?;
        let bytes = body.ok_or_else(|| too_long(DOCUMENT_MAX + 1))?;
        // The name's own digest is to be trusted; the registry's only shows what was damaged on the way.
        let named = match &self.name.reference {
            RegistryReference::Digest(digest) => Some(digest.clone()),
            RegistryReference::Tag(_) => None,
        };
        for expected in named.iter().chain(&said) {
            let found = expected.of_same(&bytes);
            if found != *expected {
                return Err(Error::Digest { name: name(), expected: expected.clone(), found });
            }
        }
        let media_type = media_type(kind, &bytes).map_err(|media_type| {
            let media_type = media_type.chars().take(200).collect();
            Error::MediaType { name: name(), media_type }
        })?;
        let digest = named.unwrap_or_else(|| Digest::sha256(&bytes));
        Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes))
    }

    /// Gets something from the byte `from` on, with a token or password if one is asked for. Any answer but a good one is an error.
    pub(super) async fn get(&self, target: &Target, from: u64) -> Result<Response, Error> {
        let mut shown = self.authorization();
        let mut challenged = false;
        loop {
            let Answer { response, foreign } = self.ask(target, from, shown.clone()).await?;
            self.reached.store(true, Ordering::Relaxed);
            let status = response.status();
            if is_good(status) {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !foreign && !challenged {
                challenged = true;
                shown = Some(self.authenticate(target, &response, shown).await?);
            } else {
                return Err(self.refusal(target, response, foreign).await);
            }
        }
    }

    /// Sends a request, in the clear only where that is allowed and nothing else is understood.
    async fn ask(
        &self,
        target: &Target,
        from: u64,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Error> {
        let headers = headers(target, from);
        if let Some(scheme) = self.scheme.get() {
            return self.transport.get(self.url(scheme, target)?, &headers, authorization).await;
        }
        let secured = self.transport.get(self.url("https", target)?, &headers, authorization.clone()).await;
        let (scheme, result) = match secured {
            Err(Error::Tls { certificate: false, .. } | Error::Refused { .. }) if self.may_be_clear() => {
                let clear = self.transport.get(self.url("http", target)?, &headers, authorization).await;
                ("http", clear)
            }
            secured => ("https", secured),
        };
        if result.is_ok() {
            // Another one may have found out at the same time, and found the same.
            let _ = self.scheme.set(scheme);
        }
        result
    }

    fn may_be_clear(&self) -> bool {
        match self.options.tls {
            Tls::Required => false,
            Tls::Any => true,
            Tls::Usual => is_loopback(&self.name.host),
        }
    }

    fn url(&self, scheme: &str, target: &Target) -> Result<Url, Error> {
        let RegistryName { host, repository, reference } = &self.name;
        // The one registry whose host is not that of its names.
        let server = if host == DOCKER { "registry-1.docker.io" } else { host };
        let part = match (target, reference) {
            (Target::Root, RegistryReference::Tag(tag)) => format!("manifests/{tag}"),
            (Target::Root, RegistryReference::Digest(digest)) | (Target::Manifest { digest, .. }, _) => {
                format!("manifests/{digest}")
            }
            (Target::Blob(digest), _) => format!("blobs/{digest}"),
        };
        // Names that were parsed make URLs; others were made by hand.
        Url::parse(&format!("{scheme}://{server}/v2/{repository}/{part}")).map_err(|error| Error::Internal {
            host: host.clone(),
            problem: format!("its name makes no URL: {error}"),
        })
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the registry wants to be shown, after it did not like what was `shown`.
    async fn authenticate(
        &self,
        target: &Target,
        response: &Response,
        shown: Option<HeaderValue>,
    ) -> Result<HeaderValue, Error> {
        let _renewal = self.renewal.lock().await;
        // Another one may have done it meanwhile.
        if let Some(other) = self.authorization().filter(|other| Some(other) != shown.as_ref()) {
            return Ok(other);
        }
        let denied = || self.denied(target, response.status());
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = strongest(headers.iter().filter_map(|value| value.to_str().ok()));
        let Known { credentials, origin } = &self.known;
        let header = match (challenge.ok_or_else(denied)?, credentials) {
            (_, Some(Credentials::Bearer(token))) => token::bearer(token),
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                token::basic(user, password)
            }
            (Challenge::Basic, _) => return Err(denied()),
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let usual = format!("repository:{}:pull", self.name.repository);
                let request = token::Request {
                    realm: &realm,
                    service: service.as_deref(),
                    scope: scope.as_deref().unwrap_or(&usual),
                    credentials: credentials.as_ref(),
                    origin,
                    registry: &self.name.host,
                    clear: match (self.options.tls, self.scheme.get()) {
                        (Tls::Any, _) => Clear::Anywhere,
                        (Tls::Usual, Some(&"http")) => Clear::Loopback,
                        _ => Clear::Nowhere,
                    },
                };
                token::bearer(&token::get(&self.transport, &request).await?)
            }
        };
        let header = header.ok_or_else(|| Error::Token {
            host: self.name.host.clone(),
            origin: origin.clone(),
            problem: "what it would be shown makes no header".to_owned(),
        })?;
        if shown.as_ref() == Some(&header) {
            return Err(denied());
        }
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
        Ok(header)
    }

    fn denied(&self, target: &Target, status: StatusCode) -> Error {
        let origin = self.known.origin.clone();
        Error::Denied { name: self.describe(target), status: status.as_u16(), origin }
    }

    /// The error that an answer is.
    async fn refusal(&self, target: &Target, response: Response, foreign: bool) -> Error {
        let (status, retry_after) = (response.status(), retry_after(&response));
        let host = super::transport::host_of(response.url());
        match status {
            StatusCode::TOO_MANY_REQUESTS => return Error::RateLimited { host, attempts: 0, retry_after },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !foreign => {
                return self.denied(target, status);
            }
            _ => {}
        }
        // What cannot be read explains nothing; the status is known.
        let body = self.transport.body(response, REFUSAL_MAX).await.ok().flatten();
        let found = body.as_deref().and_then(error_code);
        let name = self.describe(target);
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { name, found },
            status => Error::Status { name, status: status.as_u16(), found, retry_after },
        }
    }
}

fn headers(target: &Target, from: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let accepted = match target {
        Target::Root => MANIFEST_TYPES.join(", "),
        Target::Manifest { media_type, .. } => media_type.clone(),
        Target::Blob(_) => "*/*".to_owned(),
    };
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        headers.insert(ACCEPT, accepted);
    }
    if from > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
    {
        headers.insert(RANGE, range);
    }
    headers
}

/// The media type of a manifest, from what the registry says and what the manifest says: they must not contradict each other.
fn media_type(said: Option<String>, bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let document = serde_json::from_slice::<Document>(bytes).ok();
    let own = document.and_then(|document| document.media_type).filter(|own| !own.is_empty());
    // Registries that serve files do not know what they are.
    let said = said.filter(|said| !matches!(said.as_str(), "application/json" | "application/octet-stream"));
    let found = match (said, own) {
        (Some(said), Some(own)) if said != own => return Err(format!("{said}, and in itself {own}")),
        (Some(found), _) | (None, Some(found)) => found,
        (None, None) => return Err(String::new()),
    };
    if MANIFEST_TYPES.contains(&found.as_str()) { Ok(found) } else { Err(found) }
}

/// The code in a registry's description of an error. Its message is not shown: what is in it is not known.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    let code = document.errors.into_iter().next()?.code;
    let known = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    (code.len() <= 40 && code.bytes().all(known)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_and_its_registry_agree_on_what_it_is() {
        let index = MANIFEST_TYPES[0];
        let own = format!("{{\"mediaType\": {index:?}}}");
        let found = |said: Option<&str>, bytes: &str| media_type(said.map(str::to_owned), bytes.as_bytes());
        for (said, bytes) in
            [(Some(index), "{}"), (Some(index), &own), (None, &own), (Some("application/json"), &own)]
        {
            assert_eq!(found(said, bytes).as_deref(), Ok(index), "{said:?} {bytes}");
        }
        assert_eq!(found(None, "{}"), Err(String::new()));
        assert!(found(Some(MANIFEST_TYPES[1]), &own).is_err_and(|found| found.contains(index)));
        let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(found(Some(old), "{}"), Err(old.to_owned()));
        assert_eq!(found(Some("text/html"), "<html>"), Err("text/html".to_owned()));
    }

    #[test]
    fn of_an_errors_description_only_the_code_is_taken() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"Bearer abc","detail":{}}]}"#;
        assert_eq!(error_code(body).as_deref(), Some("MANIFEST_UNKNOWN"));
        assert_eq!(error_code(br#"{"errors":[{"code":"Bearer abc"}]}"#), None);
        assert_eq!(error_code(br#"{"errors":[]}"#), None);
        assert_eq!(error_code(b"<html>"), None);
    }
}
