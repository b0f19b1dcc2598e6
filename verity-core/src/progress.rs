//! How long work tells its caller where it stands, and how the caller stops it.

/// What a piece of work is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Hashing data blocks into the leaf level, and the levels above it.
    Build,
    /// Checking data blocks and hash blocks.
    Verify,
    /// Comparing data with what it was.
    Compare,
    /// Making parity.
    Parity,
    /// Restoring bad blocks from parity.
    Repair,
    /// Copying data that are checked on the way.
    Extract,
    /// Reading a layer and making an image of it.
    Convert,
}

/// Hears about progress. Called from several threads at once, about once a mebibyte of data.
///
/// `()` hears nothing and never cancels.
pub trait Observer: Sync {
    /// Work begins; `total_bytes` of data where that is known.
    fn begin(&self, phase: Phase, total_bytes: Option<u64>) {
        let _ = (phase, total_bytes);
    }

    /// `bytes` more of the data are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether the work should stop; it then returns its `Cancelled` error soon after.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Observer for () {}
