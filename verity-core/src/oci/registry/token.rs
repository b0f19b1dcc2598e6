//! Tokens: what a registry is shown in place of a password, and where it is got.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::error::{Error, Origin};
use super::transport::{Transport, header, host_of, is_loopback, retry_after};
use crate::oci::auth::{Credentials, Secret};

/// The most bytes of a token service's answer.
const ANSWER_MAX: u64 = 1 << 20;

/// What is asked for, and where.
pub(super) struct Request<'a> {
    pub(super) realm: &'a str,
    pub(super) service: Option<&'a str>,
    pub(super) scope: &'a str,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) origin: &'a Origin,
    /// The registry's own host, for messages.
    pub(super) registry: &'a str,
    pub(super) clear: Clear,
}

/// Where a token may be got in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clear {
    Nowhere,
    /// On this machine: a registry there that speaks no TLS has its token service there, too.
    Loopback,
    Anywhere,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Gets a token: with a password, with an identity token, or without either.
pub(super) async fn get(transport: &Transport, request: &Request<'_>) -> Result<Secret, Error> {
    let Request { realm, service, scope, credentials, origin, registry, clear } = request;
    let refused = |host: &str, problem: &str| Error::Token {
        host: host.to_owned(),
        origin: (*origin).clone(),
        problem: problem.to_owned(),
    };
    let mut url = Url::parse(realm).map_err(|_| refused(registry, "its realm is no URL"))?;
    // Names and passwords in there would be sent. A URL without a host cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    match url.scheme() {
        "https" => {}
        "http" if *clear == Clear::Anywhere => {}
        "http" if *clear == Clear::Loopback && is_loopback(url.host_str().unwrap_or_default()) => {}
        "http" => return Err(refused(registry, "its realm is not secured, and the token would be seen")),
        _ => return Err(refused(registry, "its realm is not HTTP")),
    }
    let host = host_of(&url);
    let fields = [("service", *service), ("scope", Some(*scope))];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let response = if let Some(Credentials::Identity(token)) = credentials {
        // A form is written as a query is.
        let mut form = url.clone();
        form.query_pairs_mut()
            .clear()
            .extend_pairs(fields)
            .append_pair("client_id", "verity")
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token.reveal());
        let form = form.query().unwrap_or_default().to_owned();
        transport.post(url, form).await?
    } else {
        url.query_pairs_mut().extend_pairs(fields);
        let mut authorization = None;
        if let Some(Credentials::Password { user, password }) = credentials {
            url.query_pairs_mut().append_pair("account", user);
            authorization = Some(basic(user, password).ok_or_else(|| refused(&host, "they make no header"))?);
        }
        transport.get(url, &HeaderMap::new(), authorization).await?.response
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => {
            return Err(Error::RateLimited { host, attempts: 0, retry_after: retry_after(&response) });
        }
        status if status.is_server_error() => {
            let retry_after = retry_after(&response);
            let name = format!("token service {host}");
            return Err(Error::Status { name, status: status.as_u16(), found: None, retry_after });
        }
        status => return Err(refused(&host, &format!("HTTP status {}", status.as_u16()))),
    }
    let body = transport.body(response, ANSWER_MAX).await?;
    let answer = body.and_then(|body| serde_json::from_slice::<Answer>(&body).ok());
    let token = answer.and_then(|answer| answer.token.or(answer.access_token));
    token.map(Secret::new).ok_or_else(|| refused(&host, "there is none in its answer"))
}

/// The header of a password.
pub(super) fn basic(user: &str, password: &Secret) -> Option<reqwest::header::HeaderValue> {
    let text = format!("{user}:{}", password.reveal());
    header(&format!("Basic {}", STANDARD.encode(text)))
}

/// The header of a token. It comes from the network, and may be anything.
pub(super) fn bearer(token: &Secret) -> Option<reqwest::header::HeaderValue> {
    header(&format!("Bearer {}", token.reveal()))
}
