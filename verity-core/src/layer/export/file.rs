//! One file's content.

use std::io::{self, Read, Write};

use super::{Budgets, ExportError, Exported, check_expansion};
use crate::erofs::{Content, FileKind, Image};
use crate::io::{WriteAt, usize_of};
use crate::layer::Limits;
use crate::progress::{Observer, Phase};

const BUFFER_BYTES: usize = 256 * 1024;

/// Writes the content of one regular file to a stream, with its holes as zeros.
///
/// # Errors
/// [`ExportError`]: there is no such file, it is something else, or with its holes larger than `limits` allow of such an image.
pub fn export_file(
    image: &Image<'_>,
    path: &[u8],
    mut out: impl Write,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    let zeros = vec![0; BUFFER_BYTES];
    let mut file = OneFile::open(image, path, limits, observer)?;
    let mut position = 0;
    file.each_piece(|offset, bytes| {
        write_zeros(&mut out, &zeros, offset - position, observer)?;
        position = offset + bytes.len() as u64;
        out.write_all(bytes).map_err(ExportError::Write)
    })?;
    write_zeros(&mut out, &zeros, file.content.size() - position, observer)?;
    out.flush().map_err(ExportError::Write)?;
    Ok(file.exported())
}

/// Writes the content of one regular file to where nothing but zeros is yet: its holes stay what they are.
///
/// Behind the last byte that is written a hole may follow: the file has as many bytes as [`Exported::bytes`] says.
///
/// # Errors
/// As [`export_file`].
pub fn export_file_at(
    image: &Image<'_>,
    path: &[u8],
    out: &dyn WriteAt,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    let mut file = OneFile::open(image, path, limits, observer)?;
    file.each_piece(|offset, bytes| out.write_all_at(bytes, offset).map_err(ExportError::Write))?;
    Ok(file.exported())
}

/// A file that is read.
struct OneFile<'f> {
    path: &'f [u8],
    content: Content<'f>,
    observer: &'f dyn Observer,
}

impl<'f> OneFile<'f> {
    /// Goes where the path leads.
    fn open(
        image: &'f Image<'_>,
        path: &'f [u8],
        limits: &Limits,
        observer: &'f dyn Observer,
    ) -> Result<Self, ExportError> {
        let budgets = Budgets::new(limits);
        let failed = |source| ExportError::Image { path: path.to_vec(), source };
        let entry = |problem| ExportError::Entry { path: path.to_vec(), problem };
        let mut inode = image.inode(image.superblock().root_nid.into()).map_err(failed)?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            if inode.kind != FileKind::Directory {
                return Err(entry("is not there: its path goes through something that is no directory"));
            }
            let names = image.list(&inode, &budgets.directories).map_err(failed)?;
            let found = names.into_iter().find(|(found, _)| **found == *name);
            let (_, nid) = found.ok_or_else(|| entry("is not there"))?;
            inode = image.inode(nid).map_err(failed)?;
        }
        if inode.kind != FileKind::File {
            return Err(entry("is no regular file"));
        }
        check_expansion(image, limits, inode.size, path)?;
        let content = image.content(&inode, &budgets.indexes).map_err(failed)?;
        observer.begin(Phase::Extract, None);
        Ok(Self { path, content, observer })
    }

    /// Reads all that is no hole, in order, and tells where it belongs.
    fn each_piece(
        &mut self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        for piece in self.content.data() {
            let mut offset = piece.start;
            while offset < piece.end {
                let room = buffer.len().min(usize_of(piece.end - offset));
                go_on(self.observer)?;
                self.content
                    .read_exact(&mut buffer[..room])
                    .map_err(|source: io::Error| ExportError::Content { path: self.path.to_vec(), source })?;
                each(offset, &buffer[..room])?;
                self.observer.advance(room as u64);
                offset += room as u64;
            }
        }
        Ok(())
    }

    fn exported(&self) -> Exported {
        Exported { entries: 1, bytes: self.content.size() }
    }
}

fn go_on(observer: &dyn Observer) -> Result<(), ExportError> {
    if observer.cancelled() { Err(ExportError::Cancelled) } else { Ok(()) }
}

fn write_zeros(
    out: &mut impl Write,
    zeros: &[u8],
    length: u64,
    observer: &dyn Observer,
) -> Result<(), ExportError> {
    let mut left = length;
    while left > 0 {
        go_on(observer)?;
        let count = zeros.len().min(usize_of(left));
        out.write_all(&zeros[..count]).map_err(ExportError::Write)?;
        left -= count as u64;
    }
    Ok(())
}
