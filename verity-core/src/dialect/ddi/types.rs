//! The types of partitions that belong to a hash tree, for each architecture.
//!
//! Source: the Discoverable Partitions Specification; the numbers are those that systemd-repart 252 writes.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;
use uuid::uuid;

/// What a partition is to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image.
    Data,
    /// Superblock and tree.
    Verity,
    /// The root hash's signature.
    Signature,
}

impl Part {
    const ALL: [Self; 3] = [Self::Data, Self::Verity, Self::Signature];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Data => "",
            Self::Verity => "-verity",
            Self::Signature => "-verity-sig",
        }
    }
}

/// Where the image is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Designator {
    /// At `/`.
    #[default]
    Root,
    /// At `/usr`.
    Usr,
}

impl Designator {
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Usr => "usr",
        }
    }
}

impl fmt::Display for Designator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An architecture that has partition types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the architecture of that name.
#[non_exhaustive]
pub enum Architecture {
    X86_64,
    X86,
    Arm64,
    Arm,
    RiscV64,
    LoongArch64,
    Ppc64Le,
    S390x,
}

impl Architecture {
    /// Every architecture that is known here.
    pub const ALL: [Self; 8] = [
        Self::X86_64,
        Self::X86,
        Self::Arm64,
        Self::Arm,
        Self::RiscV64,
        Self::LoongArch64,
        Self::Ppc64Le,
        Self::S390x,
    ];

    /// That of this program.
    #[must_use]
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "x86" => Some(Self::X86),
            "aarch64" => Some(Self::Arm64),
            "arm" => Some(Self::Arm),
            "riscv64" => Some(Self::RiscV64),
            "loongarch64" => Some(Self::LoongArch64),
            "powerpc64" if cfg!(target_endian = "little") => Some(Self::Ppc64Le),
            "s390x" => Some(Self::S390x),
            _ => None,
        }
    }

    /// systemd's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::X86 => "x86",
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
            Self::RiscV64 => "riscv64",
            Self::LoongArch64 => "loongarch64",
            Self::Ppc64Le => "ppc64-le",
            Self::S390x => "s390x",
        }
    }

    /// Data, verity and signature partition, for `/` and for `/usr`.
    const fn types(self) -> [[Uuid; 3]; 2] {
        match self {
            Self::X86_64 => [
                [
                    uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
                    uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
                    uuid!("41092b05-9fc8-4523-994f-2def0408b176"),
                ],
                [
                    uuid!("8484680c-9521-48c6-9c11-b0720656f69e"),
                    uuid!("77ff5f63-e7b6-4633-acf4-1565b864c0e6"),
                    uuid!("e7bb33fb-06cf-4e81-8273-e543b413e2e2"),
                ],
            ],
            Self::X86 => [
                [
                    uuid!("44479540-f297-41b2-9af7-d131d5f0458a"),
                    uuid!("d13c5d3b-b5d1-422a-b29f-9454fdc89d76"),
                    uuid!("5996fc05-109c-48de-808b-23fa0830b676"),
                ],
                [
                    uuid!("75250d76-8cc6-458e-bd66-bd47cc81a812"),
                    uuid!("8f461b0d-14ee-4e81-9aa9-049b6fb97abd"),
                    uuid!("974a71c0-de41-43c3-be5d-5c5ccd1ad2c0"),
                ],
            ],
            Self::Arm64 => [
                [
                    uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
                    uuid!("df3300ce-d69f-4c92-978c-9bfb0f38d820"),
                    uuid!("6db69de6-29f4-4758-a7a5-962190f00ce3"),
                ],
                [
                    uuid!("b0e01050-ee5f-4390-949a-9101b17104e9"),
                    uuid!("6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"),
                    uuid!("c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"),
                ],
            ],
            Self::Arm => [
                [
                    uuid!("69dad710-2ce4-4e3c-b16c-21a1d49abed3"),
                    uuid!("7386cdf2-203c-47a9-a498-f2ecce45a2d6"),
                    uuid!("42b0455f-eb11-491d-98d3-56145ba9d037"),
                ],
                [
                    uuid!("7d0359a3-02b3-4f0a-865c-654403e70625"),
                    uuid!("c215d751-7bcd-4649-be90-6627490a4c05"),
                    uuid!("d7ff812f-37d1-4902-a810-d76ba57b975a"),
                ],
            ],
            Self::RiscV64 => [
                [
                    uuid!("72ec70a6-cf74-40e6-bd49-4bda08e8f224"),
                    uuid!("b6ed5582-440b-4209-b8da-5ff7c419ea3d"),
                    uuid!("efe0f087-ea8d-4469-821a-4c2a96a8386a"),
                ],
                [
                    uuid!("beaec34b-8442-439b-a40b-984381ed097d"),
                    uuid!("8f1056be-9b05-47c4-81d6-be53128e5b54"),
                    uuid!("d2f9000a-7a18-453f-b5cd-4d32f77a7b32"),
                ],
            ],
            Self::LoongArch64 => [
                [
                    uuid!("77055800-792c-4f94-b39a-98c91b762bb6"),
                    uuid!("f3393b22-e9af-4613-a948-9d3bfbd0c535"),
                    uuid!("5afb67eb-ecc8-4f85-ae8e-ac1e7c50e7d0"),
                ],
                [
                    uuid!("e611c702-575c-4cbe-9a46-434fa0bf7e3f"),
                    uuid!("f46b2c26-59ae-48f0-9106-c50ed47f673d"),
                    uuid!("b024f315-d330-444c-8461-44bbde524e99"),
                ],
            ],
            Self::Ppc64Le => [
                [
                    uuid!("c31c45e6-3f39-412e-80fb-4809c4980599"),
                    uuid!("906bd944-4589-4aae-a4e4-dd983917446a"),
                    uuid!("d4a236e7-e873-4c07-bf1d-bf6cf7f1c3c6"),
                ],
                [
                    uuid!("15bb03af-77e7-4d4a-b12b-c0d084f7491c"),
                    uuid!("ee2b9983-21e8-4153-86d9-b6901a54d1ce"),
                    uuid!("c8bfbd1e-268e-4521-8bba-bf314c399557"),
                ],
            ],
            Self::S390x => [
                [
                    uuid!("5eead9a9-fe09-4a1e-a1d7-520d00531306"),
                    uuid!("b325bfbe-c7be-4ab8-8357-139e652d2f6b"),
                    uuid!("c80187a5-73a3-491a-901a-017c3fa953e9"),
                ],
                [
                    uuid!("8a4f5770-50aa-4ed3-874a-99b710db6fea"),
                    uuid!("31741cc4-1a2a-4111-a581-e00b447d2d06"),
                    uuid!("3f324816-667b-46ae-86ee-9b0c0c6c11b4"),
                ],
            ],
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|known| known.name() == text).ok_or(UnknownArchitecture)
    }
}

