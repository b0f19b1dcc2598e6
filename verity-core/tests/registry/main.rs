//! Registries that break, lie, send elsewhere and never answer; and whom credentials are shown to.

mod server;

use std::error::Error as _;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use server::{Request, Server, answer, close};
use verity_core::layer::Digest;
use verity_core::oci::registry::{AuthFiles, Error, Helpers, Options, Origin, Registry, Retries, Tls};
use verity_core::oci::{self, Descriptor, Source, read_document};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const SECRETS: [&str; 4] = ["pass-secret", "token-secret", "dXNlcjpwYXNzLXNlY3JldA", "query-secret"];

/// Short waits.
fn options() -> Options {
    let mut options = Options::default();
    options.retries = Retries {
        times: 3,
        pause: Duration::from_millis(1),
        longest: Duration::from_secs(2),
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(10),
    };
    options
}

/// `options`, which notice soon that nothing comes.
fn impatient() -> Options {
    let mut options = options();
    options.retries.silence = Duration::from_millis(300);
    options
}

fn open(host: &str, options: Options) -> Registry {
    Registry::open(&format!("{host}/team/app:1").parse().unwrap(), options).unwrap()
}

/// Bytes that do not repeat soon.
fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(LAYER, Digest::sha256(bytes), bytes.len() as u64)
}

/// Reads as std does, and gives the registry's error.
fn read(registry: &Registry, descriptor: &Descriptor, from: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut blob = registry.blob(descriptor, from).map_err(registry_error)?;
    match blob.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.downcast::<Error>().unwrap()),
    }
}

