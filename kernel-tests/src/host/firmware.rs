//! UEFI firmware (OVMF) whose `db` holds a certificate, which the kernel then has in its keyring `.platform`.
//!
//! The variable is written into the store where the firmware keeps its own: a firmware volume with the header of an
//! authenticated variable store, behind which the variables lie one after the other. Sources: the UEFI specification
//! (signature lists), EDK II's `MdeModulePkg/Include/Guid/VariableFormat.h`.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Where Debian's package `ovmf` puts it.
const FOLDER: &str = "/usr/share/OVMF";

/// The firmware of a run.
#[derive(Debug, Clone)]
pub(super) struct Firmware {
    /// The code, which no guest writes to.
    pub(super) code: PathBuf,
    /// The variables; each guest gets a copy.
    pub(super) variables: PathBuf,
}

impl Firmware {
    /// Finds the firmware, and makes variables with this certificate, in DER, in the folder.
    pub(super) fn trusting(certificate: &[u8], folder: &Path) -> anyhow::Result<Self> {
        let code = Path::new(FOLDER).join("OVMF_CODE_4M.fd");
        ensure!(code.is_file(), "no {} on this machine; on Debian: apt-get install ovmf", code.display());
        let empty = Path::new(FOLDER).join("OVMF_VARS_4M.fd");
        let mut store = fs::read(&empty).with_context(|| empty.display().to_string())?;
        enrol(&mut store, certificate).with_context(|| empty.display().to_string())?;
        let variables = folder.join("variables.fd");
        fs::write(&variables, store).with_context(|| variables.display().to_string())?;
        Ok(Self { code, variables })
    }

    /// The same with variables of a guest's own, in its folder.
    pub(super) fn for_guest(&self, folder: &Path) -> anyhow::Result<Self> {
        let variables = folder.join("variables.fd");
        fs::copy(&self.variables, &variables).with_context(|| variables.display().to_string())?;
        Ok(Self { code: self.code.clone(), variables })
    }
}

/// A GUID as it is stored: the first three groups with the lowest byte first.
type Guid = [u8; 16];

/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, d719b2cb-3d3a-4596-a3bc-dad00e67656f: the owner of `db`.
const SECURITY_DATABASE: Guid =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072: the type of a signature list.
const X509: Guid =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// `EFI_AUTHENTICATED_VARIABLE_GUID`, aaf32c78-947b-439a-a180-2e144ec37792: the type of the store.
const AUTHENTICATED_STORE: Guid =
    [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];
/// Who entered the certificate; anybody.
const OWNER: Guid = *b"dm-verity tests\0";

/// Puts `db` with one certificate into an empty variable store.
fn enrol(store: &mut [u8], certificate: &[u8]) -> anyhow::Result<()> {
    let place = free_space(store).context("no empty store of authenticated UEFI variables")?;
    let variable = variable("db", SECURITY_DATABASE, &signature_list(certificate)?)?;
    let room = &mut store[place];
    ensure!(variable.len() <= room.len(), "the certificate of {} bytes is too large", certificate.len());
    room[..variable.len()].copy_from_slice(&variable);
    Ok(())
}

/// Where variables go, if there are none yet.
fn free_space(store: &[u8]) -> Option<Range<usize>> {
    // `EFI_FIRMWARE_VOLUME_HEADER`: its signature, and how long it is.
    (store.get(40..44)? == b"_FVH").then_some(())?;
    let volume_header = usize::from(u16::from_le_bytes(*store.get(48..)?.first_chunk()?));
    // `VARIABLE_STORE_HEADER`: type, size of the whole, formatted and healthy.
    let header = store.get(volume_header..)?.get(..28)?;
    let size = usize::try_from(u32::from_le_bytes(*header[16..].first_chunk()?)).ok()?;
    (header[..16] == AUTHENTICATED_STORE && header[20..22] == [0x5a, 0xfe]).then_some(())?;
    let place = volume_header + header.len()..volume_header.checked_add(size)?;
    // What was never written is 0xff, in flash memory.
    store.get(place.clone())?.iter().all(|&byte| byte == 0xff).then_some(place)
}

/// `AUTHENTICATED_VARIABLE_HEADER`, name and data.
fn variable(name: &str, owner: Guid, data: &[u8]) -> anyhow::Result<Vec<u8>> {
    const START: u16 = 0x55aa;
    /// `VAR_ADDED`: it is whole and not deleted.
    const ADDED: u8 = 0x3f;
    /// Kept over a reboot, seen at boot and at run time, and changed only by who can sign for it.
    const ATTRIBUTES: u32 = 0x27;
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut bytes = START.to_le_bytes().to_vec();
    bytes.extend([ADDED, 0]);
    bytes.extend(ATTRIBUTES.to_le_bytes());
    // A count that is no longer used, and when it was last changed: the 1st of January 2020.
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(2020_u16.to_le_bytes());
    bytes.extend([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The index of a public key; there is none.
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(u32::try_from(name.len())?.to_le_bytes());
    bytes.extend(u32::try_from(data.len())?.to_le_bytes());
    bytes.extend(owner);
    bytes.extend(name);
    bytes.extend(data);
    Ok(bytes)
}

/// `EFI_SIGNATURE_LIST` of one certificate.
fn signature_list(certificate: &[u8]) -> anyhow::Result<Vec<u8>> {
    const HEADER: usize = 28;
    let entry = OWNER.len() + certificate.len();
    let mut list = X509.to_vec();
    list.extend(u32::try_from(HEADER + entry)?.to_le_bytes());
    // No header of its own before the entries.
    list.extend(0_u32.to_le_bytes());
    list.extend(u32::try_from(entry)?.to_le_bytes());
    list.extend(OWNER);
    list.extend(certificate);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume of which 1 KiB is the store.
    fn empty_store() -> Vec<u8> {
        let mut store = vec![0; 0x48];
        store[40..44].copy_from_slice(b"_FVH");
        store[48] = 0x48;
        store.extend(AUTHENTICATED_STORE);
        store.extend(1024_u32.to_le_bytes());
        store.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
        store.resize(0x48 + 1024, 0xff);
        store.resize(4096, 0);
        store
    }

    #[test]
    fn the_certificate_becomes_the_store_s_first_variable() {
        let mut store = empty_store();
        enrol(&mut store, &[7; 100]).expect("room enough");
        let variable = &store[0x48 + 28..];
        assert_eq!(variable[..4], [0xaa, 0x55, 0x3f, 0]);
        assert_eq!((variable[36], variable[40]), (6, 144), "sizes of name and data");
        assert_eq!(variable[44..60], SECURITY_DATABASE);
        assert_eq!(variable[60..66], *b"d\0b\0\0\0");
        assert_eq!(variable[66..82], X509);
        assert_eq!(variable[82..94], [144, 0, 0, 0, 0, 0, 0, 0, 116, 0, 0, 0]);
        assert_eq!(variable[110..210], [7; 100]);
        assert_eq!(variable[210], 0xff);
        assert!(enrol(&mut store, &[7; 100]).is_err(), "no longer empty");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut store = empty_store();
        assert!(enrol(&mut store, &[7; 1024]).is_err());
        assert_eq!(store, empty_store());
        for bytes in [&[][..], &[0; 4096], &[0xff; 64], &empty_store()[..0x50]] {
            assert!(enrol(&mut bytes.to_vec(), &[7]).is_err(), "{} bytes", bytes.len());
        }
    }
}
