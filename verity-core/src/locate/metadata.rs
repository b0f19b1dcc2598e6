//! Metadata of the whole image: what does not belong to one inode.

use super::files::Owner;
use super::ledger::{Hit, Ledger};
use crate::erofs::format::{
    DEVICE_SLOT_SIZE, SUPERBLOCK_OFFSET, XATTR_UNIT, compatible, incompatible, u16_at, u32_at, xattr,
};
use crate::erofs::{Budget, Error, Image, Inode};

/// Claims the superblock and the tables.
///
/// # Errors
/// [`Error::Budget`].
pub(super) fn claim(image: &Image<'_>, ledger: &mut Ledger<'_>) -> Result<(), Error> {
    let superblock = image.superblock();
    ledger.claim_for(Owner::Superblock, SUPERBLOCK_OFFSET..image.superblock_end())?;
    // The bit of the device table has a second meaning; then there are no devices.
    if superblock.feature_incompat & incompatible::DEVICE_TABLE != 0 {
        let start = u64::from(superblock.device_slot) * DEVICE_SLOT_SIZE;
        let end = start + u64::from(superblock.extra_devices) * DEVICE_SLOT_SIZE;
        ledger.claim_for(Owner::DeviceTable, start..end)?;
    }
    let in_packed_inode = superblock.feature_incompat & incompatible::FRAGMENTS != 0
        && superblock.feature_compat & compatible::PLAIN_XATTR_PREFIXES == 0;
    if superblock.feature_incompat & incompatible::XATTR_PREFIXES != 0 && !in_packed_inode {
        prefixes(image, ledger)?;
    }
    Ok(())
}

/// Each prefix is its length (16 bits) and so many bytes, and begins at a multiple of 4.
fn prefixes(image: &Image<'_>, ledger: &mut Ledger<'_>) -> Result<(), Error> {
    let superblock = image.superblock();
    let start = u64::from(superblock.xattr_prefix_start) * XATTR_UNIT;
    let mut end = start;
    for _ in 0..superblock.xattr_prefix_count {
        let mut length = [0; 2];
        let read = image.read(&mut length, end);
        end += 2;
        if let Err(error) = read {
            ledger.gap(Default::default, error);
            break;
        }
        end = (end + u64::from(u16_at(&length, 0))).next_multiple_of(XATTR_UNIT);
    }
    ledger.claim_for(Owner::XattrPrefixes, start..end)
}

/// Claims the shared attributes of an inode.
///
/// # Errors
/// [`Error::Unreadable`] if the inode's own list of them cannot be read, [`Error::Budget`].
pub(super) fn shared_xattrs(
    image: &Image<'_>,
    inode: &Inode,
    budget: &Budget,
    ledger: &mut Ledger<'_>,
    shared: &mut Hit,
) -> Result<(), Error> {
    if inode.xattrs == inode.body {
        return Ok(());
    }
    let mut count = [0];
    image.read(&mut count, inode.xattrs + xattr::SHARED_COUNT as u64)?;
    let area = u64::from(image.superblock().xattr_block) * image.block_size();
    for number in 0..u64::from(count[0]) {
        budget.spend(1)?;
        let mut position = [0; 4];
        image.read(&mut position, inode.xattrs + xattr::HEADER_SIZE + number * XATTR_UNIT)?;
        let start = area + u64::from(u32_at(&position, 0)) * XATTR_UNIT;
        let mut entry = [0; xattr::ENTRY_SIZE];
        // One that cannot be read is known to begin there, and no more.
        let length = match image.read(&mut entry, start) {
            Ok(()) => u64::from(entry[0]) + u64::from(u16_at(&entry, 2)),
            Err(_) => 0,
        };
        let end = start + xattr::ENTRY_SIZE as u64 + length;
        ledger.claim(shared, None, start..end, |_, _| {})?;
    }
    Ok(())
}
