//! Images in registries: a real one, filled by skopeo; with a password, with TLS, behind a proxy that breaks connections.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use common::oci::{Layout, files, listed, tar};
use common::registry::{Access, PASSWORD, Proxy, Registry};
use common::{Run, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

tests! {
    an_image_of_a_registry_is_the_image_that_was_put_there: [DockerRegistry, Skopeo];
    a_broken_connection_costs_the_rest_of_a_blob: [DockerRegistry, Skopeo];
    a_registry_with_a_password_wants_to_see_it: [DockerRegistry, Skopeo];
    a_credential_helper_is_asked: [DockerRegistry, Skopeo];
    a_certificate_has_to_be_trusted: [DockerRegistry, Skopeo];
    what_goes_wrong_is_told_apart: [DockerRegistry, Skopeo];
    a_signal_ends_a_wait: [DockerRegistry, Skopeo];
}

/// A layout `src` with an image `app` of two platforms and layers of some megabytes.
fn source() -> Sandbox {
    let sandbox = Sandbox::new();
    let tars = [tar(1, &[3_000_000, 100]), tar(2, &[1_500_000, 0, 7])];
    let mut layout = Layout::new(&sandbox, "src");
    let one = layout.image("amd64", &[&tars[0], &tars[1]]);
    let other = layout.image("arm64", &[&tars[0]]);
    let index = layout.index(&[("amd64", one), ("arm64", other)]);
    layout.list("app", &index);
    sandbox
}

/// Puts the image of the layout there as `team/app:1`.
fn push(sandbox: &Sandbox, host: &str, options: &str) {
    let line = format!(
        "copy --quiet --all --preserve-digests --dest-tls-verify=false {options} oci:src:app docker://{host}/team/app:1"
    );
    let mut command = sandbox.command("skopeo", "--insecure-policy");
    Run::of(command.args(line.split_whitespace())).is_good();
}

/// `verity`, for which there are no auth files but the tests' own.
fn verity(sandbox: &Sandbox, arguments: &str) -> Command {
    let mut command = sandbox.verity_command(arguments);
    for variable in [
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "XDG_CONFIG_HOME",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    ] {
        command.env_remove(variable);
    }
    let home = sandbox.path("home");
    command.env("HOME", &home).env("XDG_RUNTIME_DIR", home.join("run"));
    command
}

fn run(sandbox: &Sandbox, arguments: &str) -> Run {
    Run::of(&mut verity(sandbox, arguments))
}

#[track_caller]
fn refused(sandbox: &Sandbox, arguments: &str, code: i32, words: &[&str]) {
    let run = run(sandbox, arguments);
    assert_eq!(run.code, Some(code), "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
    assert!(!run.stderr.contains(PASSWORD) && !run.stdout.contains(PASSWORD), "{run:?}");
}

/// Whether there is no image in `dst`.
fn lists_nothing(sandbox: &Sandbox) -> bool {
    let dst = sandbox.path("dst");
    !dst.join("index.json").exists() || listed(&dst).is_empty()
}

fn layers(document: &Value) -> Vec<String> {
    let images = document["images"].as_array().unwrap();
    let layers = images.iter().flat_map(|image| image["layers"].as_array().unwrap());
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn an_image_of_a_registry_is_the_image_that_was_put_there() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Open);
    let host = &registry.host;
    push(&sandbox, host, "");
    let local = run(&sandbox, "image inspect --json oci:src:app");
    let remote = run(&sandbox, &format!("image inspect --json docker://{host}/team/app:1"));
    assert_eq!((remote.code, remote.stderr.as_str()), (Some(0), ""), "{remote:?}");
    assert_eq!(layers(&remote.json()), layers(&local.json()));
    assert_eq!(layers(&remote.json()).len(), 3);

    let digest = listed(&sandbox.path("src"))["app"]["digest"].as_str().unwrap().to_owned();
    let by_digest = run(&sandbox, &format!("image inspect --json docker://{host}/team/app@{digest}"));
    assert_eq!(layers(&by_digest.json()), layers(&local.json()));

    // What is built of either is the same, byte for byte.
    run(&sandbox, "image build --quiet oci:src:app oci:one:app").is_good();
    run(&sandbox, &format!("image build --quiet docker://{host}/team/app:1 oci:two:app")).is_good();
    let blobs = |dir: &str| files(&sandbox.path(dir).join("blobs"));
    assert_eq!(blobs("one"), blobs("two"));
    assert_eq!(listed(&sandbox.path("one"))["app"]["digest"], listed(&sandbox.path("two"))["app"]["digest"]);

    run(&sandbox, &format!("image verify docker://{host}/team/app:1")).is_good();
}

fn a_broken_connection_costs_the_rest_of_a_blob() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Open);
    push(&sandbox, &registry.host, "");
    run(&sandbox, "image build --quiet oci:src:app oci:one:app").is_good();
    let proxy = Proxy::breaking(&registry.host, 700_000, 4);
    run(&sandbox, &format!("image build --quiet docker://{}/team/app:1 oci:two:app", proxy.host())).is_good();
    assert_eq!(proxy.broken.load(Ordering::Relaxed), 4);
    let blobs = |dir: &str| files(&sandbox.path(dir).join("blobs"));
    assert_eq!(blobs("one"), blobs("two"));
}