/// A name that no architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an architecture ({})", Architecture::ALL.map(Architecture::name).join(", "))]
pub struct UnknownArchitecture;

/// A kind of image, which has a partition type for each of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Where it is mounted.
    pub designator: Designator,
    /// What it runs on.
    pub architecture: Architecture,
}

impl Kind {
    /// The type of a part, as it is printed.
    #[must_use]
    pub const fn type_of(self, part: Part) -> [u8; 16] {
        let [root, usr] = self.architecture.types();
        let [data, verity, signature] = match self.designator {
            Designator::Root => root,
            Designator::Usr => usr,
        };
        match part {
            Part::Data => data.into_bytes(),
            Part::Verity => verity.into_bytes(),
            Part::Signature => signature.into_bytes(),
        }
    }

    /// systemd's name for a part, such as `root-x86-64-verity`.
    #[must_use]
    pub fn label_of(self, part: Part) -> String {
        format!("{}-{}{}", self.designator, self.architecture, part.suffix())
    }

    /// The kind and part that a type belongs to.
    #[must_use]
    pub fn of(kind: [u8; 16]) -> Option<(Self, Part)> {
        let designators = [Designator::Root, Designator::Usr];
        let kinds = Architecture::ALL
            .into_iter()
            .flat_map(|architecture| designators.map(|designator| Self { designator, architecture }));
        kinds
            .flat_map(|known| Part::ALL.map(|part| (known, part)))
            .find(|(known, part)| known.type_of(*part) == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_is_there_twice() {
        for architecture in Architecture::ALL {
            assert_eq!(architecture.name().parse(), Ok(architecture));
            for designator in [Designator::Root, Designator::Usr] {
                let kind = Kind { designator, architecture };
                for part in Part::ALL {
                    assert_eq!(Kind::of(kind.type_of(part)), Some((kind, part)));
                }
            }
        }
        assert_eq!(Kind::of([0; 16]), None);
    }
}
