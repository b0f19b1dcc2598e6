//! The order of measurements: us, the peer, us, the peer.

use std::fmt::Debug;

use crate::statistics::{Pairs, Sample};
use crate::stop::{Interrupts, Result, Stop};

/// How often things are measured.
pub(crate) struct Repetition {
    /// Pairs that count; one more comes first and does not.
    pub(crate) pairs: usize,
    pub(crate) interrupts: Interrupts,
}

impl Repetition {
    /// Runs both sides in turn. Where their answers differ one of them is wrong, and the benchmark ends.
    pub(crate) fn pairs<A: PartialEq + Debug>(
        &self,
        mut ours: impl FnMut() -> Result<(Sample, A)>,
        mut peer: impl FnMut() -> Result<(Sample, A)>,
    ) -> Result<Pairs> {
        let mut pairs = Pairs::default();
        for pair in 0..=self.pairs {
            let (our_sample, our_answer) = ours()?;
            self.interrupts.check()?;
            let (peer_sample, peer_answer) = peer()?;
            self.interrupts.check()?;
            if our_answer != peer_answer {
                return Err(Stop::failed(format_args!(
                    "the answers differ: {our_answer:?} and {peer_answer:?}"
                )));
            }
            if pair > 0 {
                pairs.push(our_sample, peer_sample);
            }
        }
        Ok(pairs)
    }
}