fn a_registry_with_a_password_wants_to_see_it() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Password);
    let host = &registry.host;
    push(&sandbox, host, &format!("--dest-creds user:{PASSWORD}"));
    let name = format!("docker://{host}/team/app:1");
    refused(
        &sandbox,
        &format!("image ls {name}"),
        2,
        &["access is denied (HTTP status 401), with no credentials", "skopeo login"],
    );
    refused(
        &sandbox,
        &format!("image ls {name} --authfile missing.json"),
        4,
        &["\"missing.json\"", "--no-creds"],
    );

    // As skopeo writes it.
    let login =
        format!("login --tls-verify=false --authfile auth.json --username user --password {PASSWORD} {host}");
    Run::of(&mut sandbox.command("skopeo", &login)).is_good();
    run(&sandbox, &format!("image ls {name} --authfile auth.json")).is_good();
    run(&sandbox, &format!("image build --quiet {name} oci:two:app --authfile auth.json")).is_good();
    run(&sandbox, "image build --quiet oci:src:app oci:one:app").is_good();
    let blobs = |dir: &str| files(&sandbox.path(dir).join("blobs"));
    assert_eq!(blobs("one"), blobs("two"));
    Run::of(
        verity(&sandbox, &format!("image ls {name}")).env("REGISTRY_AUTH_FILE", sandbox.path("auth.json")),
    )
    .is_good();
    refused(&sandbox, &format!("image ls {name} --authfile auth.json --no-creds"), 1, &["--no-creds"]);

    // Where it is usually.
    for (folder, file) in [
        ("home/.docker", "config.json"),
        ("home/.config/containers", "auth.json"),
        ("home/run/containers", "auth.json"),
    ] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
        let path = sandbox.path(folder).join(file);
        fs::copy(sandbox.path("auth.json"), &path).unwrap();
        run(&sandbox, &format!("image ls {name}")).is_good();
        fs::remove_file(path).unwrap();
    }

    // A wrong one is named, and not shown.
    sandbox.write(
        "auth.json",
        format!("{{\"auths\": {{\"{host}/team\": {{\"auth\": \"dXNlcjp3cm9uZw==\"}}}}}}").as_bytes(),
    );
    refused(
        &sandbox,
        &format!("image ls {name} --authfile auth.json"),
        2,
        &["HTTP status 401", &format!("the credentials of \"{host}/team\" in \"auth.json\"")],
    );
    sandbox.write("auth.json", b"{\"auths\": 5}");
    refused(&sandbox, &format!("image ls {name} --authfile auth.json"), 1, &["\"auth.json\"", "line 1"]);
}

