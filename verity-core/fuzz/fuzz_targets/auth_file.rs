//! Auth files by an attacker: what is found is for what was asked for, and nothing that is shown has a secret in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::oci::auth::{AuthFile, Credentials, Found};

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (registry, repository, bytes) = input;
    let Ok(file) = AuthFile::parse(bytes) else { return };
    // Each is asked for by its own name, too, in case the fuzzer does not guess it.
    for (registry, repository) in
        [(registry, repository), ("docker.io", "library/x"), ("r.example:5000", "a/b")]
    {
        match file.find(registry, repository) {
            Ok(Some(Found::Credentials { key, credentials })) => {
                let name = format!("{registry}/{repository}");
                let host =
                    key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(&key);
                let host = host.split('/').next().unwrap_or_default();
                let known = name == key || name.starts_with(&format!("{key}/")) || key == registry;
                let same = [registry, "docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host);
                assert!(known || same, "{key:?} for {name:?}");
                let shown = match &credentials {
                    Credentials::Password { password, .. } => format!("{password:?}"),
                    other => format!("{other:?}"),
                };
                assert!(shown.ends_with("Secret(...)") || shown.ends_with("Secret(...))"), "{shown}");
            }
            Ok(Some(Found::Helper { name, .. })) => assert!(!name.is_empty() && !name.contains('/')),
            Ok(_) => {}
            Err(error) => assert!(error.to_string().len() < 16 + 8 * bytes.len()),
        }
    }
});
