//! Registries that break, lie, send elsewhere and never answer; and whom credentials are shown to.

mod credentials;
mod server;

use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use server::{Request, Server, answer, close};
use verity_core::layer::Digest;
use verity_core::oci::registry::{Error, Options, Registry, Retries, Tls};
use verity_core::oci::{self, Descriptor, Source, read_document};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Short waits.
fn options() -> Options {
    let mut options = Options::default();
    options.retries = Retries {
        times: 3,
        pause: Duration::from_millis(1),
        longest: Duration::from_secs(2),
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(10),
        ..Retries::default()
    };
    options
}

/// `options`, which notice soon that nothing comes.
fn impatient() -> Options {
    let mut options = options();
    options.retries.connect = Duration::from_secs(2);
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

/// An answer that comes byte by byte.
fn dribble(stream: &mut std::net::TcpStream, headers: &[(&str, &str)], body: &[u8]) {
    answer(stream, 200, headers, b"");
    for byte in body {
        // Until the client goes.
        if io::Write::write_all(stream, &[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_comes_too_slowly_is_given_up() {
    let bytes = content(10_000);
    let body = bytes.clone();
    let server = Server::new(move |_, stream| dribble(stream, &[("content-length", "10000")], &body));
    let mut options = options();
    options.retries.times = 1;
    options.retries.silence = Duration::from_secs(1);
    match read(&open(&server.host(), options), &descriptor(&bytes), 0) {
        Err(Error::GivenUp { source, .. }) => assert!(matches!(*source, Error::Slow { .. }), "{source}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_document_is_not_waited_for_longer_than_it_takes() {
    let length = "1000000";
    let headers = [("content-type", MANIFEST), ("content-length", length)];
    let server = Server::new(move |_, stream| dribble(stream, &headers, &content(1_000_000)));
    let mut options = options();
    options.retries.times = 1;
    // However slow.
    options.retries.slowest = 0;
    options.retries.document = Duration::from_secs(1);
    match root_error(&server.host(), options) {
        Error::Slow { bytes, waited, .. } => {
            assert!(
                (1..1_000_000).contains(&bytes) && waited >= Duration::from_secs(1),
                "{bytes} {waited:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 2);
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
