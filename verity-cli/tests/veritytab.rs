//! `attach-all` and `detach-all` as far as they come without root: what they read, say and return.

mod common;

use common::Sandbox;

/// A veritytab in the sandbox's folder; `@` in it is that folder.
fn veritytab(sandbox: &Sandbox, text: &str) {
    sandbox.write("table", text.replace("@/", &sandbox.path("").display().to_string()).as_bytes());
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    let sandbox = Sandbox::new();
    let give = "give the path of a veritytab; without one it is /etc/veritytab";
    for command in ["attach-all", "detach-all"] {
        let run = sandbox.verity(&format!("{command} missing"));
        assert_eq!(run.code, Some(4), "{run:?}");
        assert!(
            run.stderr.starts_with("verity: veritytab \"missing\" cannot be read: No such file"),
            "{run:?}"
        );
        assert!(run.stderr.ends_with(&format!("hint: {give}\n")), "{run:?}");
        assert_eq!(sandbox.verity(&format!("{command} .")).code, Some(4));
    }
    sandbox.write("table", b"name /d /h \xff\n");
    let run = sandbox.verity("attach-all table");
    assert!(run.code == Some(1) && run.stderr.contains("byte 11 is not UTF-8"), "{run:?}");
    sandbox.write("table", &[b'#'; (1 << 20) + 1]);
    let run = sandbox.verity("attach-all table");
    assert!(run.code == Some(1) && run.stderr.contains("too large"), "{run:?}");
}

#[test]
fn an_empty_table_is_no_error() {
    let sandbox = Sandbox::new();
    for text in ["", "# nothing\n\n"] {
        veritytab(&sandbox, text);
        sandbox.verity("attach-all table").is(0, "", "");
        sandbox.verity("detach-all table").is(0, "", "");
        let document = sandbox.verity("attach-all table --json").json();
        assert_eq!(document["command"], "attach-all");
        assert_eq!(document["entries"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn a_line_that_means_nothing_fails_and_is_named() {
    let sandbox = Sandbox::new();
    veritytab(&sandbox, "one /d /h\ntwo /d /h 00 nofail,frobnicate\n");
    let run = sandbox.verity("attach-all table");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let lines: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("verity: ")).collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert!(lines[0].contains("\"table\": line 1: root hash is missing"), "{run:?}");
    assert!(lines[1].contains("\"table\": line 2: option \"frobnicate\" is unknown"), "{run:?}");
    let document = sandbox.verity("attach-all table --json").json();
    let entry = &document["entries"][1];
    assert_eq!((&entry["line"], &entry["result"]), (&2.into(), &"failed".into()));
    assert!(
        entry["name"].is_null() && entry["required"] == true && entry["error"]["exit_code"] == 1,
        "{entry}"
    );
}

#[test]
fn each_entry_s_failure_is_told_with_its_line_and_the_first_required_one_decides() {
    let (sandbox, root) = Sandbox::formatted(4);
    let other = "0".repeat(64);
    veritytab(
        &sandbox,
        &format!(
            "waits @/missing @/hash {root} nofail\n\
             later @/missing @/hash {root} noauto\n\
             gone  @/missing @/hash {root}\n\
             wrong @/data    @/hash {other} data-block-size=512\n"
        ),
    );
    let before = sandbox.content();
    let run = sandbox.verity("attach-all table");
    assert_eq!((run.code, run.stdout.as_str()), (Some(4), "later: left out\n"), "{run:?}");
    let lines: Vec<_> = run.stderr.lines().filter(|line| !line.starts_with("hint: ")).collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    assert!(
        lines[0].starts_with("note: line 1 (waits): data device ") && lines[0].ends_with(" (nofail)"),
        "{run:?}"
    );
    assert!(lines[1].starts_with("verity: line 3 (gone): data device "), "{run:?}");
    assert!(lines[2].starts_with("verity: line 4 (wrong): --data-block-size is 512"), "{run:?}");
    let quiet = sandbox.verity("attach-all -q table");
    assert_eq!((quiet.code, quiet.stdout.as_str()), (Some(4), ""));
    assert!(!quiet.stderr.contains("note:"), "{quiet:?}");
    assert_eq!(sandbox.content(), before);

    veritytab(&sandbox, &format!("waits @/missing @/hash {root} nofail\n"));
    assert_eq!(sandbox.verity("attach-all table").code, Some(0));
    let document = sandbox.verity("attach-all table --json").json();
    let entry = &document["entries"][0];
    assert!(entry["result"] == "failed" && entry["required"] == false && entry["name"] == "waits", "{entry}");
}

#[test]
fn a_uuid_that_is_not_the_superblock_s_is_refused() {
    let (sandbox, root) = Sandbox::formatted(4);
    let uuid = "11234567-89ab-cdef-0123-456789abcdef";
    veritytab(&sandbox, &format!("name @/data @/hash {root} uuid={uuid}\n"));
    let run = sandbox.verity("attach-all table");
    assert!(run.code == Some(1) && run.stderr.contains(&format!("uuid= is {uuid}, but")), "{run:?}");
}

#[test]
fn a_signature_is_read_before_anything_is_made() {
    let (sandbox, root) = Sandbox::formatted(4);
    sandbox.write("pem", b"-----BEGIN PKCS7-----\n");
    veritytab(&sandbox, &format!("name @/data @/hash {root} root-hash-signature=@/pem\n"));
    let run = sandbox.verity("attach-all table");
    assert!(run.code == Some(1) && run.stderr.contains("is PEM text, not DER"), "{run:?}");
    let open = format!("open data name hash {root} --root-hash-signature");
    let run = sandbox.verity(&format!("{open} pem"));
    let hint = "convert it: openssl pkcs7 -outform der, or sign with -outform der";
    let message = "signature file \"pem\": the signature is PEM text, not DER";
    run.is(1, "", &format!("verity: {message}\nhint: {hint}\n"));
    for (name, text) in [(".", "is not a regular file"), ("missing", "cannot be read: No such file")] {
        let run = sandbox.verity(&format!("{open} {name}"));
        assert!(run.code == Some(1) && run.stderr.contains(text), "{run:?}");
        let run = sandbox.drop_in(&format!("{open} {name}"));
        run.is(1, "", &format!("Invalid signature file {name}.\n"));
    }
    sandbox.write("large", &[0x30; 32_768]);
    let run = sandbox.verity(&format!("{open} large"));
    assert!(run.code == Some(1) && run.stderr.contains("at most 32767 are possible"), "{run:?}");
}