fn registry_error(error: oci::Error) -> Error {
    match error {
        oci::Error::Other(error) => *error.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn root_error(host: &str, options: Options) -> Error {
    registry_error(open(host, options).root().unwrap_err())
}

/// The first byte that a request wants.
fn start(request: &Request) -> usize {
    let range = request.header("range");
    range.strip_prefix("bytes=").map_or(0, |range| range.strip_suffix('-').unwrap().parse().unwrap())
}

fn partial(stream: &mut std::net::TcpStream, body: &[u8], from: usize) {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    answer(stream, 206, &[("content-range", &range)], &body[from..]);
}

#[test]
fn a_blob_that_breaks_is_read_on_from_where_it_broke() {
    let bytes = content(3_000_000);
    let body = bytes.clone();
    let server = Server::new(move |request, stream| {
        let from = start(request);
        let length = (body.len() - from).to_string();
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        let headers = [("content-length", length.as_str()), ("content-range", range.as_str())];
        let (status, headers) = if from == 0 { (200, &headers[..1]) } else { (206, &headers[..]) };
        // A megabyte a connection, and a bit.
        let end = body.len().min(from + 1_100_000);
        answer(stream, status, headers, &body[from..end]);
        if end < body.len() {
            close(stream);
        }
    });
    let registry = open(&server.host(), options());
    assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    let ranges: Vec<_> = server.requests().iter().map(start).collect();
    assert_eq!(ranges, [0, 1_100_000, 2_200_000]);
    // Whoever has a part asks for the rest alone.
    assert_eq!(read(&registry, &descriptor(&bytes), 2_999_990).unwrap(), bytes[2_999_990..]);
    assert_eq!(start(server.requests().last().unwrap()), 2_999_990);
    let before = server.requests().len();
    assert_eq!(read(&registry, &descriptor(&bytes), 3_000_000).unwrap(), b"");
    assert_eq!(server.requests().len(), before);
    assert!(matches!(registry.blob(&descriptor(&bytes), 3_000_001), Err(oci::Error::Position { .. })));
}

#[test]
fn a_registry_without_ranges_starts_over() {
    let bytes = content(400_000);
    let body = bytes.clone();
    let server = Server::new(move |request, stream| {
        if request.number == 0 {
            let length = body.len().to_string();
            answer(stream, 200, &[("content-length", &length)], &body[..150_000]);
            close(stream);
        } else {
            answer(stream, 200, &[], &body);
        }
    });
    let registry = open(&server.host(), options());
    assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    assert_eq!(server.requests().iter().map(start).collect::<Vec<_>>(), [0, 150_000]);
}

#[test]
fn a_blob_that_falls_silent_is_asked_for_again() {
    let bytes = content(200_000);
    let body = bytes.clone();
    let server = Server::new(move |request, stream| {
        if request.number == 0 {
            let length = body.len().to_string();
            answer(stream, 200, &[("content-length", &length)], &body[..50_000]);
        } else {
            partial(stream, &body, start(request));
        }
    });
    let registry = open(&server.host(), impatient());
    assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    assert_eq!(server.requests().iter().map(start).collect::<Vec<_>>(), [0, 50_000]);
}

#[test]
fn what_always_breaks_is_given_up() {
    let bytes = content(1000);
    let body = bytes.clone();
    let server = Server::new(move |request, stream| {
        let from = start(request);
        let range = format!("bytes {from}-999/1000");
        let length = (1000 - from).to_string();
        let headers = [("content-length", length.as_str()), ("content-range", range.as_str())];
        // A byte each time is no progress.
        answer(stream, if from == 0 { 200 } else { 206 }, &headers, &body[from..=from]);
        close(stream);
    });
    let registry = open(&server.host(), options());
    match read(&registry, &descriptor(&bytes), 0) {
        Err(Error::GivenUp { position: 4, size: 1000, attempts: 4, source, .. }) => {
            assert!(matches!(*source, Error::Connection { .. }), "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn lies_about_ranges_are_told() {
    let bytes = content(1000);
    for range in
        ["bytes 0-999/1000", "bytes 501-999/1000", "bytes 500-1000/1001", "bytes 500-999/2000", "nonsense"]
    {
        let body = bytes.clone();
        let server = Server::new(move |request, stream| {
            assert_eq!(start(request), 500);
            answer(stream, 206, &[("content-range", range)], &body[500..]);
        });
        match read(&open(&server.host(), options()), &descriptor(&bytes), 500) {
            Err(Error::Range { from: 500, found, .. }) => assert_eq!(found, range),
            other => panic!("{range}: {other:?}"),
        }
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn lies_about_lengths_are_told() {
    let bytes = content(1000);
    let announced = |length: &'static str| {
        let body = content(1000);
        Server::new(move |_, stream| answer(stream, 200, &[("content-length", length)], &body))
    };
    for (server, expected) in [
        (announced("999"), 999),
        (announced("1001"), 1001),
        (announced("99999999999999"), 99_999_999_999_999),
    ] {
        match read(&open(&server.host(), options()), &descriptor(&bytes), 0) {
            Err(Error::Length { expected: 1000, found, .. }) => assert_eq!(found, expected),
            other => panic!("{other:?}"),
        }
    }
    // Without a length, more than was said: as chunks.
    let server = Server::new(|_, stream| {
        let chunk = [b"400\r\n".as_slice(), &content(1024), b"\r\n"].concat();
        answer(stream, 200, &[("transfer-encoding", "chunked")], &chunk);
    });
    match read(&open(&server.host(), options()), &descriptor(&bytes), 0) {
        Err(Error::Length { expected: 1000, found: 1024, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_bytes_are_for_the_reader_to_see() {
    let bytes = content(1000);
    let server = Server::new(|_, stream| answer(stream, 200, &[], &vec![0; 1000]));
    let registry = open(&server.host(), options());
    let error = read_document(&registry, &descriptor(&bytes)).unwrap_err();
    assert!(matches!(error, oci::Error::Mismatch { .. }), "{error}");
}

#[test]
fn a_busy_registry_is_waited_for_but_not_for_ever() {
    let manifest = format!("{{\"mediaType\": {MANIFEST:?}}}");
    let body = manifest.clone();
    let server = Server::new(move |request, stream| match request.number {
        0 => answer(stream, 429, &[("retry-after", "1")], b"{}"),
        1 => answer(stream, 503, &[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")], b"{}"),
        2 => close(stream),
        _ => answer(stream, 200, &[("content-type", MANIFEST)], body.as_bytes()),
    });
    let registry = open(&server.host(), options());
    let begin = std::time::Instant::now();
    let root = registry.root().unwrap();
    // It was asked for a second, and a wait is no shorter than it is.
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!((root.digest, root.media_type.as_str()), (Digest::sha256(manifest.as_bytes()), MANIFEST));
    assert_eq!(server.requests().len(), 4);
    // It is not asked again: a tag may move.
    let again = registry.root().unwrap();
    assert_eq!(read_document(&registry, &again).unwrap(), manifest.as_bytes());
    assert_eq!(server.requests().len(), 4);

    for (status, retry_after, tries) in
        [(429, "0", 4), (429, "3600", 1), (503, "0", 4), (500, "soon", 4), (501, "0", 1)]
    {
        let server =
            Server::new(move |_, stream| answer(stream, status, &[("retry-after", retry_after)], b""));
        match root_error(&server.host(), options()) {
            Error::RateLimited { attempts, .. } if status == 429 => assert_eq!(attempts, tries),
            Error::Status { status: found, .. } => assert_eq!(found, status),
            other => panic!("{other}"),
        }
        assert_eq!(server.requests().len(), tries as usize, "{status}");
    }
}

#[test]
fn what_never_answers_times_out_and_lets_itself_be_cancelled() {
    let server = Server::new(|_, _| {});
    match root_error(&server.host(), impatient()) {
        Error::TimedOut { .. } => {}
        other => panic!("{other:?}"),
    }
    // A blob that begins and never goes on.
    let server = Server::new(|_, stream| answer(stream, 200, &[("content-length", "1000")], &content(10)));
    let (seen, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut options = options();
    options.retries.silence = Duration::from_secs(3600);
    let (stop, count) = (Arc::clone(&seen), Arc::clone(&asked));
    options.cancelled = Some(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        stop.load(Ordering::Relaxed)
    }));
    let registry = open(&server.host(), options);
    let mut blob = registry.blob(&descriptor(&content(1000)), 0).unwrap();
    let mut bytes = [0; 10];
    blob.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], content(10));
    assert_eq!(blob.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::Interrupted);
    seen.store(true, Ordering::Relaxed);
    assert_eq!(blob.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::Interrupted);
    let error = blob.read(&mut bytes).unwrap_err().downcast::<Error>().unwrap();
    assert!(matches!(error, Error::Cancelled));
    assert!(matches!(registry_error(registry.root().unwrap_err()), Error::Cancelled));
    assert!(asked.load(Ordering::Relaxed) > 2);
}

#[test]
fn documents_are_bounded() {
    for headers in [
        &[("content-type", MANIFEST), ("content-length", "99999999999")][..],
        &[("content-type", MANIFEST), ("transfer-encoding", "chunked")],
    ] {
        let server = Server::new(move |_, stream| {
            answer(stream, 200, headers, b"");
            let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
            // Until the client goes.
            while io::Write::write_all(stream, &chunk).is_ok() {}
        });
        match root_error(&server.host(), options()) {
            Error::Length { expected, .. } => assert_eq!(expected, oci::DOCUMENT_MAX),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn hosts_that_are_not_there_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    match root_error(&free.to_string(), options()) {
        Error::Refused { host } => assert_eq!(host, free.to_string()),
        other => panic!("{other:?}"),
    }
    match root_error("no-such-registry.invalid", options()) {
        Error::UnknownHost { host, .. } => assert_eq!(host, "no-such-registry.invalid"),
        other => panic!("{other:?}"),
    }
    let server = Server::new(|_, stream| answer(stream, 404, &[], b""));
    let mut strict = options();
    strict.tls = Tls::Required;
    match root_error(&server.host(), strict) {
        Error::Tls { certificate: false, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn what_is_not_there_is_told() {
    let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = Server::new(|_, stream| answer(stream, 404, &[("content-type", "application/json")], body));
    let registry = open(&server.host(), options());
    match registry_error(registry.root().unwrap_err()) {
        Error::NotFound { name, found } => {
            assert_eq!(found.as_deref(), Some("MANIFEST_UNKNOWN"));
            assert_eq!(name, format!("image docker://{}/team/app:1", server.host()));
        }
        other => panic!("{other:?}"),
    }
    let missing = descriptor(b"x");
    match read(&registry, &missing, 0) {
        Err(Error::NotFound { name, .. }) => assert!(name.contains(&missing.digest.to_string()), "{name}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn manifests_are_what_they_are_called() {
    let manifest = format!("{{\"mediaType\": {MANIFEST:?}}}").into_bytes();
    let body = manifest.clone();
    let server = Server::new(move |_, stream| answer(stream, 200, &[("content-type", MANIFEST)], &body));
    let other = Digest::sha256(b"other");
    for (digest, is_good) in [(Digest::sha256(&manifest), true), (other.clone(), false)] {
        let name = format!("{}/team/app@{digest}", server.host()).parse().unwrap();
        let root = Registry::open(&name, options()).unwrap().root();
        match (root.map_err(registry_error), is_good) {
            (Ok(root), true) => assert_eq!(root.digest, digest),
            (Err(Error::Digest { expected, .. }), false) => assert_eq!(expected, other),
            (other, _) => panic!("{other:?}"),
        }
    }
    let text = Digest::sha256(b"what the registry says").to_string();
    let body = manifest.clone();
    let server = Server::new(move |_, stream| {
        answer(stream, 200, &[("content-type", MANIFEST), ("docker-content-digest", &text)], &body);
    });
    assert!(matches!(root_error(&server.host(), options()), Error::Digest { .. }));
    let server = Server::new(|_, stream| answer(stream, 200, &[("content-type", "text/html")], b"<html>"));
    match root_error(&server.host(), options()) {
        Error::MediaType { media_type, .. } => assert_eq!(media_type, "text/html"),
        other => panic!("{other:?}"),
    }
}

/// A folder with an auth file for the host.
fn auth_file(host: &str, entry: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    std::fs::write(&path, format!("{{\"auths\": {{{host:?}: {entry}}}}}")).unwrap();
    (folder, path)
}

const PASSWORD: &str = r#"{"auth": "dXNlcjpwYXNzLXNlY3JldA=="}"#;

/// Opens with the credentials.
fn open_as(host: &str, entry: &str) -> (Registry, tempfile::TempDir) {
    let (folder, path) = auth_file(host, entry);
    let mut options = options();
    options.auth_files = AuthFiles::Given(path);
    (open(host, options), folder)
}

/// All that an error could show.
fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

#[track_caller]
fn keeps_secrets(error: &Error) {
    let text = shown(error);
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
}

/// A registry whose token service is in the same place; what has a token gets `good`.
fn with_tokens(
    token: &'static str,
    good: impl Fn(&Request, &mut std::net::TcpStream) + Send + Sync + 'static,
) -> Server {
    Server::new(move |request, stream| {
        let realm = format!("Bearer realm=\"http://{}/token?x=1\",service=\"s p\"", request.header("host"));
        if request.path.starts_with("/token") {
            answer(stream, 200, &[], format!("{{\"token\": {token:?}}}").as_bytes());
        } else if request.header("authorization") == format!("Bearer {token}") {
            good(request, stream);
        } else {
            answer(stream, 401, &[("www-authenticate", &realm)], b"");
        }
    })
}

#[test]
fn a_token_is_got_with_the_password_and_shown() {
    let bytes = content(1000);
    let body = bytes.clone();
    let server = with_tokens("token-secret", move |_, stream| answer(stream, 200, &[], &body));
    let (registry, _folder) = open_as(&server.host(), PASSWORD);
    assert!(matches!(registry.origin(), Origin::File { key, .. } if *key == server.host()));
    for _ in 0..2 {
        assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    }
    let log = server.requests();
    let [first, token, second, third] = &log[..] else { panic!("{log:?}") };
    assert_eq!(first.header("authorization"), "");
    assert_eq!(token.header("authorization"), "Basic dXNlcjpwYXNzLXNlY3JldA==");
    assert_eq!(token.path, "/token?x=1&service=s+p&scope=repository%3Ateam%2Fapp%3Apull&account=user");
    for request in [second, third] {
        assert_eq!(request.header("authorization"), "Bearer token-secret");
    }
    // Nobody's token.
    let registry = open(&server.host(), options());
    assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    assert_eq!(server.requests()[5].header("authorization"), "");
}

#[test]
fn an_identity_token_is_posted() {
    let server = with_tokens("token-secret", |_, stream| answer(stream, 200, &[], b"x"));
    let (registry, _folder) = open_as(&server.host(), r#"{"identitytoken": "query-secret"}"#);
    assert_eq!(read(&registry, &descriptor(b"x"), 0).unwrap(), b"x");
    let request = &server.requests()[1];
    assert_eq!((request.method.as_str(), request.header("authorization")), ("POST", ""));
    assert_eq!(
        request.body,
        "service=s+p&scope=repository%3Ateam%2Fapp%3Apull&client_id=verity&grant_type=refresh_token\
         &refresh_token=query-secret"
    );
}

#[test]
fn a_token_that_has_run_out_is_renewed_in_the_middle() {
    let bytes = content(100_000);
    let body = bytes.clone();
    let server = Server::new(move |request, stream| {
        let shown = request.header("authorization");
        if request.path.starts_with("/token") {
            answer(stream, 200, &[], format!("{{\"access_token\": \"t{}\"}}", request.number).as_bytes());
        } else if shown == "Bearer t1" && request.number < 3 {
            answer(stream, 200, &[("content-length", "100000")], &body[..1000]);
            close(stream);
        } else if shown == "Bearer t4" {
            partial(stream, &body, start(request));
        } else {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
            answer(stream, 401, &[("www-authenticate", &realm)], b"");
        }
    });
    let registry = open(&server.host(), options());
    assert_eq!(read(&registry, &descriptor(&bytes), 0).unwrap(), bytes);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn nonsense_from_a_token_service_is_an_error() {
    for (token, status) in [("to\nken-secret", 200), ("", 500), ("x", 401), ("x", 403)] {
        let server = Server::new(move |request, stream| {
            if request.path.starts_with("/token") {
                answer(stream, status, &[], serde_json::json!({ "token": token }).to_string().as_bytes());
            } else {
                let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
                answer(stream, 401, &[("www-authenticate", &realm)], b"");
            }
        });
        let (registry, _folder) = open_as(&server.host(), PASSWORD);
        let error = registry_error(registry.root().unwrap_err());
        assert!(matches!(error, Error::Token { .. } | Error::Status { status: 500, .. }), "{error}");
        keeps_secrets(&error);
    }
    for realm in ["ftp://x/", "nonsense", "https://user:query-secret@127.0.0.1:1/"] {
        let server = Server::new(move |_, stream| {
            answer(stream, 401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], b"");
        });
        let (registry, _folder) = open_as(&server.host(), PASSWORD);
        keeps_secrets(&registry_error(registry.root().unwrap_err()));
    }
}

#[test]
fn who_is_denied_is_told_what_was_shown() {
    for (status, challenge) in [(401, "Basic realm=\"x\""), (401, "Negotiate"), (403, "Basic realm=\"x\"")] {
        let server = Server::new(move |_, stream| {
            // A registry that shows all what it was shown.
            let body =
                br#"{"errors":[{"code":"DENIED","message":"Basic dXNlcjpwYXNzLXNlY3JldA== pass-secret"}]}"#;
            answer(stream, status, &[("www-authenticate", challenge)], body);
        });
        let (registry, _folder) = open_as(&server.host(), PASSWORD);
        let error = registry_error(registry.root().unwrap_err());
        match &error {
            Error::Denied { status: found, origin: Origin::File { .. }, .. } => assert_eq!(*found, status),
            other => panic!("{other:?}"),
        }
        keeps_secrets(&error);
        match root_error(&server.host(), options()) {
            Error::Denied { origin: Origin::Nowhere, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn credentials_stay_with_the_registry() {
    let bytes = content(1000);
    let body = bytes.clone();
    let elsewhere = Server::new(move |request, stream| partial(stream, &body, start(request)));
    let target = format!("http://user:pass@{}/there?signature=query-secret", elsewhere.host());
    let server =
        with_tokens("token-secret", move |_, stream| answer(stream, 307, &[("location", &target)], b""));
    let (registry, _folder) = open_as(&server.host(), PASSWORD);
    assert_eq!(read(&registry, &descriptor(&bytes), 10).unwrap(), bytes[10..]);
    let log = elsewhere.requests();
    let [request] = &log[..] else { panic!("{log:?}") };
    assert_eq!((request.path.as_str(), start(request)), ("/there?signature=query-secret", 10));
    assert_eq!(request.header("authorization"), "");

    // Nor does the other host get them by asking, nor is its URL shown.
    let elsewhere =
        Server::new(|_, stream| answer(stream, 401, &[("www-authenticate", "Basic realm=\"x\"")], b""));
    let target = format!("http://{}/there?signature=query-secret", elsewhere.host());
    let server =
        with_tokens("token-secret", move |_, stream| answer(stream, 302, &[("location", &target)], b""));
    let (registry, _folder) = open_as(&server.host(), PASSWORD);
    let error = read(&registry, &descriptor(&bytes), 0).unwrap_err();
    assert!(matches!(error, Error::Status { status: 401, .. }), "{error}");
    keeps_secrets(&error);
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_empty()));

    for location in ["file:///etc/passwd", "http://[", "//"] {
        let server = Server::new(move |_, stream| answer(stream, 302, &[("location", location)], b""));
        let error = root_error(&server.host(), options());
        assert!(matches!(error, Error::Redirect { .. }), "{location}: {error}");
    }
    let server = Server::new(|request, stream| answer(stream, 302, &[("location", &request.path)], b""));
    assert!(matches!(root_error(&server.host(), options()), Error::Redirect { .. }));
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn files_and_helpers_fail_closed() {
    let refused = |auth_files| {
        let mut options = options();
        options.auth_files = auth_files;
        Registry::open(&"r.example/x".parse().unwrap(), options)
    };
    let (folder, path) = auth_file("r.example", "17");
    let missing = folder.path().join("missing");
    assert!(matches!(refused(AuthFiles::Given(missing.clone())), Err(Error::AuthFileRead { .. })));
    assert!(refused(AuthFiles::Usual(vec![missing.clone()])).is_ok());
    assert!(matches!(refused(AuthFiles::Usual(vec![missing, path.clone()])), Err(Error::AuthFile { .. })));
    std::fs::write(&path, r#"{"credHelpers": {"r.example": "no-such-helper-here"}}"#).unwrap();
    match refused(AuthFiles::Given(path.clone())) {
        Err(Error::Helper { name, .. }) => assert_eq!(name, "no-such-helper-here"),
        other => panic!("{other:?}"),
    }
    let mut options = options();
    options.auth_files = AuthFiles::Given(path);
    options.helpers = Helpers::Run;
    match Registry::open(&"r.example/x".parse().unwrap(), options) {
        Err(Error::Helper { problem, .. }) => assert!(problem.contains("started"), "{problem}"),
        other => panic!("{other:?}"),
    }
}