fn a_credential_helper_is_asked() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Password);
    let host = &registry.host;
    push(&sandbox, host, &format!("--dest-creds user:{PASSWORD}"));
    fs::create_dir(sandbox.path("bin")).unwrap();
    let script = sandbox.path("bin/docker-credential-tests");
    let answer = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {host}' ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n\
                          echo '{{\"ServerURL\": \"x\", \"Username\": \"user\", \"Secret\": \"{PASSWORD}\"}}'\n"
    );
    fs::write(&script, answer).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths(
        [sandbox.path("bin")].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let ls = |host: &str| {
        let line = format!("image ls docker://{host}/team/app:1 --authfile auth.json");
        Run::of(verity(&sandbox, &line).env("PATH", &path))
    };
    sandbox.write("auth.json", b"{\"credsStore\": \"tests\"}");
    ls(host).is_good();
    sandbox.write("auth.json", format!("{{\"credHelpers\": {{\"{host}\": \"tests\"}}}}").as_bytes());
    ls(host).is_good();
    sandbox.write("auth.json", format!("{{\"credHelpers\": {{\"{host}\": \"absent\"}}}}").as_bytes());
    let run = ls(host);
    assert!(run.code == Some(1) && run.stderr.contains("docker-credential-absent"), "{run:?}");
    // It knows nothing of this one: for a helper for all that is no error.
    sandbox.write("auth.json", b"{\"credsStore\": \"tests\"}");
    let other = host.replace("127.0.0.1", "localhost");
    let run = ls(&other);
    assert!(run.code == Some(2) && run.stderr.contains("with no credentials"), "{run:?}");
}

fn a_certificate_has_to_be_trusted() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Tls);
    let host = &registry.host;
    push(&sandbox, host, "");
    let name = format!("docker://{host}/team/app:1");
    refused(&sandbox, &format!("image ls {name}"), 2, &["the certificate is not trusted", "--cert-dir"]);
    run(&sandbox, &format!("image ls {name} --cert-dir registry")).is_good();
    run(&sandbox, &format!("image ls {name} --cert-dir registry --tls-verify")).is_good();
    run(&sandbox, &format!("image ls {name} --tls-verify=false")).is_good();
    run(&sandbox, &format!("image ls {name} --src-tls-verify=false")).is_good();
    sandbox.write("registry/registry.crt", b"nonsense");
    refused(
        &sandbox,
        &format!("image ls {name} --cert-dir registry"),
        1,
        &["registry.crt", "no certificate"],
    );
}

fn what_goes_wrong_is_told_apart() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Open);
    let host = registry.host.clone();
    push(&sandbox, &host, "");
    refused(
        &sandbox,
        &format!("image ls docker://{host}/team/app:2"),
        4,
        &["HTTP status 404, MANIFEST_UNKNOWN"],
    );
    refused(
        &sandbox,
        &format!("image ls docker://{host}/team/other:1"),
        4,
        &["team/other:1", "HTTP status 404"],
    );
    refused(
        &sandbox,
        "image ls docker://no-such-registry.invalid/x",
        4,
        &["no-such-registry.invalid", "DNS"],
    );
    refused(
        &sandbox,
        &format!("image ls docker://{host}/team/app:1 --tls-verify=true"),
        1,
        &["--tls-verify=false"],
    );
    let failure = run(&sandbox, &format!("image ls --json docker://{host}/team/app:2"));
    assert_eq!(failure.json()["error"]["kind"], "no-device", "{failure:?}");
    // A layer that is gone, and one that is another.
    let before = run(&sandbox, &format!("image inspect --json docker://{host}/team/app:1")).json();
    let layer = layers(&before)[0].replace("sha256:", "");
    let blob = sandbox
        .path(&format!("registry/storage/docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]));
    let content = fs::read(&blob).unwrap();
    fs::write(&blob, vec![7; content.len()]).unwrap();
    let build = format!("image build docker://{host}/team/app:1 oci:dst:app");
    let failed = run(&sandbox, &build);
    assert!(failed.code != Some(0) && failed.stderr.contains(&layer), "{failed:?}");
    let verify = format!("image verify docker://{host}/team/app:1");
    refused(&sandbox, &verify, 2, &["verification failed: "]);
    fs::remove_file(&blob).unwrap();
    refused(&sandbox, &build, 4, &[&layer, "HTTP status 404, BLOB_UNKNOWN"]);
    refused(&sandbox, &verify, 4, &[&layer, "HTTP status 404, BLOB_UNKNOWN", "hint: "]);
    assert!(lists_nothing(&sandbox));
    drop(registry);
    refused(&sandbox, &format!("image ls docker://{host}/team/app:1"), 4, &["the connection was refused"]);
}

fn a_signal_ends_a_wait() {
    let sandbox = source();
    let registry = Registry::start(&sandbox, "registry", Access::Open);
    push(&sandbox, &registry.host, "");
    // Manifests pass, blobs do not.
    let proxy = Proxy::silent(&registry.host, 500_000);
    let child = sandbox
        .interruptible(&format!("image build docker://{}/team/app:1 oci:dst:app", proxy.host()))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while proxy.broken.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.signal, Some(Signal::SIGINT as i32), "{run:?}");
    assert!(lists_nothing(&sandbox));
}
