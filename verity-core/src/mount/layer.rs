//! A layer that is to be mounted.

use std::path::PathBuf;

use crate::block::RootHash;
use crate::device::{Activation, DeviceName, Fec, NameError};
use crate::erofs;
use crate::fec;
use crate::geometry::Geometry;
use crate::io::ReadAt;
use crate::params::Params;

/// A layer: one file with an EROFS image from its first byte on, the hash tree, and perhaps parity.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The file, or block device.
    pub blob: PathBuf,
    /// The tree's parameters.
    pub params: Params,
    /// The tree's place in the file.
    pub geometry: Geometry,
    /// The root hash, from a trusted place.
    pub root_hash: RootHash,
    /// Where in the file the parity is, if damaged blocks are to be restored when they are read.
    pub parity: Option<fec::Layout>,
}

impl Layer {
    /// Whether both show the same file system, wherever it lies: of these an image needs only the upper one. Whatever the lower one adds, hides or
    /// replaces, the upper one does so too.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.root_hash == other.root_hash
            && self.params == other.params
            && self.geometry.data_blocks() == other.geometry.data_blocks()
    }

    /// How its device is made, under a name of its own.
    pub(super) fn activation(&self, name: DeviceName) -> Activation {
        let Self { blob, params, geometry, root_hash, parity } = self;
        let mut activation = Activation::new(name, blob, blob, params.clone(), geometry.clone(), *root_hash);
        activation.uuid = Some(MARK);
        activation.fec = parity.as_ref().map(|parity| Fec {
            device: blob.clone(),
            start_block: parity.offset() / parity.block_size().as_u64(),
            blocks: parity.covered_blocks(),
            roots: parity.roots(),
        });
        activation
    }

    /// The name of its device: that of its root hash's first 32 bytes, and from the second `copy` on that number. There is more than one
    /// copy where files of one content, or with and without parity, are mounted at once.
    pub(super) fn device_name(&self, copy: u32) -> Result<DeviceName, NameError> {
        let root = self.root_hash.to_string();
        let root = root.get(..DIGITS).unwrap_or(&root);
        if copy == 1 { format!("{PREFIX}{root}") } else { format!("{PREFIX}{root}-{copy}") }.parse()
    }
}

/// Fails unless the image on a layer's device is an EROFS that may be mounted. It has to be read from there: what lies in the file can change.
///
/// Only features are allowed of which it is known that they keep to the one device, whatever else a later kernel has.
pub(super) fn require_mountable(device: &dyn ReadAt, size: u64) -> Result<(), erofs::Error> {
    erofs::Image::open(device, size)?.require_one_device()
}

const PREFIX: &str = "verity-";

/// What such a device's UUID has in the place of its superblock's: `verity mounts` and a version. Nobody opens a device with it by hand.
const MARK: [u8; 16] = *b"verity mounts\0\0\x01";

/// How many digits of a root hash a name has at most.
const DIGITS: usize = 64;

/// Whether a device has such a name, and the UUID that goes with it.
pub(super) fn is_ours(name: &DeviceName, uuid: Option<&str>) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let kernel_name = name.kernel_name();
    let named = kernel_name.strip_prefix(PREFIX).is_some_and(|rest| {
        let (root, copy) = rest.split_once('-').unwrap_or((rest, "1"));
        let hexadecimal = root.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hexadecimal && (32..=DIGITS).contains(&root.len()) && is_number(copy)
    });
    named && uuid == Some(name.device_uuid(Some(&MARK)).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::geometry::HashArea;

    fn layer(algorithm: Algorithm) -> Layer {
        let params = Params { algorithm, ..Params::default() };
        let geometry = Geometry::new(&params, 3, HashArea::with_superblock(3 * 4096).unwrap()).unwrap();
        let root_hash = RootHash::new(algorithm, &vec![0xab; algorithm.digest_size()]).unwrap();
        Layer { blob: "blob".into(), params, geometry, root_hash, parity: None }
    }

    #[test]
    fn names_follow_from_the_root_hash_and_are_known_again() {
        for algorithm in Algorithm::ALL {
            let layer = layer(algorithm);
            for copy in [1, 2, 77] {
                let name = layer.device_name(copy).unwrap();
                let uuid = name.device_uuid(layer.activation(name.clone()).uuid.as_ref());
                assert!(is_ours(&name, Some(&uuid)), "{name}");
                assert!(uuid.ends_with(name.kernel_name()), "{uuid} is cut off");
                // Those that were opened by hand, with and without superblock.
                assert!(!is_ours(&name, Some(&name.device_uuid(None))), "{name}");
                assert!(!is_ours(&name, Some(&name.device_uuid(Some(&[1; 16])))), "{name}");
                assert!(!is_ours(&name, None), "{name}");
            }
        }
        let sha256 = layer(Algorithm::Sha256);
        assert_eq!(sha256.device_name(1).unwrap().to_string(), format!("verity-{}", "ab".repeat(32)));
        assert_eq!(sha256.device_name(2).unwrap().to_string(), format!("verity-{}-2", "ab".repeat(32)));
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for name in [
            "verity",
            "verity-",
            "verity-root",
            "root",
            "verity-abcdef",
            &format!("verity-{}-", "ab".repeat(32)),
        ] {
            let name: DeviceName = name.parse().unwrap();
            assert!(!is_ours(&name, Some(&name.device_uuid(Some(&MARK)))), "{name}");
        }
    }

    #[test]
    fn parity_is_told_in_blocks() {
        let mut layer = layer(Algorithm::Sha256);
        let blocks = layer.geometry.hash_blocks();
        let parity =
            fec::Layout::new(&layer.params, &layer.geometry, blocks, fec::Roots::MIN, 8 * 4096).unwrap();
        layer.parity = Some(parity);
        let fec = layer.activation("n".parse().unwrap()).fec.unwrap();
        assert_eq!((fec.start_block, fec.blocks, fec.device.as_path()), (8, 4, layer.blob.as_path()));
    }
}
