//! Layers to try things on.

use super::{Run, Sandbox, pattern};

/// The dialects that can be written without further files.
pub(crate) const WRITTEN: [&str; 8] =
    ["plain", "containerd", "vhd", "nydus", "kata", "stacker", "systemd", "ddi"];

/// Bytes that begin like an EROFS image of so many blocks of 4096 bytes, with a hole in the middle.
pub(crate) fn image(blocks: u8) -> Vec<u8> {
    let mut bytes = pattern(usize::from(blocks) * 4096);
    bytes[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    bytes[1024 + 12] = 12;
    bytes[1024 + 36..1024 + 40].copy_from_slice(&u32::from(blocks).to_le_bytes());
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0);
    bytes
}

/// With `image`, and `layer` made of it; the root hash, too.
pub(crate) fn adopted() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.write("image", &image(150));
    let root = sandbox.verity("layer adopt --quiet image layer").success().trim().to_owned();
    (sandbox, root)
}

/// What a run printed where the root hash came from a description, which is remarked on.
#[track_caller]
pub(crate) fn with_remark(run: &Run) -> &str {
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.starts_with("note: the root hash is that of "), "{run:?}");
    &run.stdout
}
