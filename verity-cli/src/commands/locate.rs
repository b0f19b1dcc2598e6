//! `--map` and `--files`: where damage is, and what it hits.

use clap::Args;
use verity_core::block::RootHash;
use verity_core::erofs;
use verity_core::locate::{Area, Files, Map, files};
use verity_core::reader::VerityReader;
use verity_core::tree::{self, Options, Report};

use super::engine;
use super::layout::Layout;
use super::parity::Parity;
use crate::failure::{Code, Failure};
use crate::files::Input;
use crate::session::Session;

/// What is to be told of where damage is.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Where the damage is")]
pub(super) struct LocateOptions {
    /// Draw which blocks are good, damaged and so on, and list ranges in place of single blocks
    #[arg(long)]
    map: bool,

    /// Tell which files of an EROFS image the damage belongs to
    #[arg(long)]
    files: bool,
}

/// Where damage is, as far as it was asked for.
pub(crate) struct Located {
    pub(crate) map: Option<Map>,
    /// The files, or why they cannot be told.
    pub(crate) files: Option<Result<Files, String>>,
    /// How much of each is listed.
    pub(crate) limit: usize,
}

/// The image in question.
pub(super) struct Scene<'a> {
    pub(super) data: &'a Input,
    pub(super) hash: &'a Input,
    pub(super) layout: &'a Layout,
    pub(super) root: RootHash,
    pub(super) parity: Option<(&'a Parity, &'a Input)>,
}

impl LocateOptions {
    /// Finds out what was asked for, after a verification found `report`, and a repair would leave `remaining`.
    pub(super) fn locate(
        self,
        scene: &Scene<'_>,
        report: &Report,
        remaining: Option<&Report>,
        options: &Options<'_>,
        session: &Session,
    ) -> Result<Located, Failure> {
        let mut located = Located { map: None, files: None, limit: options.max_findings };
        if !self.map && !self.files {
            return Ok(located);
        }
        let Layout { params, geometry, .. } = scene.layout;
        let map = match remaining {
            None => Map::new(params, geometry, report),
            Some(remaining) => Map::with_repair(params, geometry, report, remaining),
        };
        if self.files {
            let count = map.strip(Area::Data).bad_spans().count();
            session.debug(|| format!("Looking for the files that {count} bad ranges belong to."));
            // What it reads is checked, and restored where that can be done: no name comes from a bad block.
            match files(&scene.reader()?, &map, options.max_findings, options.observer) {
                Ok(files) => located.files = Some(Ok(files)),
                Err(erofs::Error::Cancelled) => {
                    return Err(engine::failure(&tree::Error::Cancelled, |_| String::new()));
                }
                Err(error) => {
                    let path = &scene.data.path;
                    session.note(&format!("--files: data device {path:?}: {error}; files cannot be told"));
                    located.files = Some(Err(error.to_string()));
                }
            }
        }
        located.map = self.map.then_some(map);
        Ok(located)
    }
}

impl Scene<'_> {
    fn reader(&self) -> Result<VerityReader<'_>, Failure> {
        let Layout { params, geometry, .. } = self.layout;
        let reader =
            VerityReader::new(&self.data.file, &self.hash.file, params.clone(), geometry.clone(), self.root);
        let reader = match self.parity {
            None => reader,
            Some((parity, device)) => {
                reader.and_then(|reader| reader.with_parity(&device.file, parity.places.clone()))
            }
        };
        reader.map_err(|error| Failure::new(Code::General, error))
    }
}
