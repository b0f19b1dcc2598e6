//! What an inode has beside its content.

use std::collections::BTreeMap;

use super::format::xattr::{ENTRY_SIZE, HEADER_SIZE, PREFIXES, SHARED_COUNT};
use super::format::{InodeHead, XATTR_UNIT, u16_at, u32_at, u64_at};
use super::{Budget, Error, Image, Inode};
use crate::io::usize_of;

/// What every file, directory or the like has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, set-uid, set-gid and sticky bit: 0 to 0o7777. What it is, is said elsewhere.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds: 0 to 999,999,999.
    pub mtime_nsec: u32,
    /// Extended attributes by their full names, such as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Inode {
    /// The major and the minor number, if it is a device.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        let number = self.payload;
        (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00)
    }
}

impl Image<'_> {
    /// An inode's permissions, owner, time and extended attributes.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::Unreadable`]; [`Error::Invalid`] also for names that begin with a prefix of the image's own.
    pub fn attributes(&self, inode: &Inode, budget: &Budget) -> Result<Attributes, Error> {
        let mut attributes = Attributes { mode: inode.mode & 0o7777, ..Attributes::default() };
        if inode.extended {
            let mut bytes = [0; 64];
            self.read(&mut bytes, inode.position)?;
            attributes.uid = u32_at(&bytes, 24);
            attributes.gid = u32_at(&bytes, 28);
            attributes.mtime = u64_at(&bytes, 32).cast_signed();
            attributes.mtime_nsec = u32_at(&bytes, 40);
        } else {
            let mut bytes = [0; InodeHead::SIZE];
            self.read(&mut bytes, inode.position)?;
            attributes.uid = u16_at(&bytes, 24).into();
            attributes.gid = u16_at(&bytes, 26).into();
            attributes.mtime = self.superblock().build_time.cast_signed();
            attributes.mtime_nsec = self.superblock().build_time_ns;
        }
        if inode.body > inode.xattrs {
            self.xattrs(inode, budget, &mut attributes.xattrs)?;
        }
        Ok(attributes)
    }

    fn xattrs(
        &self,
        inode: &Inode,
        budget: &Budget,
        found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), Error> {
        // At most 256 KiB.
        let size = inode.body - inode.xattrs;
        if inode.body > self.size() {
            return Err(Error::Invalid {
                field: "the size of the extended attributes of an inode",
                value: size,
            });
        }
        let mut body = vec![0; usize_of(size)];
        self.read(&mut body, inode.xattrs)?;
        let shared = body.get(SHARED_COUNT).copied().unwrap_or_default();
        let own = usize_of(HEADER_SIZE) + usize::from(shared) * ENTRY_SIZE;
        let positions = body.get(usize_of(HEADER_SIZE)..own).ok_or(Error::Invalid {
            field: "the number of shared extended attributes of an inode",
            value: shared.into(),
        })?;
        let base = self.address(self.superblock().xattr_block);
        for position in positions.chunks_exact(ENTRY_SIZE) {
            let position = base + u64::from(u32_at(position, 0)) * XATTR_UNIT;
            let invalid =
                Error::Invalid { field: "the position of a shared extended attribute", value: position };
            let mut head = [0; ENTRY_SIZE];
            if self.size().checked_sub(position).is_none_or(|rest| rest < head.len() as u64) {
                return Err(invalid);
            }
            self.read(&mut head, position)?;
            let mut entry = vec![0; Entry::size_of(head)];
            if self.size() - position < entry.len() as u64 {
                return Err(invalid);
            }
            self.read(&mut entry, position)?;
            budget.spend(1)?;
            Entry::decode(&entry)?.put(found);
        }
        let mut rest = &body[own..];
        while !rest.is_empty() {
            budget.spend(1)?;
            let entry = Entry::decode(rest)?;
            rest = rest.get(entry.size..).unwrap_or_default();
            entry.put(found);
        }
        Ok(())
    }
}

/// An extended attribute.
struct Entry<'a> {
    prefix: &'static [u8],
    name: &'a [u8],
    value: &'a [u8],
    /// Up to the next one.
    size: usize,
}

impl<'a> Entry<'a> {
    /// How many bytes an entry has that begins like this, without what fills it up.
    fn size_of(head: [u8; ENTRY_SIZE]) -> usize {
        ENTRY_SIZE + usize::from(head[0]) + usize::from(u16_at(&head, 2))
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let invalid = |field, value| Error::Invalid { field, value };
        let size = |size: usize| invalid("the size of an extended attribute", size as u64);
        let head = *bytes.first_chunk().ok_or_else(|| size(bytes.len()))?;
        let end = Self::size_of(head);
        let bytes = bytes.get(ENTRY_SIZE..end).ok_or_else(|| size(end))?;
        let known = PREFIXES.iter().find(|&&(_, number)| number == head[1]);
        let &(prefix, _) = known.ok_or_else(|| {
            invalid("the number of the prefix of an extended attribute's name", head[1].into())
        })?;
        let (name, value) = bytes.split_at(head[0].into());
        Ok(Self { prefix, name, value, size: end.next_multiple_of(ENTRY_SIZE) })
    }

    fn put(&self, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        found.insert([self.prefix, self.name].concat(), self.value.to_vec());
    }
}
