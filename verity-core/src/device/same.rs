//! Whether an active device is the one that an activation would make: only then may it be used in its place.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::activate::{Activation, Role};
use super::loopdev::backing_file;
use super::manage::DeviceInfo;
use super::number::DeviceNumber;
use super::options::{Corruption, DeviceRef};
use super::status::Verdict;
use super::sysfs;

/// A way in which a device is not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub what: &'static str,
    /// What the activation would make it.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, not {}", self.what, self.found, self.expected)
    }
}

impl Activation {
    /// How a device that is active differs from what this would make, whoever made it. It does not where nothing is
    /// returned: then it has the same data, tree and parity, the same root hash and parameters, the same options, was
    /// signed if this is to be, and no bad block was seen on it unless that is to be ignored.
    ///
    /// Devices are compared as they are now: a file by its inode, whatever loop device it is behind.
    #[must_use]
    pub fn differences(&self, info: &DeviceInfo) -> Vec<Difference> {
        let mut found = Differences(Vec::new());
        let Some(mapping) = &info.mapping else {
            found.compare("table", "there", "missing");
            return found.0;
        };
        let (table, options) = (&mapping.table, mapping.table.options());
        let params = table.params();
        found.compare("root hash", &self.root_hash, table.root_hash());
        found.compare("hash type", &self.params.hash_type, &params.hash_type);
        found.compare("hash algorithm", &self.params.algorithm, &params.algorithm);
        found.compare("data block size", &self.params.data_block_size, &params.data_block_size);
        found.compare("hash block size", &self.params.hash_block_size, &params.hash_block_size);
        found.compare("salt", &self.params.salt, &params.salt);
        found.compare("number of data blocks", &self.geometry.data_blocks(), &table.data_blocks());
        found.compare("hash start block", &self.geometry.hash_start_block(), &table.hash_start_block());
        found.device(Role::Data, &self.data, table.data());
        found.device(Role::Hash, &self.hash, table.hash());

        let wanted = &self.options;
        found.compare(
            "reaction to corruption",
            &word(wanted.corruption.word()),
            &word(options.corruption.word()),
        );
        found.compare(
            "reaction to read errors",
            &word(wanted.on_error.word()),
            &word(options.on_error.word()),
        );
        for (what, wanted, is) in [
            ("ignore_zero_blocks", wanted.ignore_zero_blocks, options.ignore_zero_blocks),
            ("check_at_most_once", wanted.check_at_most_once, options.check_at_most_once),
            ("try_verify_in_tasklet", wanted.try_verify_in_tasklet, options.try_verify_in_tasklet),
            (
                "signature",
                self.signature.is_some() || wanted.signature_key.is_some(),
                options.signature_key.is_some(),
            ),
        ] {
            found.compare(what, &on(wanted), &on(is));
        }
        match (&self.fec, table.fec()) {
            (None, None) => {}
            (Some(wanted), Some(is)) => {
                found.device(Role::Parity, &wanted.device, &is.device);
                found.compare("FEC start block", &wanted.start_block, &is.start_block);
                found.compare("number of blocks under FEC", &wanted.blocks, &is.blocks);
                found.compare("number of FEC roots", &wanted.roots, &is.roots);
            }
            (wanted, is) => found.compare("error correction", &on(wanted.is_some()), &on(is.is_some())),
        }
        if wanted.corruption != Corruption::Ignore {
            found.compare("status", &Verdict::Verified, &mapping.status.verdict);
        }
        found.compare("deferred removal", &on(false), &on(info.deferred_remove));
        found.0
    }
}

struct Differences(Vec<Difference>);

impl Differences {
    fn compare<T: fmt::Display + ?Sized>(&mut self, what: &'static str, expected: &T, found: &T) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.0.push(Difference { what, expected, found });
        }
    }

    fn device(&mut self, role: Role, wanted: &Path, is: &DeviceRef) {
        let what = match role {
            Role::Data => "data device",
            Role::Hash => "hash device",
            Role::Parity => "FEC device",
        };
        let same = match is {
            DeviceRef::Number(number) => is_of(wanted, *number),
            // No kernel prints a path.
            DeviceRef::Path(path) => path.as_path() == wanted,
        };
        if !same {
            let found = match is {
                DeviceRef::Number(number) => backing_file(*number).or_else(|| sysfs::node_of(*number)),
                DeviceRef::Path(_) => None,
            };
            let found = found.map_or_else(|| is.to_string(), |path| path.display().to_string());
            self.0.push(Difference { what, expected: wanted.display().to_string(), found });
        }
    }
}

