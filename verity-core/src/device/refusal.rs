//! Why the kernel refused a table: from its answer, and from what it is known to look at.

use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::activate::Role;
use super::number::DeviceNumber;
use super::source::Source;
use super::sysfs;
use super::table::Table;

/// Why the kernel refuses a table. Its log (`dmesg`) has the kernel's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A data block does not fit into a page of this machine.
    BlockAbovePage {
        /// The data block size in bytes.
        block: u32,
        /// The page size in bytes.
        page: u32,
    },
    /// A block is smaller than the unit that its device reads in.
    BlockBelowSector {
        /// Which device.
        role: Role,
        /// The block size in bytes.
        block: u32,
        /// The device's logical block size in bytes.
        sector: u32,
    },
    /// This kernel does not have the digest.
    Algorithm(&'static str),
    /// A device below is in use.
    InUse,
    /// A device below is too small, or the tree lies too far out on it.
    TooLarge,
    /// More data blocks than `check_at_most_once` can count.
    AtMostOnce {
        /// The data blocks.
        blocks: u64,
    },
    /// The kernel requires signatures (`dm_verity.require_signatures=1`), and there is none.
    SignatureRequired,
    /// This kernel checks no signatures (`CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG` is off).
    SignatureUnsupported,
    /// The key that signed is in none of the keyrings that the kernel trusts here.
    NoKey,
    /// It was another root hash that was signed, or another key that signed it.
    SignatureRejected,
    /// The kernel cannot read the signature.
    SignatureMalformed,
    /// The signature was made with a digest or a kind of key that this kernel does not have.
    SignatureAlgorithm,
    /// No memory.
    NoMemory,
    /// Something else.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockAbovePage { block, page } => {
                write!(f, "data block size {block} is above this machine's page size, {page}")
            }
            Self::BlockBelowSector { role, block, sector } => {
                write!(f, "block size {block} is below the {role}'s logical block size, {sector}")
            }
            Self::Algorithm(name) => write!(f, "this kernel does not have the hash algorithm {name}"),
            Self::InUse => f.write_str("a device that it is made of is in use"),
            Self::TooLarge => f.write_str("a device that it is made of is too small for it"),
            Self::AtMostOnce { blocks } => {
                write!(f, "check_at_most_once counts at most 2147483647 data blocks, there are {blocks}")
            }
            Self::SignatureRequired => {
                f.write_str("it requires a signature of the root hash, and none was given")
            }
            Self::SignatureUnsupported => f.write_str("it was built without signatures of root hashes"),
            Self::NoKey => f.write_str("the key that signed the root hash is in none of its keyrings"),
            Self::SignatureRejected => {
                f.write_str("the signature is not one of this root hash by the key that it names")
            }
            Self::SignatureMalformed => f.write_str("the signature is malformed"),
            Self::SignatureAlgorithm => f.write_str("the signature's digest or kind of key is unknown to it"),
            Self::NoMemory => f.write_str("no memory"),
            Self::Unknown => f.write_str("the kernel's log says why"),
        }
    }
}

/// What was found out about this machine.
#[derive(Debug, Default)]
struct Facts {
    /// The page size in bytes.
    page: Option<u32>,
    /// Block size and logical block size of each device, in bytes.
    sectors: Vec<(Role, u32, u32)>,
    /// The kernel is known to check no signatures.
    no_signatures: bool,
}

/// Finds out why the kernel answered `source` to `table`, which is made of `sources` with these `numbers`.
pub(super) fn find(
    source: &io::Error,
    table: &Table,
    sources: &[Source],
    numbers: &[DeviceNumber],
) -> Refusal {
    let devices = sources.iter().zip(numbers);
    let sectors = devices.filter_map(|(source, &number)| {
        Some((source.role(), source.block_size(), sysfs::logical_block_size(number)?))
    });
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u32::try_from(size).ok());
    let facts = Facts { page, sectors: sectors.collect(), no_signatures: knows_no_signatures() };
    explain(source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw), table, &facts)
}

/// dm-verity has one parameter more where it checks signatures. What cannot be seen is not known.
fn knows_no_signatures() -> bool {
    let parameters = Path::new("/sys/module/dm_verity/parameters");
    parameters.is_dir() && !parameters.join("require_signatures").exists()
}

