//! One request and its answer, redirections included, and what goes wrong on the way.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, NoProxy, Proxy, RequestBuilder, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use super::error::{CONNECTING, Error};
use super::pace::Pace;
use super::{Options, Retries, Tls, tls};

/// How often a request is sent elsewhere.
const REDIRECTS_MAX: u32 = 5;

/// Hosts that no proxy has anything to do with.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

pub(super) struct Transport {
    client: Client,
    retries: Retries,
    /// Whether what was secured may go on in the clear.
    any: bool,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) response: Response,
    /// It is another host's than the one that was asked.
    pub(super) foreign: bool,
}

impl Transport {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let verify = options.tls != Tls::Any;
        let config = tls::config(verify, options.certificates.as_deref())?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(concat!("verity/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(System)
            .connect_timeout(options.retries.connect)
            // What the environment says of proxies is for the caller to look up.
            .no_proxy();
        let direct = format!("{LOOPBACK},{}", options.proxies.direct);
        for (scheme, url) in [("http", &options.proxies.http), ("https", &options.proxies.https)] {
            let Some(url) = url else { continue };
            let proxy = if scheme == "http" { Proxy::http(url) } else { Proxy::https(url) };
            let proxy = proxy.map_err(|_| Error::Proxy { scheme })?;
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
        }
        let client = builder.build().map_err(|error| Error::Internal {
            host: "registries".to_owned(),
            problem: innermost(&error).to_string(),
        })?;
        Ok(Self { client, retries: options.retries, any: !verify })
    }

    /// Gets `url`. `authorization` is shown to its host alone.
    pub(super) async fn get(
        &self,
        mut url: Url,
        headers: &HeaderMap,
        mut authorization: Option<HeaderValue>,
    ) -> Result<Answer, Error> {
        let origin = url.origin();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let response = self.send(request, &url).await?;
            let status = response.status();
            let foreign = url.origin() != origin;
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, foreign });
            }
            let next = self.next(&url, &response)?;
            if next.origin() != origin {
                // Nor is it shown again where that leads back.
                authorization = None;
            }
            url = next;
        }
        Err(Error::Redirect { host: host_of(&url), problem: "comes after five others" })
    }

    /// Posts a form, which is not taken elsewhere.
    pub(super) async fn post(&self, url: Url, form: String) -> Result<Response, Error> {
        let request = self.client.post(url.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        self.send(request, &url).await
    }

    /// Where a redirection leads.
    fn next(&self, url: &Url, response: &Response) -> Result<Url, Error> {
        let refused = |problem| Error::Redirect { host: host_of(url), problem };
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| refused("does not say where"))?;
        let mut next = url.join(location).map_err(|_| refused("leads to what is no URL"))?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err(refused("leads to what is not HTTP"));
        }
        if url.scheme() == "https" && next.scheme() == "http" && !self.any {
            return Err(refused("leads from a secure connection to one in the clear"));
        }
        // Names and passwords in there would be sent. A URL without a host cannot have them.
        let _ = next.set_username("");
        let _ = next.set_password(None);
        Ok(next)
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, Error> {
        // It connects first, and that has a limit of its own.
        let waited = self.retries.connect.saturating_add(self.retries.silence);
        match timeout(waited, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.classify(&error, url, "asking")),
            Err(_) => Err(Error::TimedOut { host: host_of(url), what: "waiting for an answer", waited }),
        }
    }

    /// How slowly an answer of at most so many bytes may come.
    pub(super) fn pace(&self, bytes: u64) -> Pace {
        Pace::new(&self.retries, bytes)
    }

    /// The next bytes of an answer's body.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
        pace: &mut Pace,
    ) -> Result<Option<bytes::Bytes>, Error> {
        let begin = Instant::now();
        match timeout(pace.wait(), response.chunk()).await {
            Ok(Ok(chunk)) => {
                let bytes = chunk.as_ref().map_or(0, bytes::Bytes::len);
                pace.came(bytes as u64, begin.elapsed());
                Ok(chunk)
            }
            Ok(Err(error)) => Err(self.classify(&error, response.url(), "reading")),
            Err(_) => Err(pace.overdue(host_of(response.url()))),
        }
    }

    /// An answer's body, of at most `most` bytes; `None` if it has more.
    pub(super) async fn body(&self, mut response: Response, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let mut body = Vec::new();
        let mut pace = self.pace(most);
        while let Some(bytes) = self.chunk(&mut response, &mut pace).await? {
            if (body.len() + bytes.len()) as u64 > most {
                return Ok(None);
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Some(body))
    }

    /// What an error is, from what it was caused by.
    fn classify(&self, error: &reqwest::Error, url: &Url, what: &'static str) -> Error {
        let host = host_of(url);
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(found) = cause {
            if let Some(Unresolved(source)) = found.downcast_ref() {
                let source = io::Error::new(source.kind(), source.to_string());
                return Error::UnknownHost { host: url.host_str().unwrap_or_default().to_owned(), source };
            }
            if let Some(problem) = found.downcast_ref().or_else(|| found.downcast_ref().and_then(tls_problem))
            {
                return tls_error(host, problem);
            }
            if let Some(problem) = found.downcast_ref::<io::Error>() {
                use io::ErrorKind as Kind;
                match problem.kind() {
                    Kind::ConnectionRefused => return Error::Refused { host },
                    Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted
                        if error.is_connect() && url.scheme() == "https" =>
                    {
                        let problem = "the connection was closed while it was being secured".to_owned();
                        return Error::Tls { host, problem, certificate: false };
                    }
                    _ => {}
                }
            }
            cause = found.source();
        }
        if error.is_timeout() {
            return Error::TimedOut { host, what: CONNECTING, waited: self.retries.connect };
        }
        let what = if error.is_connect() { CONNECTING } else { what };
        Error::Connection { host, what, problem: innermost(error).to_string() }
    }
}

/// What TLS has to say in an I/O error. Its layers are I/O errors, too, and each hides the one that it wraps from `source`.
fn tls_problem(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| inner.downcast_ref().and_then(tls_problem))
}

fn tls_error(host: String, problem: &rustls::Error) -> Error {
    match problem {
        rustls::Error::InvalidCertificate(problem) => {
            let problem = format!("the certificate is not trusted: {problem}");
            Error::Tls { host, problem, certificate: true }
        }
        // What is no TLS at all.
        rustls::Error::InvalidMessage(_) => {
            let problem = "what answers there speaks no TLS".to_owned();
            Error::Tls { host, problem, certificate: false }
        }
        other => Error::Tls { host, problem: other.to_string(), certificate: true },
    }
}

/// The deepest cause: reqwest's own messages have URLs in them.
fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// The host, and the port if it is not the usual one.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What `Retry-After` asks for: seconds, or a time of day by this machine's clock.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = httpdate::parse_http_date(text).ok()?;
    // What is over needs no wait.
    Some(time.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether a status says that all is well.
pub(super) fn is_good(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
}

/// The system's resolver, whose errors can be told apart from others.
struct System;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unresolved(io::Error);

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let addresses: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

/// The text of a secret header, if it can be one.
pub(super) fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a host, with or without a port, is this machine by its name.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_by_the_name() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("localhost.example", false),
            ("127.0.0.1.example:5000", false),
            ("10.0.0.1", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