/// Whether the block device `number` is what `path` leads to, or is a loop device over the whole of that file.
fn is_of(path: &Path, number: DeviceNumber) -> bool {
    let Ok(wanted) = fs::metadata(path) else { return false };
    if wanted.file_type().is_block_device() {
        return wanted.rdev() == number.rdev();
    }
    let behind = backing_file(number).and_then(|file| fs::metadata(file).ok());
    sysfs::is_whole_file(number)
        && behind.is_some_and(|behind| (behind.dev(), behind.ino()) == (wanted.dev(), wanted.ino()))
}

fn word(word: Option<&'static str>) -> &'static str {
    word.unwrap_or("an error")
}

const fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::device::{Mapping, Table};
    use crate::geometry::{Geometry, HashArea};
    use crate::params::Params;

    const NODE: &str = "/dev/null";

    /// An activation, and a device of exactly that but for its devices, which no unprivileged test has.
    fn pair() -> (Activation, DeviceInfo) {
        let params = Params::default();
        let geometry = Geometry::new(&params, 3, HashArea::with_superblock(0).unwrap()).unwrap();
        let root = crate::block::RootHash::new(params.algorithm, &[7; 32]).unwrap();
        let activation = Activation::new("layer".parse().unwrap(), NODE, NODE, params, geometry, root);
        let info = info(&table(&activation, ""));
        (activation, info)
    }

    fn table(activation: &Activation, options: &str) -> String {
        format!("1 {NODE} {NODE} 4096 4096 3 1 sha256 {} -{options}", activation.root_hash)
    }

    fn info(table: &str) -> DeviceInfo {
        let table: Table = table.parse().unwrap();
        let sectors = table.sectors();
        DeviceInfo {
            name: "layer".parse().unwrap(),
            uuid: None,
            number: DeviceNumber::new(4095, 0).unwrap(),
            open_count: 0,
            read_only: true,
            suspended: false,
            deferred_remove: false,
            mapping: Some(Mapping { table, sectors, status: "V".parse().unwrap() }),
        }
    }

    fn told(activation: &Activation, info: &DeviceInfo) -> Vec<String> {
        activation.differences(info).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_has_no_difference() {
        let (mut activation, info) = pair();
        assert_eq!(activation.differences(&info), []);
        activation.signature = Some(crate::signature::tests::example());
        activation.options.check_at_most_once = true;
        let signed = table(&activation, " 3 check_at_most_once root_hash_sig_key_desc another:name");
        assert_eq!(activation.differences(&super::tests::info(&signed)), []);
    }

    #[test]
    fn each_difference_is_told() {
        let (activation, info) = pair();
        let line = table(&activation, "");
        let root = activation.root_hash.to_string();
        for (from, to, expected) in [
            (
                root.as_str(),
                "08".repeat(32).as_str(),
                format!("root hash is {}, not {root}", "08".repeat(32)),
            ),
            (" -", " 00", "salt is 00, not -".to_owned()),
            (" 3 1 ", " 4 1 ", "number of data blocks is 4, not 3".to_owned()),
            (" 3 1 ", " 3 2 ", "hash start block is 2, not 1".to_owned()),
            (
                " -",
                " - 1 ignore_corruption",
                "reaction to corruption is ignore_corruption, not an error".to_owned(),
            ),
            (" -", " - 1 check_at_most_once", "check_at_most_once is on, not off".to_owned()),
            (" -", " - 2 root_hash_sig_key_desc key", "signature is on, not off".to_owned()),
            (
                " -",
                " - 8 use_fec_from_device 4095:3 fec_blocks 4 fec_start 0 fec_roots 2",
                "error correction is on, not off".to_owned(),
            ),
            ("1 /dev/null", "1 4095:1", "data device is 4095:1, not /dev/null".to_owned()),
            ("null 4096", "zero 4096", "hash device is /dev/zero, not /dev/null".to_owned()),
        ] {
            let other = line.replacen(from, to, 1);
            assert_eq!(told(&activation, &super::tests::info(&other)), [expected], "{other}");
        }
        let corrupted = DeviceInfo {
            mapping: info.mapping.clone().map(|mapping| Mapping { status: "C".parse().unwrap(), ..mapping }),
            ..info.clone()
        };
        assert_eq!(told(&activation, &corrupted), ["status is corrupted, not verified"]);
        let going = DeviceInfo { deferred_remove: true, ..info.clone() };
        assert_eq!(told(&activation, &going), ["deferred removal is on, not off"]);
        let empty = DeviceInfo { mapping: None, ..info };
        assert_eq!(told(&activation, &empty), ["table is missing, not there"]);
    }
}
