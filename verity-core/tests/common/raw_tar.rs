//! Tars made header by header, sound or not.

/// An archive that is being made.
#[derive(Clone, Default)]
pub(crate) struct RawTar(pub(crate) Vec<u8>);

/// A header's fields, as text where they are text.
pub(crate) struct RawHeader([u8; 512]);

impl RawHeader {
    /// A ustar header: mode 0644, owner 0, time 0.
    pub(crate) fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self([0; 512]);
        header.put(0, &name[..name.len().min(100)]);
        header.put(100, b"0000644\0");
        header.put(108, b"0000000\0");
        header.put(116, b"0000000\0");
        header.put(124, format!("{size:011o}\0").as_bytes());
        header.put(136, b"00000000000\0");
        header.put(156, &[kind]);
        header.put(257, b"ustar\x0000");
        header
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With the right checksum.
    pub(crate) fn finish(&self) -> [u8; 512] {
        let mut header = self.0;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

impl RawTar {
    pub(crate) fn raw(mut self, header: &RawHeader, content: &[u8]) -> Self {
        self.0.extend(header.finish());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(&RawHeader::new(name.as_bytes(), b'0', content.len() as u64), content)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.raw(RawHeader::new(name.as_bytes(), b'5', 0).put(100, b"0000755\0"), b"")
    }

    pub(crate) fn link(self, name: &str, target: &str, kind: u8) -> Self {
        self.raw(RawHeader::new(name.as_bytes(), kind, 0).put(157, target.as_bytes()), b"")
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extension(b'x', &records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
    }

    pub(crate) fn extension(self, kind: u8, content: &[u8]) -> Self {
        self.raw(&RawHeader::new(b"extension", kind, content.len() as u64), content)
    }

    /// With the end marker.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
    [format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat()
}