fn explain(errno: Errno, table: &Table, facts: &Facts) -> Refusal {
    /// `check_at_most_once` counts blocks in an `int`.
    const MAX_BITS: u64 = i32::MAX as u64;
    let signed = table.options().signature_key.is_some();
    match errno {
        Errno::ENOMEM => Refusal::NoMemory,
        Errno::EBUSY => Refusal::InUse,
        // The devices were there a moment ago; what the kernel did not find is a module.
        Errno::ENOENT => Refusal::Algorithm(table.params().algorithm.kernel_name()),
        Errno::E2BIG if table.options().check_at_most_once && table.data_blocks() > MAX_BITS => {
            Refusal::AtMostOnce { blocks: table.data_blocks() }
        }
        Errno::E2BIG => Refusal::TooLarge,
        Errno::ENOKEY if !signed => Refusal::SignatureRequired,
        Errno::ENOKEY => Refusal::NoKey,
        Errno::EKEYREJECTED | Errno::EKEYEXPIRED | Errno::EKEYREVOKED => Refusal::SignatureRejected,
        Errno::EBADMSG if signed => Refusal::SignatureMalformed,
        Errno::ENOPKG if signed => Refusal::SignatureAlgorithm,
        Errno::EINVAL if signed && facts.no_signatures => Refusal::SignatureUnsupported,
        Errno::EINVAL => {
            let block = table.params().data_block_size.get();
            match facts.page {
                Some(page) if block > page => Refusal::BlockAbovePage { block, page },
                _ => match facts.sectors.iter().find(|(_, block, sector)| block < sector) {
                    Some(&(role, block, sector)) => Refusal::BlockBelowSector { role, block, sector },
                    None => Refusal::Unknown,
                },
            }
        }
        _ => Refusal::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(blocks: u64, options: &str) -> Table {
        format!("1 7:0 7:1 65536 4096 {blocks} 0 sm3 {} - {options}", "0".repeat(64)).parse().unwrap()
    }

    #[test]
    fn refusals_are_told_apart() {
        let table = table(1 << 31, "1 check_at_most_once");
        let told = |errno| explain(errno, &table, &Facts::default());
        assert_eq!(told(Errno::ENOENT), Refusal::Algorithm("sm3"));
        assert_eq!(told(Errno::EBUSY), Refusal::InUse);
        assert_eq!(told(Errno::ENOMEM), Refusal::NoMemory);
        assert_eq!(told(Errno::E2BIG), Refusal::AtMostOnce { blocks: 1 << 31 });
        assert_eq!(told(Errno::EIO), Refusal::Unknown);
        assert_eq!(told(Errno::EINVAL), Refusal::Unknown);
        let facts = Facts { page: Some(4096), ..Facts::default() };
        let expected = Refusal::BlockAbovePage { block: 65536, page: 4096 };
        assert_eq!(explain(Errno::EINVAL, &table, &facts), expected);
        let sectors = vec![(Role::Data, 65536, 512), (Role::Hash, 1024, 4096)];
        let mut facts = Facts { page: Some(65536), sectors, no_signatures: false };
        let expected = Refusal::BlockBelowSector { role: Role::Hash, block: 1024, sector: 4096 };
        assert_eq!(explain(Errno::EINVAL, &table, &facts), expected);
        facts.sectors.truncate(1);
        assert_eq!(explain(Errno::EINVAL, &table, &facts), Refusal::Unknown);
    }

    #[test]
    fn refused_signatures_are_told_apart() {
        let signed = table(1, "2 root_hash_sig_key_desc key");
        let unsigned = table(1, "0");
        let able = Facts::default();
        let unable = Facts { no_signatures: true, ..Facts::default() };
        for (errno, table, facts, expected) in [
            (Errno::ENOKEY, &signed, &able, Refusal::NoKey),
            (Errno::ENOKEY, &unsigned, &able, Refusal::SignatureRequired),
            (Errno::EKEYREJECTED, &signed, &able, Refusal::SignatureRejected),
            (Errno::EBADMSG, &signed, &able, Refusal::SignatureMalformed),
            (Errno::EBADMSG, &unsigned, &able, Refusal::Unknown),
            (Errno::ENOPKG, &signed, &able, Refusal::SignatureAlgorithm),
            (Errno::EINVAL, &signed, &unable, Refusal::SignatureUnsupported),
            (Errno::EINVAL, &signed, &able, Refusal::Unknown),
            (Errno::EINVAL, &unsigned, &unable, Refusal::Unknown),
        ] {
            assert_eq!(explain(errno, table, facts), expected, "{errno}");
        }
    }
}
