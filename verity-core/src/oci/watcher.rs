//! Progress over several layers at once.

use super::descriptor::Descriptor;
use crate::progress::Observer;

/// Hears about progress over several layers, from several threads at once.
pub trait Watcher: Sync {
    /// So many bytes of layers' blobs are to be gone through.
    fn plan(&self, total_bytes: u64) {
        let _ = total_bytes;
    }

    /// Work on a layer begins, and is over when what is answered is dropped.
    fn layer(&self, layer: &Descriptor) -> Box<dyn Observer + '_> {
        let _ = layer;
        Box::new(())
    }

    /// A layer is done, after work or without: so many bytes of blobs.
    fn done(&self, blob_bytes: u64) {
        let _ = blob_bytes;
    }

    /// Whether to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Watcher for () {}

/// A watcher, where work of one kind asks whether to stop.
pub(super) struct Stop<'a>(pub(super) &'a dyn Watcher);

impl Observer for Stop<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
