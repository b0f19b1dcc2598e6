//! Whom credentials and tokens are shown to, and that nobody else sees them.

use std::error::Error as _;
use std::net::TcpStream;
use std::path::PathBuf;

use verity_core::oci::Source;
use verity_core::oci::registry::{AuthFiles, Error, Helpers, Origin, Registry};

use crate::server::{Request, Server, answer, close};
use crate::{content, descriptor, open, options, partial, read, registry_error, root_error, start};

const SECRETS: [&str; 4] = ["pass-secret", "token-secret", "dXNlcjpwYXNzLXNlY3JldA", "query-secret"];

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
    good: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static,
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
    // The last one is another machine's, in the clear.
    for realm in ["ftp://x/", "nonsense", "http://user:query-secret@192.0.2.1/token"] {
        let server = Server::new(move |_, stream| {
            answer(stream, 401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], b"");
        });
        let (registry, _folder) = open_as(&server.host(), PASSWORD);
        let error = registry_error(registry.root().unwrap_err());
        assert!(matches!(error, Error::Token { .. }), "{error}");
        keeps_secrets(&error);
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
