//! The mounts of a namespace, as `/proc/PID/mountinfo` has them.
//!
//! Source: proc_pid_mountinfo(5). Which devices an overlay of ours was made of stands in its options, where the kernel repeats the names of the
//! lower directories: minor numbers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{EMPTY, SOURCE};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) parent: u64,
    /// The file system's own number, `MAJOR:MINOR`: as long as it is mounted anywhere, it is no other's.
    device: String,
    pub(super) mount_point: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    options: Vec<u8>,
}

/// The mounts that stand in `text`; lines that mean nothing here are left out.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let text = |field| String::from_utf8_lossy(&unescape(field)).into_owned();
    let device = text(fields.next()?);
    let mount_point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    Some(Mount {
        id,
        parent,
        device,
        mount_point,
        kind: text(fields.next()?),
        source: text(fields.next()?),
        options: fields.next()?.to_vec(),
    })
}

impl Mount {
    /// Whether both are mounts of one file system, in whichever namespaces.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        (&self.device, &self.kind, &self.source) == (&other.device, &other.kind, &other.source)
            && self.layers() == other.layers()
    }

    /// The minor numbers of the devices that its layers are on, if it is an overlay of ours.
    pub(super) fn layers(&self) -> Option<Vec<u32>> {
        let labelled = |rest: &str| rest.is_empty() || rest.starts_with(':');
        let ours = self.kind == "overlay" && self.source.strip_prefix(SOURCE).is_some_and(labelled);
        let names = self.options.split(|&byte| byte == b',').filter(|_| ours).filter_map(|option| {
            option.strip_prefix(b"lowerdir=").or_else(|| option.strip_prefix(b"lowerdir+="))
        });
        let names = names
            .flat_map(|names| names.split(|&byte| byte == b':'))
            .filter(|&name| name != EMPTY.as_bytes());
        let layers = names.map(|name| number(name)?.try_into().ok()).collect::<Option<Vec<u32>>>()?;
        (!layers.is_empty()).then_some(layers)
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// The kernel writes bytes that would end a field as `\` and three octal digits.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        let code =
            rest.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                plain.push(code);
                text = &rest[3..];
            }
            None => {
                plain.push(byte);
                text = rest;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layers(source: &str, options: &str) -> Option<Vec<u32>> {
        let line = format!("61 25 0:45 / /mnt\\040a ro,relatime shared:1 - overlay {source} {options}\n");
        let mounts = parse(line.as_bytes());
        assert_eq!(
            (mounts[0].id, mounts[0].parent, mounts[0].mount_point.as_path()),
            (61, 25, "/mnt a".as_ref())
        );
        mounts[0].layers()
    }

    /// As Linux 6.1, 6.12 and 7.x show it.
    #[test]
    fn the_devices_of_an_image_stand_in_its_options() {
        assert_eq!(layers("verity", "ro,lowerdir=12:7:0,redirect_dir=nofollow"), Some(vec![12, 7, 0]));
        assert_eq!(layers("verity:sha256:0f", "ro,lowerdir+=12,lowerdir+=7,index=off"), Some(vec![12, 7]));
        assert_eq!(layers("verity", "ro,lowerdir=3:empty"), Some(vec![3]));
    }

    #[test]
    fn overlays_of_others_are_told_apart() {
        for (source, options) in [
            ("overlay", "ro,lowerdir=1:2"),
            ("verity2", "ro,lowerdir=1:2"),
            ("verity", "ro,lowerdir=/a:/b"),
            ("verity", "ro,lowerdir=1::2"),
            ("verity", "ro,lowerdir=-1"),
            ("verity", "ro,lowerdir=4294967296"),
            ("verity", "ro,lowerdir=empty"),
            ("verity", "ro"),
        ] {
            assert_eq!(layers(source, options), None, "{source} {options}");
        }
        let ext4 = parse(b"36 25 254:1 / / rw - ext4 verity rw,lowerdir=1");
        assert_eq!(ext4[0].layers(), None);
    }

    #[test]
    fn copies_have_the_number_of_their_file_system() {
        let mount = |id: u32, device: &str, at: &str, source: &str| {
            let line = format!("{id} 25 {device} / {at} ro - overlay {source} ro,lowerdir=1:2");
            parse(line.as_bytes()).remove(0)
        };
        let one = mount(61, "0:45", "/mnt", "verity:a");
        assert!(mount(99, "0:45", "/elsewhere", "verity:a").is_copy_of(&one));
        assert!(!mount(99, "0:46", "/mnt", "verity:a").is_copy_of(&one));
        assert!(!mount(61, "0:45", "/mnt", "verity:b").is_copy_of(&one));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..200), mounts in "[0-9 /:,=\\\\a-z+-]{0,120}") {
            for text in [text, mounts.into_bytes()] {
                for mount in parse(&text) {
                    mount.layers();
                }
            }
        }
    }
}
