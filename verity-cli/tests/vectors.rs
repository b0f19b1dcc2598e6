//! The trees that veritysetup made of known data: the same root and the same bytes, on one thread and on all, with every digest
//! backend that runs here.

mod common;

use std::thread;

use common::{Run, Sandbox, backends};
use serde_json::Value;
use sha2::{Digest, Sha256};
use verity_core::digest::BACKEND_VARIABLE;

const VECTORS: &str = include_str!("../../verity-core/tests/vectors/hash-tree.json");

#[test]
fn every_vector_comes_out_with_every_backend_on_one_thread_and_on_all() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 107);
    let workers = thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for worker in 0..workers {
            let vectors = &vectors;
            scope.spawn(move || {
                for case in cases.iter().skip(worker).step_by(workers) {
                    check(vectors, case);
                }
            });
        }
    });
}

fn check(vectors: &Value, case: &Value) {
    let number = |field: &str| usize::try_from(case[field].as_u64().unwrap()).unwrap();
    let text = |field: &str| case[field].as_str().unwrap();
    let sandbox = Sandbox::new();
    let length = number("data_blocks") * number("data_block_size");
    sandbox.write("data", &data(vectors["seed"].as_str().unwrap(), length));
    let salt = if text("salt").is_empty() { "-" } else { text("salt") };
    let parameters = format!(
        "--hash {} --format {} --data-block-size {} --hash-block-size {} --uuid {} --salt {salt}",
        text("hash"),
        number("hash_type"),
        number("data_block_size"),
        number("hash_block_size"),
        vectors["uuid"].as_str().unwrap(),
    );
    for backend in backends() {
        let forced = |arguments: &str| {
            Run::of(sandbox.verity_command(arguments).env(BACKEND_VARIABLE, backend.name()))
        };
        for threads in ["--threads 1", ""] {
            let told = forced(&format!("format --quiet data hash {parameters} {threads}")).success();
            assert_eq!(told.trim(), text("root"), "{backend}: {case}");
            let hash = sandbox.read("hash");
            assert_eq!(hash.len(), number("hash_device_bytes"), "{backend}: {case}");
            assert_eq!(sha256(&hash), text("hash_device_sha256"), "{backend}: {case}");
            forced(&format!("verify data hash {} {threads}", text("root"))).is(0, "", "");
        }
    }
}

/// The vectors' data: SHA256(seed ‖ k) for k = 0, 1, 2, ..., cut off at `length`.
fn data(seed: &str, length: usize) -> Vec<u8> {
    let digests =
        (0u64..).flat_map(|k| Sha256::new().chain_update(seed).chain_update(k.to_le_bytes()).finalize());
    digests.take(length).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
